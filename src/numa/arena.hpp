// Arena: one stretch of host memory of exactly the size asked for, 2 MiB-aligned, in huge pages where the
// system gives them, preferring a NUMA node, populated in parallel, kept until it is destroyed.
//
// A child made by fork() does not have the mapping unless it is asked for: copies on write would break the parent's
// budget, and memory that a device or a ring has registered must not change its pages.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.hpp"
#include "numa/host_memory.hpp"
#include "numa/topology.hpp"

namespace orlop::numa {

enum class PageKind : std::uint8_t { explicit_huge, transparent_huge, small };
// Explicit huge pages, which the system has set aside, are always populated at once.
enum class Populate : std::uint8_t { now, on_touch };

enum class Children : std::uint8_t { do_without, inherit };

struct ArenaOptions {
  int node = -1;  // index into Topology::nodes(); -1: any
  Children children = Children::do_without;
  Populate populate = Populate::now;
};

// Not thread-safe.
class Arena {
 public:
  // Errors: ORLOP_NO_MEMORY with the size asked for, what is available and what limits it (checked before
  // anything is mapped); ORLOP_INVALID_ARGUMENT for a node that is not there.
  static Result<Arena> create(const Topology& topology, std::uint64_t bytes,
                              const ArenaOptions& options = {});

  Arena(Arena&& other) noexcept;
  Arena& operator=(Arena&& other) noexcept;
  ~Arena();

  // Makes every page real at once, in parallel, in an arena that is populated on touch.
  Result<> populate(const Topology& topology);

  // The next `bytes` of the arena, at a power of two of at most 2 MiB. ORLOP_NO_MEMORY with the numbers when
  // they are not there: sizes are planned.
  Result<std::span<std::byte>> take(std::uint64_t bytes, std::uint64_t alignment);

  [[nodiscard]] std::span<std::byte> memory() const { return {data_, size_}; }
  [[nodiscard]] std::uint64_t taken_bytes() const { return taken_; }
  [[nodiscard]] PageKind page_kind() const { return page_kind_; }

 private:
  Arena() = default;

  std::byte* data_ = nullptr;
  std::uint64_t size_ = 0;    // as asked for
  std::uint64_t mapped_ = 0;  // rounded up to 2 MiB
  std::uint64_t taken_ = 0;
  int node_ = -1;
  PageKind page_kind_ = PageKind::small;
};

}  // namespace orlop::numa
