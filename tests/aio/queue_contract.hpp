// The contract of aio/queue.hpp, written once and run over every queue:
//   INSTANTIATE_TEST_SUITE_P(Threads, QueueContract, testing::Values(QueueMaker{"threads",
//   make_thread_queue}));
#pragma once

#include <functional>
#include <memory>
#include <ostream>

#include <gtest/gtest.h>

#include "aio/queue.hpp"
#include "scratch.hpp"

namespace orlop::aio {

struct QueueMaker {
  const char* name;
  std::function<Result<std::unique_ptr<Queue>>(const QueueOptions&)> make;

  friend std::ostream& operator<<(std::ostream& out, const QueueMaker& maker) { return out << maker.name; }
};

class QueueContract : public testing::TestWithParam<QueueMaker> {
 protected:
  static constexpr std::uint64_t kFileBytes = 8_MiB;
  static constexpr std::uint32_t kBlock = 64 << 10;

  void SetUp() override;

  Result<std::unique_ptr<Queue>> make(unsigned depth = 16) { return GetParam().make({.depth = depth}); }
  Request read(std::uint64_t block, std::uint64_t tag) {
    return {Direction::read, file_->fd(), memory_.data() + block * kBlock, kBlock, block * kBlock, tag};
  }
  Request write(std::uint64_t block, std::uint64_t tag) {
    auto request = read(block, tag);
    request.direction = Direction::write;
    return request;
  }
  [[nodiscard]] std::span<std::byte> block(std::uint64_t index) const {
    return memory_.span(index * kBlock, kBlock);
  }

  ScratchFolder folder_;
  std::unique_ptr<File> file_;
  AlignedMemory memory_{kFileBytes};
};

}  // namespace orlop::aio
