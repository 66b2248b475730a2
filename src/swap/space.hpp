// Space: the room of a store file, handed out in grains, so that a scattered remainder is as good as one in a row: an
// allocation succeeds whenever enough grains are free.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/bytes.hpp"
#include "base/result.hpp"

namespace orlop::swap {

// 256 KiB is the smallest request at which every drive measured runs at full speed, so that even an extent in
// single grains costs nothing; a block leaves less than one grain unused (0.4 % of 32 MiB at most).
inline constexpr std::uint64_t kGrainBytes = 256 * 1024;

constexpr std::uint64_t grains_of(std::uint64_t bytes) { return divide_up(bytes, kGrainBytes); }

struct GrainRun {
  std::uint32_t first_grain;
  std::uint32_t grain_count;
  std::uint32_t drive = 0;  // of the store's, the one whose file it is in
  friend bool operator==(const GrainRun&, const GrainRun&) = default;
};

// Grains that hold one generation of a block, in order; on one drive one run unless the room is fragmented.
struct Extent {
  std::vector<GrainRun> runs;
  [[nodiscard]] std::uint64_t grain_count() const;
};

// Of one drive's file.
class Space {
 public:
  explicit Space(std::uint32_t grain_count);

  // In one run where there is one, searched from behind the last allocation on (a sweep then writes the file in
  // order), else in as few as the free grains from there on give. ORLOP_NO_SPACE only when too few grains are free.
  Result<Extent> allocate(std::uint64_t bytes);
  void release(const GrainRun& run);
  // So many more at the end, free.
  void grow(std::uint32_t grains);

  [[nodiscard]] std::vector<GrainRun> free_runs() const;
  [[nodiscard]] std::uint32_t grain_count() const { return grain_count_; }
  [[nodiscard]] std::uint32_t free_grains() const { return free_grains_; }
  [[nodiscard]] bool is_free(std::uint32_t grain) const { return (used_[grain / 64] >> (grain % 64) & 1) == 0; }

  static constexpr std::uint64_t map_bytes(std::uint64_t grain_count) { return divide_up(grain_count, 64) * 8; }

 private:
  enum class Mark : std::uint8_t { used, free };

  [[nodiscard]] std::uint32_t next(Mark wanted, std::uint32_t from, std::uint32_t end) const;
  [[nodiscard]] std::uint32_t free_run_from(std::uint32_t from, std::uint32_t count) const;
  [[nodiscard]] Extent collect(std::uint32_t count) const;
  void take(const Extent& extent);
  void mark(const GrainRun& run, Mark as);

  std::uint32_t grain_count_;
  std::uint32_t free_grains_;
  std::uint32_t cursor_ = 0;         // behind the last allocation
  std::vector<std::uint64_t> used_;  // a bit per grain; bits behind the last grain are set
};

}  // namespace orlop::swap
