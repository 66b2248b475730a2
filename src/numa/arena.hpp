// Arena: one stretch of host memory of exactly the size asked for, 2 MiB-aligned, in huge pages where the system
// gives them, bound to a NUMA node, populated in parallel, kept until it is destroyed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.hpp"
#include "numa/topology.hpp"

namespace orlop::numa {

enum class PageKind : std::uint8_t { explicit_huge, transparent_huge, small };
enum class Populate : std::uint8_t { now, on_touch };

struct ArenaOptions {
  int node = -1;  // index into Topology::nodes(); -1: any
  Populate populate = Populate::now;
};

class Arena {
 public:
  // Errors: ORLOP_NO_MEMORY with the size asked for, the cgroup's limit and what is available.
  static Result<Arena> create(const Topology& topology, std::uint64_t bytes, const ArenaOptions& options = {});

  Arena(Arena&& other) noexcept;
  Arena& operator=(Arena&& other) noexcept;
  ~Arena();

  // The next `bytes` of the arena. ORLOP_NO_MEMORY with the numbers when they are not there: sizes are planned.
  Result<std::span<std::byte>> take(std::uint64_t bytes, std::uint64_t alignment);

  [[nodiscard]] std::span<std::byte> memory() const { return {data_, size_}; }
  [[nodiscard]] std::uint64_t taken_bytes() const { return taken_; }
  [[nodiscard]] PageKind page_kind() const { return page_kind_; }

 private:
  Arena() = default;

  std::byte* data_ = nullptr;
  std::uint64_t size_ = 0;      // as asked for
  std::uint64_t mapped_ = 0;    // rounded up to pages
  std::uint64_t taken_ = 0;
  PageKind page_kind_ = PageKind::small;
};

// Host memory that this process can still get: the least of MemAvailable and the room under every cgroup (v1 and
// v2) above it.
struct HostMemory {
  std::uint64_t total_bytes;      // of the machine or the tightest cgroup
  std::uint64_t available_bytes;
};
Result<HostMemory> host_memory();

}  // namespace orlop::numa
