#include "swap/pipeline.hpp"

#include <algorithm>
#include <utility>

#include "base/clock.hpp"
#include "swap/order.hpp"
#include "swap/sums.hpp"

namespace orlop::swap {
namespace {

// How long a wait may overlook that it was cancelled.
constexpr int kCancelPollMs = 50;

std::uint64_t most_chunks(std::span<const BlockSpec> blocks) {
  std::uint64_t most = 0;
  for (const auto& block : blocks) most = std::max(most, chunk_count(block));
  return most;
}

tl::unexpected<Error> cancelled(std::uint32_t block) {
  return fail(ORLOP_CANCELLED, "sweep: cancelled before block {}", block);
}

// What is left of a timeout; -1 stays -1.
class Deadline {
 public:
  explicit Deadline(int timeout_ms) : timeout_ms_(timeout_ms), begin_ns_(now_ns()) {}
  [[nodiscard]] int left_ms() const {
    if (timeout_ms_ < 0) return -1;
    const std::int64_t passed_ms = (now_ns() - begin_ns_) / 1'000'000;
    return static_cast<int>(std::max<std::int64_t>(0, timeout_ms_ - passed_ms));
  }

 private:
  int timeout_ms_;
  std::int64_t begin_ns_;
};

}  // namespace

std::uint64_t Pipeline::table_bytes(std::span<const BlockSpec> blocks, unsigned slab_count) {
  return 2 * slab_count * most_chunks(blocks) * sizeof(ChunkSums) + divide_up(blocks.size(), 8);
}

Pipeline::Pipeline(Store& store, SlabRing& ring, Mover& mover, DriveShares& shares, const MemoryLayout& layout,
                   Checksums checksums)
    : store_(store),
      ring_(ring),
      mover_(mover),
      shares_(shares),
      layout_(layout),
      checksums_(checksums),
      chunks_per_slab_(most_chunks(store.blocks())),
      sums_(2 * ring.count() * chunks_per_slab_),
      seen_(store.blocks().size()) {}

Pipeline::~Pipeline() { mover_.cancel_waiting(); }

// ---- What callers ask for

Result<> Pipeline::prefetch(std::span<const std::uint32_t> order) {
  TRY(begin(order));
  return read_ahead(order);
}

Result<SweepReport> Pipeline::sweep(std::span<const std::uint32_t> order, const Visitor& visitor,
                                    const SideWork& side_work, const std::atomic<bool>& cancel) {
  SweepReport report;
  const std::int64_t sweep_begin = now_ns();
  TRY(begin(order));
  TRY(read_ahead(order));
  TRY(fatal(check_identity()));
  for (; !order.empty(); order = order.subspan(1)) {
    TRY_ASSIGN(auto read, next_read(order, side_work, cancel, report));
    TRY(visit(std::move(read), visitor, report));
  }
  report.exposed_io_ns = now_ns() - sweep_begin - report.work_ns;
  return report;
}

Result<> Pipeline::access(std::uint32_t block, Change change,
                          const std::function<Result<>(const BlockMemory&)>& body) {
  TRY(check_block(block, store_.blocks().size()));
  TRY(alive());
  TRY(reap());
  if (change == Change::modified) {
    const auto stale = std::find_if(ahead_.begin(), ahead_.end(), [&](const Read& r) { return r.block == block; });
    drop_ahead_from(static_cast<std::size_t>(stale - ahead_.begin()));
  }
  TRY_ASSIGN(auto slab, slab_for_access());
  TRY(await_written(block));
  TRY(start_read(block, aio::Priority::demand_read, slab));
  TRY(fatal(slab.wait()));

  const BlockMemory memory = memory_of(block, slab);
  const SlabSums sums = sums_of(block, slab);
  if (checksums_ == Checksums::verified) block_sums(store_.blocks()[block], memory, sums.read);
  TRY(verify(block, sums.read));
  TRY(body(memory));
  if (change == Change::none) return {};
  if (checksums_ == Checksums::verified) block_sums(store_.blocks()[block], memory, sums.written);
  TRY(write_behind({block, std::move(slab)}));
  return await_written(block);
}

Result<> Pipeline::drain(int timeout_ms) {
  const Deadline deadline(timeout_ms);
  for (;;) {
    const std::uint64_t seen = mover_.finished();
    TRY(alive());
    TRY(reap());
    const bool reads_are_in = std::all_of(ahead_.begin(), ahead_.end(), [](const Read& r) { return r.slab.is_settled(); });
    if (reads_are_in && behind_.empty() && dropped_.empty()) return {};
    const int left_ms = deadline.left_ms();
    if (left_ms == 0) {
      return fail(ORLOP_TIMEOUT, "drain: {} ms: {} blocks are still being written", timeout_ms, behind_.size());
    }
    mover_.wait_beyond(seen, left_ms);
  }
}

// ---- Failure

Result<> Pipeline::alive() const {
  if (failure_) return tl::unexpected(*failure_);
  return {};
}

// Remembers a failure of the store. What was done to the file as a whole explains more than what it led to.
template <typename T>
Result<T> Pipeline::fatal(Result<T> result) {
  if (result) return result;
  auto identity = store_.check_identity();
  const bool explains = !identity && identity.error().status == ORLOP_CORRUPT;
  failure_ = explains ? std::move(identity.error()) : result.error();
  return tl::unexpected(*failure_);
}

Result<> Pipeline::remember(Result<> result) { return fatal(std::move(result)); }

Result<> Pipeline::begin(std::span<const std::uint32_t> order) {
  TRY(alive());
  TRY(check_order(order, seen_));
  TRY(reap());
  keep_matching(order);
  return {};
}

Result<> Pipeline::check_identity() {
  checked_bytes_.fetch_add(kHeaderBytes * store_.drive_count(), std::memory_order_relaxed);
  return store_.check_identity();
}

// ---- Reading ahead

void Pipeline::keep_matching(std::span<const std::uint32_t> order) {
  std::size_t matching = 0;
  while (matching < std::min(order.size(), ahead_.size()) && ahead_[matching].block == order[matching]) ++matching;
  drop_ahead_from(matching);
}

void Pipeline::drop_ahead_from(std::size_t position) {
  while (ahead_.size() > position) {
    dropped_.push_back(std::move(ahead_.back()));
    ahead_.pop_back();
  }
}

// A block that is still being written is not read before that is confirmed, nor is what comes behind it.
Result<> Pipeline::read_ahead(std::span<const std::uint32_t> wanted) {
  while (ahead_.size() < wanted.size()) {
    const std::uint32_t block = wanted[ahead_.size()];
    if (is_being_written(block)) return {};
    auto slab = ring_.take();
    if (!slab) return {};
    TRY(start_read(block, aio::Priority::prefetch, *slab));
    ahead_.push_back({block, std::move(*slab)});
  }
  return {};
}

Result<> Pipeline::start_read(std::uint32_t block, aio::Priority priority, SlabLease& slab) {
  return fatal(slab.start(mover_, {aio::Direction::read, priority,
                                   store_.committed_pieces(block, memory_of(block, slab)), block}));
}

Result<Pipeline::Read> Pipeline::next_read(std::span<const std::uint32_t> wanted, const SideWork& side_work,
                                           const std::atomic<bool>& cancel, SweepReport& report) {
  for (;;) {
    const std::uint64_t seen = mover_.finished();
    if (cancel.load(std::memory_order_relaxed)) return cancelled(wanted.front());
    TRY(reap());
    TRY(read_ahead(wanted));
    if (!ahead_.empty() && ahead_.front().slab.is_settled()) break;
    TRY_ASSIGN(const bool has_worked, work_aside(side_work, report));
    if (!has_worked) mover_.wait_beyond(seen, kCancelPollMs);
  }
  Read read = std::move(ahead_.front());
  ahead_.pop_front();
  TRY(fatal(read.slab.wait()));
  return read;
}

// ---- Work

Result<bool> Pipeline::work_aside(const SideWork& side_work, SweepReport& report) {
  if (!side_work) return false;
  const std::int64_t begin_ns = now_ns();
  auto has_worked = side_work();
  report.work_ns += now_ns() - begin_ns;
  return has_worked;
}

Result<> Pipeline::visit(Read read, const Visitor& visitor, SweepReport& report) {
  const Visit work = visit_of(read);
  const std::int64_t begin_ns = now_ns();
  const auto visited = visitor(work);
  report.work_ns += now_ns() - begin_ns;
  TRY(visited);
  TRY(verify(read.block, work.read));
  return write_behind(std::move(read));
}

Visit Pipeline::visit_of(const Read& read) {
  Visit visit;
  visit.block = read.block;
  visit.memory = memory_of(read.block, read.slab);
  visit.stored = store_.blocks()[read.block].planes;
  if (checksums_ == Checksums::left_out) return visit;
  const SlabSums sums = sums_of(read.block, read.slab);
  std::fill(sums.read.begin(), sums.read.end(), ChunkSums{});
  std::fill(sums.written.begin(), sums.written.end(), ChunkSums{});
  visit.recorded = store_.sums_of(read.block);
  visit.read = sums.read;
  visit.written = sums.written;
  return visit;
}

Result<> Pipeline::verify(std::uint32_t block, std::span<const ChunkSums> found) {
  if (checksums_ == Checksums::left_out) return {};
  return fatal(store_.verify(block, found));
}

// ---- Writing behind

Result<> Pipeline::write_behind(Read read) {
  if (shares_.look(mover_.traffic_by_drive())) store_.set_shares(shares_.shares());
  TRY_ASSIGN(auto extent, fatal(store_.begin_write(read.block)));
  auto pieces = store_.pieces(read.block, extent, memory_of(read.block, read.slab));
  auto started = fatal(
      read.slab.start(mover_, {aio::Direction::write, aio::Priority::write_back, std::move(pieces), read.block}));
  if (!started) {
    store_.abandon_write(extent);
    return started;
  }
  behind_.push_back({read.block, std::move(read.slab), std::move(extent)});
  return {};
}

bool Pipeline::is_being_written(std::uint32_t block) const {
  return std::any_of(behind_.begin(), behind_.end(), [block](const Write& write) { return write.block == block; });
}

// Takes note of what has come back: written blocks count from here on, and slabs become free.
Result<> Pipeline::reap() {
  TRY(reap_behind());
  return reap_dropped();
}

Result<> Pipeline::reap_behind() {
  for (auto write = behind_.begin(); write != behind_.end();) {
    if (!write->slab.is_settled()) {
      ++write;
      continue;
    }
    auto written = fatal(write->slab.wait());
    if (written) {
      store_.confirm_write(write->block, std::move(write->extent), sums_of(write->block, write->slab).written);
    } else {
      store_.abandon_write(write->extent);
    }
    write = behind_.erase(write);
    TRY(written);
  }
  return {};
}

Result<> Pipeline::reap_dropped() {
  for (auto read = dropped_.begin(); read != dropped_.end();) {
    if (!read->slab.is_settled()) {
      ++read;
      continue;
    }
    auto result = fatal(read->slab.wait());
    read = dropped_.erase(read);
    TRY(result);
  }
  return {};
}

Result<bool> Pipeline::is_written(std::uint32_t block) {
  TRY(alive());
  TRY(reap());
  return !is_being_written(block);
}

Result<> Pipeline::await_written(std::uint32_t block) {
  TRY(alive());
  for (;;) {
    const std::uint64_t seen = mover_.finished();
    TRY(reap());
    if (!is_being_written(block)) return {};
    mover_.wait_beyond(seen, -1);
  }
}

Result<SlabLease> Pipeline::slab_for_access() {
  for (;;) {
    const std::uint64_t seen = mover_.finished();
    TRY(reap());
    if (auto slab = ring_.take()) return std::move(*slab);
    const bool some_come_back = !behind_.empty() || !dropped_.empty();
    if (some_come_back) {
      mover_.wait_beyond(seen, -1);
    } else {
      drop_ahead_from(ahead_.size() - 1);
    }
  }
}

// ---- Where things are

BlockMemory Pipeline::memory_of(std::uint32_t block, const SlabLease& slab) const {
  return layout_.at(slab.data(), store_.blocks()[block].planes);
}

Pipeline::SlabSums Pipeline::sums_of(std::uint32_t block, const SlabLease& slab) {
  const std::uint64_t count = chunk_count(store_.blocks()[block]);
  ChunkSums* const sums = sums_.data() + 2 * slab.index() * chunks_per_slab_;
  return {{sums, count}, {sums + chunks_per_slab_, count}};
}

}  // namespace orlop::swap
