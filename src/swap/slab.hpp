// SlabRing: staging memory of equal slabs in one arena, registered with the queue as a whole.
// SlabLease: ownership of one slab while I/O or work may touch it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "numa/arena.hpp"
#include "swap/mover.hpp"

namespace orlop::swap {

class SlabRing;

// The slab goes back to its ring when the lease ends, and not before what moves through it has come back.
class SlabLease {
 public:
  SlabLease(SlabLease&& other) noexcept;
  SlabLease& operator=(SlabLease&& other) noexcept;
  ~SlabLease() { end(); }

  [[nodiscard]] std::byte* data() const;
  [[nodiscard]] unsigned index() const { return index_; }

  // Starts a move through this slab. One at a time.
  Result<> start(Mover& mover, MoveRequest request);
  // No move is open: wait() returns at once.
  [[nodiscard]] bool is_settled() const;
  Result<> wait(int timeout_ms = -1);

 private:
  friend SlabRing;
  SlabLease(SlabRing* ring, unsigned index) : ring_(ring), index_(index) {}
  void end();

  SlabRing* ring_;
  unsigned index_;
  Mover* mover_ = nullptr;  // of the open move
  Ticket ticket_;
};

// Outlives its leases. Not thread-safe: leases are taken and ended on one thread at a time.
class SlabRing {
 public:
  static Result<std::unique_ptr<SlabRing>> create(const numa::Topology& topology, unsigned count,
                                                  std::uint64_t slab_bytes, const numa::ArenaOptions& options);

  std::optional<SlabLease> take();  // none: all are leased
  [[nodiscard]] unsigned free_count() const { return static_cast<unsigned>(free_.size()); }
  [[nodiscard]] unsigned count() const { return count_; }
  [[nodiscard]] std::uint64_t slab_bytes() const { return slab_bytes_; }
  [[nodiscard]] std::span<std::byte> memory() const { return arena_.memory(); }
  [[nodiscard]] const numa::Arena& arena() const { return arena_; }

 private:
  friend SlabLease;
  SlabRing(numa::Arena arena, unsigned count, std::uint64_t slab_bytes);

  numa::Arena arena_;
  unsigned count_;
  std::uint64_t slab_bytes_;
  std::vector<unsigned> free_;
};

}  // namespace orlop::swap
