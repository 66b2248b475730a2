#include "cpu_adam/adam.hpp"

#include <cassert>
#include <numeric>

#include "cpu_adam/dispatch.hpp"
#include "kernels/float_environment.hpp"

namespace orlop::cpu_adam {
namespace {

[[maybe_unused]] bool covers(std::span<const AdamStretch> stretches, std::size_t count) {
  return count == std::accumulate(stretches.begin(), stretches.end(), std::size_t{0},
                                  [](std::size_t sum, const AdamStretch& stretch) { return sum + stretch.count; });
}

[[maybe_unused]] bool has_planes(const AdamSpan& span, Master master) {
  return (span.lo != nullptr) == (master == Master::split) && (span.master != nullptr) == (master == Master::separate);
}

}  // namespace

void adam_chunk(Isa isa, Master master, GradType grad, const AdamSpan& span, std::span<const AdamStretch> stretches,
                ChunkSums* before, ChunkSums* after) {
  assert(covers(stretches, span.count) && has_planes(span, master));
  const kernels::FloatEnvironment environment;
  kernels_of(isa).adam[static_cast<std::size_t>(master)][static_cast<std::size_t>(grad)](
      span, stretches.data(), stretches.size(), before, after);
}

ChunkSums chunk_sums(Isa isa, const AdamSpan& span) { return kernels_of(isa).sums(span); }

}  // namespace orlop::cpu_adam
