#include "swap/plane_reads.hpp"

#include <algorithm>
#include <iterator>
#include <utility>

#include "swap/order.hpp"

namespace orlop::swap {
namespace {

std::uint64_t most_chunks(std::span<const BlockSpec> blocks) {
  std::uint64_t most = 0;
  for (const auto& block : blocks) most = std::max(most, chunk_count(block));
  return most;
}

}  // namespace

std::uint64_t PlaneReads::table_bytes(std::span<const BlockSpec> blocks) {
  return most_chunks(blocks) * sizeof(std::uint64_t);
}

PlaneReads::PlaneReads(Store& store, SlabRing& ring, Mover& mover, Pipeline& pipeline, Checksums checksums)
    : store_(store),
      ring_(ring),
      mover_(mover),
      pipeline_(pipeline),
      checksums_(checksums),
      sums_(most_chunks(store.blocks())) {}

// ---- Ahead of need

// A block that is still being written is not read before that is confirmed, nor is what comes behind it. The last slab
// is left to what is wanted now.
Result<> PlaneReads::read_ahead(std::span<const Wanted> wanted) {
  keep_only(wanted);
  reap_dropped();
  for (const Wanted& next : wanted) {
    if (find_ahead(next) != ahead_.end()) continue;
    if (ring_.free_count() <= 1) return {};
    TRY_ASSIGN(const bool is_settled, pipeline_.is_written(next.block));
    if (!is_settled) return {};
    SlabLease slab = std::move(*ring_.take());
    TRY(start(next, aio::Priority::prefetch, slab));
    ahead_.push_back({next, std::move(slab)});
  }
  return {};
}

PlaneReads::Reads::iterator PlaneReads::find_ahead(const Wanted& wanted) {
  return std::find_if(ahead_.begin(), ahead_.end(), [&](const Read& read) { return read.wanted == wanted; });
}

// Something that comes in between does not cost what was read for later.
void PlaneReads::keep_only(std::span<const Wanted> wanted) {
  for (auto read = ahead_.begin(); read != ahead_.end();) {
    const auto next = std::next(read);
    if (std::ranges::find(wanted, read->wanted) == wanted.end()) drop_one(read);
    read = next;
  }
}

void PlaneReads::drop() { dropped_.splice(dropped_.end(), ahead_); }

void PlaneReads::reap_dropped() {
  dropped_.remove_if([](Read& read) {
    if (!read.slab.is_settled()) return false;
    static_cast<void>(read.slab.wait());  // nobody wants it, nor its error
    return true;
  });
}

// ---- Now

Result<> PlaneReads::read(const Wanted& wanted, const PlaneReader& reader) {
  TRY(check_block(wanted.block, store_.blocks().size()));
  TRY_ASSIGN(Read read, take(wanted));
  TRY(pipeline_.remember(read.slab.wait()));
  const BlockSpec& block = store_.blocks()[wanted.block];
  const std::uint64_t bytes = block.elements * element_bytes(wanted.plane);
  PlaneView view{read.slab.data(), bytes, {}, kChunkElements * element_bytes(wanted.plane)};
  if (checksums_ == Checksums::verified) {
    view.read = {sums_.data(), chunk_count(block)};
    std::fill(view.read.begin(), view.read.end(), 0);
  }
  reader(view);
  return pipeline_.remember(store_.verify_plane(wanted.block, wanted.plane, view.read));
}

// What was read ahead for something else in between stays, unless its slab is needed.
Result<PlaneReads::Read> PlaneReads::take(const Wanted& wanted) {
  const auto found = find_ahead(wanted);
  if (found != ahead_.end()) {
    Read read = std::move(*found);
    ahead_.erase(found);
    return read;
  }
  TRY_ASSIGN(SlabLease slab, free_slab());
  TRY(pipeline_.await_written(wanted.block));
  TRY(start(wanted, aio::Priority::demand_read, slab));
  return Read{wanted, std::move(slab)};
}

Result<SlabLease> PlaneReads::free_slab() {
  for (;;) {
    const std::uint64_t seen = mover_.finished();
    reap_dropped();
    if (auto slab = ring_.take()) return std::move(*slab);
    if (dropped_.empty()) {
      drop_one(std::prev(ahead_.end()));
    } else {
      mover_.wait_beyond(seen, -1);
    }
  }
}

Result<> PlaneReads::start(const Wanted& wanted, aio::Priority priority, SlabLease& slab) {
  return pipeline_.remember(slab.start(
      mover_, {aio::Direction::read, priority,
               store_.committed_plane(wanted.block, wanted.plane, slab.data()), wanted.block}));
}

}  // namespace orlop::swap
