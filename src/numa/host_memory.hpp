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

// What `bytes` of populated memory take of that in all: page tables (8 bytes per 4 KiB page, which huge pages
// keep in reserve), and what the kernel charges ahead to each processor (256 KiB) and for threads. A cgroup
// that is filled to its last byte kills: of 1 GiB, 1 MB of slack was too little and 2 MB were enough, on two
// processors.
std::uint64_t bytes_in_all(std::uint64_t bytes, int processor_count);

// Memory is what stays, so swap does not count. `root` stands for "/" (tests).
Result<HostMemory> host_memory(const std::string& root = "");

}  // namespace orlop::numa
