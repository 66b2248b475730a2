// The io cases of offload_bench: our transfers beside the raw loop, round by round on the same file.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "aio/calibration.hpp"
#include "aio/queue.hpp"
#include "base/result.hpp"

namespace orlop::bench {

struct IoOptions {
  std::string directory;  // a file without a name is made in it
  std::uint64_t file_bytes = 1ull << 30;
  std::uint64_t round_bytes = 0;  // moved per case and round by each side; 0: the file once
  unsigned rounds = 7;
  std::optional<aio::QueueKind> queue = {};         // none: the best that works
  std::optional<std::uint64_t> request_bytes = {};  // none: calibrated
  std::optional<unsigned> depth = {};
  // Memory that both sides go around in; 0: as much as can be in flight (see RawIoOptions).
  std::uint64_t memory_bytes = 0;
};

struct IoSummary {
  double median = 0;
  double p10 = 0;
  double p90 = 0;
};

struct IoCase {
  std::string name;                 // "read", "write", "mix" (half and half, the sum of both)
  std::uint64_t bytes = 0;          // per round
  std::uint64_t request_bytes = 0;  // mix: of reads; writes have theirs
  unsigned depth = 0;
  IoSummary gb_s;
  double cpu_seconds_per_gb = 0;  // median, whole process
  IoSummary roof_gb_s;            // of the raw loop with the same settings
  double roof_cpu_seconds_per_gb = 0;
  double ratio = 0;  // median over rounds of ours / roof of the same round
};

struct IoReport {
  std::string queue;        // of ours
  std::string roof_engine;  // of the raw loop
  bool is_direct = false;
  aio::Calibration calibration;
  std::vector<IoCase> cases;
};

// Errors: of the directory (missing, full with the shortfall), of the queue, of any request.
Result<IoReport> measure_io(const IoOptions& options);

}  // namespace orlop::bench
