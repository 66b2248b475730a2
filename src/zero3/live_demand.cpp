#include "zero3/live_demand.hpp"

#include <algorithm>

#include "zero3/planner/plan_input.hpp"

namespace orlop::zero3 {
namespace {

constexpr std::uint64_t kLiveElements = 1'000'000'000;  // at most, where neither a budget nor a limit says it: DeepSpeed's

}  // namespace

std::uint64_t live_limit(const Config& config, bool on_host) {
  const std::uint64_t in_cpu = on_host ? config.max_in_cpu_elements.value_or(PlanLimits::kNone) : PlanLimits::kNone;
  const bool has_budget = on_host ? config.memory.host.has_value() : config.memory.device.has_value();
  const std::uint64_t by_default = has_budget || in_cpu != PlanLimits::kNone ? PlanLimits::kNone : kLiveElements;
  return std::min(in_cpu, config.max_live_elements.value_or(by_default));
}

std::uint64_t live_bytes_within(const UnitPlan& plan, std::uint64_t limit) {
  std::uint64_t bytes = 0;
  for (const Unit& unit : plan.units) {
    if (unit.home == Home::memory) continue;
    const std::uint64_t within = std::min(unit.content, limit);
    limit -= within;
    bytes += within * bytes_of(unit.dtype);
  }
  return bytes;
}

LiveDemand live_demand(const Config& config, const UnitPlan& plan, std::span<const ParamSpec> params, bool on_host) {
  LiveDemand live;
  live.is_on_host = on_host;
  const Unit* largest = nullptr;
  for (const Unit& unit : plan.units) {
    if (unit.home == Home::memory) continue;
    if (std::ranges::any_of(unit.params, [&](auto id) { return params[id].is_held; })) {
      live.held_bytes += stored_bytes(unit);
      live.least_elements += unit.content;
    } else if (largest == nullptr || stored_bytes(unit) > stored_bytes(*largest)) {
      largest = &unit;
    }
  }
  live.least_bytes = live.held_bytes;
  if (largest != nullptr) {
    live.least_bytes += stored_bytes(*largest);
    live.least_elements += largest->content;
    live.largest = params[*std::ranges::max_element(largest->params, {}, [&](auto id) { return params[id].numel; })].name;
  }
  live.most_bytes = std::max(live.least_bytes, live_bytes_within(plan, live_limit(config, on_host)));
  return live;
}

}  // namespace orlop::zero3
