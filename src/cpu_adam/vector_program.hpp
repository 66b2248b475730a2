// kernels/update_element.hpp over vectors, and the gradient's way in: one program for AVX2 and AVX-512, written in terms
// of the vector type that each of their files defines. Private to these files.
//
// A group of kVectors vectors is loaded whole, computed, then stored whole: loads are not held up behind stores to
// nearby addresses, and eight divisions and square roots are in flight beside the next group's loads. What is left over
// at the end of a span goes through the same program in a padded copy.
#pragma once

#include "cpu_adam/chunk_loop.hpp"

namespace orlop::cpu_adam {
namespace {

constexpr std::size_t kVectors = 4;

// The hardware follows four or five streams, but not far enough ahead for a loop that also divides. 2 KiB of a plane
// of floats. (Prefetches never fault: those behind the end of a span are harmless.)
constexpr std::size_t kElementsAhead = 512;

template <std::size_t kBytes>
[[gnu::always_inline]] inline void prefetch(const void* plane, std::size_t byte) {
#pragma GCC unroll 8
  for (std::size_t line = 0; line < kBytes; line += 64) {
    __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<std::uintptr_t>(plane) + byte + line));
  }
}

// What the group that is kElementsAhead of element i will read.
template <Master kMaster, GradType kGrad, Rule kRule, std::size_t kElements>
[[gnu::always_inline]] inline void prefetch_group(const PlaneSpan& span, std::size_t i) {
  i += kElementsAhead;
  if constexpr (has_exp_avg(kRule)) prefetch<kElements * 4>(span.exp_avg, i * 4);
  if constexpr (has_exp_avg_sq(kRule)) prefetch<kElements * 4>(span.exp_avg_sq, i * 4);
  prefetch<kElements * param_bytes(kMaster)>(span.param, i * param_bytes(kMaster));
  prefetch<kElements * size_of(kGrad)>(span.grad, i * size_of(kGrad));
  if constexpr (kMaster == Master::split) prefetch<kElements * 2>(span.lo, i * 2);
  if constexpr (kMaster == Master::separate) prefetch<kElements * 4>(span.master, i * 4);
}

template <GradType kType, typename V>
[[gnu::always_inline]] inline typename V::Float read(const void* values, std::size_t i) {
  if constexpr (kType == GradType::f32) return V::load(static_cast<const float*>(values) + i);
  const auto* bits = static_cast<const std::uint16_t*>(values) + i;
  if constexpr (kType == GradType::bf16) return V::floats(V::upper(V::load_16(bits)));
  return V::load_f16(bits);
}

template <typename V>
typename V::Int bf16_of(typename V::Float value) {  // in the lower halves
  const typename V::Int bits = V::bits(value);
  const typename V::Int odd = V::bit_and(V::lower(bits), V::all(1));
  return V::lower(V::add(V::add(bits, V::all(0x7fff)), odd));
}

template <GradType kType, typename V>
void write(void* values, std::size_t i, typename V::Float value) {
  if constexpr (kType == GradType::f32) {
    V::store(static_cast<float*>(values) + i, value);
  } else {
    auto* bits = static_cast<std::uint16_t*>(values) + i;
    if constexpr (kType == GradType::bf16) V::store_16(bits, bf16_of<V>(value));
    if constexpr (kType == GradType::f16) V::store_f16(bits, value);
  }
}

template <Master kMaster, typename V>
[[gnu::always_inline]] inline typename V::Float read_master(const PlaneSpan& span, std::size_t i) {
  if constexpr (kMaster == Master::itself) return V::load(static_cast<const float*>(span.param) + i);
  if constexpr (kMaster == Master::separate) return V::load(span.master + i);
  const auto* param = static_cast<const std::uint16_t*>(span.param) + i;
  return V::floats(V::add(V::upper(V::load_16(param)), V::load_signed_16(span.lo + i)));
}

template <typename V>
struct Broadcast {
  explicit Broadcast(const StepConstants& c)
      : grad_scale(V::set(c.grad_scale)),
        one_minus_beta1(V::set(c.one_minus_beta1)),
        one_minus_beta2(V::set(c.one_minus_beta2)),
        step_size(V::set(c.step_size)),
        inv_sqrt_correction2(V::set(c.inv_sqrt_correction2)),
        eps(V::set(c.eps)),
        decay(V::set(c.decay)) {}

