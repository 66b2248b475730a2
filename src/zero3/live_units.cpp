#include "zero3/live_units.hpp"

#include <utility>

namespace orlop::zero3 {
namespace {

UnitSize size_of(const Unit& unit, kernels::Optimizer optimizer, std::uint64_t read_bytes) {
  UnitSize size{.elements = unit.content, .fetch_bytes = read_bytes};
  if (unit.training == Training::trainable) {
    size.update_read_bytes = size.update_write_bytes =
        unit.content * planes_of(kind_of(unit), optimizer).bytes_per_element();
  }
  return size;
}

}  // namespace

LiveUnits::LiveUnits(const UnitPlan& plan, kernels::Optimizer optimizer, std::span<const std::uint64_t> read_bytes)
    : index_of_(plan.units.size()) {
  for (std::uint32_t number = 0; number < plan.units.size(); ++number) {
    const Unit& unit = plan.units[number];
    index_of_[number] = static_cast<UnitIndex>(sizes_.size());
    if (unit.home == Home::memory) continue;
    sizes_.push_back(size_of(unit, optimizer, read_bytes[number]));
    live_.push_back({number, unit.content * bytes_of(unit.dtype)});
  }
  is_filled_.resize(sizes_.size());
}

bool LiveUnits::begin_use(UnitIndex index, std::byte* memory) {
  Live& live = live_[index];
  live.is_in_use = true;
  std::byte* const before = std::exchange(live.memory, memory);
  if (before == nullptr) {
    elements_ += sizes_[index].elements;
    bytes_ += live.bytes;
  }
  if (before != memory) is_filled_[index] = false;
  return is_filled_[index];
}

void LiveUnits::evict(UnitIndex index) {
  if (live_[index].memory == nullptr) return;
  live_[index].memory = nullptr;
  live_[index].is_in_use = false;
  is_filled_[index] = false;
  elements_ -= sizes_[index].elements;
  bytes_ -= live_[index].bytes;
}

std::byte* LiveUnits::values_of(std::uint32_t unit) const {
  const UnitIndex index = index_of_[unit];
  return is_filled_[index] ? live_[index].memory : nullptr;
}

std::vector<UnitIndex> LiveUnits::idle() const {
  std::vector<UnitIndex> idle;
  for (UnitIndex index = 0; index < live_.size(); ++index) {
    if (live_[index].memory != nullptr && !live_[index].is_in_use) idle.push_back(index);
  }
  return idle;
}

}  // namespace orlop::zero3
