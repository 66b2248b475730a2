#include "zero3/contradictions.hpp"

#include <algorithm>
#include <string_view>

#include "zero3/live_demand.hpp"
#include "zero3/planner/plan_input.hpp"

namespace orlop::zero3 {
namespace {

constexpr std::string_view kLive = "zero_optimization.stage3_max_live_parameters";
constexpr std::string_view kInCpu = "zero_optimization.offload_param.max_in_cpu";
constexpr std::string_view kPersistence = "zero_optimization.stage3_param_persistence_threshold";

bool is_in_file(const Config& config, std::string_view key) {
  const auto entry = std::ranges::find(config.entries, key, &ConfigEntry::key);
  return entry != config.entries.end() && entry->origin == ConfigOrigin::file;
}

class Contradictions {
 public:
  Contradictions(const Config& config, const UnitPlan& units, std::span<const ParamSpec> params)
      : config_(config), units_(units), params_(params) {}

  std::vector<std::string> of(const LiveDemand& live, std::uint64_t stored_in_memory_bytes) && {
    if (config_.offload_param == OffloadDevice::none) return {};
    const bool has_stored = std::ranges::count(units_.units, Home::store, &Unit::home) > 0;
    if (has_stored) {
      check_largest(kLive, config_.max_live_elements, live);
      if (live.is_on_host) check_largest(kInCpu, config_.max_in_cpu_elements, live);
      check_small_ones();
      if (live.is_on_host) check_budget(stored_in_memory_bytes);
    } else if (config_.offload_param == OffloadDevice::nvme) {
      check_threshold();
    }
    return std::move(warnings_);
  }

 private:
  // 0 asks to keep nothing.
  void check_largest(std::string_view key, const std::optional<std::uint64_t>& limit, const LiveDemand& live) {
    if (!limit || *limit == 0 || *limit >= live.least_elements) return;
    warnings_.push_back(fmt::format(
        "config: on \"{}\" ({}): {} elements are in memory at once where \"{}\" is used, so that nothing is kept beside "
        "them for its next use; write at least {}",
        key, *limit, live.least_elements, live.largest, live.least_elements));
  }

  void check_small_ones() {
    if (!is_in_file(config_, kPersistence) || config_.max_live_elements.value_or(0) == 0) return;
    std::uint64_t elements = 0;
    for (const ParamSpec& param : params_) elements += param.home == Home::memory ? param.numel : 0;
    if (elements <= *config_.max_live_elements) return;
    warnings_.push_back(fmt::format(
        "config: on \"{}\" ({}): parameters of at most that size have {} elements, which stay in memory beside the {} that "
        "\"{}\" allows the others; write a smaller threshold, or limit them by "
        "\"zero_optimization.stage3_model_persistence_threshold\"",
        kPersistence, config_.param_persistence_elements, elements, *config_.max_live_elements, kLive));
  }

  void check_budget(std::uint64_t stored_in_memory_bytes) {
    if (!config_.memory.host || !config_.max_in_cpu_elements) return;
    const std::uint64_t wanted = live_bytes_within(units_, live_limit(config_, true));
    if (stored_in_memory_bytes >= wanted) return;
    warnings_.push_back(fmt::format(
        "config: on \"{}\" ({}): that is {} bytes of this model, and the budget \"orlop.memory.host\" ({} bytes) leaves {} "
        "for them; raise the budget by {}, or be content with what fits",
        kInCpu, *config_.max_in_cpu_elements, wanted, *config_.memory.host, stored_in_memory_bytes,
        wanted - stored_in_memory_bytes));
  }

  void check_threshold() {
    if (!is_in_file(config_, kPersistence)) return;
    const auto& largest = *std::ranges::max_element(params_, {}, &ParamSpec::numel);
    warnings_.push_back(fmt::format(
        "config: on \"{}\" ({}): no parameter has more elements (\"{}\" has {}), so that \"offload_param\" moves none to "
        "NVMe; write less than {}",
        kPersistence, config_.param_persistence_elements, largest.name, largest.numel, largest.numel));
  }

  const Config& config_;
  const UnitPlan& units_;
  std::span<const ParamSpec> params_;
  std::vector<std::string> warnings_;
};

}  // namespace

std::vector<std::string> contradictions(const Config& config, const UnitPlan& units, std::span<const ParamSpec> params,
                                        const LiveDemand& live, std::uint64_t stored_in_memory_bytes) {
  return Contradictions(config, units, params).of(live, stored_in_memory_bytes);
}

}  // namespace orlop::zero3
