#include "aio/faulty_queue.hpp"

#include <array>
#include <cerrno>

#include <gmock/gmock.h>

#include "aio/thread_queue.hpp"
#include "base/clock.hpp"
#include "queue_contract.hpp"

namespace orlop::aio {
namespace {

using namespace std::chrono_literals;

Result<std::unique_ptr<Queue>> make_faulty(const QueueOptions& options, FaultyOptions faults) {
  TRY_ASSIGN(auto inner, make_thread_queue(options));
  return std::make_unique<FaultyQueue>(std::move(inner), std::move(faults));
}

// Without faults, and with those that a queue is allowed to show, it is a queue like any other.
INSTANTIATE_TEST_SUITE_P(
    Faulty, QueueContract,
    testing::Values(QueueMaker{"without_faults", [](const QueueOptions& o) { return make_faulty(o, {}); }},
                    QueueMaker{"delayed",
                               [](const QueueOptions& o) {
                                 return make_faulty(o, {.script = fault_every(3, {.delay = 300us})});
                               }},
                    QueueMaker{"shuffled",
                               [](const QueueOptions& o) {
                                 return make_faulty(o, {.order = CompletionOrder::shuffled});
                               }}),
    testing::PrintToStringParamName());

class FaultyQueueTest : public testing::Test {
 protected:
  void SetUp() override {
    write_content(folder_ / "file", 1_MiB);
    auto file = File::open(folder_ / "file", Existing::open);
    ASSERT_TRUE(file) << file.error().message;
    file_ = std::make_unique<File>(std::move(*file));
  }

  std::unique_ptr<Queue> queue(FaultyOptions options) {
    return std::move(*make_faulty({.depth = 8}, std::move(options)));
  }

  // Reads 8 blocks of 8 KiB, tags 0 to 7, and returns results by tag.
  std::vector<std::int64_t> read_eight(Queue& queue) {
    std::vector<Request> requests;
    for (std::uint64_t i = 0; i < 8; ++i) {
      requests.push_back({Direction::read, file_->fd(), memory_.data() + i * 8192, 8192, i * 8192, i});
    }
    std::span<const Request> left(requests);
    while (!left.empty()) left = left.subspan(queue.submit(left).value());
    std::vector<std::int64_t> results(8, INT64_MIN);
    std::array<Completion, 8> completions;
    for (std::size_t count = 0; count < 8;) {
      const auto some = queue.wait(completions, 1).value();
      for (std::size_t i = 0; i < some; ++i) {
        results[completions[i].tag] = completions[i].result;
        order_.push_back(completions[i].tag);
      }
      count += some;
    }
    return results;
  }

  ScratchFolder folder_;
  std::unique_ptr<File> file_;
  AlignedMemory memory_{64_KiB};
  std::vector<std::uint64_t> order_;
};

TEST_F(FaultyQueueTest, FailsAtTheGivenOperations) {
  auto faulty = queue({.script = fault_at({2, 5}, {.error_number = EIO})});
  const auto results = read_eight(*faulty);
  for (std::size_t i = 0; i < 8; ++i) EXPECT_EQ(results[i], i == 2 || i == 5 ? -EIO : 8192) << i;
  EXPECT_TRUE(has_content(memory_.span(0, 2 * 8192), 0));
  EXPECT_EQ(static_cast<FaultyQueue&>(*faulty).ops(), 8u);
  EXPECT_EQ(static_cast<FaultyQueue&>(*faulty).faults(), 2u);
}

TEST_F(FaultyQueueTest, ShortensAndScribblesOverTheRest) {
  auto faulty = queue({.script = fault_at({1}, {.short_by = 100})});
  const auto results = read_eight(*faulty);
  EXPECT_EQ(results[0], 8192);
  EXPECT_EQ(results[1], 8092);
  EXPECT_TRUE(has_content(memory_.span(8192, 8088), 8192));
  EXPECT_EQ(memory_.data()[2 * 8192 - 1], std::byte{0xee});
}

TEST_F(FaultyQueueTest, ShortensWritesForReal) {
  auto faulty = queue({.script = fault_at({0}, {.short_by = 4096})});
  fill_content(memory_.span(), 0, 5);
  const Request request{Direction::write, file_->fd(), memory_.data(), 8192, 0, 0};
  ASSERT_EQ(faulty->submit({&request, 1}).value(), 1u);
  Completion completion{};
  ASSERT_EQ(faulty->wait({&completion, 1}, 1).value(), 1u);
  EXPECT_EQ(completion.result, 4096);
  const auto content = read_whole(folder_ / "file");
  EXPECT_TRUE(has_content(std::span(content).first(4096), 0, 5));
  EXPECT_TRUE(has_content(std::span(content).subspan(4096, 4096), 4096, 0));
}

TEST_F(FaultyQueueTest, DelaysCompletions) {
  auto faulty = queue({.script = fault_at({3}, {.delay = 30ms})});
  const auto begin_ns = now_ns();
  read_eight(*faulty);
  EXPECT_GE(now_ns() - begin_ns, 30'000'000);
  EXPECT_EQ(order_.back(), 3u);
}

TEST_F(FaultyQueueTest, ShufflesCompletions) {
  auto faulty = queue({.order = CompletionOrder::shuffled, .seed = 3});
  bool was_reordered = false;
  for (int i = 0; i < 4; ++i) {
    order_.clear();
    read_eight(*faulty);
    was_reordered = was_reordered || !std::is_sorted(order_.begin(), order_.end());
  }
  EXPECT_TRUE(was_reordered);
}

TEST_F(FaultyQueueTest, AcceptsOnlyAPartOfASubmit) {
  auto faulty = queue({.accept_at_most = 3, .refuse_submit_every = 2});
  std::vector<Request> requests;
  for (std::uint64_t i = 0; i < 8; ++i) {
    requests.push_back({Direction::read, file_->fd(), memory_.data() + i * 4096, 4096, 0, i});
  }
  EXPECT_EQ(faulty->submit(requests).value(), 3u);
  EXPECT_EQ(faulty->submit(std::span(requests).subspan(3)).value(), 0u);
  EXPECT_EQ(faulty->submit(std::span(requests).subspan(3)).value(), 3u);
}

}  // namespace
}  // namespace orlop::aio
