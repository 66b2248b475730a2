// UseTrace: the order in which one step uses its units. Steps repeat, so it is cyclic: what follows the last
// use is the first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

namespace orlop::zero3 {

using UnitIndex = std::uint32_t;  // units in the order of their registration

// Recompute is the forward of an activation checkpoint, run again during backward. Uses that differ in kind
// only are different uses: that is how an evaluation's forward is told from a checkpoint's.
enum class UseKind : std::uint8_t { forward, recompute, backward };

struct UnitUse {
  UnitIndex unit;
  UseKind kind;
  double compute_seconds = 0;  // until the next use, waiting left out
};

class UseTrace {
 public:
  static constexpr std::size_t kNever = std::numeric_limits<std::size_t>::max();

  // Every unit of `uses` is less than `unit_count`.
  UseTrace(std::vector<UnitUse> uses, std::size_t unit_count);

  // What a step is likely to do before one has been seen: forward in registration order, backward in reverse.
  static UseTrace predicted(std::size_t unit_count);

  [[nodiscard]] std::size_t size() const { return uses_.size(); }
  [[nodiscard]] std::size_t unit_count() const { return begin_.size() - 1; }
  [[nodiscard]] const UnitUse& operator[](std::size_t position) const { return uses_[position]; }
  [[nodiscard]] std::span<const UnitUse> uses() const { return uses_; }

  // Positions at which a unit is used, ascending.
  [[nodiscard]] std::span<const std::size_t> positions_of(UnitIndex unit) const;
  // Whether the unit used there is not used before it in the step.
  [[nodiscard]] bool is_first(std::size_t position) const {
    return positions_of(uses_[position].unit).front() == position;
  }
  // How many uses after `position` the unit is used next: from 1 to size(), round the end of the step;
  // kNever.
  [[nodiscard]] std::size_t next_use(UnitIndex unit, std::size_t position) const;
  // How many uses before `position` it was used last: from 1 to size(), round the begin of the step; kNever.
  [[nodiscard]] std::size_t last_use(UnitIndex unit, std::size_t position) const;

 private:
  std::vector<UnitUse> uses_;
  std::vector<std::size_t> begin_;      // by unit: its part of positions_
  std::vector<std::size_t> positions_;  // all units', one after the other
};

}  // namespace orlop::zero3
