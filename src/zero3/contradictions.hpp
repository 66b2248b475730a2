// Contradictions: limits of a configuration that do not go together with each other or with the model, though the run goes
// on: one of them gives way. What cannot go on is refused by plan_memory.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/config.hpp"
#include "zero3/memory_plan.hpp"
#include "zero3/unit.hpp"

namespace orlop::zero3 {

// One sentence each, that names the keys, the numbers and what to write. Only what the file says is held against it, so that
// a default contradicts nothing. `stored_in_memory_bytes`: of parameters whose home is the store, what the plan has room for
// in host memory.
std::vector<std::string> contradictions(const Config& config, const UnitPlan& units, std::span<const ParamSpec> params,
                                        const LiveDemand& live, std::uint64_t stored_in_memory_bytes);

}  // namespace orlop::zero3
