// XXH3_64bits of the state planes in registers, as the kernel reads and writes them: the sums' multiplications run in
// the shadow of divisions, square roots and memory, and no plane is gone through again. Private to the kernel files
// whose vectors are as long as XXH3's stripes, 64 bytes.
//
// XXH3 of more than 240 bytes: eight 64-bit accumulators take a stripe of 64 bytes after the other under a key that
// moves by 8 bytes for each; after 16 stripes (1024 bytes, 256 floats, 512 of the lo plane) they are scrambled and
// the key starts again. We run over whole multiples of 512 elements from the start of a chunk and leave the last of
// them to the library's streaming (PlaneHash), which knows how planes end.
#pragma once

#include "cpu_adam/vector_program.hpp"

namespace orlop::cpu_adam {
namespace {

constexpr std::size_t kSumElements = 512;

// One accumulator for each plane; `key` is where in the secret the group's first stripe begins.
template <Master kMaster, Rule kRule, typename V>
struct StripeAccumulators {
  using Int = typename V::Int;
  static constexpr bool kHasMaster = kMaster == Master::separate;
  static constexpr bool kHasLo = kMaster == Master::split;

  Int lo, master, exp_avg, exp_avg_sq;

  void load(const StateHash& from) {
    if constexpr (kHasLo) lo = V::load_stripe(from.lo.accumulators());
    if constexpr (kHasMaster) master = V::load_stripe(from.master.accumulators());
    if constexpr (has_exp_avg(kRule)) exp_avg = V::load_stripe(from.exp_avg.accumulators());
    if constexpr (has_exp_avg_sq(kRule)) exp_avg_sq = V::load_stripe(from.exp_avg_sq.accumulators());
  }
  void store(StateHash& to, std::size_t elements) const {
    if constexpr (kHasLo) V::store_stripe(to.lo.advance(elements * 2), lo);
    if constexpr (kHasMaster) V::store_stripe(to.master.advance(elements * 4), master);
    if constexpr (has_exp_avg(kRule)) V::store_stripe(to.exp_avg.advance(elements * 4), exp_avg);
    if constexpr (has_exp_avg_sq(kRule)) V::store_stripe(to.exp_avg_sq.advance(elements * 4), exp_avg_sq);
  }
  [[gnu::always_inline]] void scramble_lo(Int key) {
    if constexpr (kHasLo) lo = V::scramble(lo, key);
  }
  [[gnu::always_inline]] void scramble_wide(Int key) {
    if constexpr (kHasMaster) master = V::scramble(master, key);
    if constexpr (has_exp_avg(kRule)) exp_avg = V::scramble(exp_avg, key);
    if constexpr (has_exp_avg_sq(kRule)) exp_avg_sq = V::scramble(exp_avg_sq, key);
  }
  template <typename Group>
  [[gnu::always_inline]] void add_wide(const Group& group, const unsigned char* key) {
#pragma GCC unroll 4
    for (std::size_t k = 0; k != kVectors; ++k) {
      const Int stripe_key = V::load_stripe(key + 8 * k);
      if constexpr (has_exp_avg(kRule)) exp_avg = V::add_stripe(exp_avg, V::bits(group.exp_avg[k]), stripe_key);
      if constexpr (has_exp_avg_sq(kRule)) exp_avg_sq = V::add_stripe(exp_avg_sq, V::bits(group.exp_avg_sq[k]), stripe_key);
      if constexpr (kHasMaster) master = V::add_stripe(master, V::bits(group.master[k]), stripe_key);
    }
  }
  [[gnu::always_inline]] void add_lo(Int first, Int second, const unsigned char* key) {
    lo = V::add_stripe(lo, first, V::load_stripe(key));
    lo = V::add_stripe(lo, second, V::load_stripe(key + 8));
  }
};

// Takes part in update_group.
template <Master kMaster, Rule kRule, typename V, bool kRead, bool kWritten>
struct StripeSums {
  StripeAccumulators<kMaster, kRule, V> of_read, of_written;
  const unsigned char* wide_key;
  const unsigned char* lo_key;

  template <typename Group>
  [[gnu::always_inline]] void read(const Group& group, const PlaneSpan& span, std::size_t i) {
    if constexpr (!kRead) return;
    of_read.add_wide(group, wide_key);
    if constexpr (kMaster == Master::split) {
      of_read.add_lo(V::load_stripe(span.lo + i), V::load_stripe(span.lo + i + 2 * V::kWidth), lo_key);
    }
  }
  template <typename Group>
  [[gnu::always_inline]] void written(const Group& group) {
    if constexpr (!kWritten) return;
    of_written.add_wide(group, wide_key);
    if constexpr (kMaster == Master::split) of_written.add_lo(group.lo[0], group.lo[1], lo_key);
  }
  [[gnu::always_inline]] void scramble_wide(typename V::Int key) {
    if constexpr (kRead) of_read.scramble_wide(key);
    if constexpr (kWritten) of_written.scramble_wide(key);
  }
  [[gnu::always_inline]] void scramble_lo(typename V::Int key) {
    if constexpr (kRead) of_read.scramble_lo(key);
    if constexpr (kWritten) of_written.scramble_lo(key);
  }
};

// Runs `body(span, i, sums)` for each group of the first `count` elements, a multiple of kSumElements.
template <Master kMaster, Rule kRule, typename V, bool kRead, bool kWritten, typename Body>
[[gnu::always_inline]] inline void sum_groups(const PlaneSpan& span, std::size_t count, const Body& body,
                                              StateHash* read, StateHash* written) {
  constexpr std::size_t kGroup = kVectors * V::kWidth;
  constexpr std::size_t kGroupsPerScramble = 16 / kVectors;  // of a plane of floats
  const unsigned char* secret = (kRead ? read : written)->lo.secret();
  const typename V::Int scramble_key = V::load_stripe(secret + PlaneHash::kScrambleKey);
  StripeSums<kMaster, kRule, V, kRead, kWritten> sums;
  if constexpr (kRead) sums.of_read.load(*read);
  if constexpr (kWritten) sums.of_written.load(*written);
  for (std::size_t i = 0; i != count;) {
    sums.lo_key = secret;
    for (std::size_t half = 0; half != 2; ++half) {
      sums.wide_key = secret;
      for (std::size_t group = 0; group != kGroupsPerScramble; ++group) {
        body(span, i, sums);
        sums.wide_key += 8 * kVectors;
        sums.lo_key += 8 * kVectors / 2;
        i += kGroup;
      }
      sums.scramble_wide(scramble_key);
    }
    sums.scramble_lo(scramble_key);
  }
  if constexpr (kRead) sums.of_read.store(*read, count);
  if constexpr (kWritten) sums.of_written.store(*written, count);
}

// What StripeSums looks at of a group, where nothing is computed.
template <Master kMaster, Rule kRule, typename V>
struct ReadGroup {
  typename V::Float master[kVectors], exp_avg[kVectors], exp_avg_sq[kVectors];

