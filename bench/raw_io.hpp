// The roof of I/O: a raw direct-I/O loop that shares nothing with the engine, neither its queues nor its
// files. io_uring with fixed huge-page buffers and a registered file; without liburing, or where the kernel
// refuses it, threads that call pread and pwrite.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "base/result.hpp"

namespace orlop::bench {

// Zeroed memory in huge pages where the system gives them.
class HugeMemory {
 public:
  static Result<HugeMemory> create(std::uint64_t bytes);

  HugeMemory(HugeMemory&& other) noexcept;
  HugeMemory& operator=(HugeMemory&& other) noexcept;
  ~HugeMemory();

  [[nodiscard]] std::span<std::byte> span() const { return {data_, size_}; }

 private:
  HugeMemory() = default;

  std::byte* data_ = nullptr;
  std::uint64_t size_ = 0;  // a multiple of 2 MiB
};

struct RawIoOptions {
  std::string path;                       // an existing file; opened with O_DIRECT where that works
  std::uint64_t region_bytes = 0;         // moves within [0, region_bytes), from the start again at its end
  std::uint64_t request_bytes = 1 << 20;  // a multiple of 4096
  unsigned depth = 32;
  std::uint64_t write_request_bytes = 0;  // 0: as request_bytes
  // Requests go around in this much memory; 0: as much as can be in flight. It matters: less memory stays in
  // the processor's cache, which made a drive a quarter faster.
  std::uint64_t memory_bytes = 0;
};

struct IoRate {
  std::uint64_t bytes = 0;
  double seconds = 0;
  double cpu_seconds = 0;  // of the whole process, by getrusage
  [[nodiscard]] double gb_per_s() const {
    return seconds > 0 ? static_cast<double>(bytes) * 1e-9 / seconds : 0;
  }
  [[nodiscard]] double cpu_seconds_per_gb() const {
    return bytes > 0 ? cpu_seconds / (static_cast<double>(bytes) * 1e-9) : 0;
  }
};

class RawIo {
 public:
  static Result<RawIo> open(const RawIoOptions& options);

  RawIo(RawIo&&) noexcept;
  RawIo& operator=(RawIo&&) noexcept;
  ~RawIo();

  // Moves about `bytes`, of which this fraction is read and the rest written, spread evenly; content is
  // overwritten. Goes on where the last run ended. Errors: ORLOP_IO_ERROR for a failed or short request.
  Result<IoRate> run(double read_fraction, std::uint64_t bytes);

  [[nodiscard]] const char* engine() const;  // "io_uring" or "threads"
  [[nodiscard]] bool is_direct() const;

 private:
  struct State;
  explicit RawIo(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// User and system time of this process so far.
double process_cpu_seconds();

}  // namespace orlop::bench
