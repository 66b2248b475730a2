#include "zero3/planner/simulator.hpp"

#include <algorithm>

namespace orlop::zero3 {

VirtualMemory::VirtualMemory(std::span<const UnitSize> units, double read_bytes_per_s)
    : units_(units), read_bytes_per_s_(read_bytes_per_s), is_resident_(units.size()) {}

void VirtualMemory::fetch(UnitIndex unit) {
  reads_.push_back({unit, static_cast<double>(units_[unit].fetch_bytes)});
  is_resident_[unit] = true;
  live_elements_ += units_[unit].elements;
}

void VirtualMemory::evict(UnitIndex unit) {
  std::erase_if(reads_, [unit](const Read& read) { return read.unit == unit; });
  is_resident_[unit] = false;
  live_elements_ -= units_[unit].elements;
}

void VirtualMemory::advance(double seconds) {
  double bytes = seconds * read_bytes_per_s_;
  while (!reads_.empty() && bytes > 0) {
    const double part = std::min(bytes, reads_.front().bytes);
    bytes -= part;
    bytes_read_ += part;
    reads_.front().bytes -= part;
    if (reads_.front().bytes <= 0) reads_.pop_front();
  }
}

double VirtualMemory::wait(UnitIndex unit) {
  const auto read = std::ranges::find(reads_, unit, &Read::unit);
  if (read == reads_.end()) return 0;
  const double bytes = read->bytes;
  reads_.erase(read);
  bytes_read_ += bytes;
  return bytes / read_bytes_per_s_;
}

namespace {

StepOutcome simulate_step(std::span<const UnitUse> uses, VirtualMemory& memory, Policy& policy) {
  StepOutcome outcome;
  const double bytes_before = memory.bytes_read();
  double compute_seconds = 0;
  for (const UnitUse& use : uses) {
    policy.begin_use(use, compute_seconds, memory);
    outcome.stall_seconds += memory.wait(use.unit);
    policy.read_ahead(memory);
    outcome.peak_live_elements =
        std::max(outcome.peak_live_elements, memory.live_elements() - policy.pinned_elements());
    memory.advance(use.compute_seconds);
    compute_seconds = use.compute_seconds;
    outcome.compute_seconds += compute_seconds;
    policy.end_use(use.unit, memory);
  }
  policy.end_step(compute_seconds, memory);
  outcome.bytes_fetched = memory.bytes_read() - bytes_before;
  return outcome;
}

}  // namespace

std::vector<StepOutcome> simulate(std::span<const std::vector<UnitUse>> steps,
                                  std::span<const UnitSize> units, double read_bytes_per_s, Policy& policy) {
  VirtualMemory memory(units, read_bytes_per_s);
  std::vector<StepOutcome> outcomes;
  for (const auto& uses : steps) outcomes.push_back(simulate_step(uses, memory, policy));
  return outcomes;
}

}  // namespace orlop::zero3
