#include "zero3/unit.hpp"

#include <map>
#include <tuple>
#include <utility>

#include "base/bytes.hpp"

namespace orlop::zero3 {
namespace {

// No single parameter may be larger, so that sums of padded sizes cannot overflow.
constexpr std::uint64_t kMaximumElements = 1ull << 48;

class UnitPlanner {
 public:
  explicit UnitPlanner(std::uint64_t unit_elements) : unit_elements_(unit_elements) {}

  Result<> add(std::uint32_t id, const ParamSpec& param) {
    if (param.numel > kMaximumElements) {
      return fail(ORLOP_INVALID_ARGUMENT, "register parameter: on \"{}\" ({} elements): more than 2^48 elements",
                  param.name, param.numel);
    }
    const std::uint32_t index = unit_for(param);
    Unit& unit = plan_.units[index];
    const std::uint64_t offset = align_up(unit.content, kReduceElements);
    unit.content = offset + param.numel;
    unit.params.push_back(id);
    plan_.placements.push_back({index, offset});
    return {};
  }

  UnitPlan finish() && { return std::move(plan_); }

 private:
  struct Open {
    std::uint32_t unit;
    int module;
  };

  // The open unit of this kind, or a new one when that is full and another module begins.
  std::uint32_t unit_for(const ParamSpec& param) {
    const auto kind = std::tuple(param.dtype, param.training, param.home);
    const auto open = open_.find(kind);
    const bool fits = open != open_.end() &&
                      (open->second.module == param.module || has_room(open->second.unit, param.numel));
    if (fits) {
      open->second.module = param.module;
      return open->second.unit;
    }
    plan_.units.push_back({param.dtype, param.training, param.home, 0, {}});
    const auto index = static_cast<std::uint32_t>(plan_.units.size() - 1);
    open_[kind] = {index, param.module};
    return index;
  }

  [[nodiscard]] bool has_room(std::uint32_t unit, std::uint64_t numel) const {
    return align_up(plan_.units[unit].content, kReduceElements) + numel <= unit_elements_;
  }

  std::uint64_t unit_elements_;
  UnitPlan plan_;
  std::map<std::tuple<Dtype, Training, Home>, Open> open_;
};

}  // namespace

Result<UnitPlan> plan_units(std::span<const ParamSpec> params, std::uint64_t unit_elements) {
  UnitPlanner planner(unit_elements);
  for (std::uint32_t id = 0; id < params.size(); ++id) TRY(planner.add(id, params[id]));
  return std::move(planner).finish();
}

std::vector<GroupRange> group_ranges(const UnitPlan& plan, std::uint32_t unit, std::span<const ParamSpec> params) {
  std::vector<GroupRange> ranges;
  for (const std::uint32_t id : plan.units[unit].params) {
    const std::uint64_t begin = plan.placements[id].offset;
    const std::uint64_t end = align_up(begin + params[id].numel, kReduceElements);
    if (!ranges.empty() && ranges.back().group == params[id].group) {
      ranges.back().range.end = end;
    } else {
      ranges.push_back({{begin, end}, params[id].group});
    }
  }
  ranges.back().range.end = align_up(plan.units[unit].content, kShardGrain);
  return ranges;
}

}  // namespace orlop::zero3
