// Master: the fp32 values of a block's parameters, joined from where a dtype keeps them.
#pragma once

#include <cstdint>
#include <span>

#include "swap/block.hpp"
#include "zero3/update.hpp"

namespace orlop::zero3 {

struct LoadedBlock {
  std::uint32_t index;
  swap::BlockMemory memory;
};

// Fills `values` with the masters of the block's elements from `first` on.
void read_masters(const UpdateParts& parts, const Update& update, const LoadedBlock& block, std::uint64_t first,
                  std::span<float> values);

}  // namespace orlop::zero3
