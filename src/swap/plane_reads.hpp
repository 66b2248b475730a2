// PlaneReads: single planes of blocks on their way from the store into staging memory of their own, ahead of need.
//
// Between sweeps only: what a sweep changes is dropped before it. All on the caller's thread; the mover's thread does the
// I/O meanwhile.
#pragma once

#include <list>
#include <span>
#include <vector>

#include "swap/pipeline.hpp"

namespace orlop::swap {

class PlaneReads {
 public:
  // All outlive it. The slabs hold the largest plane that will be asked for.
  PlaneReads(Store& store, SlabRing& ring, Mover& mover, Pipeline& pipeline, Checksums checksums);

  Result<> read_ahead(std::span<const Wanted> wanted);
  Result<> read(const Wanted& wanted, const PlaneReader& reader);
  // What was read is not to be believed any more.
  void drop();

  // Host memory of the tables here.
  static std::uint64_t table_bytes(std::span<const BlockSpec> blocks);

 private:
  struct Read {
    Wanted wanted;
    SlabLease slab;
  };

  using Reads = std::list<Read>;

  [[nodiscard]] Reads::iterator find_ahead(const Wanted& wanted);
  void keep_only(std::span<const Wanted> wanted);
  void drop_one(Reads::iterator read) { dropped_.splice(dropped_.end(), ahead_, read); }
  void reap_dropped();
  Result<> start(const Wanted& wanted, aio::Priority priority, SlabLease& slab);
  Result<Read> take(const Wanted& wanted);
  Result<SlabLease> free_slab();

  Store& store_;
  SlabRing& ring_;
  Mover& mover_;
  Pipeline& pipeline_;
  Checksums checksums_;
  std::vector<std::uint64_t> sums_;  // of the plane being read
  Reads ahead_;                      // in the order in which they were begun
  Reads dropped_;                    // not wanted any more, but not come back yet
};

}  // namespace orlop::swap
