#include "cpu_adam/adam.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>

#include <gtest/gtest.h>
#include <xmmintrin.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "planes.hpp"

namespace orlop::cpu_adam {
namespace {

using kernels::StepConstants;
using kernels::make_constants;
using kernels::Optimizer;

std::vector<StepConstants> constants_of(Optimizer optimizer) {
  std::vector<StepConstants> all;
  for (const bool decoupled : {true, false}) {
    all.push_back(make_constants({1e-3, 0.9, 0.999, 1e-8, 0.01, decoupled, true, optimizer}, 1, 1.0));
    all.push_back(make_constants({0.1, 0.5, 0.75, 1e-3, 0.5, decoupled, true, optimizer, 0.25}, 7, 1.0 / 1024 * 0.37));
    all.push_back(make_constants({1e-4, 0.0, 0.99, 0.0, 0.0, decoupled, false, optimizer}, 1'000'000, 3.0));
    all.push_back(make_constants({0.0, 0.95, 0.0, 1e-30, 1e-5, decoupled, true, optimizer}, 3, 1.0));
  }
  return all;
}

std::vector<Isa> vector_isas() {
  auto isas = usable_isas();
  std::erase(isas, Isa::scalar);
  return isas;
}

struct Kind {
  Isa isa;
  Master master;
  GradType grad;
  Optimizer optimizer;
};

std::string describe(const Kind& kind) {
  return std::string(name_of(kind.isa)) + " master " + std::to_string(static_cast<int>(kind.master)) + " grad " +
         std::to_string(static_cast<int>(kind.grad)) + " optimizer " + std::to_string(static_cast<int>(kind.optimizer));
}

template <typename Body>
void for_each_kind(const std::vector<Isa>& isas, const Body& body) {
  for (const Isa isa : isas) {
    for (const Master master : kAllMasters) {
      for (const GradType grad : kAllGradTypes) {
        for (const Optimizer optimizer : kAllOptimizers) body(Kind{isa, master, grad, optimizer});
      }
    }
  }
}

void run(Isa isa, const Kind& kind, Planes& planes, const StepConstants& constants, ChunkSums* before = nullptr,
         ChunkSums* after = nullptr) {
  const PlaneSpan span = planes.span(kind.master, kind.grad, kind.optimizer);
  const Stretch stretch = {span.count, &constants};
  update_chunk(isa, kind.master, kind.grad, span, {&stretch, 1}, before, after);
}

// Runs the scalar definition and `kind.isa` on the same planes; returns what differs.
std::string difference_from_scalar(const Kind& kind, std::size_t count, std::size_t shift, Values values,
                                   const StepConstants& constants, std::uint64_t seed) {
  Planes expected(count, shift);
  expected.fill(seed, values, kind.master, kind.grad);
  Planes actual = expected;
  run(Isa::scalar, kind, expected, constants);
  run(kind.isa, kind, actual, constants);
  return expected.difference(actual);
}

TEST(UpdateChunk, EqualsTheScalarDefinitionBitForBitOverAllExponents) {
  std::uint64_t seed = 1;
  for_each_kind(vector_isas(), [&](const Kind& kind) {
    for (const Values values : kAllValues) {
      for (const StepConstants& constants : constants_of(kind.optimizer)) {
        EXPECT_EQ(difference_from_scalar(kind, 5000, 0, values, constants, seed), "")
            << describe(kind) << ", " << orlop::cpu_adam::describe(values) << ", seed " << seed;
        ++seed;
      }
    }
  });
}

TEST(UpdateChunk, EqualsTheScalarDefinitionForEveryTailLength) {
  for_each_kind(vector_isas(), [&](const Kind& kind) {
    const StepConstants constants = constants_of(kind.optimizer).front();
    for (std::size_t count = 0; count <= 130; ++count) {
      EXPECT_EQ(difference_from_scalar(kind, count, 0, Values::ordinary, constants, count), "")
          << describe(kind) << ", " << count << " elements";
    }
  });
}

TEST(UpdateChunk, EqualsTheScalarDefinitionWhereverPlanesStart) {
  for_each_kind(vector_isas(), [&](const Kind& kind) {
    const StepConstants constants = constants_of(kind.optimizer).back();
    for (std::size_t shift = 0; shift != 33; ++shift) {
      EXPECT_EQ(difference_from_scalar(kind, 333, shift, Values::any_bits, constants, shift), "")
          << describe(kind) << ", shifted by " << shift;
    }
  });
}

TEST(UpdateChunk, TouchesNothingBehindTheEndOfASpan) {
  for_each_kind(usable_isas(), [&](const Kind& kind) {
    Planes planes(100, 0);
    planes.fill(3, Values::ordinary, kind.master, kind.grad);
    const Planes original = planes;
    PlaneSpan span = planes.span(kind.master, kind.grad, kind.optimizer);
    span.count = 0;
    const StepConstants constants = constants_of(kind.optimizer).front();
    const Stretch stretch = {0, &constants};
    update_chunk(kind.isa, kind.master, kind.grad, span, {&stretch, 1}, nullptr, nullptr);
    EXPECT_EQ(planes.difference(original), "") << describe(kind);
  });
}

TEST(UpdateChunk, WritesOnlyTheCanonicalNan) {
  for_each_kind(usable_isas(), [&](const Kind& kind) {
    Planes planes(4096, 0);
    planes.fill(11, Values::any_bits, kind.master, kind.grad);
    run(kind.isa, kind, planes, constants_of(kind.optimizer).front());
    const PlaneSpan span = planes.span(kind.master, kind.grad, kind.optimizer);
    std::size_t nans = 0;
    for (std::size_t i = 0; i != span.count; ++i) {
      for (const float* state : {span.exp_avg, span.exp_avg_sq}) {
        if (state == nullptr || !std::isnan(state[i])) continue;
        const float value = state[i];
        ++nans;
        EXPECT_EQ(std::bit_cast<std::uint32_t>(value), kernels::kCanonicalNan);
      }
      if (kind.master != Master::split) continue;
      const auto param = static_cast<const std::uint16_t*>(span.param)[i];
      if (kernels::is_nan_bits(std::uint32_t{param} << 16)) {
        EXPECT_EQ(param, kernels::kCanonicalNanBf16);
      }
    }
    EXPECT_GT(nans, 0u);
  });
}

// The definition: element by element with its stretch's constants.
void run_by_element(const Kind& kind, Planes& planes, std::span<const Stretch> stretches) {
  PlaneSpan one = planes.span(kind.master, kind.grad, kind.optimizer);
  one.count = 1;
  for (const Stretch& stretch : stretches) {
    const Stretch single = {1, stretch.constants};
    for (std::size_t i = 0; i != stretch.count; ++i) {
      update_chunk(Isa::scalar, kind.master, kind.grad, one, {&single, 1}, nullptr, nullptr);
      one.param = static_cast<char*>(one.param) + (kind.master == Master::itself ? 4 : 2);
      if (one.lo != nullptr) ++one.lo;
      if (one.master != nullptr) ++one.master;
      if (one.exp_avg != nullptr) ++one.exp_avg;
      if (one.exp_avg_sq != nullptr) ++one.exp_avg_sq;
      one.grad = static_cast<const char*>(one.grad) + (kind.grad == GradType::f32 ? 4 : 2);
    }
  }
}

TEST(UpdateChunk, GivesEachStretchItsOwnConstants) {
  const std::vector<std::vector<std::size_t>> cuts = {
      {1024, 4096, 1880}, {3072, 3072, 1024}, {100, 2048, 1000}, {1024, 1000, 2048}, {0, 512, 0}, {1, 2, 3}};
  for_each_kind(usable_isas(), [&](const Kind& kind) {
    const auto constants = constants_of(kind.optimizer);
    for (const auto& lengths : cuts) {
      // of Adam: AdamW and Adam in turn
      const std::vector<Stretch> stretches = {
          {lengths[0], &constants[1]}, {lengths[1], &constants[4]}, {lengths[2], &constants[2]}};
      const std::size_t count = lengths[0] + lengths[1] + lengths[2];
      Planes expected(count, 1);
      expected.fill(5, Values::ordinary, kind.master, kind.grad);
      Planes actual = expected;
      const ChunkSums read = chunk_sums(Isa::scalar, expected.span(kind.master, kind.grad, kind.optimizer));
      run_by_element(kind, expected, stretches);
      ChunkSums before, after;
      update_chunk(kind.isa, kind.master, kind.grad, actual.span(kind.master, kind.grad, kind.optimizer), stretches, &before, &after);
      EXPECT_EQ(expected.difference(actual), "") << describe(kind) << ", " << lengths[0] << " first";
      EXPECT_EQ(before, read) << describe(kind) << ", " << lengths[0] << " first";
      EXPECT_EQ(after, chunk_sums(Isa::scalar, expected.span(kind.master, kind.grad, kind.optimizer))) << describe(kind);
    }
  });
}

ChunkSums plain_sums(const PlaneSpan& span) {
  const auto sum = [&](const auto* plane) -> std::uint64_t {
    return plane == nullptr ? 0 : XXH3_64bits(plane, span.count * sizeof(*plane));
  };
  return {sum(span.lo), sum(span.master), sum(span.exp_avg), sum(span.exp_avg_sq)};
}

TEST(ChunkSums, ServeSpansWithoutMoments) {
  for (const Isa isa : usable_isas()) {
    for (const Master master : kAllMasters) {
      Planes planes(5000, 1);
      planes.fill(7, Values::ordinary, master, GradType::f32);
      const PlaneSpan span = planes.span(master, GradType::f32, Optimizer::external);
      EXPECT_EQ(chunk_sums(isa, span), plain_sums(span)) << name_of(isa);
    }
  }
}

TEST(UpdateChunk, SumsArePlainXxh3OfWhatWasReadAndWritten) {
  for_each_kind(usable_isas(), [&](const Kind& kind) {
    for (const std::size_t count : {0, 1, 15, 60, 61, 63, 64, 121, 511, 512, 513, 1023, 1024, 1025, 1535, 1536, 1537, 2047,
                                    2048, 2049, 10'000, 20'480}) {
      Planes planes(count, count % 3);
      planes.fill(count, Values::ordinary, kind.master, kind.grad);
      const PlaneSpan span = planes.span(kind.master, kind.grad, kind.optimizer);
      const ChunkSums read = plain_sums(span);
      EXPECT_EQ(chunk_sums(kind.isa, span), read) << describe(kind) << ", " << count << " elements";
      ChunkSums before, after;
      run(kind.isa, kind, planes, constants_of(kind.optimizer).front(), &before, &after);
      EXPECT_EQ(before, read) << describe(kind) << ", " << count << " elements";
      EXPECT_EQ(after, plain_sums(span)) << describe(kind) << ", " << count << " elements";
      EXPECT_EQ(before == after, count == 0);
    }
  });
}

TEST(UpdateChunk, GivesTheSameBitsWithAndWithoutSums) {
  for_each_kind(usable_isas(), [&](const Kind& kind) {
    Planes plain(9999, 2);
    plain.fill(9, Values::any_bits, kind.master, kind.grad);
    Planes only_before = plain;
    Planes only_after = plain;
    ChunkSums sums;
    run(kind.isa, kind, plain, constants_of(kind.optimizer).front());
    run(kind.isa, kind, only_before, constants_of(kind.optimizer).front(), &sums, nullptr);
    run(kind.isa, kind, only_after, constants_of(kind.optimizer).front(), nullptr, &sums);
    EXPECT_EQ(plain.difference(only_before), "") << describe(kind);
    EXPECT_EQ(plain.difference(only_after), "") << describe(kind);
  });
}

class MxcsrGuard {
 public:
  explicit MxcsrGuard(unsigned value) : saved_(_mm_getcsr()) { _mm_setcsr(value); }
  ~MxcsrGuard() { _mm_setcsr(saved_); }

