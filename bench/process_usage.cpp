#include "bench/process_usage.hpp"

#include <sys/resource.h>

#include <cerrno>
#include <fstream>
#include <string>

namespace orlop::bench {
namespace {

// The number after "name:" in a file of such lines.
Result<std::uint64_t> number_in(const char* path, const std::string& name) {
  std::ifstream file(path);
  if (!file) return fail(status_of_errno(errno), "usage: on {}: cannot be read: {}", path, describe_errno(errno));
  for (std::string key; file >> key;) {
    std::uint64_t number = 0;
    if (key == name && file >> number) return number;
    std::string rest;
    std::getline(file, rest);
  }
  return fail(ORLOP_UNSUPPORTED, "usage: on {}: has no \"{}\"", path, name);
}

}  // namespace

Result<DiskTraffic> disk_traffic() {
  DiskTraffic traffic;
  TRY_ASSIGN(traffic.read_bytes, number_in("/proc/self/io", "read_bytes:"));
  TRY_ASSIGN(traffic.write_bytes, number_in("/proc/self/io", "write_bytes:"));
  return traffic;
}

Result<std::uint64_t> peak_memory_bytes() {
  TRY_ASSIGN(const std::uint64_t kib, number_in("/proc/self/status", "VmHWM:"));
  return kib * 1024;
}

void forget_peak_memory() { std::ofstream("/proc/self/clear_refs") << '5'; }

double cpu_seconds() {
  rusage usage = {};
  if (::getrusage(RUSAGE_SELF, &usage) != 0) return 0;
  const auto seconds = [](const timeval& t) { return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6; };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

}  // namespace orlop::bench
