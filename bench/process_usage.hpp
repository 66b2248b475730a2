// What this process has used so far, by the kernel's own accounting.
#pragma once

#include <cstdint>

#include "base/result.hpp"

namespace orlop::bench {

struct DiskTraffic {
  std::uint64_t read_bytes = 0;
  std::uint64_t write_bytes = 0;
  friend DiskTraffic operator-(DiskTraffic a, DiskTraffic b) {
    return {a.read_bytes - b.read_bytes, a.write_bytes - b.write_bytes};
  }
  friend DiskTraffic operator+(DiskTraffic a, DiskTraffic b) {
    return {a.read_bytes + b.read_bytes, a.write_bytes + b.write_bytes};
  }
  [[nodiscard]] std::uint64_t sum() const { return read_bytes + write_bytes; }
};

Result<DiskTraffic> disk_traffic();         // /proc/self/io
Result<std::uint64_t> peak_memory_bytes();  // VmHWM
// VmHWM counts anew from what is resident now; where the system refuses, it goes on as before.
void forget_peak_memory();
double cpu_seconds();                       // user and system, all threads

}  // namespace orlop::bench
