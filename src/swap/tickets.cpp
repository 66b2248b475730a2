#include "swap/tickets.hpp"

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/clock.hpp"

namespace orlop::swap {
namespace {

template <typename Condition>
bool wait_until(std::condition_variable& changed, std::unique_lock<std::mutex>& lock, int timeout_ms,
                const Condition& condition) {
  if (timeout_ms >= 0) return changed.wait_for(lock, std::chrono::milliseconds(timeout_ms), condition);
  changed.wait(lock, condition);
  return true;
}

}  // namespace

Result<Ticket> Tickets::open(aio::Direction direction, std::uint32_t index, std::uint64_t bytes, std::size_t part_count) {
  const std::lock_guard lock(mutex_);
  if (moves_.size() >= kMaximum) {
    return fail(ORLOP_INTERNAL, "mover: {} tickets: nobody has waited for them", moves_.size());
  }
  moves_.emplace(++last_id_, Move{direction, index, bytes, now_ns(), part_count});
  return Ticket{last_id_};
}

void Tickets::finish_part(std::uint64_t id, Result<> outcome) {
  const std::lock_guard lock(mutex_);
  Move& move = moves_.at(id);
  if (move.outcome) move.outcome = std::move(outcome);
  if (--move.parts_left > 0) return;
  record(move);
  ++finished_;
  changed_.notify_all();
}

bool Tickets::is_over(std::uint64_t id) const {
  const auto found = moves_.find(id);
  return found == moves_.end() || found->second.parts_left == 0;
}

bool Tickets::poll(Ticket ticket) const {
  const std::lock_guard lock(mutex_);
  return is_over(ticket.id);
}

Result<> Tickets::wait(Ticket ticket, int timeout_ms) {
  std::unique_lock lock(mutex_);
  if (!wait_until(changed_, lock, timeout_ms, [&] { return is_over(ticket.id); })) {
    return fail(ORLOP_TIMEOUT, "transfer: not finished after {} ms", timeout_ms);
  }
  auto node = moves_.extract(ticket.id);
  return node ? std::move(node.mapped().outcome) : Result<>{};
}

std::uint64_t Tickets::finished() const {
  const std::lock_guard lock(mutex_);
  return finished_;
}

void Tickets::wait_beyond(std::uint64_t seen, int timeout_ms) const {
  std::unique_lock lock(mutex_);
  wait_until(changed_, lock, timeout_ms, [&] { return finished_ > seen; });
}

// Moves of a lane are carried out one behind the other: one begins when the one before it has ended.
void Tickets::record(const Move& move) {
  if (trace_ == nullptr) return;
  const bool is_read = move.direction == aio::Direction::read;
  std::int64_t& lane_end = lane_end_ns_[is_read ? 0 : 1];
  const std::int64_t begin = std::max(move.begin_ns, lane_end);
  lane_end = std::max(begin, now_ns());
  trace_->record({is_read ? "read" : "write", is_read ? TraceLane::read : TraceLane::write, move.index, move.bytes, begin,
                  lane_end});
}

}  // namespace orlop::swap
