#include "zero3/digest.hpp"

#include <array>
#include <memory>
#include <vector>

#include "zero3/master.hpp"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace orlop::zero3 {
namespace {

enum HashedPlane : std::size_t { kParam, kMaster, kExpAvg, kExpAvgSq, kHashedPlanes };
using ParamHashes = std::array<XXH64_hash_t, kHashedPlanes>;

// The running hashes of one parameter; it may go on over several blocks, but only one is open at a time, because
// parameters and blocks are both in order within a unit.
class OpenParam {
 public:
  OpenParam() : states_(std::make_unique<std::array<XXH3_state_t, kHashedPlanes>>()) { reset(); }

  void add(HashedPlane plane, const void* bytes, std::uint64_t count) {
    XXH3_64bits_update(&(*states_)[plane], bytes, count);
  }

  ParamHashes finish() {
    ParamHashes hashes;
    for (std::size_t i = 0; i < kHashedPlanes; ++i) hashes[i] = XXH3_64bits_digest(&(*states_)[i]);
    reset();
    return hashes;
  }

 private:
  void reset() {
    for (auto& state : *states_) XXH3_64bits_reset(&state);
  }

  std::unique_ptr<std::array<XXH3_state_t, kHashedPlanes>> states_;
};

class DigestWalk {
 public:
  DigestWalk(const UpdateParts& parts, const Update& update)
      : parts_(parts), update_(update), hashes_(parts.params.size()) {}

  void add_block(const LoadedBlock& loaded) {
    const Block& block = parts_.blocks[loaded.index];
    for (const std::uint32_t id : parts_.plan.units[block.unit].params) {
      const std::uint64_t offset = parts_.plan.placements[id].offset;
      const Range whole{offset, offset + parts_.params[id].numel};
      const Range part = intersect(whole, block.range);
      if (part.empty()) continue;
      add_part(loaded, part);
      if (part.end == whole.end) hashes_[id] = open_.finish();
    }
  }

  [[nodiscard]] std::uint64_t finish() const {
    OpenParam all;
    for (std::size_t id = 0; id < hashes_.size(); ++id) {
      if (parts_.params[id].training == Training::trainable) all.add(kParam, hashes_[id].data(), sizeof(ParamHashes));
    }
    return all.finish()[kParam];
  }

 private:
  void add_part(const LoadedBlock& loaded, Range part) {
    const Block& block = parts_.blocks[loaded.index];
    const std::uint64_t element = bytes_of(parts_.plan.units[block.unit].dtype);
    const std::uint64_t at = part.begin - block.range.begin;
    masters_.resize(part.size());
    read_masters(parts_, update_, loaded, at, masters_);
    open_.add(kParam, params_of(parts_, loaded.index, loaded.memory) + at * element, part.size() * element);
    open_.add(kMaster, masters_.data(), part.size() * sizeof(float));
    add_state(kExpAvg, loaded.memory.as<float>(swap::Plane::exp_avg), at, part.size());
    add_state(kExpAvgSq, loaded.memory.as<float>(swap::Plane::exp_avg_sq), at, part.size());
  }

  // A plane that the optimizer has not is hashed as no bytes.
  void add_state(HashedPlane plane, const float* state, std::uint64_t first, std::uint64_t count) {
    if (state != nullptr) open_.add(plane, state + first, count * sizeof(float));
  }

  const UpdateParts& parts_;
  const Update& update_;
  std::vector<ParamHashes> hashes_;
  OpenParam open_;
  std::vector<float> masters_;
};

}  // namespace

Result<std::uint64_t> digest(const UpdateParts& parts, const Update& update, swap::States& states,
                             const std::atomic<bool>& cancel) {
  DigestWalk walk(parts, update);
  for (const std::uint32_t i : update.order()) {
    if (cancel) return fail(ORLOP_CANCELLED, "digest: on block {} of {}: cancelled", i, parts.blocks.size());
    TRY(states.access(i, swap::Change::none, [&](const swap::BlockMemory& memory) -> Result<> {
      walk.add_block({i, memory});
      return {};
    }));
  }
  return walk.finish();
}

}  // namespace orlop::zero3
