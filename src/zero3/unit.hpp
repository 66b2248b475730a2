// Unit: parameters that are needed together, laid out in one flat buffer of one dtype.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/config.hpp"
#include "base/result.hpp"
#include "zero3/param.hpp"
#include "zero3/partition.hpp"

namespace orlop::zero3 {

struct Unit {
  Dtype dtype;
  Training training;
  Home home = Home::memory;
  std::uint64_t content = 0;          // elements up to the end of the last parameter
  std::vector<std::uint32_t> params;  // ids, in order of their offsets
};

inline UnitKind kind_of(const Unit& unit) { return {unit.dtype, unit.training == Training::trainable, unit.home}; }
// Of its parameters, if they live in the store.
inline std::uint64_t stored_bytes(const Unit& unit) { return unit.home == Home::store ? unit.content * bytes_of(unit.dtype) : 0; }

struct Placement {
  std::uint32_t unit;
  std::uint64_t offset;  // in elements, a multiple of kReduceElements
};

struct UnitPlan {
  std::vector<Unit> units;
  std::vector<Placement> placements;  // by parameter id
};

// One unit holds one dtype, trainable or frozen, in one home; a module's parameters of one kind are never parted. Small
// modules that follow each other are merged until a unit has `unit_elements`.
// Error: ORLOP_INVALID_ARGUMENT when sizes overflow.
Result<UnitPlan> plan_units(std::span<const ParamSpec> params, std::uint64_t unit_elements = kUnitElements);

// A range of a unit's elements that is updated with one group's values.
struct GroupRange {
  Range range;
  int group;
};

// The groups over [0, align_up(content, kShardGrain)) of a unit, in order, without gaps; padding goes with what
// precedes it.
std::vector<GroupRange> group_ranges(const UnitPlan& plan, std::uint32_t unit, std::span<const ParamSpec> params);

}  // namespace orlop::zero3
