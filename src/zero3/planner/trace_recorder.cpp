#include "zero3/planner/trace_recorder.hpp"

#include <algorithm>
#include <utility>

namespace orlop::zero3 {
namespace {

bool is_same(const UnitUse& a, const UnitUse& b) {
  return a.unit == b.unit && a.kind == b.kind;
}

// The next position, from `from` on, of such a use.
std::optional<std::size_t> find(const UseTrace& trace, const UnitUse& use, std::size_t from) {
  const auto positions = trace.positions_of(use.unit);
  const auto is_it = [&](std::size_t position) { return is_same(trace[position], use); };
  const auto later = std::ranges::lower_bound(positions, from);
  if (const auto found = std::find_if(later, positions.end(), is_it); found != positions.end()) return *found;
  const auto found = std::find_if(positions.begin(), later, is_it);
  return found == later ? std::nullopt : std::optional(*found);
}

}  // namespace

std::size_t TraceRecorder::use(UnitIndex unit, UseKind kind, double compute_seconds) {
  if (!seen_.empty()) seen_.back().compute_seconds = compute_seconds;
  const UnitUse use{unit, kind};
  if (seen_.size() <= most_uses(expected_.unit_count())) seen_.push_back(use);
  const bool has_jumped = jump_ && !is_same(expected_[next_], use) && is_same(expected_[*jump_], use);
  if (has_jumped) next_ = *jump_;
  jump_.reset();
  const auto found = find(expected_, use, next_);
  const std::size_t steps = found ? wrapped(*found + expected_.size() - next_) : UseTrace::kNever;
  if (steps <= (has_trace_ ? kSkip : 0)) {
    skip(steps);
    next_ = wrapped(next_ + 1);
  } else {
    note_difference(unit);
    if (found) jump_ = wrapped(*found + 1);
  }
  return wrapped(next_ + expected_.size() - 1);
}

bool TraceRecorder::end_step(double compute_seconds) {
  const bool is_remembered = !seen_.empty() && seen_.size() <= most_uses(expected_.unit_count());
  const bool is_new = is_remembered && has_new_order();
  if (is_remembered) {
    seen_.back().compute_seconds = compute_seconds;
    expected_ = UseTrace(std::exchange(seen_, {}), expected_.unit_count());
    has_trace_ = true;
  }
  discard();
  return is_new;
}

bool TraceRecorder::has_new_order() const {
  return !std::ranges::equal(seen_, expected_.uses(), is_same);
}

void TraceRecorder::discard() {
  seen_.clear();
  jump_.reset();
  next_ = 0;
}

void TraceRecorder::skip(std::size_t steps) {
  for (; steps > 0; --steps) {
    note_difference(expected_[next_].unit);
    next_ = wrapped(next_ + 1);
  }
}

void TraceRecorder::note_difference(UnitIndex unit) {
  if (has_trace_) ++differing_[unit];
}

}  // namespace orlop::zero3
