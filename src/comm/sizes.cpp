#include "comm/sizes.hpp"

namespace orlop::comm {

Result<> check_shards(const char* collective, const char* unit, std::size_t shard, std::size_t whole,
                      int world_size) {
  const auto ranks = static_cast<std::size_t>(world_size);
  if (whole / ranks == shard && whole % ranks == 0) return {};
  return fail(ORLOP_INVALID_ARGUMENT, "{}: on {} ranks: a shard of {} {} does not fit a whole of {}",
              collective, world_size, shard, unit, whole);
}

Result<> check_root(int root, int world_size) {
  if (root >= 0 && root < world_size) return {};
  return fail(ORLOP_INVALID_ARGUMENT, "broadcast: from rank {}: ranks are 0 to {}", root, world_size - 1);
}

}  // namespace orlop::comm