  typename V::Float grad_scale, one_minus_beta1, one_minus_beta2, step_size, inv_sqrt_correction2, eps, decay;
};

// See update_element: the same operations in the same order.
template <Rule kRule, typename V>
[[gnu::always_inline]] inline typename V::Float direction(const Broadcast<V>& c, typename V::Float g,
                                                          typename V::Float& m, typename V::Float& v) {
  if constexpr (kRule == Rule::adagrad) {
    v = V::fma(g, g, v);
    return V::div(g, V::add(V::sqrt(v), c.eps));
  } else if constexpr (kRule == Rule::lion) {
    const typename V::Float sign = V::sign_of(V::fma(c.one_minus_beta1, g, V::fnma(c.one_minus_beta1, m, m)));
    m = V::fma(c.one_minus_beta2, g, V::fnma(c.one_minus_beta2, m, m));
    return sign;
  } else {
    m = V::fma(c.one_minus_beta1, g, V::fnma(c.one_minus_beta1, m, m));
    v = V::fma(V::mul(c.one_minus_beta2, g), g, V::fnma(c.one_minus_beta2, v, v));
    return V::div(m, V::fma(V::sqrt(v), c.inv_sqrt_correction2, c.eps));
  }
}

template <Rule kRule, typename V>
[[gnu::always_inline]] inline void step(const Broadcast<V>& c, typename V::Float grad, typename V::Float& param,
                                        typename V::Float& m, typename V::Float& v) {
  typename V::Float g = V::mul(grad, c.grad_scale);
  if constexpr (!is_decoupled(kRule)) g = V::fma(c.decay, param, g);
  typename V::Float update = direction<kRule, V>(c, g, m, v);
  if constexpr (is_decoupled(kRule)) update = V::fma(c.decay, param, update);
  param = V::fnma(c.step_size, update, param);
}

// Where a kernel only computes.
struct NoSums {
  template <typename Group>
  void read(const Group& /*group*/, const PlaneSpan& /*span*/, std::size_t /*i*/) {}
  template <typename Group>
  void written(const Group& /*group*/) {}
};

template <Master kMaster, GradType kGrad, Rule kRule, typename V>
struct Group {
  using Float = typename V::Float;
  using Int = typename V::Int;
  static constexpr std::size_t kElements = kVectors * V::kWidth;

  Float grad[kVectors], master[kVectors], exp_avg[kVectors], exp_avg_sq[kVectors];
  Int lo[kVectors / 2];  // as written: two vectors of elements in one of 16-bit values

  [[gnu::always_inline]] void load(const PlaneSpan& span, std::size_t i) {
#pragma GCC unroll 4
    for (std::size_t k = 0; k != kVectors; ++k) {
      const std::size_t at = i + k * V::kWidth;
      grad[k] = orlop::cpu_adam::read<kGrad, V>(span.grad, at);
      master[k] = read_master<kMaster, V>(span, at);
      if constexpr (has_exp_avg(kRule)) exp_avg[k] = V::load(span.exp_avg + at);
      if constexpr (has_exp_avg_sq(kRule)) exp_avg_sq[k] = V::load(span.exp_avg_sq + at);
    }
  }

  [[gnu::always_inline]] void update(const Broadcast<V>& constants) {
#pragma GCC unroll 4
    for (std::size_t k = 0; k != kVectors; ++k) {
      step<kRule, V>(constants, grad[k], master[k], exp_avg[k], exp_avg_sq[k]);
    }
    if (!V::any_nan(master[0], master[1], master[2], master[3])) [[likely]] return;
#pragma GCC unroll 4
    for (std::size_t k = 0; k != kVectors; ++k) {
      master[k] = V::canonical(master[k]);
      if constexpr (has_exp_avg(kRule)) exp_avg[k] = V::canonical(exp_avg[k]);
      if constexpr (has_exp_avg_sq(kRule)) exp_avg_sq[k] = V::canonical(exp_avg_sq[k]);
    }
  }

