// Drive settings: request sizes, depth and mixing for the drive under a store: configured, kept from before, or
// measured on the store itself.
#pragma once

#include <optional>
#include <span>
#include <string>

#include "aio/calibration.hpp"
#include "aio/file.hpp"

namespace orlop::swap {

// A store smaller than this is moved in less time than the measurement takes.
inline constexpr std::uint64_t kSmallestMeasuredStore = 256ull << 20;

// What the file holds is lost when it is measured.
Result<aio::Calibration> drive_settings(const aio::File& file, std::uint64_t file_bytes, aio::QueueKind kind,
                                        std::span<std::byte> buffer, const aio::CalibrationOverrides& overrides);

// Where measurements of the drive under `path` are kept between runs: a directory of its own below
// $XDG_CACHE_HOME/orlop or ~/.cache/orlop. None when there is no home or it cannot be written.
std::optional<std::string> calibration_directory(const std::string& path);

}  // namespace orlop::swap
