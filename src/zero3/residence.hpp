// Residence: which planes of which blocks are in the store, and which stay in host memory: because that is asked for, or
// because there is room for them.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/config.hpp"
#include "swap/block.hpp"
#include "zero3/blocks.hpp"

namespace orlop::zero3 {

// What a step does with a block.
struct BlockUse {
  swap::BlockSpec spec;
  swap::PlaneSet offloaded;  // planes whose place is the store unless there is room for them in memory
  swap::PlaneSet fetched;    // of these: the parameters, read by forward and by backward
  bool is_updated;           // all its planes are read and written once

  // Bytes that a step moves between memory and the store for these of its planes.
  [[nodiscard]] std::uint64_t traffic(swap::PlaneSet planes) const;
};

// By block: optimizer states are offloaded where offload_optimizer says "nvme", parameters that are away from where the model
// computes where offload_param does; with "cpu" they are in host memory.
std::vector<BlockUse> block_uses(const Config& config, const UnitPlan& plan, std::span<const Block> blocks,
                                 kernels::Optimizer optimizer);

std::vector<swap::BlockSpec> specs_of(std::span<const BlockUse> uses);

// By block: planes in host memory.
using Residence = std::vector<swap::PlaneSet>;

// Those that are not offloaded.
Residence least_residence(std::span<const BlockUse> uses);
// All.
Residence whole_residence(std::span<const BlockUse> uses);
// Of what is offloaded, as much as fits `bytes` of memory beside that: by the bytes that a step saves for a byte of memory,
// so parameters first, and spread evenly over the sweep.
Residence residence_within(std::span<const BlockUse> uses, std::uint64_t bytes);
// Whole blocks, spread evenly, that are nearest to this share of what is offloaded.
Residence residence_of_share(std::span<const BlockUse> uses, double share);

// Blocks with a plane of parameters in the store.
std::uint64_t fetched_blocks(std::span<const BlockUse> uses, const Residence& residence);
// The part of the traffic of a step, were nothing in memory that is offloaded, that this residence saves.
double saved_fraction(std::span<const BlockUse> uses, const Residence& residence);

}  // namespace orlop::zero3
