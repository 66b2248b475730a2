#include "bench/random_values.hpp"

#include <bit>
#include <cmath>
#include <cstdint>
#include <vector>

#include <gtest/gtest.h>

namespace orlop::bench {
namespace {

using zero3::Dtype;

constexpr std::uint64_t kCount = 1'000'003;  // many pieces and a tail

std::vector<float> floats(Sequence sequence, int threads, std::uint64_t count = kCount, int exponent = 0) {
  std::vector<float> values(count);
  fill_random(cpu_adam::Workers(threads), sequence, exponent, Dtype::f32, values.data(), count);
  return values;
}

TEST(RandomValues, DoNotDependOnTheNumberOfThreads) { EXPECT_EQ(floats({1, 2}, 1), floats({1, 2}, 3)); }

TEST(RandomValues, DoNotDependOnHowManyFollow) {
  std::vector<float> all = floats({1, 2}, 2);
  all.resize(1000);
  EXPECT_EQ(floats({1, 2}, 2, 1000), all);
}

TEST(RandomValues, DifferBetweenSeedsAndStreams) {
  const auto values = floats({1, 2}, 2);
  for (const Sequence other : {Sequence{2, 2}, Sequence{1, 3}, Sequence{2, 1}, Sequence{1ull << 32 | 1, 2}}) {
    const auto others = floats(other, 2);
    std::uint64_t same = 0;
    for (std::uint64_t i = 0; i < kCount; ++i) same += values[i] == others[i];
    EXPECT_LT(same, 10u);
  }
}

TEST(RandomValues, AreSpreadEvenlyOverTheirRange) {
  const auto values = floats({7, 0}, 2, kCount, -3);
  double sum = 0, squares = 0, products = 0;
  for (std::uint64_t i = 0; i < kCount; ++i) {
    ASSERT_GE(values[i], -0.125f);
    ASSERT_LT(values[i], 0.125f);
    sum += values[i];
    squares += values[i] * values[i];
    if (i > 0) products += values[i] * values[i - 1];
  }
  const double n = static_cast<double>(kCount);
  const double deviation = 0.125 / std::sqrt(3.0);
  EXPECT_NEAR(sum / n, 0, 4 * deviation / std::sqrt(n));
  EXPECT_NEAR(std::sqrt(squares / n), deviation, deviation * 0.005);
  EXPECT_NEAR(products / n, 0, 4 * deviation * deviation / std::sqrt(n));
}

// Published digests would change with it.
TEST(RandomValues, StayWhatTheyWere) {
  const auto values = floats({1, 1}, 1, 4);
  const std::vector<std::uint32_t> expected = {3202324224u, 3205655514u, 3202912548u, 1057145960u};
  for (std::size_t i = 0; i < expected.size(); ++i) EXPECT_EQ(std::bit_cast<std::uint32_t>(values[i]), expected[i]) << i;
}

TEST(RandomValues, InBf16AreThoseInFp32CutShort) {
  const auto values = floats({3, 4}, 2);
  std::vector<std::uint16_t> halves(kCount);
  fill_random(cpu_adam::Workers(2), {3, 4}, 0, Dtype::bf16, halves.data(), kCount);
  for (std::uint64_t i = 0; i < kCount; ++i) ASSERT_EQ(halves[i], std::bit_cast<std::uint32_t>(values[i]) >> 16) << i;
}

}  // namespace
}  // namespace orlop::bench
