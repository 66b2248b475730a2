#include "cpu_adam/adam.hpp"

#include <algorithm>
#include <cassert>
#include <numeric>

#include "cpu_adam/dispatch.hpp"
#include "kernels/float_environment.hpp"

namespace orlop::cpu_adam {
namespace {

[[maybe_unused]] bool covers(std::span<const Stretch> stretches, std::size_t count) {
  return count == std::accumulate(stretches.begin(), stretches.end(), std::size_t{0},
                                  [](std::size_t sum, const Stretch& stretch) { return sum + stretch.count; });
}

[[maybe_unused]] bool has_planes(const PlaneSpan& span, Master master) {
  return (span.lo != nullptr) == (master == Master::split) && (span.master != nullptr) == (master == Master::separate);
}

[[maybe_unused]] bool has_states(const PlaneSpan& span, std::span<const Stretch> stretches) {
  return std::all_of(stretches.begin(), stretches.end(), [&](const Stretch& stretch) {
    const kernels::Rule rule = stretch.constants->rule;
    return (span.exp_avg != nullptr) == has_exp_avg(rule) && (span.exp_avg_sq != nullptr) == has_exp_avg_sq(rule);
  });
}

}  // namespace

void update_chunk(Isa isa, Master master, GradType grad, const PlaneSpan& span, std::span<const Stretch> stretches,
                ChunkSums* before, ChunkSums* after) {
  assert(covers(stretches, span.count) && has_planes(span, master) && has_states(span, stretches));
  const kernels::FloatEnvironment environment;
  kernels_of(isa).update[static_cast<std::size_t>(master)][static_cast<std::size_t>(grad)](
      span, stretches.data(), stretches.size(), before, after);
}

ChunkSums chunk_sums(Isa isa, const PlaneSpan& span) { return kernels_of(isa).sums(span); }

}  // namespace orlop::cpu_adam
