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
  // `directories`: the run's, one per drive of the store.
  KeptBlocks(Store& store, std::vector<std::string> directories) : store_(store), directories_(std::move(directories)) {}

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
    std::string id;
    std::vector<Pin> pins;  // one per drive
    std::vector<HeldExtent> extents;
  };
  [[nodiscard]] std::uint64_t grains_only_of(std::span<const std::string> checkpoint_ids) const;
  Result<> make_room(std::span<const std::string> replaced, std::uint64_t limit_bytes);
  [[nodiscard]] Pin pin_of(std::size_t drive, const CheckpointRef& checkpoint,
                           const std::vector<HeldExtent>& extents) const;
  void forget_at(std::size_t index);

  Store& store_;
  std::vector<std::string> directories_;
  std::vector<Kept> kept_;
};

}  // namespace orlop::swap
