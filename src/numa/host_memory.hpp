// Host memory that this process can still get.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.hpp"

namespace orlop::numa {

struct HostMemory {
  std::uint64_t total_bytes;      // of the machine or the tightest cgroup
  std::uint64_t available_bytes;  // the least of MemAvailable and the room under every cgroup above us
  std::string limited_by;  // what gave that least: "this machine (MemAvailable)" or a cgroup's directory
};

// Memory is what stays, so swap does not count. `root` stands for "/" (tests).
Result<HostMemory> host_memory(const std::string& root = "");

}  // namespace orlop::numa
