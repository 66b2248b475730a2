// What units of the store take in memory of the program's while it uses them, and what the configuration lets them take.
#pragma once

#include <cstdint>
#include <span>

#include "base/config.hpp"
#include "zero3/memory_plan.hpp"
#include "zero3/unit.hpp"

namespace orlop::zero3 {

// The most elements of the store that may be in memory, as far as the configuration says it; PlanLimits::kNone.
std::uint64_t live_limit(const Config& config, bool on_host);

// So many elements of the store, at most all of them, in bytes.
std::uint64_t live_bytes_within(const UnitPlan& plan, std::uint64_t limit);

// What is in use at once has to fit: units that are held while others are used, and the largest of the others. All units,
// or what the limits say, may.
LiveDemand live_demand(const Config& config, const UnitPlan& plan, std::span<const ParamSpec> params, bool on_host);

}  // namespace orlop::zero3
