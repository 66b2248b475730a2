// Control groups (v1, v2 and both at once) above this process: what they leave it of memory and processor
// time.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace orlop::numa {

// One group that limits memory. Numbers cover the group and everything under it.
struct GroupMemory {
  std::string directory;
  std::uint64_t limit_bytes;  // v1 limit_in_bytes; v2 the lesser of max and high
  std::uint64_t used_bytes;
  std::uint64_t reclaimable_bytes;  // inactive file pages

  [[nodiscard]] std::uint64_t available_bytes() const;
};

// Every limiting group from this process's own up to the top of what is mounted. `root` stands for "/"; tests
// give a directory with proc/self/cgroup, proc/self/mountinfo and the files under the mounts.
std::vector<GroupMemory> memory_groups(const std::string& root);

// Processors' worth of time that the tightest cpu quota on that path allows (1.5 = 150 ms in 100 ms); nothing
// when there is no quota.
std::optional<double> processor_quota(const std::string& root);

}  // namespace orlop::numa
