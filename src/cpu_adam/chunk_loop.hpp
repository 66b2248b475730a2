// The way through a chunk, the same for every instruction set: stretch by stretch, tile by tile, each tile hashed,
// updated and hashed again while it is in cache. Private to the kernel files, each of which compiles its own copy with
// its own flags: everything is in an unnamed namespace.
#pragma once

#include "cpu_adam/kernel_table.hpp"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace orlop::cpu_adam {
namespace {

using kernels::StepConstants;
using kernels::Rule;

constexpr std::size_t size_of(GradType type) { return type == GradType::f32 ? 4 : 2; }
constexpr std::size_t param_bytes(Master master) { return master == Master::itself ? 4 : 2; }

// States and parameters of a tile stay in the L1 cache between hashing and arithmetic.
constexpr std::size_t kTileElements = 1024;

// Elements [first, first + count) of a span.
template <Master kMaster, GradType kGrad>
PlaneSpan part_of(const PlaneSpan& span, std::size_t first, std::size_t count) {
  PlaneSpan part = span;
  part.param = static_cast<char*>(span.param) + first * param_bytes(kMaster);
  if constexpr (kMaster == Master::split) part.lo += first;
  if constexpr (kMaster == Master::separate) part.master += first;
  if (part.exp_avg != nullptr) part.exp_avg += first;
  if (part.exp_avg_sq != nullptr) part.exp_avg_sq += first;
  part.grad = static_cast<const char*>(span.grad) + first * size_of(kGrad);
  part.count = count;
  return part;
}

static_assert(XXH_VERSION_NUMBER >= 800 && XXH_VERSION_NUMBER < 900, "PlaneHash knows XXH3_state_t of 0.8");

// XXH3_64bits of a plane that arrives in pieces.
class PlaneHash {
 public:
  PlaneHash() { XXH3_64bits_reset(&state_); }
  void add(const void* bytes, std::size_t count) { XXH3_64bits_update(&state_, bytes, count); }
  [[nodiscard]] std::uint64_t sum(const void* plane) const {
    return plane == nullptr ? 0 : XXH3_64bits_digest(&state_);
  }

  // For kernels that take whole blocks of 1024 bytes themselves (stripe_sums.hpp): they start from the accumulators
  // and leave theirs in what advance() returns, before the first add() and with more to be added afterwards.
  static constexpr std::size_t kScrambleKey = 192 - 64;  // the last stripe's worth of the secret
  [[nodiscard]] const void* accumulators() const { return state_.acc; }
  [[nodiscard]] void* advance(std::size_t bytes) {
    state_.totalLen += bytes;
    return state_.acc;
  }
  [[nodiscard]] const unsigned char* secret() const { return state_.extSecret; }

 private:
  XXH3_state_t state_;
};

struct StateHash {
  PlaneHash lo, master, exp_avg, exp_avg_sq;

