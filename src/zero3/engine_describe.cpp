// What an engine decided and why, for people and tools.
#include <nlohmann/json.hpp>

#include "zero3/committed.hpp"

namespace orlop::zero3 {
namespace {

using nlohmann::json;

json units_of(const UnitPlan& plan, const std::vector<ParamSpec>& params) {
  json units = json::array();
  for (const Unit& unit : plan.units) {
    units.push_back({{"dtype", name_of(unit.dtype)},
                     {"trainable", unit.training == Training::trainable},
                     {"elements", unit.content},
                     {"first_param", params[unit.params.front()].name},
                     {"params", unit.params.size()}});
  }
  return units;
}

}  // namespace

std::string Engine::describe() {
  const std::lock_guard lock(mutex_);
  json out = {{"config", options_.config.to_json()},
              {"run_id", options_.run_id},
              {"device", device_->description()},
              {"kernels", {{"isa", cpu_adam::name_of(isa_)}, {"threads", workers_.thread_count()}}}};
  if (committed_ != nullptr) {
    const Committed& c = *committed_;
    out["units"] = units_of(c.units, params_);
    out["blocks"] = c.blocks.size();
    out["memory"] = {{"host_bytes", c.memory.host_bytes},
                     {"model_bytes", c.model_bytes},
                     {"states_host_bytes", c.memory.states.host_bytes},
                     {"staging_bytes", c.memory.states.staging_bytes},
                     {"nvme_bytes", c.memory.states.nvme_bytes},
                     {"device_bytes", c.memory.device_bytes},
                     {"slabs", c.memory.slab_count}};
    out["states"] = json::parse(c.states->describe());
  }
  return out.dump();
}

}  // namespace orlop::zero3
