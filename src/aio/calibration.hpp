// Calibration: which request sizes and depth a drive wants, found on the store's own file in a second or two.
// Two machines of one kind wanted opposite settings, so nothing here is a constant of ours.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "aio/file.hpp"
#include "aio/queue.hpp"

namespace orlop::aio {

enum class Mixing : std::uint8_t { mixed, phased };  // reads and writes together, or in turns

struct Sample {
  Direction direction;
  std::uint64_t request_bytes;
  unsigned depth;
  double gb_per_s;
};

struct Calibration {
  std::uint64_t read_request_bytes = 1u << 20;
  std::uint64_t write_request_bytes = 1u << 20;
  unsigned depth = 32;
  Mixing mixing = Mixing::mixed;
  double read_gb_s = 0;
  double write_gb_s = 0;
  double mixed_gb_s = 0;  // sum of both directions, half and half
  std::string origin;     // "measured", "kept from <time>", "configured"
  std::vector<Sample> samples;
};

// What the aio block of the configuration fixes; the rest is measured.
struct CalibrationOverrides {
  std::optional<std::uint64_t> request_bytes;
  std::optional<unsigned> depth;
};

struct CalibrationLimits {
  double seconds = 1.5;              // stop trying after this long
  std::uint64_t bytes = 2ull << 30;  // and after this much traffic
};

// Measures on [0, region_bytes) of `file`, whose content is lost, through the buffer (registered with the queue,
// at least 64 MiB for all settings to be tried).
Result<Calibration> calibrate(const File& file, std::uint64_t region_bytes, QueueKind kind,
                              std::span<std::byte> buffer, const CalibrationOverrides& overrides,
                              const CalibrationLimits& limits = {});

// Kept per device, filesystem and queue kind in <directory>/calibration.json; a damaged or older file is measured
// anew. Loading finds none: nullopt.
std::optional<Calibration> load_calibration(const std::string& directory, QueueKind kind);
Result<> keep_calibration(const std::string& directory, QueueKind kind, const Calibration& calibration);

}  // namespace orlop::aio
