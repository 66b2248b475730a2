// Sizes: checks of a collective's arguments, the same for every communicator.
#pragma once

#include <cstddef>

#include "base/result.hpp"

namespace orlop::comm {

// `whole` is world_size shards. Counts are in what `unit` names.
Result<> check_shards(const char* collective, const char* unit, std::size_t shard, std::size_t whole,
                      int world_size);
Result<> check_root(int root, int world_size);

}  // namespace orlop::comm
