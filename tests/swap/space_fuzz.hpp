// Random operations on a Space against the simplest model there is: the list of extents handed out. Driven by bytes, so
// that the unit test and a fuzzer share it.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "swap/space.hpp"

namespace orlop::swap {

class SpaceModel {
 public:
  explicit SpaceModel(std::uint32_t grains) : space_(grains) {}

  // "" or what is wrong.
  std::string allocate(std::uint32_t grains) {
    const std::uint32_t free_before = space_.free_grains();
    const auto extent = space_.allocate(grains * kGrainBytes - (grains > 1 ? 4096 : 0));
    if (extent.has_value() != (grains <= free_before)) return "succeeds exactly when enough grains are free: broken";
    if (!extent) return space_.free_grains() == free_before ? "" : "a failed allocation took grains";
    if (extent->grain_count() != grains) return "an extent has not the grains asked for";
    if (extent->runs.size() > 1 && longest_free_run() >= grains) return "scattered although there was room in a row";
    for (const auto& run : extent->runs) {
      for (std::uint32_t i = 0; i < run.grain_count; ++i) {
        if (!used_.insert(run.first_grain + i).second) return "a grain has two owners";
      }
    }
    extents_.push_back(*extent);
    return check();
  }

  std::string release(std::size_t which) {
    if (extents_.empty()) return "";
    const auto at = extents_.begin() + static_cast<std::ptrdiff_t>(which % extents_.size());
    for (const GrainRun& run : at->runs) space_.release(run);
    for (const auto& run : at->runs) {
      for (std::uint32_t i = 0; i < run.grain_count; ++i) used_.erase(run.first_grain + i);
    }
    extents_.erase(at);
    return check();
  }

  std::string grow(std::uint32_t grains) {
    const std::uint32_t before = space_.grain_count();
    space_.grow(grains);
    return space_.grain_count() == before + grains ? check() : "did not grow by as much as asked for";
  }

 private:
  std::string check() const {
    if (space_.free_grains() + used_.size() != space_.grain_count()) return "free grains do not add up";
    for (std::uint32_t grain = 0; grain < space_.grain_count(); ++grain) {
      if (space_.is_free(grain) == used_.contains(grain)) return "the map disagrees with the owners";
    }
    std::uint64_t in_runs = 0;
    for (const GrainRun& run : space_.free_runs()) in_runs += run.grain_count;
    return in_runs == space_.free_grains() ? "" : "the free runs do not add up";
  }
  std::uint32_t longest_free_run() const {
    std::uint32_t longest = 0;
    std::uint32_t run = 0;
    for (std::uint32_t grain = 0; grain < space_.grain_count(); ++grain) {
      run = used_.contains(grain) ? 0 : run + 1;
      longest = std::max(longest, run);
    }
    return longest;
  }

  Space space_;
  std::set<std::uint32_t> used_;
  std::vector<Extent> extents_;
};

// First byte: grains; then two bytes per operation.
inline std::string fuzz_space(std::span<const std::uint8_t> bytes) {
  if (bytes.empty()) return "";
  SpaceModel model(1u + bytes[0]);
  for (std::size_t i = 1; i + 1 < bytes.size(); i += 2) {
    const bool is_allocation = bytes[i] % 2 == 0;
    const auto wrong = bytes[i] % 64 == 63 ? model.grow(bytes[i + 1])
                       : is_allocation     ? model.allocate(1u + bytes[i + 1] % 48)
                                           : model.release(bytes[i + 1]);
    if (!wrong.empty()) return wrong;
  }
  return "";
}

}  // namespace orlop::swap
