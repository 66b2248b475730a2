#include "kernels/norm_finite.hpp"

#include <cmath>
#include <limits>

#include "gpu_test.hpp"
#include "kernels/element.hpp"

namespace orlop::kernels {
namespace {

// The definition: element i of a block of 1024 goes to lane i mod 16, lanes are added as a tree.
double sum_of_squares(const float* values, std::size_t count) {
  double lanes[16] = {};
  for (std::size_t i = 0; i < count; ++i) {
    lanes[i % 16] += static_cast<double>(values[i]) * static_cast<double>(values[i]);
  }
  for (std::size_t width = 8; width != 0; width /= 2) {
    for (std::size_t i = 0; i != width; ++i) lanes[i] += lanes[i + width];
  }
  return lanes[0];
}

std::vector<double> expected_partials(const std::vector<float>& values) {
  std::vector<double> partials;
  for (std::size_t begin = 0; begin < values.size(); begin += kSquaresBlock) {
    partials.push_back(
        sum_of_squares(&values[begin], std::min<std::size_t>(kSquaresBlock, values.size() - begin)));
  }
  return partials;
}

std::vector<float> random_floats(std::size_t count) {
  std::mt19937 random(7);
  std::uniform_real_distribution<float> mantissa(-2.0f, 2.0f);
  std::uniform_int_distribution<int> exponent(-140, 120);
  std::vector<float> values(count);
  for (float& value : values) value = std::ldexp(mantissa(random), exponent(random));
  return values;
}

class NormOnTheDevice : public GpuTest {
 protected:
  struct Found {
    std::vector<double> partials;
    bool is_finite;
  };

  template <typename T>
  Found find(ElementType type, const std::vector<T>& values) {
    const std::size_t blocks = squares_block_count(values.size());
    const T* const there = upload(values);
    double* const partials = upload(std::vector<double>(blocks + 1, -1.0));
    std::uint32_t* const finite = upload(std::vector<std::uint32_t>{1});
    EXPECT_EQ(launch_norm_finite(type, there, values.size(), partials, finite, stream_.handle), 0);
    finish();
    auto all = download(partials, blocks + 1);
    EXPECT_EQ(all.back(), -1.0);
    all.pop_back();
    return {all, download(finite, 1)[0] == 1};
  }
};

TEST_F(NormOnTheDevice, EqualsTheDefinitionBitForBitAtAnyLength) {
  for (const std::size_t count : {0, 1, 15, 16, 17, 1023, 1024, 1025, 16384, 16385, 100'003}) {
    const auto values = random_floats(count);
    const Found found = find(ElementType::f32, values);
    EXPECT_EQ(found.partials, expected_partials(values)) << count;
    EXPECT_TRUE(found.is_finite) << count;
  }
}

TEST_F(NormOnTheDevice, ReadsBf16AndFp16) {
  std::vector<std::uint16_t> bf16;
  std::vector<std::uint16_t> f16;
  std::vector<float> of_bf16;
  std::vector<float> of_f16;
  for (const float value : random_floats(5000)) {
    bf16.push_back(bf16_of_float(value));
    of_bf16.push_back(float_of_bf16(bf16.back()));
    f16.push_back(f16_of_float(std::fmod(value, 65504.0f)));
    of_f16.push_back(float_of_f16(f16.back()));
  }
  EXPECT_EQ(find(ElementType::bf16, bf16).partials, expected_partials(of_bf16));
  EXPECT_EQ(find(ElementType::f16, f16).partials, expected_partials(of_f16));
}

TEST_F(NormOnTheDevice, FindsOneValueThatIsNotFiniteAnywhere) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  for (const std::size_t place : {0, 15, 16, 1023, 1024, 2047, 4999}) {
    for (const float bad : {kInfinity, -kInfinity, kNan}) {
      auto values = random_floats(5000);
      values[place] = bad;
      EXPECT_FALSE(find(ElementType::f32, values).is_finite) << bad << " at " << place;
    }
  }
}

TEST_F(NormOnTheDevice, TheLargestFloatsAreFinite) {
  const std::vector<float> values(3000, std::numeric_limits<float>::max());
  EXPECT_TRUE(find(ElementType::f32, values).is_finite);
}

}  // namespace
}  // namespace orlop::kernels
