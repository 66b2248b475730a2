#include "queue_contract.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <fcntl.h>
#include <random>
#include <set>
#include <thread>

#include <gmock/gmock.h>

#include "base/clock.hpp"

namespace orlop::aio {
namespace {

using testing::UnorderedElementsAreArray;

// Submits all, however many calls and waits that takes, and returns every completion.
std::vector<Completion> carry_out(Queue& queue, std::vector<Request> requests) {
  std::vector<Completion> all;
  std::array<Completion, 64> some;
  std::span<const Request> left(requests);
  while (all.size() < requests.size()) {
    const auto accepted = queue.submit(left);
    EXPECT_TRUE(accepted) << accepted.error().message;
    if (!accepted) break;
    left = left.subspan(*accepted);
    const auto count = queue.wait(some, 1);
    EXPECT_TRUE(count) << count.error().message;
    if (!count) break;
    all.insert(all.end(), some.begin(), some.begin() + static_cast<std::ptrdiff_t>(*count));
  }
  return all;
}

std::vector<std::uint64_t> tags_of(const std::vector<Completion>& completions) {
  std::vector<std::uint64_t> tags;
  for (const auto& completion : completions) tags.push_back(completion.tag);
  return tags;
}

std::int64_t result_of(Queue& queue, const Request& request) {
  const auto completions = carry_out(queue, {request});
  return completions.empty() ? INT64_MIN : completions.front().result;
}

}  // namespace

void QueueContract::SetUp() {
  write_content(folder_ / "file", kFileBytes);
  auto file = File::open(folder_ / "file", Existing::open);
  ASSERT_TRUE(file) << file.error().message;
  file_ = std::make_unique<File>(std::move(*file));
}

TEST_P(QueueContract, ReadsWhatTheFileHolds) {
  ORLOP_QUEUE_OR_SKIP(queue, make());
  std::vector<Request> requests;
  for (std::uint64_t i = 0; i < 100; ++i) requests.push_back(read(i, i));
  for (const auto& completion : carry_out(*queue, requests)) EXPECT_EQ(completion.result, kBlock);
  EXPECT_TRUE(has_content(memory_.span(0, 100 * kBlock), 0));
}

TEST_P(QueueContract, WritesWhatMemoryHolds) {
  ORLOP_QUEUE_OR_SKIP(queue, make());
  std::vector<Request> requests;
  fill_content(memory_.span(), 0, 1);
  for (std::uint64_t i = 0; i < kFileBytes / kBlock; ++i) requests.push_back(write(i, i));
  for (const auto& completion : carry_out(*queue, requests)) EXPECT_EQ(completion.result, kBlock);
  EXPECT_TRUE(has_content(read_whole(folder_ / "file"), 0, 1));
}

TEST_P(QueueContract, ReturnsEveryTagOnceInAnyOrder) {
  ORLOP_QUEUE_OR_SKIP(queue, make());
  std::vector<Request> requests;
  std::vector<std::uint64_t> tags = {0, UINT64_MAX, UINT64_MAX - 1, 1ull << 63, 77};
  for (std::uint64_t i = 0; i < 60; ++i) tags.push_back(1000 + i);
  for (std::uint64_t i = 0; i < tags.size(); ++i)
    requests.push_back(i % 3 == 0 ? write(i, tags[i]) : read(i, tags[i]));
  EXPECT_THAT(tags_of(carry_out(*queue, requests)), UnorderedElementsAreArray(tags));
}

TEST_P(QueueContract, AcceptsNoMoreThanItsDepth) {
  ORLOP_QUEUE_OR_SKIP(queue, make(4));
  ASSERT_EQ(queue->depth(), 4u);
  std::vector<Request> requests;
  for (std::uint64_t i = 0; i < 9; ++i) requests.push_back(read(i, i));
  std::size_t accepted = queue->submit(requests).value();
  EXPECT_EQ(accepted, 4u);
  EXPECT_EQ(queue->submit(std::span(requests).subspan(4)).value(), 0u);
  std::array<Completion, 16> completions;
  EXPECT_EQ(queue->wait(completions, 16).value(), 4u);
  EXPECT_EQ(queue->submit(std::span(requests).subspan(4)).value(), 4u);
  EXPECT_EQ(queue->wait(completions, 4).value(), 4u);
}

TEST_P(QueueContract, WorksAtDepthOne) {
  ORLOP_QUEUE_OR_SKIP(queue, make(1));
  std::vector<Request> requests;
  for (std::uint64_t i = 0; i < 10; ++i) requests.push_back(read(i, i));
  EXPECT_EQ(carry_out(*queue, requests).size(), 10u);
  EXPECT_TRUE(has_content(memory_.span(0, 10 * kBlock), 0));
}

TEST_P(QueueContract, WaitsForTheMinimum) {
  ORLOP_QUEUE_OR_SKIP(queue, make());
  std::vector<Request> requests;
  for (std::uint64_t i = 0; i < 12; ++i) requests.push_back(read(i, i));
  ASSERT_EQ(queue->submit(requests).value(), 12u);
  std::array<Completion, 16> completions;
  const auto first = queue->wait(completions, 7).value();
  EXPECT_GE(first, 7u);
  EXPECT_EQ(queue->wait(completions, 12 - first).value(), 12 - first);
}

TEST_P(QueueContract, GivesNoMoreCompletionsThanThereIsRoomFor) {
  ORLOP_QUEUE_OR_SKIP(queue, make());
  std::vector<Request> requests;
  for (std::uint64_t i = 0; i < 8; ++i) requests.push_back(read(i, i));
  ASSERT_EQ(queue->submit(requests).value(), 8u);
  std::array<Completion, 9> completions{};
  completions.back().tag = 4711;
  std::vector<std::uint64_t> tags;
  for (const std::size_t expected : {3u, 3u, 2u}) {
    ASSERT_EQ(queue->wait({completions.data(), 3}, 8).value(), expected);
    for (std::size_t i = 0; i < expected; ++i) tags.push_back(completions[i].tag);
  }
  EXPECT_THAT(tags, testing::UnorderedElementsAre(0, 1, 2, 3, 4, 5, 6, 7));
  EXPECT_EQ(queue->wait({}, 1).value(), 0u);
  EXPECT_EQ(completions.back().tag, 4711u);
}

TEST_P(QueueContract, PollsWithAMinimumOfZero) {
  ORLOP_QUEUE_OR_SKIP(queue, make());
  ASSERT_EQ(queue->submit(std::array{read(0, 5)}).value(), 1u);
  std::array<Completion, 4> completions;
  const auto give_up_ns = now_ns() + 20'000'000'000;
  std::size_t count = 0;
  while (count == 0 && now_ns() < give_up_ns) count = queue->wait(completions, 0).value();
  ASSERT_EQ(count, 1u);
  EXPECT_EQ(completions[0].tag, 5u);
  EXPECT_EQ(queue->wait(completions, 0).value(), 0u);
}

TEST_P(QueueContract, ReturnsAtOnceWhenNothingIsInFlight) {
  ORLOP_QUEUE_OR_SKIP(queue, make());
  std::array<Completion, 4> completions;
  EXPECT_EQ(queue->wait(completions, 4).value(), 0u);
  EXPECT_EQ(queue->submit({}).value(), 0u);
  EXPECT_EQ(carry_out(*queue, {read(0, 1)}).size(), 1u);
  EXPECT_EQ(queue->wait(completions, 4).value(), 0u);
}

// What goes wrong with one request is that request's completion and nobody else's.
TEST_P(QueueContract, ReportsErrorsAsNegativeErrno) {
  ORLOP_QUEUE_OR_SKIP(queue, make());
  const unique_fd read_only(::open((folder_ / "file").c_str(), O_RDONLY | O_CLOEXEC));
  auto nowhere = read(1, 1);
  nowhere.fd = 1 << 20;
  auto forbidden = write(2, 2);
  forbidden.fd = read_only.get();
  std::vector<Request> requests = {read(0, 0), nowhere, forbidden, read(3, 3), nowhere, read(5, 5)};
  requests[4].tag = 4;
  const auto completions = carry_out(*queue, requests);
  ASSERT_EQ(completions.size(), 6u);
  for (const auto& [tag, result] : completions) {
    EXPECT_EQ(result, tag == 1 || tag == 2 || tag == 4 ? -EBADF : std::int64_t{kBlock}) << tag;
  }
  EXPECT_TRUE(has_content(block(5), 5 * kBlock));
}

TEST_P(QueueContract, ReportsWhatTheFileCannotGiveAsShort) {
  ORLOP_QUEUE_OR_SKIP(queue, make());
  auto request = read(0, 0);
  request.offset = kFileBytes - 4096;
  EXPECT_EQ(result_of(*queue, request), 4096);
  request.offset = kFileBytes;
  EXPECT_EQ(result_of(*queue, request), 0);
}

TEST_P(QueueContract, ReportsMisalignedDirectRequests) {
  if (file_->access() != Access::direct || file_->alignment().offset == 1)
    GTEST_SKIP() << "no direct I/O here";
  ORLOP_QUEUE_OR_SKIP(queue, make());
  auto request = read(0, 0);
  request.offset = 7;
  EXPECT_EQ(result_of(*queue, request), -EINVAL);
  EXPECT_EQ(result_of(*queue, read(0, 0)), kBlock);
}

TEST_P(QueueContract, WorksWithRegisteredMemoryAndFiles) {
  ORLOP_QUEUE_OR_SKIP(queue, make());
  // Two regions with a gap between; request 15 begins in the first and ends outside.
  const std::array regions = {memory_.span(32 * kBlock, 32 * kBlock),
                              memory_.span(0, 15 * kBlock + kBlock / 2)};
  const std::array fds = {file_->fd()};
  queue->register_memory(regions);
  queue->register_files(fds);
  for (int round = 0; round < 2; ++round) {
    std::memset(memory_.data(), 0, memory_.size());
    std::vector<Request> requests;
    for (std::uint64_t i = 0; i < 100; ++i) requests.push_back(read(i, i));
    for (const auto& [tag, result] : carry_out(*queue, requests)) EXPECT_EQ(result, kBlock) << tag;
    EXPECT_TRUE(has_content(memory_.span(0, 100 * kBlock), 0));
    queue->register_memory(std::span(regions).first(1));  // again, after use
    queue->register_files(fds);
  }
  fill_content(memory_.span(), 0, 2);
  for (std::uint64_t i = 0; i < 100; ++i) EXPECT_EQ(result_of(*queue, write(i, i)), kBlock);
  queue->register_memory({});
  queue->register_files({});
  EXPECT_EQ(result_of(*queue, write(100, 0)), kBlock);
  EXPECT_TRUE(
      has_content(std::span<const std::byte>(read_whole(folder_ / "file")).first(101 * kBlock), 0, 2));
}

TEST_P(QueueContract, UsesUnregisteredFilesBesideRegisteredOnes) {
  ORLOP_QUEUE_OR_SKIP(queue, make());
  write_content(folder_ / "other", kBlock, 9);
  const auto other = File::open(folder_ / "other", Existing::open);
  ASSERT_TRUE(other);
  queue->register_files(std::array{file_->fd()});
  auto request = read(1, 1);
  request.fd = other->fd();
  request.offset = 0;
  carry_out(*queue, {read(0, 0), request});
  EXPECT_TRUE(has_content(block(0), 0));
  EXPECT_TRUE(has_content(block(1), 0, 9));
}

TEST_P(QueueContract, MayBeHandedToAnotherThreadBeforeItsFirstUse) {
  ORLOP_QUEUE_OR_SKIP(queue, make());
  const std::array regions = {memory_.span()};
  queue->register_memory(regions);
  queue->register_files(std::array{file_->fd()});
  std::thread owner([&, queue = std::move(queue)]() mutable {
    std::vector<Request> requests;
    for (std::uint64_t i = 0; i < 50; ++i) requests.push_back(read(i, i));
    EXPECT_EQ(carry_out(*queue, requests).size(), 50u);
    queue->register_memory(regions);
    EXPECT_EQ(result_of(*queue, read(50, 50)), kBlock);
    queue.reset();
  });
  owner.join();
  EXPECT_TRUE(has_content(memory_.span(0, 51 * kBlock), 0));
}

TEST_P(QueueContract, WaitsForWhatIsInFlightWhenDestroyed) {
  ORLOP_QUEUE_OR_SKIP(queue, make());
  std::vector<Request> requests;
  for (std::uint64_t i = 0; i < 16; ++i) requests.push_back(read(i, i));
  ASSERT_EQ(queue->submit(requests).value(), 16u);
  queue.reset();
  EXPECT_TRUE(has_content(memory_.span(0, 16 * kBlock), 0));
}

TEST_P(QueueContract, AnInterruptEndsTheNextWaitThatWouldBlock) {
  ORLOP_QUEUE_OR_SKIP(queue, make());
  queue->interrupt();
  queue->interrupt();
  std::array<Completion, 16> completions;
  EXPECT_EQ(queue->wait(completions, 1).value(), 0u);  // nothing in flight: not because of the interrupt
  // Keeps the queue full until a wait for all of it returns early.
  bool was_early = false;
  for (int i = 0; i < 100 && !was_early; ++i) {
    std::vector<Request> requests;
    for (std::uint64_t b = 0; b < 16; ++b) requests.push_back(read(b, b));
    std::size_t accepted = queue->submit(requests).value();
    was_early = queue->wait(completions, accepted).value() < accepted;
    if (was_early) break;
  }
  EXPECT_TRUE(was_early);
}

// An interrupter interrupts once per round at a random moment. The owner keeps the queue full and waits for
// all of it: a wait that begins after the interrupt was made must return early, or the interrupt was lost.
TEST_P(QueueContract, LosesNoInterrupt) {
  constexpr int kRounds = 200;
  constexpr std::uint64_t kPart = kFileBytes / 8;
  ORLOP_QUEUE_OR_SKIP(queue, make(8));
  std::atomic<int> begun{0};
  std::atomic<int> made{0};
  std::thread interrupter([&] {
    std::mt19937 random(7);
    for (int round = 1; round <= kRounds; ++round) {
      while (begun.load() < round) std::this_thread::yield();
      const auto until_ns = now_ns() + static_cast<int>(random() % 300'000);
      while (now_ns() < until_ns) {
      }
      queue->interrupt();
      made.store(round);
    }
  });
  std::array<Completion, 8> completions;
  std::vector<std::uint64_t> free = {0, 1, 2, 3, 4, 5, 6, 7};  // eighths of the memory; a request's tag is its own
  const auto fill_up = [&] {
    while (!free.empty()) {
      const std::uint64_t at = free.back() * kPart;
      const Request request{Direction::read, file_->fd(), memory_.data() + at, kPart, 0, free.back()};
      if (queue->submit({&request, 1}).value() == 1) free.pop_back();
    }
  };
  int lost = 0;
  for (int round = 1; round <= kRounds; ++round) {
    begun.store(round);
    bool was_early = false;
    bool must_be_early = false;
    while (!was_early && !must_be_early) {
      must_be_early = made.load() == round;
      fill_up();
      const auto count = queue->wait(completions, 8).value();
      for (const auto& completion : std::span(completions).first(count)) free.push_back(completion.tag);
      was_early = count < 8;
    }
    lost += was_early ? 0 : 1;
    while (made.load() < round) std::this_thread::yield();
  }
  interrupter.join();
  EXPECT_EQ(lost, 0);
}

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(QueueContract);

}  // namespace orlop::aio
