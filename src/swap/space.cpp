#include "swap/space.hpp"

#include <algorithm>
#include <bit>
#include <cassert>

namespace orlop::swap {

std::uint64_t Extent::grain_count() const {
  std::uint64_t count = 0;
  for (const auto& run : runs) count += run.grain_count;
  return count;
}

Space::Space(std::uint32_t grain_count)
    : grain_count_(grain_count), free_grains_(grain_count), used_(divide_up(grain_count, 64)) {
  if (grain_count % 64 != 0) used_.back() = ~std::uint64_t{0} << (grain_count % 64);
}

Result<Extent> Space::allocate(std::uint64_t bytes) {
  const std::uint64_t wanted = grains_of(bytes);
  if (wanted > free_grains_) {
    return fail(ORLOP_NO_SPACE, "store: {} wanted ({} grains), {} of {} grains free", format_bytes(bytes), wanted,
                free_grains_, grain_count_);
  }
  const auto count = static_cast<std::uint32_t>(wanted);
  std::uint32_t first = free_run_from(cursor_, count);
  if (first == grain_count_) first = free_run_from(0, count);
  Extent extent = first == grain_count_ ? collect(count) : Extent{{{first, count}}};
  take(extent);
  return extent;
}

void Space::release(const GrainRun& run) {
  mark(run, Mark::free);
  free_grains_ += run.grain_count;
}

void Space::grow(std::uint32_t grains) {
  if (grain_count_ % 64 != 0) used_.back() &= ~(~std::uint64_t{0} << (grain_count_ % 64));
  grain_count_ += grains;
  free_grains_ += grains;
  used_.resize(divide_up(grain_count_, 64));
  if (grain_count_ % 64 != 0) used_.back() |= ~std::uint64_t{0} << (grain_count_ % 64);
}

// The first grain in [from, end) that is so marked; end when there is none.
std::uint32_t Space::next(Mark wanted, std::uint32_t from, std::uint32_t end) const {
  for (std::uint32_t grain = from; grain < end; grain = (grain / 64 + 1) * 64) {
    const std::uint64_t word = wanted == Mark::used ? used_[grain / 64] : ~used_[grain / 64];
    const std::uint64_t rest = word >> (grain % 64);
    if (rest != 0) return std::min(grain + static_cast<std::uint32_t>(std::countr_zero(rest)), end);
  }
  return end;
}

// The first grain of `count` free ones in a row, all >= from; grain_count_ when there are none.
std::uint32_t Space::free_run_from(std::uint32_t from, std::uint32_t count) const {
  for (std::uint32_t begin = next(Mark::free, from, grain_count_); begin < grain_count_;) {
    const std::uint32_t end = next(Mark::used, begin, begin + std::min(count, grain_count_ - begin));
    if (end - begin == count) return begin;
    begin = next(Mark::free, end, grain_count_);
  }
  return grain_count_;
}

// `count` free grains wherever they are, from the cursor on and round the end.
Extent Space::collect(std::uint32_t count) const {
  Extent extent;
  const auto collect_range = [&](std::uint32_t from, std::uint32_t to) {
    for (std::uint32_t begin = next(Mark::free, from, to); begin < to && count > 0;) {
      const std::uint32_t end = next(Mark::used, begin, begin + std::min(count, to - begin));
      extent.runs.push_back({begin, end - begin});
      count -= end - begin;
      begin = next(Mark::free, end, to);
    }
  };
  collect_range(cursor_, grain_count_);
  collect_range(0, cursor_);
  return extent;
}

std::vector<GrainRun> Space::free_runs() const {
  std::vector<GrainRun> runs;
  for (std::uint32_t begin = next(Mark::free, 0, grain_count_); begin < grain_count_;) {
    const std::uint32_t end = next(Mark::used, begin, grain_count_);
    runs.push_back({begin, end - begin});
    begin = next(Mark::free, end, grain_count_);
  }
  return runs;
}

void Space::take(const Extent& extent) {
  for (const auto& run : extent.runs) {
    mark(run, Mark::used);
    free_grains_ -= run.grain_count;
    cursor_ = run.first_grain + run.grain_count;
  }
}

void Space::mark(const GrainRun& run, [[maybe_unused]] Mark as) {
  for (std::uint32_t grain = run.first_grain; grain < run.first_grain + run.grain_count; ++grain) {
    assert(is_free(grain) == (as == Mark::used));
    used_[grain / 64] ^= std::uint64_t{1} << (grain % 64);
  }
}

}  // namespace orlop::swap
