#include "swap/kept_blocks.hpp"

#include <algorithm>
#include <iterator>
#include <unordered_map>

#include "base/bytes.hpp"
#include "base/log.hpp"

namespace orlop::swap {
namespace {

// On one drive, neighbours joined: blocks that were written in order are one run.
std::vector<GrainRun> joined_runs(const std::vector<HeldExtent>& extents, std::size_t drive) {
  std::vector<GrainRun> runs;
  for (const HeldExtent& extent : extents) {
    std::copy_if(extent->runs.begin(), extent->runs.end(), std::back_inserter(runs),
                 [&](const GrainRun& run) { return run.drive == drive; });
  }
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
    if (std::find(checkpoint_ids.begin(), checkpoint_ids.end(), kept.id) == checkpoint_ids.end()) continue;
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
  const std::uint64_t free = store_.free_grains();
  const std::uint64_t bytes = store_.file_bytes() + (wanted > free ? wanted - free : 0) * kGrainBytes;
  if (wanted > free && bytes > limit_bytes) {
    return fail(ORLOP_NO_SPACE,
                "checkpoint: on the budget orlop.memory.nvme ({} bytes): the store needs {} bytes to keep one more "
                "checkpoint, {} bytes too many; raise the budget, keep fewer, or delete some",
                limit_bytes, bytes, bytes - limit_bytes);
  }
  return store_.make_room(wanted);
}

Pin KeptBlocks::pin_of(std::size_t drive, const CheckpointRef& checkpoint,
                       const std::vector<HeldExtent>& extents) const {
  const StoreIdentity& identity = store_.file(drive).identity();
  const std::string& directory = directories_[drive];
  Pin pin{pin_path(directory, identity.rank, checkpoint.id), identity.uuid, checkpoint, joined_runs(extents, drive)};
  const auto is_beside = [&](const std::string& other) { return device_of(other) == checkpoint.device; };
  if (is_beside(directory)) pin.checkpoint.link = link_path(directory, identity.rank, checkpoint.id);
  pin.checkpoint.link_count = static_cast<unsigned>(std::count_if(directories_.begin(), directories_.end(), is_beside));
  return pin;
}

Result<StoredStates> KeptBlocks::keep(const CheckpointRef& checkpoint, std::span<const std::string> replaced,
                                      std::uint64_t limit_bytes) {
  forget_gone();
  TRY(make_room(replaced, limit_bytes));
  kept_.push_back({checkpoint.id, {}, store_.held_extents()});
  Kept& kept = kept_.back();
  StoredStates stored;
  for (std::size_t drive = 0; drive < directories_.size(); ++drive) {
    const Pin& pin = kept.pins.emplace_back(pin_of(drive, checkpoint, kept.extents));
    if (auto written = write_pin(pin); !written) {
      forget_at(kept_.size() - 1);
      return tl::unexpected(std::move(written.error()));
    }
    const StoreIdentity& identity = store_.file(drive).identity();
    stored.stores.push_back({directories_[drive], identity.run_id, identity.uuid, identity.rank, identity.drive});
    if (!pin.checkpoint.link.empty()) stored.manifest_links.push_back(pin.checkpoint.link);
  }
  for (std::uint32_t block = 0; block < store_.blocks().size(); ++block) {
    stored.blocks.push_back({store_.blocks()[block].planes, store_.extent_of(block), store_.generation_of(block)});
  }
  stored.sums = store_.sums();
  return stored;
}

void KeptBlocks::complete(const std::string& checkpoint_id) {
  for (Kept& kept : kept_) {
    if (kept.id != checkpoint_id) continue;
    for (Pin& pin : kept.pins) {
      pin.checkpoint.is_complete = true;
      if (const auto written = write_pin(pin); !written) log_warning("{}", written.error().message);
    }
  }
}

void KeptBlocks::forget_at(std::size_t index) {
  for (const Pin& pin : kept_[index].pins) remove_pin(pin);
  kept_.erase(kept_.begin() + static_cast<std::ptrdiff_t>(index));
}

void KeptBlocks::forget(const std::string& checkpoint_id) {
  for (std::size_t i = kept_.size(); i-- > 0;) {
    if (kept_[i].id == checkpoint_id) forget_at(i);
  }
}

// A drive on the checkpoint's filesystem knows where it was moved; the others may think it gone.
void KeptBlocks::forget_gone() {
  const auto is_gone = [](const Pin& pin) { return presence_of(pin.checkpoint) == Presence::gone; };
  for (std::size_t i = kept_.size(); i-- > 0;) {
    if (std::all_of(kept_[i].pins.begin(), kept_[i].pins.end(), is_gone)) forget_at(i);
  }
}

}  // namespace orlop::swap
