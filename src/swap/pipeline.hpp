// Pipeline: blocks on their way from the store through the ring and back: read ahead, worked on in order, written
// behind.
//
//     ahead_     slabs being filled, or filled, in the order in which they will be wanted
//     (at work)  the one slab the visitor has
//     behind_    slabs being written; the block's new generation counts once that is confirmed
//     dropped_   slabs whose read nobody wants any more but has not come back
//
// All on the caller's thread; the mover's thread does the I/O meanwhile. The first failure of the store is kept
// and returned to every later call.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <list>
#include <optional>
#include <span>
#include <vector>

#include "swap/drive_shares.hpp"
#include "swap/mover.hpp"
#include "swap/nvme_states.hpp"
#include "swap/slab.hpp"
#include "swap/states.hpp"
#include "swap/store.hpp"

namespace orlop::swap {

class Pipeline {
 public:
  // `layout` is that of the slabs. All outlive the pipeline.
  Pipeline(Store& store, SlabRing& ring, Mover& mover, DriveShares& shares, const MemoryLayout& layout,
           Checksums checksums);
  ~Pipeline();  // cancels what waits, waits for what is in flight

  Result<> prefetch(std::span<const std::uint32_t> order);
  Result<SweepReport> sweep(std::span<const std::uint32_t> order, const Visitor& visitor, const SideWork& side_work,
                            const std::atomic<bool>& cancel);
  Result<> access(std::uint32_t block, Change change, const std::function<Result<>(const BlockMemory&)>& body);
  Result<> drain(int timeout_ms);

  // For readers of the same store: whether a block's last generation counts already, or waiting until it does.
  Result<bool> is_written(std::uint32_t block);
  Result<> await_written(std::uint32_t block);
  // A failure of the store that they met; it is returned to every later call here.
  Result<> remember(Result<> result);

  [[nodiscard]] std::uint64_t checked_bytes() const { return checked_bytes_.load(std::memory_order_relaxed); }

  // Host memory of the tables here.
  static std::uint64_t table_bytes(std::span<const BlockSpec> blocks, unsigned slab_count);

 private:
  struct Read {
    std::uint32_t block;
    SlabLease slab;
  };
  struct Write {
    std::uint32_t block;
    SlabLease slab;
    Extent extent;
  };
  struct SlabSums {
    std::span<ChunkSums> read;
    std::span<ChunkSums> written;
  };

  Result<> alive() const;
  template <typename T>
  Result<T> fatal(Result<T> result);
  Result<> begin(std::span<const std::uint32_t> order);

  // Reading ahead: ahead_ always holds the first blocks of what is still wanted.
  void keep_matching(std::span<const std::uint32_t> order);
  void drop_ahead_from(std::size_t position);
  Result<> read_ahead(std::span<const std::uint32_t> wanted);
  Result<> start_read(std::uint32_t block, aio::Priority priority, SlabLease& slab);
  Result<Read> next_read(std::span<const std::uint32_t> wanted, const SideWork& side_work,
                         const std::atomic<bool>& cancel, SweepReport& report);

  // Work.
  Result<bool> work_aside(const SideWork& side_work, SweepReport& report);
  [[nodiscard]] Visit visit_of(const Read& read);
  Result<> verify(std::uint32_t block, std::span<const ChunkSums> found);
  Result<> visit(Read read, const Visitor& visitor, SweepReport& report);
  Result<> check_identity();

  // Writing behind.
  Result<> write_behind(Read read);  // with the sums that are in sums_
  [[nodiscard]] bool is_being_written(std::uint32_t block) const;
  Result<> reap();
  Result<> reap_behind();
  Result<> reap_dropped();
  Result<SlabLease> slab_for_access();

  [[nodiscard]] BlockMemory memory_of(std::uint32_t block, const SlabLease& slab) const;
  SlabSums sums_of(std::uint32_t block, const SlabLease& slab);

  Store& store_;
  SlabRing& ring_;
  Mover& mover_;
  DriveShares& shares_;
  MemoryLayout layout_;
  Checksums checksums_;
  std::uint64_t chunks_per_slab_;
  std::vector<ChunkSums> sums_;  // read and written, for each slab
  std::vector<bool> seen_;
  std::atomic<std::uint64_t> checked_bytes_{0};  // read to check the headers
  std::optional<Error> failure_;
  std::deque<Read> ahead_;
  std::list<Write> behind_;
  std::list<Read> dropped_;
};

}  // namespace orlop::swap
