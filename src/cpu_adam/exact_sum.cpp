#include <bit>
#include <cassert>
#include <cmath>

#include "cpu_adam/adam.hpp"

namespace orlop::cpu_adam {
namespace {

constexpr int kDigitBits = 32;
constexpr std::uint64_t kDigitMask = 0xffffffffu;
constexpr int kLowestExponent = -1074;  // of bit 0 of digit 0: the smallest denormal

// Each add puts less than 2^32 on a digit that is less than 2^32 after a carry: 2^31 of them would fit. Seldom enough to
// cost nothing, often enough to be tested.
constexpr std::uint32_t kAddsBeforeCarry = 1u << 20;

struct Parts {
  std::uint64_t significand;
  unsigned shift;  // value = significand x 2^(shift - 1074)
};

Parts parts_of(double value) {
  const auto bits = std::bit_cast<std::uint64_t>(value);
  const std::uint64_t fraction = bits & ((1ull << 52) - 1);
  const auto exponent = static_cast<unsigned>(bits >> 52);
  return exponent == 0 ? Parts{fraction, 0} : Parts{fraction | (1ull << 52), exponent - 1};
}

}  // namespace

void ExactSum::add(double value) {
  assert(std::isfinite(value) && value >= 0);
  const Parts parts = parts_of(value);
  const unsigned offset = parts.shift % kDigitBits;
  std::int64_t* digit = digits_ + parts.shift / kDigitBits;
  // 53 bits shifted by at most 31: three digits.
  const std::uint64_t low = parts.significand << offset;
  const std::uint64_t high = offset == 0 ? 0 : parts.significand >> (64 - offset);
  digit[0] += static_cast<std::int64_t>(low & kDigitMask);
  digit[1] += static_cast<std::int64_t>(low >> kDigitBits);
  digit[2] += static_cast<std::int64_t>(high);
  if (++adds_since_carry_ == kAddsBeforeCarry) carry();
}

void ExactSum::add(const ExactSum& other) {
  ExactSum carried = other;
  carried.carry();
  for (std::size_t i = 0; i != kDigits; ++i) digits_[i] += carried.digits_[i];
  if (++adds_since_carry_ == kAddsBeforeCarry) carry();
}

void ExactSum::carry() {
  std::int64_t rest = 0;
  for (std::int64_t& digit : digits_) {
    digit += rest;
    rest = digit >> kDigitBits;
    digit &= static_cast<std::int64_t>(kDigitMask);
  }
  assert(rest == 0);  // 2^78 times the largest double
  adds_since_carry_ = 0;
}

double ExactSum::round() const {
  ExactSum carried = *this;
  carried.carry();
  std::size_t top = kDigits;
  while (top != 0 && carried.digits_[top - 1] == 0) --top;
  if (top == 0) return 0;
  const auto digit = [&](std::size_t back) {
    return top >= back ? static_cast<std::uint64_t>(carried.digits_[top - back]) : 0;
  };
  // The highest 64 bits, with whatever is below them in the last one: enough to round 53 from.
  const int empty = std::countl_zero(digit(1)) - kDigitBits;
  std::uint64_t bits = (digit(1) << kDigitBits | digit(2)) << empty;
  if (empty != 0) bits |= digit(3) >> (kDigitBits - empty);
  bool is_more = (digit(3) << empty & kDigitMask) != 0;
  for (std::size_t back = 4; back <= top; ++back) is_more |= digit(back) != 0;
  bits |= is_more ? 1 : 0;
  const std::uint64_t tail = bits & 0x7ff;
  std::uint64_t significand = bits >> 11;
  if (tail > 0x400 || (tail == 0x400 && (significand & 1) != 0)) ++significand;
  const int exponent = (static_cast<int>(top) - 2) * kDigitBits - empty + 11 + kLowestExponent;
  return std::ldexp(static_cast<double>(significand), exponent);
}

}  // namespace orlop::cpu_adam
