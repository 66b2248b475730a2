#include "kernels/update_element.hpp"

#include <atomic>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "cpu_adam/adam.hpp"

namespace orlop::kernels {
namespace {

bool is_nan(std::uint32_t bits) { return std::isnan(std::bit_cast<float>(bits)); }

// Counts the patterns among all 2^32 for which `is_wrong` holds.
template <typename IsWrong>
std::uint64_t count_wrong(const IsWrong& is_wrong) {
  std::atomic<std::uint64_t> wrong{0};
  cpu_adam::Workers(0).parallel_for(std::size_t{1} << 32, std::size_t{1} << 20, [&](std::size_t begin, std::size_t end) {
    std::uint64_t here = 0;
    for (std::size_t bits = begin; bits != end; ++bits) here += is_wrong(static_cast<std::uint32_t>(bits)) ? 1 : 0;
    wrong += here;
  });
  return wrong;
}

TEST(SplitMaster, RestoresEveryPatternOfAnFp32AndCanonicalisesNan) {
  EXPECT_EQ(count_wrong([](std::uint32_t bits) {
    const SplitMaster split = split_master(float_of(bits));
    const std::uint32_t joined = bits_of(join_master(split.param, split.lo));
    return joined != ((bits & 0x7fffffffu) > 0x7f800000u ? 0x7fc00000u : bits);
  }), 0u);
}

TEST(SplitMaster, ParamIsTheNearestBf16TiesAwayFromZero) {
  for (std::uint64_t step = 0; step < 1ull << 32; step += 997) {
    const float master = float_of(static_cast<std::uint32_t>(step));
    if (!std::isfinite(master)) continue;
    // Neighbours in bf16, and the middle between them, in double.
    const auto below_bits = static_cast<std::uint16_t>(step >> 16);
    const double below = float_of_bf16(below_bits);
    const bool is_last = (below_bits & 0x7fff) == 0x7f7f;
    const double above = is_last ? std::copysign(0x1p128, below) : float_of_bf16(static_cast<std::uint16_t>(below_bits + 1));
    const bool is_up = std::abs(static_cast<double>(master)) >= (std::abs(below) + std::abs(above)) / 2;
    ASSERT_EQ(split_master(master).param, below_bits + (is_up ? 1 : 0)) << step;
  }
}

TEST(SplitMaster, KeepsFiniteMastersWhoseParamOverflows) {
  for (const float master : {std::numeric_limits<float>::max(), -std::numeric_limits<float>::max(), 0x1.ffp127f}) {
    const SplitMaster split = split_master(master);
    EXPECT_TRUE(std::isinf(float_of_bf16(split.param)));
    EXPECT_LT(split.lo, 0);
    EXPECT_EQ(join_master(split.param, split.lo), master);
  }
  EXPECT_EQ(split_master(std::numeric_limits<float>::infinity()).lo, 0);
}

TEST(Bf16, RoundsToNearestEven) {
  EXPECT_EQ(bf16_of_float(float_of(0x3f808000u)), 0x3f80u);  // ties
  EXPECT_EQ(bf16_of_float(float_of(0x3f818000u)), 0x3f82u);
  EXPECT_EQ(bf16_of_float(float_of(0x3f808001u)), 0x3f81u);
  EXPECT_EQ(bf16_of_float(float_of(0x3f807fffu)), 0x3f80u);
  EXPECT_EQ(bf16_of_float(std::numeric_limits<float>::max()), 0x7f80u);
  EXPECT_EQ(bf16_of_float(float_of(0xff800001u)), kCanonicalNanBf16);
  EXPECT_EQ(bf16_of_float(float_of(0x80000001u)), 0x8000u);
  for (std::uint32_t bits = 0; bits != 0x10000; ++bits) {
    if (is_nan(bits << 16)) continue;
    ASSERT_EQ(bf16_of_float(float_of_bf16(static_cast<std::uint16_t>(bits))), bits);
  }
}

// The value of an fp16 by the format's definition.
double value_of_f16(std::uint32_t bits) {
  const double sign = (bits & 0x8000) != 0 ? -1 : 1;
  const int exponent = static_cast<int>(bits >> 10 & 31);
  const int fraction = static_cast<int>(bits & 0x3ff);
  return sign * (exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25));
}

TEST(F16, IsReadByTheFormatsDefinition) {
  for (std::uint32_t bits = 0; bits != 0x10000; ++bits) {
    const float value = float_of_f16(static_cast<std::uint16_t>(bits));
    if ((bits & 0x7c00) != 0x7c00) {
      ASSERT_EQ(value, value_of_f16(bits)) << bits;
      ASSERT_EQ(std::signbit(value), (bits & 0x8000) != 0) << bits;
    } else if ((bits & 0x3ff) == 0) {
      ASSERT_EQ(value, (bits & 0x8000) != 0 ? -INFINITY : INFINITY);
    } else {
      ASSERT_EQ(bits_of(value), kCanonicalNan);
    }
  }
}

TEST(F16, RoundsToNearestEvenDenormalsIncluded) {
  for (std::uint32_t bits = 0; bits != 0x7c00; ++bits) {
    const auto here = static_cast<std::uint16_t>(bits);
    const double low = value_of_f16(bits);
    const double high = bits == 0x7bff ? 65536 : value_of_f16(bits + 1);
    const auto middle = static_cast<float>((low + high) / 2);  // exact: one bit more than fp16
    const auto even = static_cast<std::uint16_t>((bits & 1) != 0 ? bits + 1 : bits);
    ASSERT_EQ(f16_of_float(static_cast<float>(low)), here);
    ASSERT_EQ(f16_of_float(middle), even) << bits;
    ASSERT_EQ(f16_of_float(std::nextafterf(middle, 0)), here) << bits;
    ASSERT_EQ(f16_of_float(std::nextafterf(middle, INFINITY)), bits + 1) << bits;
    ASSERT_EQ(f16_of_float(-middle), even | 0x8000) << bits;
  }
  EXPECT_EQ(f16_of_float(INFINITY), 0x7c00u);
  EXPECT_EQ(f16_of_float(1e30f), 0x7c00u);
  EXPECT_EQ(f16_of_float(-NAN), kCanonicalNanF16);
}

TEST(MakeConstants, FollowsThePapersCorrections) {
  const HyperParams hyper = {.lr = 1e-3, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0.1,
                           .decoupled = true, .bias_correction = true};
  const StepConstants first = make_constants(hyper, 1, 0.5);
  EXPECT_FLOAT_EQ(first.step_size, 1e-2f);
  EXPECT_FLOAT_EQ(first.inv_sqrt_correction2, static_cast<float>(1 / std::sqrt(1e-3)));
  EXPECT_FLOAT_EQ(first.step_size * first.decay, 1e-3f * 0.1f);
  EXPECT_EQ(first.grad_scale, 0.5f);
  const StepConstants late = make_constants(hyper, 1'000'000'000'000, 1);
  EXPECT_EQ(late.step_size, 1e-3f);
  EXPECT_EQ(late.inv_sqrt_correction2, 1.0f);
}

TEST(MakeConstants, LeavesCorrectionsOutWhenAskedTo) {
  HyperParams hyper = {.lr = 0.5, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0.25, .decoupled = false,
                     .bias_correction = false};
  const StepConstants l2 = make_constants(hyper, 1, 1);
  EXPECT_EQ(l2.step_size, 0.5f);
  EXPECT_EQ(l2.inv_sqrt_correction2, 1.0f);
  EXPECT_EQ(l2.decay, 0.25f);
  EXPECT_EQ(l2.rule, Rule::adam);
  hyper.decoupled = true;
  EXPECT_EQ(make_constants(hyper, 1, 1).decay, 0.25f);
}

TEST(MakeConstants, ServesBetasOfZero) {
  const StepConstants c = make_constants({1e-3, 0, 0, 1e-8, 0, true, true}, 5, 1);
  EXPECT_EQ(c.step_size, 1e-3f);
  EXPECT_EQ(c.inv_sqrt_correction2, 1.0f);
  // Then the step is lr x g / (|g| + eps), whatever the states were.
  const Element now = update_element<Rule::adamw>({1.0f, 1e6f, 1e9f}, -0.25f, c);
  EXPECT_EQ(now.exp_avg, -0.25f);
  EXPECT_EQ(now.exp_avg_sq, 0.0625f);
  EXPECT_FLOAT_EQ(now.param, 1.001f);
}

TEST(UpdateElement, LeavesAnElementWithoutGradientAndDecayAlone) {
  const StepConstants c = make_constants({1e-3, 0.9, 0.999, 1e-8, 0, true, true}, 1, 1);
  for (const float param : {0.0f, -0.0f, 1.5f, -1e-42f}) {
    EXPECT_EQ(bits_of(update_element<Rule::adamw>({param, 0, 0}, 0.0f, c).param), bits_of(param));
  }
}

TEST(UpdateElement, NeverMakesTheSecondMomentNegative) {
  const StepConstants c = make_constants({1e-3, 0.9, 0.999, 1e-8, 0, true, true}, 1, 1);
  for (std::uint32_t bits = 0; bits < 0x7f800000u; bits += 4099) {
    ASSERT_GE(update_element<Rule::adamw>({1, 0, float_of(bits)}, 0.0f, c).exp_avg_sq, 0.0f) << bits;
  }
}

template <Rule kRule>
void expect_canonical_nans(Optimizer optimizer) {
  const StepConstants c =
      make_constants({1e-3, 0.9, 0.999, 1e-8, 0, is_decoupled(kRule), true, optimizer}, 1, 1);
  const Element now = update_element<kRule>({1, 0, 0}, float_of(0xffc12345u), c);
  EXPECT_EQ(bits_of(now.param), kCanonicalNan);
  EXPECT_EQ(bits_of(now.exp_avg), has_exp_avg(kRule) ? kCanonicalNan : 0u);
  EXPECT_EQ(bits_of(now.exp_avg_sq), has_exp_avg_sq(kRule) ? kCanonicalNan : 0u);
}

TEST(UpdateElement, MakesEveryOutputOfANanCanonical) {
  expect_canonical_nans<Rule::adamw>(Optimizer::adam);
  expect_canonical_nans<Rule::adam>(Optimizer::adam);
  expect_canonical_nans<Rule::adagrad>(Optimizer::adagrad);
  expect_canonical_nans<Rule::lion>(Optimizer::lion);
}

TEST(UpdateElement, AdagradDividesByTheRootOfTheSumOfSquares) {
  const HyperParams hyper = {.lr = 0.5, .beta1 = 0, .beta2 = 0, .eps = 0, .weight_decay = 0.25, .decoupled = false,
                             .bias_correction = false, .optimizer = Optimizer::adagrad, .lr_decay = 0.5};
  const StepConstants c = make_constants(hyper, 3, 1);
  EXPECT_EQ(c.rule, Rule::adagrad);
  EXPECT_EQ(c.step_size, 0.25f);  // 0.5 / (1 + 2 x 0.5)
  const Element now = update_element<Rule::adagrad>({4, 7, 16}, 2, c);  // g = 2 + 0.25 x 4 = 3
  EXPECT_EQ(now.exp_avg_sq, 25.0f);
  EXPECT_EQ(now.param, 4.0f - 0.25f * 3.0f / 5.0f);
  EXPECT_EQ(now.exp_avg, 7.0f) << "it has no such state";
}

TEST(UpdateElement, LionTakesTheSignBeforeItUpdatesTheMoment) {
  const HyperParams hyper = {.lr = 0.5, .beta1 = 0.75, .beta2 = 0.5, .eps = 0, .weight_decay = 0.25, .decoupled = true,
                             .bias_correction = false, .optimizer = Optimizer::lion};
  const StepConstants c = make_constants(hyper, 3, 1);
  // c = 0.75 x 1 + 0.25 x -2 = 0.25, whose sign is 1; m = 0.5 x 1 + 0.5 x -2
  const Element now = update_element<Rule::lion>({4, 1, 0}, -2, c);
  EXPECT_EQ(now.exp_avg, -0.5f);
  EXPECT_EQ(now.param, 4.0f - 0.5f * (1.0f + 0.25f * 4.0f));
  const Element still = update_element<Rule::lion>({4, 0, 0}, 0, make_constants({0.5, 0.9, 0.99, 0, 0, true, false, Optimizer::lion}, 1, 1));
  EXPECT_EQ(still.param, 4.0f) << "without a gradient there is no direction";
}

TEST(UpdateElement, LionShowsAMomentThatIsNotFinite) {
  const StepConstants c = make_constants({1e-3, 0.9, 0.99, 0, 0.1, true, false, Optimizer::lion}, 1, 1);
  const float infinity = float_of(0x7f800000u);
  EXPECT_EQ(bits_of(update_element<Rule::lion>({1, infinity, 0}, 1, c).param), kCanonicalNan);
  EXPECT_EQ(bits_of(update_element<Rule::lion>({1, -infinity, 0}, 1, c).param), kCanonicalNan);
}

}  // namespace
}  // namespace orlop::kernels
