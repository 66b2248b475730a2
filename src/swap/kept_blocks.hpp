// KeptBlocks: the generations of a store that checkpoints refer to.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "swap/pin.hpp"
#include "swap/states.hpp"
#include "swap/store.hpp"

namespace orlop::swap {

class KeptBlocks {
 public:
  // `directory`: the run's.
  KeptBlocks(Store& store, std::string directory) : store_(store), directory_(std::move(directory)) {}

  // Nothing may be in flight. `limit_bytes`: the largest the store may become. See States::keep.
  Result<StoredStates> keep(const CheckpointRef& checkpoint, std::span<const std::string> replaced,
                            std::uint64_t limit_bytes);
  // Its manifest is in its place.
  void complete(const std::string& checkpoint_id);
  void forget(const std::string& checkpoint_id);
  // Forgets those whose directories were deleted.
  void forget_gone();
  [[nodiscard]] bool is_empty() const { return kept_.empty(); }

 private:
  struct Kept {
    Pin pin;
    std::vector<HeldExtent> extents;
  };
  [[nodiscard]] std::uint64_t grains_only_of(std::span<const std::string> checkpoint_ids) const;
  Result<> make_room(std::span<const std::string> replaced, std::uint64_t limit_bytes);
  void forget_at(std::size_t index);

  Store& store_;
  std::string directory_;
  std::vector<Kept> kept_;
};

}  // namespace orlop::swap
