#include "numa/host_memory.hpp"

#include <algorithm>

#include "base/bytes.hpp"
#include "numa/cgroup.hpp"
#include "numa/text_file.hpp"

namespace orlop::numa {

std::uint64_t bytes_in_all(std::uint64_t bytes, int processor_count) {
  const std::uint64_t page_tables = bytes / 512;
  const std::uint64_t charged_ahead = static_cast<std::uint64_t>(processor_count) * 256_KiB;
  const std::uint64_t overhead = page_tables + charged_ahead + 4_MiB;
  return bytes + std::min(overhead, UINT64_MAX - bytes);
}

Result<HostMemory> host_memory(const std::string& root) {
  const std::string path = root + "/proc/meminfo";
  TRY_ASSIGN(const std::string meminfo, read_text_file(path));
  const auto total = find_field(meminfo, "MemTotal");
  const auto available = find_field(meminfo, "MemAvailable");
  if (!total || !available) {
    return fail(ORLOP_UNSUPPORTED,
                "host memory: {}: has no MemTotal or MemAvailable; Linux 3.14 or later is needed", path);
  }
  HostMemory memory{*total, *available, "this machine (MemAvailable)"};
  for (const GroupMemory& group : memory_groups(root)) {
    memory.total_bytes = std::min(memory.total_bytes, group.limit_bytes);
    if (group.available_bytes() >= memory.available_bytes) continue;
    memory.available_bytes = group.available_bytes();
    memory.limited_by = "cgroup " + group.directory;
  }
  return memory;
}

}  // namespace orlop::numa
