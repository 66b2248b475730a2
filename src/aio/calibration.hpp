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
#include "aio/turns.hpp"

namespace orlop::aio {

struct Sample {
  Direction direction;
  std::uint64_t request_bytes;
  unsigned depth;
  double gb_per_s;  // median of its trials
};

struct Calibration {
  std::uint64_t read_request_bytes = 1u << 20;
  std::uint64_t write_request_bytes = 1u << 20;
  unsigned depth = 32;
  Mixing mixing = Mixing::mixed;
  double read_gb_s = 0;
  double write_gb_s = 0;
  double mixed_gb_s = 0;  // sum of both directions, half and half
  std::string origin;     // "measured", "kept from <time>", "configured", "measured (depth configured)" ...
  std::vector<Sample> samples;
};

// What the aio block of the configuration fixes; the rest is measured.
struct CalibrationOverrides {
  std::optional<std::uint64_t> request_bytes = {};
  std::optional<unsigned> depth = {};
};

struct CalibrationLimits {
  double seconds = 2.5;              // stop trying after this long
  std::uint64_t bytes = 6ull << 30;  // and after about this much traffic
};

// Measures on [0, region_bytes) of `file`, whose content is lost, through the buffer (registered with the
// queue; settings that keep more in flight than it holds are not tried, so give it at least 64 MiB). Takes
// the smallest depth within 4 % of the best, and at that depth the largest request size up to 512 KiB within 4 % of
// the best (else the smallest one). Errors: ORLOP_INVALID_ARGUMENT when an override does not fit the file's
// alignment, the region or the buffer; those of the queue and of the transfers.
Result<Calibration> calibrate(const File& file, std::uint64_t region_bytes, QueueKind kind,
                              std::span<std::byte> buffer, const CalibrationOverrides& overrides,
                              const CalibrationLimits& limits = {});

// Kept per device, filesystem, queue kind and version of the library in <directory>/calibration.json; what is
// damaged or of another version is measured anew. Loading finds none: nullopt.
std::optional<Calibration> load_calibration(const std::string& directory, QueueKind kind);
Result<> keep_calibration(const std::string& directory, QueueKind kind, const Calibration& calibration);

}  // namespace orlop::aio