  [[gnu::always_inline]] void store(const PlaneSpan& span, std::size_t i) {
    if constexpr (kMaster == Master::split) {
      store_split(static_cast<std::uint16_t*>(span.param) + i, span.lo + i);
    } else {
      store_master(kMaster == Master::itself ? static_cast<float*>(span.param) + i : span.master + i);
    }
#pragma GCC unroll 4
    for (std::size_t k = 0; k != kVectors; ++k) {
      const std::size_t at = i + k * V::kWidth;
      if constexpr (kMaster == Master::separate) {
        V::store_f16(static_cast<std::uint16_t*>(span.param) + at, master[k]);
      }
      if constexpr (has_exp_avg(kRule)) V::store(span.exp_avg + at, exp_avg[k]);
      if constexpr (has_exp_avg_sq(kRule)) V::store(span.exp_avg_sq + at, exp_avg_sq[k]);
    }
  }

 private:
  [[gnu::always_inline]] void store_master(float* to) const {
#pragma GCC unroll 4
    for (std::size_t k = 0; k != kVectors; ++k) V::store(to + k * V::kWidth, master[k]);
  }

  [[gnu::always_inline]] void store_split(std::uint16_t* param, std::int16_t* low) {
#pragma GCC unroll 2
    for (std::size_t k = 0; k != kVectors; k += 2) {
      const Int first = V::bits(master[k]);
      const Int second = V::bits(master[k + 1]);
      const Int half = V::all(0x8000);
      lo[k / 2] = V::pack_16(V::bit_and(first, V::all(0xffff)), V::bit_and(second, V::all(0xffff)));
      V::store(param + k * V::kWidth, V::pack_16(V::lower(V::add(first, half)), V::lower(V::add(second, half))));
      V::store(reinterpret_cast<std::uint16_t*>(low) + k * V::kWidth, lo[k / 2]);
    }
  }
};

template <Master kMaster, GradType kGrad, Rule kRule, typename V, typename Sums = NoSums>
[[gnu::always_inline]] inline void update_group(const PlaneSpan& span, std::size_t i, const Broadcast<V>& constants,
                                                Sums&& sums = {}) {
  Group<kMaster, kGrad, kRule, V> group;
  group.load(span, i);
  sums.read(group, span, i);
  group.update(constants);
  group.store(span, i);
  sums.written(group);
}

// A padded copy of fewer elements than a group, so that the one program serves every length.
template <Master kMaster, GradType kGrad, Rule kRule, std::size_t kCapacity>
class PaddedSpan {
 public:
  explicit PaddedSpan(const PlaneSpan& from) : from_(from), span_{} {
    span_.param = param_;
    if constexpr (kMaster == Master::split) span_.lo = lo_;
    if constexpr (kMaster == Master::separate) span_.master = master_;
    if constexpr (has_exp_avg(kRule)) span_.exp_avg = exp_avg_;
    if constexpr (has_exp_avg_sq(kRule)) span_.exp_avg_sq = exp_avg_sq_;
    span_.grad = grad_;
    span_.count = kCapacity;
    __builtin_memcpy(grad_, from.grad, from.count * size_of(kGrad));
    copy(span_, from_);
  }
  [[nodiscard]] const PlaneSpan& span() const { return span_; }
  void copy_back() const { copy(from_, span_); }

 private:
  void copy(const PlaneSpan& to, const PlaneSpan& source) const {
    const std::size_t count = from_.count;
    __builtin_memcpy(to.param, source.param, count * param_bytes(kMaster));
    if constexpr (kMaster == Master::split) __builtin_memcpy(to.lo, source.lo, count * sizeof(*to.lo));
    if constexpr (kMaster == Master::separate) __builtin_memcpy(to.master, source.master, count * sizeof(*to.master));
    if constexpr (has_exp_avg(kRule)) __builtin_memcpy(to.exp_avg, source.exp_avg, count * sizeof(float));
    if constexpr (has_exp_avg_sq(kRule)) __builtin_memcpy(to.exp_avg_sq, source.exp_avg_sq, count * sizeof(float));
  }

  PlaneSpan from_;
  PlaneSpan span_;
  float param_[kCapacity] = {};
  std::int16_t lo_[kCapacity] = {};
  float master_[kCapacity] = {};
  float exp_avg_[kCapacity] = {};
  float exp_avg_sq_[kCapacity] = {};
  float grad_[kCapacity] = {};
};

// ---- Gradients ----

constexpr std::size_t kLanes = 16;

