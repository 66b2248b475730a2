// Step size: how many parameters a run without a size takes, so that it fits and ends within a minute.
#pragma once

#include <cstdint>
#include <string>

#include "base/config.hpp"
#include "bench/options.hpp"

namespace orlop::bench {

struct StepSize {
  std::uint64_t params;
  unsigned steps;
  std::string why;  // one sentence
};

// What limits a run, as far as it is known before.
struct SizeLimits {
  std::uint64_t memory_bytes;  // that the engine may take
  std::uint64_t disk_bytes;    // for the store; 0: there is none
  double mixed_gb_s;           // of the drive
  double first_write_gb_s;
  double populate_gb_s;        // of memory touched for the first time
  std::uint32_t param_bytes;   // 2 or 4
  bool stores_params = false;  // beside their states
};

// The arithmetic of it.
StepSize fit_size(const SizeLimits& limits, unsigned steps);

// Looks at memory and disk, tries the drive for a second, and fits.
Result<StepSize> choose_size(const Config& config, const StepArguments& options);

}  // namespace orlop::bench
