#include "zero3/planner/schedule.hpp"

#include <algorithm>

namespace orlop::zero3 {
namespace {

class FetchSchedule {
 public:
  FetchSchedule(const PlanInput& input, const ResidentUnits& start, const Retention& retention)
      : input_(input),
        start_(start),
        retention_(retention),
        size_(input.trace.size()),
        last_(input.units.size()) {
    for (UnitIndex unit = 0; unit < input.units.size(); ++unit) {
      if (start.is_resident[unit]) live_ += live_size(unit);
    }
  }

  std::vector<Action> run() && {
    for (std::size_t position = 0; position < size_; ++position) {
      begin(position);
      read_ahead(position);
      end(position);
    }
    return std::move(fetches_);
  }

 private:
  [[nodiscard]] UnitIndex unit_at(std::size_t use) const { return input_.trace[use % size_].unit; }
  [[nodiscard]] std::uint64_t size_of(UnitIndex unit) const { return input_.units[unit].elements; }
  [[nodiscard]] std::uint64_t live_size(UnitIndex unit) const {
    return start_.is_held[unit] ? 0 : size_of(unit);
  }

  void fetch(UnitIndex unit, std::size_t issue, std::size_t deadline) {
    fetches_.push_back({ActionKind::fetch, unit, issue, deadline});
    live_ += live_size(unit);
  }

  // The unit of `position` is there, and no longer ahead.
  void begin(std::size_t position) {
    const UnitIndex unit = unit_at(position);
    const bool was_reached = cursor_ > position;
    if (!was_reached) pass();
    if (retention_.is_hit[position]) return;
    if (was_reached) {
      ahead_ -= size_of(unit);
    } else {
      fetch(unit, position, position);
    }
  }

  void read_ahead(std::size_t position) {
    while (cursor_ < position + size_ && may_be_read(position)) {
      const UnitIndex unit = unit_at(cursor_);
      if (!retention_.is_hit[cursor_]) {
        fetch(unit, position, cursor_);
        ahead_ += size_of(unit);
      }
      pass();
    }
  }

  // Whether the unit at the cursor is there or can be fetched while that of `position` is in use.
  [[nodiscard]] bool may_be_read(std::size_t position) const {
    const UnitIndex unit = unit_at(cursor_);
    if (cursor_ >= size_ && input_.units[unit].is_updated() && input_.trace.is_first(cursor_ % size_))
      return false;
    if (retention_.is_hit[cursor_]) return true;
    const bool is_still_there = last_[unit] > position;
    const bool is_wide = ahead_ == 0 ? input_.limits.prefetch_elements > 0
                                     : ahead_ + size_of(unit) <= input_.limits.prefetch_elements;
    return !is_still_there && is_wide && live_ + live_size(unit) <= start_.room_elements;
  }

  void pass() {
    last_[unit_at(cursor_)] = cursor_ + 1;
    ++cursor_;
  }

  void end(std::size_t position) {
    if (!retention_.is_kept[position]) live_ -= live_size(unit_at(position));
  }

  const PlanInput& input_;
  const ResidentUnits& start_;
  const Retention& retention_;
  const std::size_t size_;
  std::vector<Action> fetches_;
  std::size_t cursor_ = 0;         // the first use whose unit is not seen to
  std::vector<std::size_t> last_;  // by unit: its last use before the cursor, plus 1
  std::uint64_t ahead_ = 0;        // elements fetched and not used yet
  std::uint64_t live_ = 0;         // elements in memory, without those held
};

// The position at which an update is due: with the fetch of the unit's first use in this step.
struct DueUpdate {
  UnitIndex unit;
  std::size_t first_use;
  std::size_t due;
};

std::vector<DueUpdate> due_updates(const PlanInput& input, const ResidentUnits& start,
                                   std::span<const Action> fetches) {
  std::vector<std::size_t> fetched(input.units.size(), UseTrace::kNever);
  for (const Action& fetch : fetches) fetched[fetch.unit] = std::min(fetched[fetch.unit], fetch.issue);
  std::vector<DueUpdate> resident;
  std::vector<DueUpdate> others;
  for (std::size_t position = 0; position < input.trace.size(); ++position) {
    const UnitIndex unit = input.trace[position].unit;
    if (!input.units[unit].is_updated() || !input.trace.is_first(position)) continue;
    if (start.is_resident[unit]) {
      resident.push_back({unit, 0, 0});
    } else {
      others.push_back({unit, position, fetched[unit]});
    }
  }
  resident.insert(resident.end(), others.begin(), others.end());
  return resident;
}

double update_seconds(const UnitSize& unit, const DriveRates& rates) {
  return static_cast<double>(unit.update_read_bytes) / rates.read_bytes_per_s +
         static_cast<double>(unit.update_write_bytes) / rates.write_bytes_per_s;
}

double fetch_seconds(const PlanInput& input, const Retention& retention, std::size_t use) {
  if (retention.is_hit[use]) return 0;
  const UnitIndex unit = input.trace[use % input.trace.size()].unit;
  return static_cast<double>(input.units[unit].fetch_bytes) / input.rates.read_bytes_per_s;
}

}  // namespace

std::vector<Action> schedule_fetches(const PlanInput& input, const ResidentUnits& start,
                                     const Retention& retention) {
  return FetchSchedule(input, start, retention).run();
}

std::vector<double> slack_seconds(const PlanInput& input, const Retention& retention) {
  const std::size_t n = input.trace.size();
  std::vector<double> slack(n);
  double later = 0;  // the slack from the use after on
  for (std::size_t use = 2 * n - 1; use-- > 0;) {
    later = input.trace[use % n].compute_seconds - fetch_seconds(input, retention, use + 1) +
            std::min(0.0, later);
    if (use < n) slack[use] = later;
  }
  return slack;
}

std::vector<Action> schedule_updates(const PlanInput& input, const ResidentUnits& start,
                                     std::span<const Action> fetches, std::span<const double> slack) {
  std::vector<Action> updates;
  double busy = 0;  // seconds of updates that the drive has not done yet
  std::size_t position = 0;
  for (const auto& [unit, first_use, due] : due_updates(input, start, fetches)) {
    const double seconds = update_seconds(input.units[unit], input.rates);
    while (position < due && busy + seconds > slack[position]) {
      busy -= std::clamp(slack[position], 0.0, busy);
      ++position;
    }
    updates.push_back({ActionKind::update, unit, position, first_use});
    busy += seconds;
  }
  return updates;
}

}  // namespace orlop::zero3