// What reading back gives after `value` was written as kType.
template <GradType kType, typename V>
typename V::Float as_written(typename V::Float value) {
  if constexpr (kType == GradType::bf16) return V::floats(V::upper(bf16_of<V>(value)));
  if constexpr (kType == GradType::f16) return V::rounded_to_f16(value);
  return value;
}

// Sixteen elements, one for each lane of the sum.
template <Intake kIntake, GradType kDestination, GradType kSource, typename V>
void take_lanes(void* destination, const void* source, std::size_t i, typename V::Lanes& lanes) {
#pragma GCC unroll 2
  for (std::size_t k = 0; k != kLanes; k += V::kWidth) {
    typename V::Float value = read<kSource, V>(source, i + k);
    if constexpr (kIntake == Intake::add) value = V::add(read<kDestination, V>(destination, i + k), value);
    if (V::any_nan(value)) [[unlikely]] value = V::canonical(value);
    write<kDestination, V>(destination, i + k, value);
    V::add_squares(lanes, k, as_written<kDestination, V>(value));
  }
}

template <GradType kType, typename V>
void square_lanes(const void* gradient, std::size_t i, typename V::Lanes& lanes) {
#pragma GCC unroll 2
  for (std::size_t k = 0; k != kLanes; k += V::kWidth) V::add_squares(lanes, k, read<kType, V>(gradient, i + k));
}

template <typename V>
struct Vectors {
  static constexpr std::size_t kSumsInPassing = 0;  // tile by tile
  static ChunkSums sums(const PlaneSpan& span) { return sums_by_plane(span); }

  template <Master kMaster, GradType kGrad, Rule kRule>
  static void update(const PlaneSpan& span, const StepConstants& constants) {
    constexpr std::size_t kGroup = kVectors * V::kWidth;
    const Broadcast<V> broadcast(constants);
    std::size_t i = 0;
    for (; i + kGroup <= span.count; i += kGroup) {
      prefetch_group<kMaster, kGrad, kRule, kGroup>(span, i);
      update_group<kMaster, kGrad, kRule, V>(span, i, broadcast);
    }
    if (i == span.count) return;
    const PaddedSpan<kMaster, kGrad, kRule, kGroup> rest(part_of<kMaster, kGrad>(span, i, span.count - i));
    update_group<kMaster, kGrad, kRule, V>(rest.span(), 0, broadcast);
    rest.copy_back();
  }

  template <Intake kIntake, GradType kDestination, GradType kSource>
  static double intake(void* destination, const void* source, std::size_t count) {
    typename V::Lanes lanes = {};
    std::size_t i = 0;
    for (; i + kLanes <= count; i += kLanes) {
      prefetch<kLanes * size_of(kSource)>(source, (i + kElementsAhead) * size_of(kSource));
      prefetch<kLanes * size_of(kDestination)>(destination, (i + kElementsAhead) * size_of(kDestination));
      take_lanes<kIntake, kDestination, kSource, V>(destination, source, i, lanes);
    }
    if (i == count) return V::sum(lanes);
    float to[kLanes] = {};
    float from[kLanes] = {};
    char* tail = static_cast<char*>(destination) + i * size_of(kDestination);
    __builtin_memcpy(to, tail, (count - i) * size_of(kDestination));
    __builtin_memcpy(from, static_cast<const char*>(source) + i * size_of(kSource), (count - i) * size_of(kSource));
    take_lanes<kIntake, kDestination, kSource, V>(to, from, 0, lanes);
    __builtin_memcpy(tail, to, (count - i) * size_of(kDestination));
    return V::sum(lanes);
  }

  template <GradType kType>
  static double squares(const void* gradient, std::size_t count) {
    typename V::Lanes lanes = {};
    std::size_t i = 0;
    for (; i + kLanes <= count; i += kLanes) {
      prefetch<kLanes * size_of(kType)>(gradient, (i + kElementsAhead) * size_of(kType));
      square_lanes<kType, V>(gradient, i, lanes);
    }
    if (i == count) return V::sum(lanes);
    float from[kLanes] = {};
    __builtin_memcpy(from, static_cast<const char*>(gradient) + i * size_of(kType), (count - i) * size_of(kType));
    square_lanes<kType, V>(from, 0, lanes);
    return V::sum(lanes);
  }
};

}  // namespace
}  // namespace orlop::cpu_adam
