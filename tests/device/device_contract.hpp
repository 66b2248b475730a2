// The contract suite of Device, written once. An implementation joins with a maker and one line:
//   INSTANTIATE_TEST_SUITE_P(Host, DeviceContract, testing::Values(DeviceCase{"host", [] { return ...; }}),
//   name_of_case);
#pragma once

#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/bytes.hpp"
#include "device/device.hpp"

namespace orlop::device {

struct DeviceCase {
  std::string name;
  std::function<Result<std::unique_ptr<Device>>()> make;
};

inline std::string name_of_case(const testing::TestParamInfo<DeviceCase>& info) {
  return info.param.name;
}
inline void PrintTo(const DeviceCase& device_case, std::ostream* out) {
  *out << device_case.name;
}

inline std::vector<std::byte> pattern(std::size_t count, unsigned seed) {
  std::vector<std::byte> bytes(count);
  for (std::size_t i = 0; i < count; ++i)
    bytes[i] = static_cast<std::byte>((i * 131 + seed * 17 + i / 251) & 0xff);
  return bytes;
}

class DeviceContract : public testing::TestWithParam<DeviceCase> {
 protected:
  void SetUp() override {
    auto made = GetParam().make();
    ASSERT_TRUE(made) << made.error().message;
    device_ = *std::move(made);
    stream_ = device_->make_stream().value();
  }
  void TearDown() override {
    for (std::byte* memory : memory_) device_->release(memory);
    if (device_) device_->destroy(stream_);
  }

  std::byte* allocate(std::uint64_t bytes) {
    std::byte* const memory = device_->allocate(bytes).value();
    memory_.push_back(memory);
    return memory;
  }
  void finish(Stream stream) {
    const Event event = device_->make_event().value();
    EXPECT_TRUE(device_->record(event, stream));
    EXPECT_TRUE(device_->synchronize(event));
    device_->destroy(event);
  }
  void upload(std::byte* destination, const std::vector<std::byte>& bytes) {
    EXPECT_TRUE(device_->copy(destination, bytes.data(), bytes.size(), CopyKind::host_to_device, stream_));
    finish(stream_);
  }
  std::vector<std::byte> download(const std::byte* source, std::size_t count) {
    std::vector<std::byte> bytes(count, std::byte{0xee});
    EXPECT_TRUE(device_->copy(bytes.data(), source, count, CopyKind::device_to_host, stream_));
    finish(stream_);
    return bytes;
  }

