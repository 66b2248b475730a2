#include "zero3/planner/plan.hpp"

#include <algorithm>
#include <functional>
#include <iterator>
#include <utility>

#include "zero3/planner/pinning.hpp"

namespace orlop::zero3 {
namespace {

// Nothing held, nothing there.
ResidentUnits empty_memory(const PlanInput& input) {
  const std::size_t count = input.units.size();
  return {std::vector<bool>(count), std::vector<bool>(count), input.limits.max_live_elements};
}

// In the order of first use, with what steps that repeat would fetch.
std::vector<PinCandidate> pin_candidates(const PlanInput& input, const ResidentUnits& start) {
  const auto fetches = count_fetches(input, start, EvictionOrder::furthest_next_use, 1);
  std::vector<PinCandidate> candidates;
  for (std::size_t position = 0; position < input.trace.size(); ++position) {
    const UnitIndex unit = input.trace[position].unit;
    if (start.is_held[unit] || !input.trace.is_first(position)) continue;
    const std::uint64_t bytes = input.units[unit].fetch_bytes;
    candidates.push_back({unit, bytes, bytes * fetches[unit]});
  }
  return candidates;
}

}  // namespace

Plan::Plan(const PlanInput& input, std::span<const UnitIndex> resident)
    : trace_(input.trace),
      units_(input.units.begin(), input.units.end()),
      limits_(input.limits),
      distance_(input.trace, input.units) {
  ResidentUnits start = empty_memory(input);
  hold(input, start);
  is_held_ = start.is_held;
  const EvictionOrder order = choose_order(input, start);
  for (const UnitIndex unit : resident) start.is_resident[unit] = true;
  const Retention retention = retain(input, start, order);
  for (const UnitIndex unit : retention.released) start.is_resident[unit] = false;
  is_hit_ = retention.is_hit;
  is_kept_ = retention.is_kept;
  fetches_ = schedule_fetches(input, start, retention);
  for (const Action& fetch : fetches_) {
    const bool is_read = fetch.deadline < trace_.size() && units_[fetch.unit].fetch_bytes > 0;
    if (is_read) reads_end_ = std::max(reads_end_, fetch.deadline + 1);
  }
  slack_ = zero3::slack_seconds(input, retention);
  list_actions(retention.released, schedule_updates(input, start, fetches_, slack_));
}

// Fixed by the trace alone, so that the same units are pinned in every step.
void Plan::hold(const PlanInput& input, ResidentUnits& start) {
  for (const UnitIndex unit : persistent_units(input)) {
    start.is_held[unit] = true;
    start.room_elements -= input.units[unit].elements;
  }
  const std::uint64_t budget = limits_.budget_bytes - std::min(limits_.budget_bytes, limits_.staging_bytes);
  if (budget == 0) return;
  pinned_ = pin(pin_candidates(input, start), budget);
  for (const UnitIndex unit : pinned_) start.is_held[unit] = true;
}

void Plan::list_actions(std::span<const UnitIndex> released, std::span<const Action> updates) {
  for (const UnitIndex unit : released) actions_.push_back({ActionKind::evict, unit, 0, 0});
  std::ranges::copy(updates, std::back_inserter(actions_));
  std::ranges::copy(fetches_, std::back_inserter(actions_));
  for (std::size_t position = 0; position < trace_.size(); ++position) {
    if (!is_kept_[position]) {
      actions_.push_back({ActionKind::evict, trace_[position].unit, position, position + 1});
    }
  }
  const auto order = [](const Action& a) {
    const bool is_after_use = a.kind == ActionKind::evict && a.deadline != 0;
    return std::pair(a.issue, is_after_use ? 2 : a.deadline == a.issue ? 0 : 1);
  };
  std::ranges::stable_sort(actions_, {}, order);
}

bool Plan::should_keep(UnitIndex unit, std::size_t position, std::uint64_t live_elements) const {
  if (is_held_[unit]) return true;
  if (trace_[position].unit == unit) return is_kept_[position];
  // A unit that the trace does not have is guessed to be used in the next step, at the same place.
  const std::size_t next = std::min(next_use(unit, position), trace_.size());
  return live_elements <= limits_.max_live_elements &&
         distance_.elements(position, next) < limits_.max_reuse_distance_elements;
}

// Walks over the uses from one on, and collects what is to be read for them.
class Plan::ReadAhead {
 public:
  // `begun`: the first use whose unit counts as used before them.
  ReadAhead(const Plan& plan, std::size_t first, std::size_t begun, const std::vector<bool>& is_resident)
      : plan_(plan), first_(first), begun_(begun), is_resident_(is_resident) {}

