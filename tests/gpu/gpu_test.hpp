// What tests of kernels share: arrays on the device, and floats that leave no corner out.
#pragma once

#include <bit>
#include <cstdint>
#include <memory>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "device/device.hpp"

namespace orlop::kernels {

class GpuTest : public testing::Test {
 protected:
  void SetUp() override {
    auto made = device::make_cuda_device(0);
    ASSERT_TRUE(made) << made.error().message;
    device_ = *std::move(made);
    stream_ = device_->make_stream().value();
    done_ = device_->make_event().value();
  }
  void TearDown() override {
    if (!device_) return;
    device_->destroy(done_);
    for (std::byte* memory : memory_) device_->release(memory);
    device_->destroy(stream_);
  }

  // Freed at the end of the test, with everything that is given to upload().
  template <typename T>
  T* allocate(std::size_t count) {
    memory_.push_back(device_->allocate(count * sizeof(T)).value());
    return reinterpret_cast<T*>(memory_.back());
  }
  template <typename T>
  T* upload(const std::vector<T>& values) {
    T* const there = allocate<T>(values.size());
    EXPECT_TRUE(device_->copy(there, values.data(), values.size() * sizeof(T),
                              device::CopyKind::host_to_device, stream_));
    finish();
    return there;
  }
  template <typename T>
  std::vector<T> download(const T* there, std::size_t count) {
    std::vector<T> values(count);
    EXPECT_TRUE(
        device_->copy(values.data(), there, count * sizeof(T), device::CopyKind::device_to_host, stream_));
    finish();
    return values;
  }
  void finish() {
    EXPECT_TRUE(device_->record(done_, stream_));
    const auto finished = device_->synchronize(done_);
    ASSERT_TRUE(finished) << finished.error().message;
  }

  std::unique_ptr<device::Device> device_;
  device::Stream stream_;
  device::Event done_;
  std::vector<std::byte*> memory_;
};

// Every sign, exponent and leading mantissa (the upper 16 bits) with lower halves at which rounding to bf16
// or fp16 turns, then random patterns: NaNs, infinities and denormals among them.
inline std::vector<float> float_patterns(std::size_t random_count) {
  constexpr std::uint32_t kLower[] = {0x0000, 0x0001, 0x0fff, 0x1000, 0x1001, 0x1fff, 0x2000, 0x2fff,
                                      0x3000, 0x3001, 0x7fff, 0x8000, 0x8001, 0xefff, 0xf000, 0xffff};
  std::vector<float> values;
  values.reserve(65536 * std::size(kLower) + random_count);
  for (std::uint32_t upper = 0; upper < 65536; ++upper) {
    for (const std::uint32_t lower : kLower) values.push_back(std::bit_cast<float>((upper << 16) | lower));
  }
  std::mt19937 random(20261121);
  for (std::size_t i = 0; i < random_count; ++i) {
    values.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(random())));
  }
  return values;
}

inline std::vector<std::uint16_t> all_16_bit_patterns() {
  std::vector<std::uint16_t> values(65536);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<std::uint16_t>(i);
  return values;
}

}  // namespace orlop::kernels
