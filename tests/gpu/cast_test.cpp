#include "kernels/cast.hpp"

#include "gpu_test.hpp"
#include "kernels/element.hpp"

namespace orlop::kernels {
namespace {

class CastOnTheDevice : public GpuTest {
 protected:
  // `values` cast on the device; both arrays start `offset` elements into their memory.
  template <typename To, typename From>
  std::vector<To> cast(ElementType to, ElementType from, const std::vector<From>& values,
                       std::size_t offset = 0) {
    std::vector<From> shifted(offset);
    shifted.insert(shifted.end(), values.begin(), values.end());
    const From* const source = upload(shifted);
    To* const destination = upload(std::vector<To>(shifted.size() + 1, kUntouched<To>));
    EXPECT_EQ(launch_cast(to, destination + offset, from, source + offset, values.size(), stream_.handle), 0);
    finish();
    const auto all = download(destination, shifted.size() + 1);
    for (std::size_t i = 0; i < offset; ++i) EXPECT_EQ(all[i], kUntouched<To>);
    EXPECT_EQ(all.back(), kUntouched<To>);
    return std::vector<To>(all.begin() + static_cast<long>(offset), all.end() - 1);
  }

 private:
  template <typename T>
  static constexpr T kUntouched = static_cast<T>(12345);
};

std::uint32_t bits(float value) {
  return std::bit_cast<std::uint32_t>(value);
}

TEST_F(CastOnTheDevice, FromFp32RoundsAsTheDefinition) {
  const auto values = float_patterns(1 << 22);
  const auto bf16 = cast<std::uint16_t>(ElementType::bf16, ElementType::f32, values);
  const auto f16 = cast<std::uint16_t>(ElementType::f16, ElementType::f32, values);
  for (std::size_t i = 0; i < values.size(); ++i) {
    ASSERT_EQ(bf16[i], bf16_of_float(values[i])) << std::hex << bits(values[i]);
    ASSERT_EQ(f16[i], f16_of_float(values[i])) << std::hex << bits(values[i]);
  }
}

TEST_F(CastOnTheDevice, ToFp32IsExact) {
  const auto values = all_16_bit_patterns();
  const auto of_bf16 = cast<float>(ElementType::f32, ElementType::bf16, values);
  const auto of_f16 = cast<float>(ElementType::f32, ElementType::f16, values);
  for (std::size_t i = 0; i < values.size(); ++i) {
    ASSERT_EQ(bits(of_bf16[i]), bits(canonical(float_of_bf16(values[i])))) << std::hex << values[i];
    ASSERT_EQ(bits(of_f16[i]), bits(canonical(float_of_f16(values[i])))) << std::hex << values[i];
  }
}

TEST_F(CastOnTheDevice, Between16BitTypesRoundsOnce) {
  const auto values = all_16_bit_patterns();
  const auto of_bf16 = cast<std::uint16_t>(ElementType::f16, ElementType::bf16, values);
  const auto of_f16 = cast<std::uint16_t>(ElementType::bf16, ElementType::f16, values);
  for (std::size_t i = 0; i < values.size(); ++i) {
    ASSERT_EQ(of_bf16[i], f16_of_float(float_of_bf16(values[i]))) << std::hex << values[i];
    ASSERT_EQ(of_f16[i], bf16_of_float(float_of_f16(values[i]))) << std::hex << values[i];
  }
}

TEST_F(CastOnTheDevice, TakesAnyLengthAtAnyOffsetAndNoMore) {
  const auto patterns = float_patterns(0);
  for (std::size_t length = 0; length < 40; ++length) {
    for (std::size_t offset = 0; offset < 9; ++offset) {
      const std::vector<float> values(patterns.begin() + 250'000,
                                      patterns.begin() + 250'000 + static_cast<long>(length));
      const auto bf16 = cast<std::uint16_t>(ElementType::bf16, ElementType::f32, values, offset);
      const auto back = cast<float>(ElementType::f32, ElementType::bf16, bf16, offset);
      for (std::size_t i = 0; i < length; ++i) {
        ASSERT_EQ(bf16[i], bf16_of_float(values[i])) << length << " at " << offset;
        ASSERT_EQ(bits(back[i]), bits(canonical(float_of_bf16(bf16[i])))) << length << " at " << offset;
      }
    }
  }
}

TEST_F(CastOnTheDevice, RefusesTypesThatAreNone) {
  EXPECT_NE(launch_cast(static_cast<ElementType>(9), nullptr, ElementType::f32, nullptr, 1, stream_.handle),
            0);
}

}  // namespace
}  // namespace orlop::kernels