  void add(const PlaneSpan& part) {
    if (part.lo != nullptr) lo.add(part.lo, part.count * sizeof(*part.lo));
    if (part.master != nullptr) master.add(part.master, part.count * sizeof(*part.master));
    if (part.exp_avg != nullptr) exp_avg.add(part.exp_avg, part.count * sizeof(*part.exp_avg));
    if (part.exp_avg_sq != nullptr) exp_avg_sq.add(part.exp_avg_sq, part.count * sizeof(*part.exp_avg_sq));
  }
  [[nodiscard]] ChunkSums sums(const PlaneSpan& span) const {
    return {lo.sum(span.lo), master.sum(span.master), exp_avg.sum(span.exp_avg), exp_avg_sq.sum(span.exp_avg_sq)};
  }
};

// Plane after plane, by the library.
ChunkSums sums_by_plane(const PlaneSpan& span) {
  const auto sum = [&](const auto* plane) -> std::uint64_t {
    return plane == nullptr ? 0 : XXH3_64bits(plane, span.count * sizeof(*plane));
  };
  return {sum(span.lo), sum(span.master), sum(span.exp_avg), sum(span.exp_avg_sq)};
}

// `body.operator()<rule>()` for the rule of some constants.
template <typename Body>
void with_rule(Rule rule, const Body& body) {
  switch (rule) {
    case Rule::adamw: return body.template operator()<Rule::adamw>();
    case Rule::adam: return body.template operator()<Rule::adam>();
    case Rule::adagrad: return body.template operator()<Rule::adagrad>();
    case Rule::lion: return body.template operator()<Rule::lion>();
  }
}

// `Arithmetic::update<master, grad, rule>(span, constants)` is the instruction set's own part.
template <typename Arithmetic, Master kMaster, GradType kGrad>
void update_part(const PlaneSpan& span, const StepConstants& constants) {
  with_rule(constants.rule, [&]<Rule kRule>() {
    Arithmetic::template update<kMaster, kGrad, kRule>(span, constants);
  });
}

template <typename Arithmetic, Master kMaster, GradType kGrad>
void update_with_sums(const PlaneSpan& span, const StepConstants& constants, StateHash* read, StateHash* written) {
  with_rule(constants.rule, [&]<Rule kRule>() {
    Arithmetic::template update_with_sums<kMaster, kGrad, kRule>(span, constants, read, written);
  });
}

// Of `count` elements, those that a kernel can sum in passing: whole multiples of its unit, but for the last.
constexpr std::size_t elements_in_passing(std::size_t count, std::size_t unit) {
  return unit == 0 || count < 2 * unit ? 0 : (count / unit - 1) * unit;
}

// The same from the start of a chunk on, over stretches that are multiples of the unit.
std::size_t elements_in_passing(const PlaneSpan& span, const Stretch* stretches, std::size_t stretch_count,
                                std::size_t unit) {
  if (unit == 0) return 0;
  std::size_t elements = 0;
  for (std::size_t i = 0; i != stretch_count; ++i) {
    elements += stretches[i].count / unit * unit;
    if (stretches[i].count % unit != 0) break;
  }
  const std::size_t most = elements_in_passing(span.count, unit);
  return elements < most ? elements : most;
}

template <typename Arithmetic, Master kMaster, GradType kGrad>
void update_hashed(const PlaneSpan& span, const Stretch* stretches, std::size_t stretch_count, ChunkSums* before,
                 ChunkSums* after) {
  StateHash read;
  StateHash written;
  const std::size_t in_passing = elements_in_passing(span, stretches, stretch_count, Arithmetic::kSumsInPassing);
  std::size_t first = 0;
  std::size_t end = 0;
  for (const Stretch* stretch = stretches; stretch != stretches + stretch_count; ++stretch) {
    end += stretch->count;
    if constexpr (Arithmetic::kSumsInPassing != 0) {
      const std::size_t count = (end < in_passing ? end : in_passing) - first;
      if (first < in_passing && count != 0) {
        update_with_sums<Arithmetic, kMaster, kGrad>(part_of<kMaster, kGrad>(span, first, count), *stretch->constants,
                                                     before == nullptr ? nullptr : &read,
                                                     after == nullptr ? nullptr : &written);
        first += count;
      }
    }
    while (first < end) {
      const std::size_t count = end - first < kTileElements ? end - first : kTileElements;
      const PlaneSpan tile = part_of<kMaster, kGrad>(span, first, count);
      if (before != nullptr) read.add(tile);
      update_part<Arithmetic, kMaster, kGrad>(tile, *stretch->constants);
      if (after != nullptr) written.add(tile);
      first += count;
    }
  }
  if (before != nullptr) *before = read.sums(span);
  if (after != nullptr) *after = written.sums(span);
}

template <typename Arithmetic, Master kMaster, GradType kGrad>
void update(const PlaneSpan& span, const Stretch* stretches, std::size_t stretch_count, ChunkSums* before,
          ChunkSums* after) {
  if (before != nullptr || after != nullptr) {
    update_hashed<Arithmetic, kMaster, kGrad>(span, stretches, stretch_count, before, after);
    return;
  }
  std::size_t first = 0;
  for (const Stretch* stretch = stretches; stretch != stretches + stretch_count; ++stretch) {
    update_part<Arithmetic, kMaster, kGrad>(part_of<kMaster, kGrad>(span, first, stretch->count), *stretch->constants);
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
constexpr void fill_update(KernelTable::Update (&row)[kGradTypes]) {
  row[0] = update<Arithmetic, kMaster, GradType::f32>;
  row[1] = update<Arithmetic, kMaster, GradType::bf16>;
  row[2] = update<Arithmetic, kMaster, GradType::f16>;
}

template <typename Arithmetic>
constexpr KernelTable make_table(Isa isa) {
  KernelTable table = {};
  table.isa = isa;
  fill_update<Arithmetic, Master::itself>(table.update[0]);
  fill_update<Arithmetic, Master::split>(table.update[1]);
  fill_update<Arithmetic, Master::separate>(table.update[2]);
  table.sums = Arithmetic::sums;
  fill_intake<Arithmetic, Intake::store>(table.intake[0]);
  fill_intake<Arithmetic, Intake::add>(table.intake[1]);
  table.squares[0] = Arithmetic::template squares<GradType::f32>;
  table.squares[1] = Arithmetic::template squares<GradType::bf16>;
  table.squares[2] = Arithmetic::template squares<GradType::f16>;
  return table;
}

}  // namespace
}  // namespace orlop::cpu_adam
