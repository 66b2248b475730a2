// The Adam kernels beside a roof of the same memory traffic, measured in the same run.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "base/result.hpp"
#include "cpu_adam/adam.hpp"

namespace orlop::bench {

enum class AdamLayout : std::uint8_t {
  split_bf16,  // param, lo, m, v read and written, gradient read: 2+2+4+4 twice and 2, 26 bytes per parameter
  fp32,        // param, m, v read and written, gradient read: 4+4+4 twice and 4, 28 bytes per parameter
};
constexpr std::uint32_t traffic_bytes_per_param(AdamLayout layout) { return layout == AdamLayout::fp32 ? 28 : 26; }

enum class Sums : std::uint8_t { none, after, before_and_after };

struct Quantiles {
  double median = 0;
  double p10 = 0;
  double p90 = 0;
};

struct AdamCaseOptions {
  cpu_adam::Isa isa = cpu_adam::Isa::scalar;
  AdamLayout layout = AdamLayout::split_bf16;
  std::uint64_t elements = 0;  // 0: about 1.25 GiB of arrays, well beyond any one core's share of a cache
  int threads = 0;             // of the second half of the cases; 0: every processor
  int rounds = 15;
  std::function<bool(int round)> on_round;  // false ends the measurement with ORLOP_CANCELLED; may be empty
};

struct AdamCase {
  AdamLayout layout;
  Sums sums;
  int threads;
  Quantiles gparam_s;
  Quantiles roof_gparam_s;      // of as many threads
  Quantiles roof_fraction;      // round by round
  double hash_cpu_seconds_per_gb = 0;  // what the sums cost, by the process's CPU clock, per GB hashed; median
};

struct AdamReport {
  cpu_adam::Isa isa;
  std::uint64_t elements;
  std::uint64_t array_bytes;
  std::vector<AdamCase> cases;  // one thread: none, after, before_and_after; then the same with all threads
};

// Every round runs every case and its roof once, one after the other, so that a machine that changes speed changes it
// for all. Errors: ORLOP_NO_MEMORY, ORLOP_CANCELLED.
Result<AdamReport> measure_adam(const AdamCaseOptions& options);

}  // namespace orlop::bench
