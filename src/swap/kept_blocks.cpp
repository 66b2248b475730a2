#include "swap/kept_blocks.hpp"

#include <algorithm>
#include <unordered_map>

#include "base/bytes.hpp"
#include "base/log.hpp"

namespace orlop::swap {
namespace {

// Neighbours joined: blocks that were written in order are one run.
std::vector<GrainRun> joined_runs(const std::vector<HeldExtent>& extents) {
  std::vector<GrainRun> runs;
  for (const HeldExtent& extent : extents) runs.insert(runs.end(), extent->runs.begin(), extent->runs.end());
  std::sort(runs.begin(), runs.end(), [](const auto& a, const auto& b) { return a.first_grain < b.first_grain; });
  std::vector<GrainRun> joined;
  for (const GrainRun& run : runs) {
    if (!joined.empty() && joined.back().first_grain + joined.back().grain_count == run.first_grain) {
      joined.back().grain_count += run.grain_count;
    } else {
      joined.push_back(run);
    }
  }
  return joined;
}

}  // namespace

// Grains that would be free if these checkpoints were forgotten.
std::uint64_t KeptBlocks::grains_only_of(std::span<const std::string> checkpoint_ids) const {
  std::unordered_map<const Extent*, long> holders;
  std::uint64_t grains = 0;
  for (const Kept& kept : kept_) {
    if (std::find(checkpoint_ids.begin(), checkpoint_ids.end(), kept.pin.checkpoint.id) == checkpoint_ids.end()) continue;
    for (const HeldExtent& extent : kept.extents) {
      if (++holders[extent.get()] == extent.use_count()) grains += extent->grain_count();
    }
  }
  return grains;
}

// With every block held, the next sweep writes a whole generation before it gives back a grain.
Result<> KeptBlocks::make_room(std::span<const std::string> replaced, std::uint64_t limit_bytes) {
  const std::uint64_t generation = store_size(store_.blocks(), store_.writes_at_once()).grain_count;
  const std::uint64_t coming = grains_only_of(replaced);
  const std::uint64_t wanted = generation > coming ? generation - coming : 0;
  const std::uint64_t free = store_.space().free_grains();
  const std::uint64_t bytes = store_.file_bytes() + (wanted > free ? wanted - free : 0) * kGrainBytes;
  if (wanted > free && bytes > limit_bytes) {
    return fail(ORLOP_NO_SPACE,
                "checkpoint: on the budget orlop.memory.nvme ({} bytes): the store needs {} bytes to keep one more "
                "checkpoint, {} bytes too many; raise the budget, keep fewer, or delete some",
                limit_bytes, bytes, bytes - limit_bytes);
  }
  return store_.make_room(wanted);
}

Result<StoredStates> KeptBlocks::keep(const CheckpointRef& checkpoint, std::span<const std::string> replaced,
                                      std::uint64_t limit_bytes) {
  forget_gone();
  TRY(make_room(replaced, limit_bytes));
  const StoreIdentity& identity = store_.identity();
  Kept kept{{pin_path(directory_, identity.rank, checkpoint.id), identity.uuid, checkpoint, {}}, store_.held_extents()};
  kept.pin.runs = joined_runs(kept.extents);
  if (device_of(directory_) == checkpoint.device) {
    kept.pin.checkpoint.link = link_path(directory_, identity.rank, checkpoint.id);
  }
  TRY(write_pin(kept.pin));
  StoredStates stored;
  stored.store = {directory_, identity.run_id, identity.uuid, identity.rank, identity.drive};
  for (std::uint32_t block = 0; block < store_.blocks().size(); ++block) {
    stored.blocks.push_back({store_.blocks()[block].planes, store_.extent_of(block), store_.generation_of(block)});
  }
  stored.sums = store_.sums();
  stored.manifest_link = kept.pin.checkpoint.link;
  kept_.push_back(std::move(kept));
  return stored;
}

void KeptBlocks::complete(const std::string& checkpoint_id) {
  for (Kept& kept : kept_) {
    if (kept.pin.checkpoint.id != checkpoint_id) continue;
    kept.pin.checkpoint.is_complete = true;
    if (const auto written = write_pin(kept.pin); !written) log_warning("{}", written.error().message);
  }
}

void KeptBlocks::forget_at(std::size_t index) {
  remove_pin(kept_[index].pin);
  kept_.erase(kept_.begin() + static_cast<std::ptrdiff_t>(index));
}

void KeptBlocks::forget(const std::string& checkpoint_id) {
  for (std::size_t i = kept_.size(); i-- > 0;) {
    if (kept_[i].pin.checkpoint.id == checkpoint_id) forget_at(i);
  }
}

void KeptBlocks::forget_gone() {
  for (std::size_t i = kept_.size(); i-- > 0;) {
    if (presence_of(kept_[i].pin.checkpoint) == Presence::gone) forget_at(i);
  }
}

}  // namespace orlop::swap