  std::unique_ptr<Device> device_;
  Stream stream_;
  std::vector<std::byte*> memory_;
};

TEST_P(DeviceContract, MemoryIsAlignedTo256BytesAndApart) {
  for (const std::uint64_t bytes : {1, 255, 256, 257, 4096, 1'000'003}) {
    EXPECT_TRUE(is_aligned(allocate(bytes), 256)) << bytes;
  }
  std::byte* const first = allocate(1000);
  std::byte* const second = allocate(1000);
  EXPECT_TRUE(first + 1000 <= second || second + 1000 <= first);
}

TEST_P(DeviceContract, NothingIsNull) {
  EXPECT_EQ(device_->allocate(0).value(), nullptr);
  device_->release(nullptr);
  EXPECT_TRUE(device_->copy(nullptr, nullptr, 0, CopyKind::host_to_device, stream_));
  EXPECT_TRUE(device_->fill_zero(nullptr, 0, stream_));
  device_->destroy(Stream{});
  device_->destroy(Event{});
}

TEST_P(DeviceContract, WhatGoesInComesOutAtAnyOffsetAndLength) {
  constexpr std::size_t kRoom = 1 << 20;
  std::byte* const memory = allocate(kRoom);
  unsigned seed = 0;
  for (const std::size_t length : {1, 2, 3, 255, 4096, 65537, 1'000'000}) {
    for (const std::size_t offset : {0, 1, 7, 256}) {
      const auto bytes = pattern(length, ++seed);
      upload(memory + offset, bytes);
      ASSERT_EQ(download(memory + offset, length), bytes) << length << " at " << offset;
    }
  }
}

TEST_P(DeviceContract, ACopyTouchesNothingOutsideItsRange) {
  std::byte* const memory = allocate(300);
  upload(memory, pattern(300, 1));
  upload(memory + 100, pattern(50, 2));
  auto expected = pattern(300, 1);
  const auto middle = pattern(50, 2);
  std::memcpy(expected.data() + 100, middle.data(), middle.size());
  EXPECT_EQ(download(memory, 300), expected);
}

TEST_P(DeviceContract, CopiesOnTheDeviceStayThere) {
  std::byte* const from = allocate(5000);
  std::byte* const to = allocate(5000);
  upload(from, pattern(5000, 3));
  EXPECT_TRUE(device_->copy(to, from, 5000, CopyKind::device_to_device, stream_));
  EXPECT_EQ(download(to, 5000), pattern(5000, 3));
}

TEST_P(DeviceContract, ZeroFillsExactlyItsRange) {
  std::byte* const memory = allocate(1000);
  upload(memory, pattern(1000, 4));
  EXPECT_TRUE(device_->fill_zero(memory + 10, 500, stream_));
  auto expected = pattern(1000, 4);
  std::memset(expected.data() + 10, 0, 500);
  EXPECT_EQ(download(memory, 1000), expected);
}

TEST_P(DeviceContract, AStreamWorksInOrder) {
  constexpr std::size_t kBytes = 1 << 20;
  std::byte* const memory = allocate(kBytes);
  const auto first = pattern(kBytes, 5);
  const auto second = pattern(kBytes, 6);
  std::vector<std::byte> seen(kBytes);
  EXPECT_TRUE(device_->copy(memory, first.data(), kBytes, CopyKind::host_to_device, stream_));
  EXPECT_TRUE(device_->fill_zero(memory, kBytes, stream_));
  EXPECT_TRUE(device_->copy(memory, second.data(), kBytes, CopyKind::host_to_device, stream_));
  EXPECT_TRUE(device_->copy(seen.data(), memory, kBytes, CopyKind::device_to_host, stream_));
  finish(stream_);
  EXPECT_EQ(seen, second);
}

TEST_P(DeviceContract, AnEventOrdersOneStreamBehindAnother) {
  constexpr std::size_t kBytes = 4 << 20;
  std::byte* const memory = allocate(kBytes);
  const Stream other = device_->make_stream().value();
  const Event written = device_->make_event().value();
  std::vector<std::byte> seen(kBytes);
  for (unsigned round = 0; round < 10; ++round) {
    const auto bytes = pattern(kBytes, round);
    EXPECT_TRUE(device_->copy(memory, bytes.data(), kBytes, CopyKind::host_to_device, stream_));
    EXPECT_TRUE(device_->record(written, stream_));
    EXPECT_TRUE(device_->wait(other, written));
    EXPECT_TRUE(device_->copy(seen.data(), memory, kBytes, CopyKind::device_to_host, other));
    finish(other);
    ASSERT_EQ(seen, bytes) << round;
  }
  device_->destroy(written);
  device_->destroy(other);
}

TEST_P(DeviceContract, AnEventIsDoneBeforeItIsRecordedAndOnceItsWorkIs) {
  const Event event = device_->make_event().value();
  EXPECT_TRUE(device_->is_done(event).value());
  EXPECT_TRUE(device_->synchronize(event));
  std::byte* const memory = allocate(4096);
  EXPECT_TRUE(device_->fill_zero(memory, 4096, stream_));
  EXPECT_TRUE(device_->record(event, stream_));
  EXPECT_TRUE(device_->synchronize(event));
  EXPECT_TRUE(device_->is_done(event).value());
  EXPECT_TRUE(device_->record(event, stream_));  // again
  EXPECT_TRUE(device_->synchronize(event));
  device_->destroy(event);
}

TEST_P(DeviceContract, TheDefaultStreamCanBeLent) {
  std::byte* const memory = allocate(4096);
  const auto bytes = pattern(4096, 7);
  EXPECT_TRUE(device_->copy(memory, bytes.data(), 4096, CopyKind::host_to_device, Stream{}));
  finish(Stream{});
  EXPECT_EQ(download(memory, 4096), bytes);
}

TEST_P(DeviceContract, RegisteredMemoryIsCopiedLikeAnyOther) {
  std::vector<std::byte> host(1 << 20);
  const std::span<std::byte> memory(host);
  const auto registered = device_->register_host(memory);
  if (!registered) {
    EXPECT_EQ(registered.error().status, ORLOP_UNSUPPORTED);
  }
  std::byte* const there = allocate(host.size());
  const auto bytes = pattern(host.size(), 8);
  host = bytes;
  EXPECT_TRUE(device_->copy(there, host.data(), host.size(), CopyKind::host_to_device, stream_));
  finish(stream_);
  std::fill(host.begin(), host.end(), std::byte{});
  EXPECT_TRUE(device_->copy(host.data(), there, host.size(), CopyKind::device_to_host, stream_));
  finish(stream_);
  EXPECT_EQ(host, bytes);
  if (registered) device_->unregister_host(memory);
}

TEST_P(DeviceContract, ThreadsUseStreamsOfTheirOwn) {
  constexpr std::size_t kBytes = 300'000;
  constexpr unsigned kThreads = 4;
  std::vector<std::byte*> memory;
  for (unsigned i = 0; i < kThreads; ++i) memory.push_back(allocate(kBytes));
  std::vector<int> is_same(kThreads, 0);
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      const Stream stream = device_->make_stream().value();
      const Event event = device_->make_event().value();
      const auto bytes = pattern(kBytes, i);
      std::vector<std::byte> seen(kBytes);
      const bool is_ok = device_->copy(memory[i], bytes.data(), kBytes, CopyKind::host_to_device, stream) &&
                         device_->copy(seen.data(), memory[i], kBytes, CopyKind::device_to_host, stream) &&
                         device_->record(event, stream) && device_->synchronize(event);
      is_same[i] = is_ok && seen == bytes ? 1 : 0;
      device_->destroy(event);
      device_->destroy(stream);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(is_same, testing::Each(1));
}

TEST_P(DeviceContract, MoreThanThereIsIsRefusedAndTheDeviceGoesOn) {
  const auto refused = device_->allocate(UINT64_MAX / 4);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().status, ORLOP_NO_MEMORY);
  EXPECT_THAT(refused.error().message, testing::HasSubstr(std::to_string(UINT64_MAX / 4)));
  EXPECT_FALSE(device_->allocate(UINT64_MAX));
  std::byte* const memory = allocate(4096);
  upload(memory, pattern(4096, 9));
  EXPECT_EQ(download(memory, 4096), pattern(4096, 9));
}

TEST_P(DeviceContract, DescribesItself) {
  EXPECT_FALSE(device_->description().empty());
  EXPECT_EQ(device_->is_host_addressable(), device_->kind() == DeviceKind::host);
  const auto free = device_->free_bytes();
  if (device_->kind() == DeviceKind::host) {
    EXPECT_EQ(free.error().status, ORLOP_UNSUPPORTED);
    EXPECT_EQ(device_->pci_address(), "");
  } else {
    EXPECT_GT(free.value(), 0u);
    EXPECT_THAT(device_->pci_address(), testing::MatchesRegex("[0-9a-f]+:[0-9a-f]+:[0-9a-f]+\\.[0-9]"));
  }
}

}  // namespace orlop::device
