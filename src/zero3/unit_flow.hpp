// UnitFlow: units that live in the store, on their way to where the model computes. Their uses are followed along the pass
// before (planner/course.hpp): what comes next is read ahead into staging memory, and what a plan keeps stays in the
// program's memory until its next use.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "swap/states.hpp"
#include "zero3/live_units.hpp"
#include "zero3/planner/course.hpp"
#include "zero3/update.hpp"

namespace orlop::zero3 {

enum class Use : std::uint8_t {
  forward = ORLOP_USE_FORWARD,
  recompute = ORLOP_USE_RECOMPUTE,
  backward = ORLOP_USE_BACKWARD,
  evaluation = ORLOP_USE_EVALUATION,
  access = ORLOP_USE_ACCESS
};

// What becomes of a unit whose use is over.
enum class AfterUse : std::uint8_t { as_planned, given_up };

// Of one unit.
struct UseCounts {
  std::uint64_t hits = 0;  // uses that found its values in memory
  std::uint64_t fetches = 0;
};

// Of uses whose values were not in memory.
struct FetchTime {
  std::int64_t waited_ns = 0;  // for the store
  std::int64_t copied_ns = 0;  // from staging memory to the program's, sums compared
};

class UnitFlow {
 public:
  // There is a stored unit. All outlive it.
  UnitFlow(const UpdateParts& parts, swap::States& states, LiveUnits& live, const PlanLimits& limits);
  UnitFlow(const UnitFlow&) = delete;
  UnitFlow& operator=(const UnitFlow&) = delete;

  // Evicts units that are not in use, as many as must go before this one comes in, at most `most`: their numbers.
  std::vector<std::uint32_t> make_room(std::uint32_t unit, std::size_t most);
  // A use begins: `destination`, on the device, holds the unit's parameters on return. Whether they were there.
  Result<bool> unshard(std::uint32_t unit, Use use, std::byte* destination, device::Stream stream);
  // The use is over. Whether the unit stays in its memory.
  bool reshard(std::uint32_t unit, AfterUse after);

  // A backward pass has ended; the next pass begins with what was updated, or is another micro-batch.
  void end_pass();
  // Reads ahead what the next pass begins with.
  Result<> read_ahead();
  // Parameters have changed behind the units that are in memory.
  void forget_values() { live_->forget_values(); }
  void forget_values(std::uint32_t unit) { live_->forget_values(live_->index_of(unit)); }

  // Since it was last asked for.
  FetchTime take_fetch_time() { return std::exchange(fetch_time_, {}); }
  // Whether the rest of the pass is expected to read anything.
  [[nodiscard]] bool reads_more() const { return training_.reads_more(); }
  [[nodiscard]] UseCounts counts(std::uint32_t unit) const { return counts_[live_->index_of(unit)]; }
  [[nodiscard]] UseCounts total() const { return total_; }
  // Uses that came unexpected, or were expected and did not come.
  [[nodiscard]] std::uint64_t differing(std::uint32_t unit) const { return training_.differing()[live_->index_of(unit)]; }
  [[nodiscard]] std::uint64_t differing() const;
  [[nodiscard]] std::uint64_t plans_made() const { return training_.plans_made(); }
  [[nodiscard]] const PlanLimits& limits() const { return limits_; }

  // Host memory of the tables here, for so many stored units.
  static std::uint64_t table_bytes(std::size_t units);

 private:
  // The use that a unit is in, or was last.
  struct Position {
    const Course* course = nullptr;  // none: of no pass
    std::size_t position = 0;
  };

  void note(UnitIndex index, Use use);
  Course& course_of(Use use);
  Result<> fill(std::uint32_t unit, std::byte* destination, device::Stream stream);
  Result<> fetch_block(std::uint32_t block, std::byte* destination, device::Stream stream);
  void copy_verified(const swap::PlaneView& view, std::uint64_t elements, std::uint32_t element_bytes,
                     std::byte* destination) const;
  Result<> read_ahead(std::span<const std::uint32_t> rest, std::span<const UnitIndex> upcoming);
  [[nodiscard]] swap::Wanted wanted(std::uint32_t block) const;
  [[nodiscard]] double seconds_computed() const;
  [[nodiscard]] DriveRates rates() const;

  UpdateParts parts_;
  swap::States* states_;
  LiveUnits* live_;
  PlanLimits limits_;
  Course training_;
  std::optional<Course> evaluation_;  // made when there is one
  Course* course_;                    // of the last use
  std::vector<Position> positions_;   // by index, as counts_ and blocks_
  std::vector<UseCounts> counts_;
  UseCounts total_;
  FetchTime fetch_time_;
  std::vector<std::vector<std::uint32_t>> blocks_;
  std::int64_t returned_ns_;  // to the program, which computes since
};

}  // namespace orlop::zero3
