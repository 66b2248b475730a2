// Planes of random elements with guards behind their ends, for tests that compare kernels bit by bit.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "cpu_adam/adam.hpp"
#include "kernels/element.hpp"

namespace orlop::cpu_adam {

enum class Values { any_bits, ordinary, tiny };

inline const char* describe(Values values) {
  switch (values) {
    case Values::any_bits: return "any bits";
    case Values::ordinary: return "exponents -12..4";
    case Values::tiny: return "denormals, zeros and their neighbours";
  }
  return "";
}

class RandomValues {
 public:
  RandomValues(std::uint64_t seed, Values values) : generator_(seed), values_(values) {}

  float value() {
    const std::uint32_t bits = next();
    switch (values_) {
      case Values::any_bits: return std::bit_cast<float>(bits);
      case Values::ordinary: {
        const std::uint32_t exponent = 127 - 12 + next() % 17;
        return std::bit_cast<float>((bits & 0x807fffffu) | exponent << 23);
      }
      case Values::tiny: {
        const std::uint32_t exponent = next() % 3 == 0 ? next() % 30 : 0;
        const std::uint32_t fraction = next() % 4 == 0 ? 0 : (bits & 0x7fffffu) >> next() % 23;
        return std::bit_cast<float>((bits & 0x80000000u) | exponent << 23 | fraction);
      }
    }
    return 0;
  }
  std::uint16_t value_16(GradType type) {
    const float v = value();
    if (values_ == Values::any_bits) return static_cast<std::uint16_t>(next());
    if (type == GradType::bf16) return kernels::bf16_of_float(v);
    // fp16 denormals are below 2^-14.
    return kernels::f16_of_float(values_ == Values::tiny ? std::bit_cast<float>(std::bit_cast<std::uint32_t>(v) + (90u << 23)) : v);
  }
  std::uint32_t next() { return static_cast<std::uint32_t>(generator_() >> 32); }

 private:
  std::mt19937_64 generator_;
  Values values_;
};

// `count` elements starting `shift` elements behind an aligned address, with guard elements behind them.
template <typename T>
class Plane {
 public:
  static constexpr std::size_t kGuard = 80;

  Plane(std::size_t count, std::size_t shift) : shift_(shift), values_(count + shift + kGuard) {}
  T* data() { return values_.data() + shift_; }
  [[nodiscard]] const T* data() const { return values_.data() + shift_; }
  [[nodiscard]] std::size_t size() const { return values_.size() - shift_ - kGuard; }
  template <typename Make>
  void fill(const Make& make) {
    for (T& value : values_) value = make();
  }
  bool operator==(const Plane& other) const {
    return values_.size() == other.values_.size() &&
           std::memcmp(values_.data(), other.values_.data(), values_.size() * sizeof(T)) == 0;
  }

 private:
  std::size_t shift_;
  std::vector<T> values_;
};

// All planes that any master and gradient type may want.
struct Planes {
  Plane<float> param32, master, exp_avg, exp_avg_sq, grad32;
  Plane<std::uint16_t> param16, grad16;
  Plane<std::int16_t> lo;

  Planes(std::size_t count, std::size_t shift)
      : param32(count, shift), master(count, shift), exp_avg(count, shift), exp_avg_sq(count, shift),
        grad32(count, shift), param16(count, shift), grad16(count, shift), lo(count, shift) {}

  void fill(std::uint64_t seed, Values values, Master how, GradType grad) {
    RandomValues random(seed, values);
    const auto value = [&] { return random.value(); };
    param32.fill(value);
    master.fill(value);
    exp_avg.fill(value);
    // A second moment is not negative, but for any bits.
    exp_avg_sq.fill([&] { return values == Values::any_bits ? random.value() : std::abs(random.value()); });
    grad32.fill(value);
    param16.fill([&] { return random.value_16(how == Master::split ? GradType::bf16 : GradType::f16); });
    grad16.fill([&] { return random.value_16(grad); });
    lo.fill([&] { return static_cast<std::int16_t>(random.next()); });
  }

  PlaneSpan span(Master how, GradType grad, kernels::Optimizer optimizer = kernels::Optimizer::adam) {
    const bool is_wide = how == Master::itself;
    return {
        .param = is_wide ? static_cast<void*>(param32.data()) : static_cast<void*>(param16.data()),
        .lo = how == Master::split ? lo.data() : nullptr,
        .master = how == Master::separate ? master.data() : nullptr,
        .exp_avg = has_exp_avg(optimizer) ? exp_avg.data() : nullptr,
        .exp_avg_sq = has_exp_avg_sq(optimizer) ? exp_avg_sq.data() : nullptr,
        .grad = grad == GradType::f32 ? static_cast<const void*>(grad32.data()) : grad16.data(),
        .count = param32.size(),
    };
  }

  // The name of the first plane that differs, or "".
  [[nodiscard]] std::string difference(const Planes& other) const {
    if (!(param32 == other.param32)) return "param (fp32)";
    if (!(param16 == other.param16)) return "param (16 bits)";
    if (!(lo == other.lo)) return "lo";
    if (!(master == other.master)) return "master";
    if (!(exp_avg == other.exp_avg)) return "exp_avg";
    if (!(exp_avg_sq == other.exp_avg_sq)) return "exp_avg_sq";
    if (!(grad32 == other.grad32) || !(grad16 == other.grad16)) return "grad";
    return "";
  }
};

inline constexpr Master kAllMasters[] = {Master::itself, Master::split, Master::separate};
inline constexpr GradType kAllGradTypes[] = {GradType::f32, GradType::bf16, GradType::f16};
inline constexpr kernels::Optimizer kAllOptimizers[] = {kernels::Optimizer::adam, kernels::Optimizer::adagrad,
                                                        kernels::Optimizer::lion};
inline constexpr Values kAllValues[] = {Values::any_bits, Values::ordinary, Values::tiny};

}  // namespace orlop::cpu_adam
