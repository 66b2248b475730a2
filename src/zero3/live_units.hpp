// LiveUnits: which units of the store are in memory of the program's now, in use or kept for their next use.
//
// Units that live in the store have indices of their own here, in the order of their numbers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "zero3/planner/plan_input.hpp"
#include "zero3/unit.hpp"

namespace orlop::zero3 {

class LiveUnits {
 public:
  // `read_bytes` by unit number: what a fetch reads from the drive, where not all of it is in host memory.
  LiveUnits(const UnitPlan& plan, kernels::Optimizer optimizer, std::span<const std::uint64_t> read_bytes);

  [[nodiscard]] std::span<const UnitSize> sizes() const { return sizes_; }
  [[nodiscard]] UnitIndex index_of(std::uint32_t unit) const { return index_of_[unit]; }
  [[nodiscard]] std::uint32_t unit_of(UnitIndex index) const { return live_[index].unit; }

  // The unit is in use, in this memory, once it has been filled with the values. Whether it has them: that
  // the unit was kept there.
  bool begin_use(UnitIndex index, std::byte* memory);
  void set_filled(UnitIndex index) { is_filled_[index] = true; }
  // The unit is kept until its next use, or evicted.
  void end_use(UnitIndex index) { live_[index].is_in_use = false; }
  // Its memory is not looked at any more.
  void evict(UnitIndex index);
  // What is in memory is not the parameters any more; those in use stay in use.
  void forget_values() { is_filled_.assign(is_filled_.size(), false); }
  void forget_values(UnitIndex index) { is_filled_[index] = false; }

  // Where a stored unit, by its number, has its values in memory, so that an update can renew them. Null:
  // nowhere.
  [[nodiscard]] std::byte* values_of(std::uint32_t unit) const;
  // By index: values that are there.
  [[nodiscard]] const std::vector<bool>& filled() const { return is_filled_; }
  [[nodiscard]] std::vector<UnitIndex> idle() const;
  [[nodiscard]] std::uint64_t elements() const { return elements_; }
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }
  [[nodiscard]] bool is_live(UnitIndex index) const { return live_[index].memory != nullptr; }

 private:
  struct Live {
    std::uint32_t unit;
    std::uint64_t bytes;
    std::byte* memory = nullptr;
    bool is_in_use = false;
  };

  std::vector<UnitSize> sizes_;
  std::vector<UnitIndex> index_of_;  // by number; of no meaning for units in memory
  std::vector<Live> live_;
  std::vector<bool> is_filled_;
  std::uint64_t elements_ = 0;
  std::uint64_t bytes_ = 0;
};

}  // namespace orlop::zero3
