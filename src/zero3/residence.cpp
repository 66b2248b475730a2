#include "zero3/residence.hpp"

#include "swap/host_states.hpp"
#include "zero3/planner/pinning.hpp"

namespace orlop::zero3 {
namespace {

using swap::PlaneSet;

// A pin candidate's number says the block and which part of it.
enum Part : std::uint32_t { kFetched, kRest, kParts };

PlaneSet part_of(const BlockUse& use, Part part) {
  return part == kFetched ? use.fetched : use.offloaded - use.fetched;
}

std::uint64_t memory_of(const BlockUse& use, PlaneSet planes) {
  const swap::BlockSpec spec{use.spec.elements, planes};
  return swap::host_states_bytes({&spec, 1});
}

PinCandidate candidate(std::uint32_t number, const BlockUse& use, PlaneSet planes) {
  return {number, memory_of(use, planes), use.traffic(planes)};
}

}  // namespace

std::uint64_t BlockUse::traffic(PlaneSet planes) const {
  const std::uint64_t fetches = 2 * spec.elements * (planes & fetched).bytes_per_element();
  return fetches + (is_updated ? 2 * spec.elements * (planes & offloaded).bytes_per_element() : 0);
}

std::vector<BlockUse> block_uses(const Config& config, const UnitPlan& plan, std::span<const Block> blocks,
                                 kernels::Optimizer optimizer) {
  std::vector<BlockUse> uses;
  uses.reserve(blocks.size());
  const auto specs = block_specs(plan, blocks, optimizer);
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    const Unit& unit = plan.units[blocks[i].unit];
    PlaneSet param;
    if (unit.home == Home::store) param.insert(param_plane(unit.dtype));
    const PlaneSet fetched = config.offload_param == OffloadDevice::nvme ? param : PlaneSet{};
    const PlaneSet states = config.offload_optimizer == OffloadDevice::nvme ? specs[i].planes - param : PlaneSet{};
    uses.push_back({specs[i], states | fetched, fetched, unit.training == Training::trainable});
  }
  return uses;
}

std::vector<swap::BlockSpec> specs_of(std::span<const BlockUse> uses) {
  std::vector<swap::BlockSpec> specs;
  specs.reserve(uses.size());
  for (const BlockUse& use : uses) specs.push_back(use.spec);
  return specs;
}

Residence least_residence(std::span<const BlockUse> uses) {
  Residence residence;
  for (const BlockUse& use : uses) residence.push_back(use.spec.planes - use.offloaded);
  return residence;
}

Residence whole_residence(std::span<const BlockUse> uses) {
  Residence residence;
  for (const BlockUse& use : uses) residence.push_back(use.spec.planes);
  return residence;
}

Residence residence_within(std::span<const BlockUse> uses, std::uint64_t bytes) {
  std::vector<PinCandidate> candidates;
  for (std::uint32_t i = 0; i < uses.size(); ++i) {
    for (const Part part : {kFetched, kRest}) {
      const PlaneSet planes = part_of(uses[i], part);
      if (!planes.empty()) candidates.push_back(candidate(i * kParts + part, uses[i], planes));
    }
  }
  Residence residence = least_residence(uses);
  for (const std::uint32_t number : pin(candidates, bytes)) {
    const std::uint32_t block = number / kParts;
    residence[block] = residence[block] | part_of(uses[block], static_cast<Part>(number % kParts));
  }
  return residence;
}

Residence residence_of_share(std::span<const BlockUse> uses, double share) {
  std::vector<PinCandidate> candidates;
  std::uint64_t all = 0;
  for (std::uint32_t i = 0; i < uses.size(); ++i) {
    if (uses[i].offloaded.empty()) continue;
    candidates.push_back(candidate(i, uses[i], uses[i].offloaded));
    all += candidates.back().bytes;
  }
  const auto pinned_within = [&](std::uint64_t bytes) {
    Residence residence = least_residence(uses);
    for (const std::uint32_t block : pin(candidates, bytes)) residence[block] = uses[block].spec.planes;
    return residence;
  };
  const auto bytes = static_cast<std::uint64_t>(share * static_cast<double>(all));
  Residence less = pinned_within(bytes);
  if (candidates.empty()) return less;
  Residence more = pinned_within(bytes + all / candidates.size());
  return share - saved_fraction(uses, less) <= saved_fraction(uses, more) - share ? less : more;
}

std::uint64_t fetched_blocks(std::span<const BlockUse> uses, const Residence& residence) {
  std::uint64_t count = 0;
  for (std::size_t i = 0; i < uses.size(); ++i) count += (uses[i].fetched - residence[i]).empty() ? 0 : 1;
  return count;
}

double saved_fraction(std::span<const BlockUse> uses, const Residence& residence) {
  std::uint64_t all = 0;
  std::uint64_t saved = 0;
  for (std::size_t i = 0; i < uses.size(); ++i) {
    all += uses[i].traffic(uses[i].offloaded);
    saved += uses[i].traffic(uses[i].offloaded & residence[i]);
  }
  return all == 0 ? 0 : static_cast<double>(saved) / static_cast<double>(all);
}

}  // namespace orlop::zero3
