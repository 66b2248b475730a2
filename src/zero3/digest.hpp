// Digest: one number over all final parameters and states, the same wherever the bytes live.
#pragma once

#include <atomic>
#include <cstdint>

#include "swap/states.hpp"
#include "zero3/update.hpp"

namespace orlop::zero3 {

// XXH3 over the XXH3s of every trainable parameter's PARAM, MASTER, EXP_AVG and EXP_AVG_SQ, in order of id. Reads
// every block once.
Result<std::uint64_t> digest(const UpdateParts& parts, const Update& update, swap::States& states,
                             const std::atomic<bool>& cancel);

}  // namespace orlop::zero3
