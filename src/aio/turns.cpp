#include "aio/turns.hpp"

namespace orlop::aio {
namespace {

constexpr std::size_t index_of(Priority priority) {
  return static_cast<std::size_t>(priority);
}

constexpr Priority other_of(Priority turn) {
  return turn == Priority::prefetch ? Priority::write_back : Priority::prefetch;
}

}  // namespace

Priority Turns::next(const Waiting& waiting) {
  if (waiting[index_of(Priority::demand_read)]) return Priority::demand_read;
  const bool both = waiting[index_of(Priority::prefetch)] && waiting[index_of(Priority::write_back)];
  if (!both) {
    lead_bytes_ = 0;
    const auto only = waiting[index_of(Priority::prefetch)] ? Priority::prefetch : Priority::write_back;
    if (only != turn_) served_bytes_ = 0;
    turn_ = only;
  } else if (mixing_ == Mixing::mixed) {
    turn_ = lead_bytes_ <= 0 ? Priority::prefetch : Priority::write_back;
  } else if (served_bytes_ >= phase_bytes_) {
    turn_ = other_of(turn_);
    served_bytes_ = 0;
  }
  return turn_;
}

void Turns::went(Priority priority, std::uint64_t bytes) {
  if (priority == Priority::demand_read) return;
  served_bytes_ += bytes;
  const auto change = static_cast<std::int64_t>(bytes);
  lead_bytes_ += priority == Priority::prefetch ? change : -change;
}

}  // namespace orlop::aio
