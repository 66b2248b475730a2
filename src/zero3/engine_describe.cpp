// What an engine decided and why, for people and tools.
#include <nlohmann/json.hpp>

#include "base/clock.hpp"
#include "numa/host_memory.hpp"
#include "zero3/committed.hpp"

namespace orlop::zero3 {
namespace {

using nlohmann::json;

// A limit that is none is null.
json limit_of(std::uint64_t elements) { return elements == PlanLimits::kNone ? json() : json(elements); }

json live_of(const UnitFlow& flow) {
  return {{"max_elements", limit_of(flow.limits().max_live_elements)},
          {"max_reuse_distance_elements", limit_of(flow.limits().max_reuse_distance_elements)},
          {"prefetch_elements", limit_of(flow.limits().prefetch_elements)},
          {"plans_made", flow.plans_made()}};
}

json uses_of(const UnitFlow& flow, std::uint32_t unit) {
  const UseCounts counts = flow.counts(unit);
  return {{"hits", counts.hits}, {"fetches", counts.fetches}, {"unexpected", flow.differing(unit)}};
}

json units_of(const UnitPlan& plan, const std::vector<ParamSpec>& params) {
  json units = json::array();
  for (const Unit& unit : plan.units) {
    units.push_back({{"dtype", name_of(unit.dtype)},
                     {"trainable", unit.training == Training::trainable},
                     {"home", unit.home == Home::store ? "nvme" : "memory"},
                     {"elements", unit.content},
                     {"first_param", params[unit.params.front()].name},
                     {"params", unit.params.size()}});
  }
  return units;
}

json bytes_of_plan(const MemoryPlan& memory, std::uint64_t model_bytes) {
  return {{"host_bytes", memory.host_bytes},
          {"model_bytes", model_bytes},
          {"states_host_bytes", memory.states.host_bytes},
          {"staging_bytes", memory.states.staging_bytes},
          {"nvme_bytes", memory.states.nvme_bytes},
          {"device_bytes", memory.device_bytes},
          {"live_bytes", memory.live_bytes},
          {"activation_bytes", memory.activation_bytes},
          {"slabs", memory.slab_count},
          {"param_slabs", memory.plane_slab_count},
          {"pinned_fraction", memory.pinned_fraction}};
}

json json_of(const swap::DriveUse& drive) {
  const double seconds = seconds_of_ns(drive.traffic.busy_ns);
  const auto rate = [&](std::uint64_t bytes) { return seconds > 0 ? static_cast<double>(bytes) * 1e-9 / seconds : 0.0; };
  return {{"path", drive.path},
          {"read_bytes", drive.traffic.read_bytes},
          {"write_bytes", drive.traffic.write_bytes},
          {"busy_seconds", seconds},
          {"read_gb_s", rate(drive.traffic.read_bytes)},
          {"write_gb_s", rate(drive.traffic.write_bytes)},
          {"gb_s", drive.gb_s},
          {"share", drive.share},
          {"store_bytes", drive.store_bytes}};
}

json json_of(const std::vector<swap::DriveUse>& drives) {
  json list = json::array();
  for (const swap::DriveUse& drive : drives) list.push_back(json_of(drive));
  return list;
}

}  // namespace

Result<std::string> Engine::plan() {
  const std::lock_guard lock(mutex_);
  if (phase_ != Phase::registering) {
    return fail(ORLOP_OUT_OF_ORDER, "plan: on an engine that is committed: orlop_engine_describe has its memory");
  }
  if (params_.empty()) return fail(ORLOP_OUT_OF_ORDER, "plan: on 0 parameters: register at least one first");
  choose_homes();
  TRY_ASSIGN(const UnitPlan units, plan_units(params_, options_.config.unit_elements));
  const auto blocks = cut(units);
  TRY_ASSIGN(const MemoryPlan memory, plan_memory(units, blocks, Against::budgets));
  json out = bytes_of_plan(memory, model_bytes(units));
  out["blocks"] = blocks.size();
  return out.dump();
}

std::string Engine::describe() {
  const std::lock_guard lock(mutex_);
  json out = {{"config", options_.config.to_json()},
              {"run_id", options_.run_id},
              {"device", device_->description()},
              {"kernels", {{"isa", cpu_adam::name_of(isa_)}, {"threads", workers_.thread_count()}}}};
  if (const auto host = numa::host_memory()) out["host_available_bytes"] = host->available_bytes;
  if (committed_ != nullptr) {
    const Committed& c = *committed_;
    out["units"] = units_of(c.units, params_);
    if (c.flow) {
      out["live"] = live_of(*c.flow);
      for (std::uint32_t unit = 0; unit < c.units.units.size(); ++unit) {
        if (c.units.units[unit].home == Home::store) out["units"][unit]["uses"] = uses_of(*c.flow, unit);
      }
    }
    out["blocks"] = c.blocks.size();
    out["memory"] = bytes_of_plan(c.memory, c.model_bytes);
    out["states"] = json::parse(c.states->describe());
    const auto drives = c.states->by_drive();
    if (!drives.empty()) out["nvme"] = {{"by_drive", json_of(drives)}};
  }
  return out.dump();
}

}  // namespace orlop::zero3
