#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include <gtest/gtest.h>
#include <xmmintrin.h>

#include "planes.hpp"

namespace orlop::cpu_adam {
namespace {

struct GradPlane {
  GradType type;
  Plane<float> wide;
  Plane<std::uint16_t> narrow;

  GradPlane(GradType t, std::size_t count, std::size_t shift, Values values, std::uint64_t seed)
      : type(t), wide(count, shift), narrow(count, shift) {
    RandomValues random(seed, values);
    wide.fill([&] { return random.value(); });
    narrow.fill([&] { return random.value_16(type); });
  }
  void* data() { return type == GradType::f32 ? static_cast<void*>(wide.data()) : narrow.data(); }
  [[nodiscard]] float value(std::size_t i) const {
    if (type == GradType::f32) return wide.data()[i];
    const std::uint16_t bits = narrow.data()[i];
    return type == GradType::bf16 ? kernels::float_of_bf16(bits) : kernels::float_of_f16(bits);
  }
  bool operator==(const GradPlane& other) const { return wide == other.wide && narrow == other.narrow; }
};

// The defined shape, written a second time: 16 lanes in double over 1024 elements, then a tree.
double block_squares(const GradPlane& plane, std::size_t first, std::size_t count) {
  std::array<double, 16> lanes = {};
  for (std::size_t i = 0; i != count; ++i) {
    const double value = plane.value(first + i);
    lanes[i % 16] = std::fma(value, value, lanes[i % 16]);
  }
  for (std::size_t i = 0; i != 8; ++i) lanes[i] += lanes[i + 8];
  for (std::size_t i = 0; i != 4; ++i) lanes[i] += lanes[i + 4];
  return (lanes[0] + lanes[2]) + (lanes[1] + lanes[3]);
}

GradSummary summary_by_definition(const GradPlane& plane, std::size_t count) {
  GradSummary summary;
  for (std::size_t first = 0; first < count; first += 1024) {
    const double squares = block_squares(plane, first, std::min<std::size_t>(1024, count - first));
    if (std::isfinite(squares)) summary.sum_of_squares.add(squares);
    else summary.finite = false;
  }
  return summary;
}

void expect_same(const GradSummary& a, const GradSummary& b, const std::string& what) {
  EXPECT_EQ(a.finite, b.finite) << what;
  EXPECT_EQ(a.sum_of_squares.round(), b.sum_of_squares.round()) << what;
}

void check_intake(Isa isa, Intake intake, GradType to, GradType from, std::size_t count, std::size_t shift,
                  Values values) {
  GradPlane expected(to, count, shift, values, 1);
  GradPlane actual = expected;
  GradPlane source(from, count, shift, values, 2);
  const std::string what = std::string(name_of(isa)) + " intake " + std::to_string(static_cast<int>(intake)) + ", " +
                           std::to_string(static_cast<int>(from)) + " to " + std::to_string(static_cast<int>(to)) + ", " +
                           std::to_string(count) + " elements, " + describe(values);
  grad_intake(Isa::scalar, intake, to, expected.data(), from, source.data(), count, nullptr);
  GradSummary summary;
  grad_intake(isa, intake, to, actual.data(), from, source.data(), count, &summary);
  EXPECT_EQ(actual, expected) << what;
  expect_same(summary, summary_by_definition(expected, count), what);
  GradSummary again;
  grad_summarize(isa, to, actual.data(), count, &again);
  expect_same(again, summary, what);
}

TEST(GradIntake, EqualsTheScalarDefinitionForAllTypesAndValues) {
  for (const Isa isa : usable_isas()) {
    for (const Intake intake : {Intake::store, Intake::add}) {
      for (const GradType to : kAllGradTypes) {
        for (const GradType from : kAllGradTypes) {
          for (const Values values : kAllValues) check_intake(isa, intake, to, from, 5003, 1, values);
        }
      }
    }
  }
}

TEST(GradIntake, EqualsTheScalarDefinitionForEveryTailLengthAndPlace) {
  for (const Isa isa : usable_isas()) {
    for (const GradType to : kAllGradTypes) {
      for (const GradType from : kAllGradTypes) {
        for (std::size_t count = 0; count <= 130; ++count) {
          check_intake(isa, Intake::add, to, from, count, count % 17, Values::ordinary);
        }
      }
    }
  }
}

TEST(GradIntake, StoresAndAddsWithOneRounding) {
  for (const Isa isa : usable_isas()) {
    std::vector<float> sum(100, 1.5f);
    const std::vector<std::uint16_t> source(100, kernels::bf16_of_float(0.25f));
    grad_intake(isa, Intake::add, GradType::f32, sum.data(), GradType::bf16, source.data(), 100, nullptr);
    EXPECT_EQ(sum, std::vector<float>(100, 1.75f));
    grad_intake(isa, Intake::store, GradType::f32, sum.data(), GradType::bf16, source.data(), 100, nullptr);
    EXPECT_EQ(sum, std::vector<float>(100, 0.25f));
    // 256 + 1 is a tie in bf16: to even.
    std::vector<std::uint16_t> narrow(100, kernels::bf16_of_float(256));
    const std::vector<float> one(100, 1.0f);
    GradSummary summary;
    grad_intake(isa, Intake::add, GradType::bf16, narrow.data(), GradType::f32, one.data(), 100, &summary);
    EXPECT_EQ(narrow, std::vector<std::uint16_t>(100, kernels::bf16_of_float(256)));
    EXPECT_EQ(summary.sum_of_squares.round(), 100.0 * 65536) << "the squares are those of the rounded result";
  }
}

TEST(GradIntake, FindsASingleElementThatIsNotFinite) {
  const float bad[] = {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                       std::numeric_limits<float>::quiet_NaN()};
  for (const Isa isa : usable_isas()) {
    for (const std::size_t at : {0ul, 1023ul, 1024ul, 2999ul}) {
      for (const float value : bad) {
        std::vector<float> source(3000, 2.0f);
        source[at] = value;
        std::vector<float> destination(3000);
        GradSummary summary;
        grad_intake(isa, Intake::store, GradType::f32, destination.data(), GradType::f32, source.data(), 3000, &summary);
        EXPECT_FALSE(summary.finite);
        // The block with it is left out of the sum.
        const double left_out = at < 1024 ? 1024 : at < 2048 ? 1024 : 952;
        EXPECT_EQ(summary.sum_of_squares.round(), 4.0 * (3000 - left_out));
      }
    }
  }
}

TEST(GradIntake, CountsAnOverflowOfTheDestinationAsNotFinite) {
  for (const Isa isa : usable_isas()) {
    const std::vector<float> source(50, 1e6f);
    std::vector<std::uint16_t> destination(50);
    GradSummary summary;
    grad_intake(isa, Intake::store, GradType::f16, destination.data(), GradType::f32, source.data(), 50, &summary);
    EXPECT_FALSE(summary.finite);
  }
}

TEST(GradSummarize, TakesTheSquaresOfTheLargestAndSmallestFloats) {
  for (const Isa isa : usable_isas()) {
    std::vector<float> large(4096, 0x1p127f);
    GradSummary summary;
    grad_summarize(isa, GradType::f32, large.data(), large.size(), &summary);
    EXPECT_EQ(summary.sum_of_squares.round(), 0x1p254 * 4096);
    std::fill(large.begin(), large.end(), std::numeric_limits<float>::max());
    grad_summarize(isa, GradType::f32, large.data(), large.size(), &summary);
    EXPECT_TRUE(summary.finite);
    const std::vector<float> small(4096, std::numeric_limits<float>::denorm_min());
    GradSummary tiny;
    grad_summarize(isa, GradType::f32, small.data(), small.size(), &tiny);
    EXPECT_EQ(tiny.sum_of_squares.round(), 0x1p-298 * 4096);
  }
}

TEST(GradSummarize, DoesNotDependOnWhereSpansAreCutAtBlocks) {
  const std::size_t count = 50'000;
  GradPlane plane(GradType::f32, count, 0, Values::ordinary, 8);
  const double whole = summary_by_definition(plane, count).sum_of_squares.round();
  RandomValues random(4, Values::any_bits);
  for (int trial = 0; trial != 20; ++trial) {
    std::vector<GradSummary> parts;
    for (std::size_t first = 0; first < count;) {
      const std::size_t length = std::min<std::size_t>(1024 * (1 + random.next() % 20), count - first);
      GradSummary part;
      grad_summarize(usable_isas()[random.next() % usable_isas().size()], GradType::f32,
                     static_cast<float*>(plane.data()) + first, length, &part);
      parts.insert(parts.begin() + static_cast<std::ptrdiff_t>(random.next() % (parts.size() + 1)), part);
      first += length;
    }
    ExactSum total;
    for (const GradSummary& part : parts) total.add(part.sum_of_squares);
    ASSERT_EQ(total.round(), whole);
  }
}

TEST(GradIntake, AddsDenormalsWhateverTheCallersSettings) {
  for (const Isa isa : usable_isas()) {
    std::vector<float> sum(100, 0x1p-149f);
    const std::vector<float> source(100, 0x1p-149f);
    const unsigned saved = _mm_getcsr();
    _mm_setcsr(0x9fc0);
    grad_intake(isa, Intake::add, GradType::f32, sum.data(), GradType::f32, source.data(), 100, nullptr);
    const unsigned after = _mm_getcsr();
    _mm_setcsr(saved);
    EXPECT_EQ(after, 0x9fc0u);
    EXPECT_EQ(std::bit_cast<std::uint32_t>(sum[99]), 2u);
  }
}

}  // namespace
}  // namespace orlop::cpu_adam
