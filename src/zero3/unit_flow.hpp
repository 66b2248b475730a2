// UnitFlow: units that live in the store, on their way to where the model computes: fetched into memory of whoever
// computes, one after the other, the next ones read ahead.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "swap/states.hpp"
#include "zero3/update.hpp"
#include "zero3/use_order.hpp"

namespace orlop::zero3 {

struct UnitFlowStats {
  std::uint64_t fetches = 0;
  std::uint64_t fetched_elements = 0;
  std::uint64_t live_elements = 0;  // of units that are unsharded now
  std::uint64_t peak_live_elements = 0;
  std::int64_t wait_ns = 0;  // spent in unshard
};

class UnitFlow {
 public:
  // `ahead_elements`: how much is read ahead at most.
  UnitFlow(const UpdateParts& parts, swap::States& states, std::uint64_t ahead_elements);

  // Fills `destination`, on the device, with the unit's parameters. Complete on return.
  Result<> unshard(std::uint32_t unit, void* destination, device::Stream stream);
  // What unshard filled is given up.
  Result<> reshard(std::uint32_t unit);

  // Parameters have been updated: what comes next is the first use of another step.
  Result<> begin_step();

  [[nodiscard]] const UnitFlowStats& stats() const { return stats_; }
  [[nodiscard]] std::uint64_t surprises() const { return order_.surprises(); }
  [[nodiscard]] bool is_live(std::uint32_t unit) const { return live_[unit]; }

 private:
  Result<> fetch_block(std::uint32_t block, std::byte* destination, device::Stream stream);
  void copy_verified(const swap::PlaneView& view, std::uint64_t elements, std::uint32_t element_bytes,
                     std::byte* destination) const;
  Result<> copy_to_device(const std::byte* from, std::uint64_t bytes, std::byte* destination, device::Stream stream);
  Result<> read_ahead(std::span<const std::uint32_t> rest);
  [[nodiscard]] swap::Wanted wanted(std::uint32_t block) const;

  UpdateParts parts_;
  swap::States* states_;
  std::uint64_t ahead_elements_;
  UseOrder order_;
  std::vector<std::vector<std::uint32_t>> blocks_;  // by unit; none for those that live in memory
  std::vector<bool> live_;                          // by unit
  UnitFlowStats stats_;
};

}  // namespace orlop::zero3
