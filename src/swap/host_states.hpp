// HostStates: optimizer states in host memory.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "numa/arena.hpp"
#include "swap/layout.hpp"
#include "swap/states.hpp"

namespace orlop::swap {

// Bytes that HostStates::create will take for these blocks: the preflight's arithmetic is the allocator's.
std::uint64_t host_states_bytes(std::span<const BlockSpec> blocks);

// The topology outlives them. Memory is mapped at once, its pages become real with the first change.
Result<std::unique_ptr<States>> make_host_states(const numa::Topology& topology, std::vector<BlockSpec> blocks);

}  // namespace orlop::swap
