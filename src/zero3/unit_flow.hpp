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

class UnitFlow {
 public:
  // `ahead_elements`: how much is read ahead at most.
  UnitFlow(const UpdateParts& parts, swap::States& states, std::uint64_t ahead_elements);

  // Fills `destination`, on the device, with the unit's parameters. Complete on return.
  Result<> unshard(std::uint32_t unit, void* destination, device::Stream stream);

  // Parameters have been updated: what comes next is the first use of another step.
  Result<> begin_step();

 private:
  Result<> fetch_block(std::uint32_t block, std::byte* destination, device::Stream stream);
  void copy_verified(const swap::PlaneView& view, std::uint64_t elements, std::uint32_t element_bytes,
                     std::byte* destination) const;
  Result<> read_ahead(std::span<const std::uint32_t> rest);
  [[nodiscard]] swap::Wanted wanted(std::uint32_t block) const;

  UpdateParts parts_;
  swap::States* states_;
  std::uint64_t ahead_elements_;
  UseOrder order_;
  std::vector<std::vector<std::uint32_t>> blocks_;  // by unit; none for those that live in memory
};

}  // namespace orlop::zero3