  [[gnu::always_inline]] void load(const PlaneSpan& span, std::size_t i) {
#pragma GCC unroll 4
    for (std::size_t k = 0; k != kVectors; ++k) {
      const std::size_t at = i + k * V::kWidth;
      if constexpr (kMaster == Master::separate) master[k] = V::load(span.master + at);
      if constexpr (has_exp_avg(kRule)) exp_avg[k] = V::load(span.exp_avg + at);
      if constexpr (has_exp_avg_sq(kRule)) exp_avg_sq[k] = V::load(span.exp_avg_sq + at);
    }
  }
};

template <Master kMaster, Rule kRule, typename V>
struct OnlySum {
  static constexpr std::size_t kElements = kVectors * V::kWidth;

  template <typename Sums>
  [[gnu::always_inline]] void operator()(const PlaneSpan& span, std::size_t i, Sums& sums) const {
    const std::size_t ahead = i + kElementsAhead;
    if constexpr (has_exp_avg(kRule)) prefetch<kElements * 4>(span.exp_avg, ahead * 4);
    if constexpr (has_exp_avg_sq(kRule)) prefetch<kElements * 4>(span.exp_avg_sq, ahead * 4);
    if constexpr (kMaster == Master::split) prefetch<kElements * 2>(span.lo, ahead * 2);
    if constexpr (kMaster == Master::separate) prefetch<kElements * 4>(span.master, ahead * 4);
    ReadGroup<kMaster, kRule, V> group;
    group.load(span, i);
    sums.read(group, span, i);
  }
};

template <Master kMaster, GradType kGrad, Rule kRule, typename V>
struct UpdateAndSum {
  const Broadcast<V>& constants;

  template <typename Sums>
  [[gnu::always_inline]] void operator()(const PlaneSpan& span, std::size_t i, Sums& sums) const {
    prefetch_group<kMaster, kGrad, kRule, kVectors * V::kWidth>(span, i);
    update_group<kMaster, kGrad, kRule, V>(span, i, constants, sums);
  }
};

template <Master kMaster, Rule kRule, typename V>
ChunkSums sums_in_registers(const PlaneSpan& span) {
  StateHash read;
  const std::size_t count = elements_in_passing(span.count, kSumElements);
  sum_groups<kMaster, kRule, V, true, false>(span, count, OnlySum<kMaster, kRule, V>(), &read, nullptr);
  PlaneSpan rest = span;
  if constexpr (kMaster == Master::split) rest.lo += count;
  if constexpr (kMaster == Master::separate) rest.master += count;
  if constexpr (has_exp_avg(kRule)) rest.exp_avg += count;
  if constexpr (has_exp_avg_sq(kRule)) rest.exp_avg_sq += count;
  rest.count -= count;
  read.add(rest);
  return read.sums(span);
}

template <typename V>
struct SummingVectors : Vectors<V> {
  static constexpr std::size_t kSumsInPassing = kSumElements;

  template <Master kMaster, GradType kGrad, Rule kRule>
  static void update_with_sums(const PlaneSpan& span, const StepConstants& constants, StateHash* read,
                               StateHash* written) {
    const Broadcast<V> broadcast(constants);
    const UpdateAndSum<kMaster, kGrad, kRule, V> body = {broadcast};
    if (read == nullptr) {
      sum_groups<kMaster, kRule, V, false, true>(span, span.count, body, read, written);
    } else if (written == nullptr) {
      sum_groups<kMaster, kRule, V, true, false>(span, span.count, body, read, written);
    } else {
      sum_groups<kMaster, kRule, V, true, true>(span, span.count, body, read, written);
    }
  }

  static ChunkSums sums(const PlaneSpan& span) {
    if (span.exp_avg == nullptr && span.exp_avg_sq == nullptr) return sums_by_plane(span);
    if (span.exp_avg == nullptr) return sums_of<Rule::adagrad>(span);
    if (span.exp_avg_sq == nullptr) return sums_of<Rule::lion>(span);
    return sums_of<Rule::adam>(span);
  }

 private:
  template <Rule kRule>
  static ChunkSums sums_of(const PlaneSpan& span) {
    if (span.lo != nullptr) return sums_in_registers<Master::split, kRule, V>(span);
    if (span.master != nullptr) return sums_in_registers<Master::separate, kRule, V>(span);
    return sums_in_registers<Master::itself, kRule, V>(span);
  }
};

}  // namespace
}  // namespace orlop::cpu_adam