 private:
  unsigned saved_;
};

TEST(UpdateChunk, ComputesWithDenormalsWhateverTheCallersSettings) {
  constexpr unsigned kFlushAndRoundUp = 0x1f80 | 0x8000 | 0x0040 | 0x4000;  // FTZ, DAZ, towards plus infinity
  for_each_kind(usable_isas(), [&](const Kind& kind) {
    Planes expected(3000, 0);
    expected.fill(21, Values::tiny, kind.master, kind.grad);
    Planes actual = expected;
    run(Isa::scalar, kind, expected, constants_of(kind.optimizer).front());
    {
      const MxcsrGuard guard(kFlushAndRoundUp);
      const StepConstants constants = make_constants({1e-3, 0.9, 0.999, 1e-8, 0.01, true, true, kind.optimizer}, 1, 1.0);
      run(kind.isa, kind, actual, constants);
      EXPECT_EQ(_mm_getcsr(), kFlushAndRoundUp) << "the caller's settings come back";
    }
    EXPECT_EQ(expected.difference(actual), "") << describe(kind);
  });
}

// Over all pairs (param, lo), which name all 2^32 masters: joined, moved by a step of length 0, split again.
TEST(UpdateChunk, JoinsAndSplitsEveryMasterWithoutLoss) {
  constexpr std::size_t kPairs = 65536;
  const Isa isa = usable_isas().back();
  const StepConstants constants = make_constants({0.0, 0.9, 0.999, 1e-8, 0.0, false, true}, 1, 1.0);
  std::vector<std::int16_t> every_lo(kPairs);
  for (std::size_t i = 0; i != kPairs; ++i) every_lo[i] = static_cast<std::int16_t>(static_cast<std::uint16_t>(i));
  std::atomic<std::size_t> wrong{0};
  Workers(0).parallel_for(kPairs, 64, [&](std::size_t begin, std::size_t end) {
    std::vector<std::uint16_t> param(kPairs), expected_param(kPairs);
    std::vector<std::int16_t> lo(kPairs), expected_lo(kPairs);
    std::vector<float> exp_avg(kPairs), exp_avg_sq(kPairs);
    const std::vector<std::uint16_t> grad(kPairs);
    const Stretch stretch = {kPairs, &constants};
    for (std::size_t hi = begin; hi != end; ++hi) {
      std::fill(param.begin(), param.end(), static_cast<std::uint16_t>(hi));
      lo = every_lo;
      expected_param = param;
      expected_lo = lo;
      const bool may_be_nan = (hi & 0x7fff) == 0 || (hi & 0x7fff) >= 0x7f80;
      for (std::size_t i = 0; may_be_nan && i != kPairs; ++i) {
        const std::uint32_t bits = static_cast<std::uint32_t>(hi << 16) + static_cast<std::uint32_t>(std::int32_t{lo[i]});
        if ((bits & 0x7f800000u) != 0x7f800000u) continue;
        expected_param[i] = kernels::kCanonicalNanBf16;  // infinity - 0 x infinity, too
        expected_lo[i] = 0;
      }
      std::fill(exp_avg.begin(), exp_avg.end(), 0.0f);
      std::fill(exp_avg_sq.begin(), exp_avg_sq.end(), 0.0f);
      update_chunk(isa, Master::split, GradType::bf16,
                 {param.data(), lo.data(), nullptr, exp_avg.data(), exp_avg_sq.data(), grad.data(), kPairs},
                 {&stretch, 1}, nullptr, nullptr);
      if (param != expected_param || lo != expected_lo) ++wrong;
    }
  });
  EXPECT_EQ(wrong, 0u);
}

}  // namespace
}  // namespace orlop::cpu_adam