  std::vector<UnitIndex> collect() && {
    const std::size_t near_end = first_ + std::min(kNearUses, plan_.trace_.size());
    for (std::size_t use = first_; use < near_end; ++use) {
      if (!pass(use)) return std::move(units_);
    }
    const auto far = std::ranges::lower_bound(plan_.fetches_, near_end, {}, &Action::deadline);
    for (auto fetch = far; fetch != plan_.fetches_.end() && fetch->issue <= begun_; ++fetch) {
      if (!add(fetch->unit)) break;
    }
    return std::move(units_);
  }

 private:
  // Whether what comes after this use may be read now too.
  bool pass(std::size_t use) {
    const std::size_t n = plan_.trace_.size();
    const UnitIndex unit = plan_.trace_[use % n].unit;
    if (use >= n && plan_.units_[unit].is_updated() && plan_.trace_.is_first(use % n)) return false;
    const std::size_t since = plan_.trace_.last_use(unit, use % n);
    if (since <= use - begun_) return plan_.is_held_[unit] || plan_.is_kept_[use - since];
    return (plan_.is_hit_[use] && is_resident_[unit]) || add(unit);
  }

  bool add(UnitIndex unit) {
    const std::uint64_t limit = plan_.limits_.prefetch_elements;
    const std::uint64_t elements = plan_.units_[unit].elements;
    const bool fits = elements_ == 0 ? limit > 0 : elements <= limit - std::min(limit, elements_);
    if (!fits) return false;
    elements_ += elements;
    if (!is_resident_[unit]) units_.push_back(unit);
    return true;
  }

  const Plan& plan_;
  const std::size_t first_;
  const std::size_t begun_;
  const std::vector<bool>& is_resident_;
  std::vector<UnitIndex> units_;
  std::uint64_t elements_ = 0;  // of `units_` and of what was read ahead before
};

std::vector<UnitIndex> Plan::upcoming(std::size_t position, const std::vector<bool>& is_resident) const {
  return ReadAhead(*this, position + 1, position, is_resident).collect();
}

std::vector<UnitIndex> Plan::upcoming_first(const std::vector<bool>& is_resident) const {
  return ReadAhead(*this, 0, 0, is_resident).collect();
}

std::vector<UnitIndex> Plan::victims(std::size_t position, std::uint64_t elements,
                                     std::span<const UnitIndex> idle, std::size_t needed_in) const {
  std::vector<std::pair<std::size_t, UnitIndex>> candidates;
  for (const UnitIndex unit : idle) {
    const std::size_t next = next_use(unit, position);
    const bool is_wanted = needed_in > 0 && next != UseTrace::kNever && is_hit_[position + next];
    if (!is_held_[unit] && !is_wanted && next > needed_in) candidates.emplace_back(next, unit);
  }
  std::ranges::sort(candidates, std::greater{});
  std::uint64_t freed = 0;
  const auto enough = std::ranges::find_if(candidates, [&](const auto& candidate) {
    if (freed >= elements) return true;
    freed += units_[candidate.second].elements;
    return false;
  });
  if (freed < elements && needed_in > 0) return {};
  std::vector<UnitIndex> victims;
  for (auto candidate = enough; candidate != candidates.begin();) {
    const UnitIndex unit = (--candidate)->second;
    const std::uint64_t size = units_[unit].elements;
    if (freed >= elements + size) {
      freed -= size;  // not needed after all
    } else {
      victims.push_back(unit);
    }
  }
  std::ranges::reverse(victims);
  return victims;
}

}  // namespace orlop::zero3
