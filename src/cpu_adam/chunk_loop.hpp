// The way through a chunk, the same for every instruction set: stretch by stretch, tile by tile, each tile hashed,
// updated and hashed again while it is in cache. Private to the kernel files, each of which compiles its own copy with
// its own flags: everything is in an unnamed namespace.
#pragma once

#include "cpu_adam/kernel_table.hpp"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace orlop::cpu_adam {
namespace {

using kernels::AdamConstants;
using kernels::WeightDecay;

constexpr std::size_t size_of(GradType type) { return type == GradType::f32 ? 4 : 2; }
constexpr std::size_t param_bytes(Master master) { return master == Master::itself ? 4 : 2; }

// Planes together are 26 to 32 bytes per element: a tile and the one that is being fetched fit into any L2 cache.
constexpr std::size_t kTileElements = 2048;

// Elements [first, first + count) of a span.
template <Master kMaster, GradType kGrad>
AdamSpan part_of(const AdamSpan& span, std::size_t first, std::size_t count) {
  AdamSpan part = span;
  part.param = static_cast<char*>(span.param) + first * param_bytes(kMaster);
  if constexpr (kMaster == Master::split) part.lo += first;
  if constexpr (kMaster == Master::separate) part.master += first;
  part.exp_avg += first;
  part.exp_avg_sq += first;
  part.grad = static_cast<const char*>(span.grad) + first * size_of(kGrad);
  part.count = count;
  return part;
}

// XXH3_64bits of a plane that arrives in pieces.
class PlaneHash {
 public:
  PlaneHash() { XXH3_64bits_reset(&state_); }
  void add(const void* bytes, std::size_t count) { XXH3_64bits_update(&state_, bytes, count); }
  [[nodiscard]] std::uint64_t sum(const void* plane) const {
    return plane == nullptr ? 0 : XXH3_64bits_digest(&state_);
  }

 private:
  XXH3_state_t state_;
};

class StateHash {
 public:
  void add(const AdamSpan& part) {
    if (part.lo != nullptr) lo_.add(part.lo, part.count * sizeof(*part.lo));
    if (part.master != nullptr) master_.add(part.master, part.count * sizeof(*part.master));
    exp_avg_.add(part.exp_avg, part.count * sizeof(*part.exp_avg));
    exp_avg_sq_.add(part.exp_avg_sq, part.count * sizeof(*part.exp_avg_sq));
  }
  [[nodiscard]] ChunkSums sums(const AdamSpan& span) const {
    return {lo_.sum(span.lo), master_.sum(span.master), exp_avg_.sum(span.exp_avg), exp_avg_sq_.sum(span.exp_avg_sq)};
  }

 private:
  PlaneHash lo_, master_, exp_avg_, exp_avg_sq_;
};

std::uint64_t plane_sum(const void* plane, std::size_t bytes) {
  return plane == nullptr ? 0 : XXH3_64bits(plane, bytes);
}

ChunkSums sums_of(const AdamSpan& span) {
  return {plane_sum(span.lo, span.count * sizeof(*span.lo)), plane_sum(span.master, span.count * sizeof(*span.master)),
          plane_sum(span.exp_avg, span.count * sizeof(*span.exp_avg)),
          plane_sum(span.exp_avg_sq, span.count * sizeof(*span.exp_avg_sq))};
}

// `Arithmetic::update<master, grad, decay>(span, constants)` is the instruction set's own part.
template <typename Arithmetic, Master kMaster, GradType kGrad>
void update(const AdamSpan& span, const AdamConstants& constants) {
  if (constants.weight_decay == WeightDecay::l2) {
    Arithmetic::template update<kMaster, kGrad, WeightDecay::l2>(span, constants);
  } else {
    Arithmetic::template update<kMaster, kGrad, WeightDecay::decoupled>(span, constants);
  }
}

template <typename Arithmetic, Master kMaster, GradType kGrad>
void adam_hashed(const AdamSpan& span, const AdamStretch* stretches, std::size_t stretch_count, ChunkSums* before,
                 ChunkSums* after) {
  StateHash read;
  StateHash written;
  std::size_t first = 0;
  for (const AdamStretch* stretch = stretches; stretch != stretches + stretch_count; ++stretch) {
    const std::size_t end = first + stretch->count;
    while (first < end) {
      const std::size_t count = end - first < kTileElements ? end - first : kTileElements;
      const AdamSpan tile = part_of<kMaster, kGrad>(span, first, count);
      if (before != nullptr) read.add(tile);
      update<Arithmetic, kMaster, kGrad>(tile, *stretch->constants);
      if (after != nullptr) written.add(tile);
      first += count;
    }
  }
  if (before != nullptr) *before = read.sums(span);
  if (after != nullptr) *after = written.sums(span);
}

template <typename Arithmetic, Master kMaster, GradType kGrad>
void adam(const AdamSpan& span, const AdamStretch* stretches, std::size_t stretch_count, ChunkSums* before,
          ChunkSums* after) {
  if (before != nullptr || after != nullptr) {
    adam_hashed<Arithmetic, kMaster, kGrad>(span, stretches, stretch_count, before, after);
    return;
  }
  std::size_t first = 0;
  for (const AdamStretch* stretch = stretches; stretch != stretches + stretch_count; ++stretch) {
    update<Arithmetic, kMaster, kGrad>(part_of<kMaster, kGrad>(span, first, stretch->count), *stretch->constants);
    first += stretch->count;
  }
}

// The table of an instruction set, from its Arithmetic.
template <typename Arithmetic, Intake kIntake, GradType kDestination>
constexpr void fill_intake(KernelTable::TakeGrad (&row)[kGradTypes]) {
  row[0] = Arithmetic::template intake<kIntake, kDestination, GradType::f32>;
  row[1] = Arithmetic::template intake<kIntake, kDestination, GradType::bf16>;
  row[2] = Arithmetic::template intake<kIntake, kDestination, GradType::f16>;
}

template <typename Arithmetic, Intake kIntake>
constexpr void fill_intake(KernelTable::TakeGrad (&rows)[kGradTypes][kGradTypes]) {
  fill_intake<Arithmetic, kIntake, GradType::f32>(rows[0]);
  fill_intake<Arithmetic, kIntake, GradType::bf16>(rows[1]);
  fill_intake<Arithmetic, kIntake, GradType::f16>(rows[2]);
}

template <typename Arithmetic, Master kMaster>
constexpr void fill_adam(KernelTable::Adam (&row)[kGradTypes]) {
  row[0] = adam<Arithmetic, kMaster, GradType::f32>;
  row[1] = adam<Arithmetic, kMaster, GradType::bf16>;
  row[2] = adam<Arithmetic, kMaster, GradType::f16>;
}

template <typename Arithmetic>
constexpr KernelTable make_table(Isa isa) {
  KernelTable table = {};
  table.isa = isa;
  fill_adam<Arithmetic, Master::itself>(table.adam[0]);
  fill_adam<Arithmetic, Master::split>(table.adam[1]);
  fill_adam<Arithmetic, Master::separate>(table.adam[2]);
  table.sums = sums_of;
  fill_intake<Arithmetic, Intake::store>(table.intake[0]);
  fill_intake<Arithmetic, Intake::add>(table.intake[1]);
  table.squares[0] = Arithmetic::template squares<GradType::f32>;
  table.squares[1] = Arithmetic::template squares<GradType::bf16>;
  table.squares[2] = Arithmetic::template squares<GradType::f16>;
  return table;
}

}  // namespace
}  // namespace orlop::cpu_adam
