#include <algorithm>
#include <bit>
#include <bitset>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "cpu_adam/adam.hpp"

namespace orlop::cpu_adam {
namespace {

// Exact binary arithmetic, a bit at a time. Bit 0 weighs 2^-1074.
class Binary {
 public:
  void add(double value) {
    int exponent = 0;
    const auto significand = static_cast<std::uint64_t>(std::ldexp(std::frexp(value, &exponent), 53));
    for (int bit = 0; bit != 53; ++bit) {
      if ((significand >> bit & 1) != 0) add_bit(exponent - 53 + bit + 1074);
    }
  }
  double round() const {
    int top = static_cast<int>(kBits) - 1;
    while (top >= 0 && !bits_[static_cast<std::size_t>(top)]) --top;
    double value = 0;
    const int lowest = std::max(0, top - 52);
    for (int bit = top; bit >= lowest; --bit) value += std::ldexp(bits_[static_cast<std::size_t>(bit)] ? 1.0 : 0.0, bit - lowest);
    bool half = false;
    bool more = false;
    if (lowest > 0) half = bits_[static_cast<std::size_t>(lowest - 1)];
    for (int bit = 0; bit < lowest - 1; ++bit) more |= bits_[static_cast<std::size_t>(bit)];
    const bool is_odd = bits_[static_cast<std::size_t>(lowest)];
    if (half && (more || is_odd)) value += 1;
    return std::ldexp(value, lowest - 1074);
  }

 private:
  static constexpr std::size_t kBits = 2200;
  void add_bit(int at) {
    // A double's significand may end below 2^-1074 only in zeros.
    auto bit = static_cast<std::size_t>(at);
    while (bits_[bit]) bits_[bit++] = false;
    bits_[bit] = true;
  }
  std::bitset<kBits> bits_;
};

double sum(const std::vector<double>& values) {
  ExactSum exact;
  for (const double value : values) exact.add(value);
  return exact.round();
}

double binary_sum(const std::vector<double>& values) {
  Binary binary;
  for (const double value : values) binary.add(value);
  return binary.round();
}

TEST(ExactSum, OfNothingIsZero) { EXPECT_EQ(ExactSum().round(), 0.0); }

TEST(ExactSum, OfOneDoubleIsThatDouble) {
  std::mt19937_64 random(1);
  for (int i = 0; i != 100'000; ++i) {
    const double value = std::abs(std::bit_cast<double>(random()));
    if (!std::isfinite(value)) continue;
    ASSERT_EQ(sum({value}), value);
  }
  for (const double value : {0.0, 0x1p-1074, 0x1p-1022, 0x1.fffffffffffffp-1022, 0x1.fffffffffffffp1023, 1.0}) {
    EXPECT_EQ(sum({value}), value);
  }
}

TEST(ExactSum, EqualsExactArithmeticOverAllExponents) {
  std::mt19937_64 random(2);
  for (int trial = 0; trial != 400; ++trial) {
    std::vector<double> values;
    const std::uint64_t spread = 1 + random() % 2046;
    const std::uint64_t lowest = random() % (2047 - spread);
    for (std::uint64_t i = 0, count = 1 + random() % 60; i != count; ++i) {
      const std::uint64_t exponent = lowest + random() % spread;
      values.push_back(std::bit_cast<double>(exponent << 52 | random() >> (12 + random() % 52)));
    }
    ASSERT_EQ(sum(values), binary_sum(values)) << "trial " << trial;
  }
}

TEST(ExactSum, RoundsTiesToEvenAndSeesTheSmallestBitAboveOne) {
  EXPECT_EQ(sum({1.0, 0x1p-53}), 1.0);
  EXPECT_EQ(sum({0x1.0000000000001p0, 0x1p-53}), 0x1.0000000000002p0);
  EXPECT_EQ(sum({1.0, 0x1p-53, 0x1p-1074}), 0x1.0000000000001p0);
  EXPECT_EQ(sum({0x1.fffffffffffffp0, 0x1p-53}), 2.0);
}

TEST(ExactSum, OverflowsToInfinityOnlyWhenTheSumDoes) {
  const double largest = std::numeric_limits<double>::max();
  EXPECT_EQ(sum({largest, largest}), std::numeric_limits<double>::infinity());
  EXPECT_EQ(sum({largest, 0x1p969}), largest);
  EXPECT_EQ(sum({largest, 0x1p970}), std::numeric_limits<double>::infinity());
}

TEST(ExactSum, AddsDenormalsWithoutLoss) {
  std::vector<double> values(3'000'000, 0x1p-1074);
  EXPECT_EQ(sum(values), std::ldexp(3'000'000.0, -1074));
}

TEST(ExactSum, DoesNotDependOnOrderOrGrouping) {
  std::mt19937_64 random(3);
  std::vector<double> values(5000);
  for (double& value : values) value = std::ldexp(static_cast<double>(random() >> 11), static_cast<int>(random() % 400) - 250);
  const double expected = binary_sum(values);
  for (int trial = 0; trial != 10; ++trial) {
    std::shuffle(values.begin(), values.end(), random);
    std::vector<ExactSum> groups(1 + random() % 20);
    for (const double value : values) groups[random() % groups.size()].add(value);
    ExactSum total;
    for (const ExactSum& group : groups) total.add(group);
    ASSERT_EQ(total.round(), expected);
    total.clear();
    ASSERT_EQ(total.round(), 0.0);
  }
}

// 2^32 adds through doubling: carries are taken before digits can overflow.
TEST(ExactSum, HoldsMoreAddsThanADigitCan) {
  ExactSum total;
  total.add(0x1.fffffffffffffp0);
  for (int doubling = 0; doubling != 60; ++doubling) {
    const ExactSum copy = total;
    total.add(copy);
  }
  EXPECT_EQ(total.round(), 0x1.fffffffffffffp60);
}

}  // namespace
}  // namespace orlop::cpu_adam
