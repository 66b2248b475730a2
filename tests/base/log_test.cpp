#include "base/log.hpp"

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace orlop {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;

using Lines = std::vector<std::pair<int, std::string>>;

void collect(void* user, int32_t level, const char* line) {
  static_cast<Lines*>(user)->emplace_back(level, line);
}

// Silences the log at the end whatever happens, as the callback's target dies with the test.
class Log : public ::testing::Test {
 protected:
  ~Log() override { EXPECT_TRUE(set_log_callback(nullptr, nullptr, ORLOP_LOG_OFF)); }

  void log_one_of_each() {
    log_debug("d {}", 1);
    log_info("i {}", 2);
    log_warning("w {}", 3);
    log_error("e {}", 4);
  }

  Lines lines_;
};

TEST_F(Log, IsSilentUntilACallbackIsSet) {
  ::testing::internal::CaptureStdout();
  ::testing::internal::CaptureStderr();
  log_one_of_each();
  EXPECT_EQ(::testing::internal::GetCapturedStdout(), "");
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
  EXPECT_FALSE(logger().should_log(spdlog::level::critical));
}

TEST_F(Log, GivesEveryLevelAndAboveToTheCallback) {
  ASSERT_TRUE(set_log_callback(collect, &lines_, ORLOP_LOG_DEBUG));
  log_one_of_each();
  EXPECT_THAT(lines_, ElementsAre(Pair(ORLOP_LOG_DEBUG, "d 1"), Pair(ORLOP_LOG_INFO, "i 2"),
                                  Pair(ORLOP_LOG_WARNING, "w 3"), Pair(ORLOP_LOG_ERROR, "e 4")));
}

TEST_F(Log, DropsWhatIsBelowTheLevel) {
  const std::pair<int, std::size_t> lines_at_level[] = {{ORLOP_LOG_DEBUG, 4},
                                                        {ORLOP_LOG_INFO, 3},
                                                        {ORLOP_LOG_WARNING, 2},
                                                        {ORLOP_LOG_ERROR, 1},
                                                        {ORLOP_LOG_OFF, 0}};
  for (const auto& [level, count] : lines_at_level) {
    lines_.clear();
    ASSERT_TRUE(set_log_callback(collect, &lines_, level));
    log_one_of_each();
    EXPECT_EQ(lines_.size(), count) << level;
  }
}

TEST_F(Log, GivesWholeLinesWithoutANewline) {
  ASSERT_TRUE(set_log_callback(collect, &lines_, ORLOP_LOG_INFO));
  const std::string line(10'000, 'x');
  log_info("{}", line);
  ASSERT_EQ(lines_.size(), 1u);
  EXPECT_EQ(lines_[0].second, line);
}

TEST_F(Log, ASecondCallbackReplacesTheFirst) {
  Lines others;
  ASSERT_TRUE(set_log_callback(collect, &lines_, ORLOP_LOG_INFO));
  ASSERT_TRUE(set_log_callback(collect, &others, ORLOP_LOG_INFO));
  log_info("hello");
  EXPECT_THAT(lines_, IsEmpty());
  EXPECT_EQ(others.size(), 1u);
  ASSERT_TRUE(set_log_callback(nullptr, nullptr, ORLOP_LOG_INFO));
}

TEST_F(Log, NullSilencesAgain) {
  ASSERT_TRUE(set_log_callback(collect, &lines_, ORLOP_LOG_DEBUG));
  ASSERT_TRUE(set_log_callback(nullptr, nullptr, ORLOP_LOG_DEBUG));
  log_one_of_each();
  EXPECT_THAT(lines_, IsEmpty());
}

TEST_F(Log, RefusesLevelsThatDoNotExistAndKeepsTheOldOne) {
  ASSERT_TRUE(set_log_callback(collect, &lines_, ORLOP_LOG_WARNING));
  for (const int level : {-1, 5, 1000}) {
    const auto result = set_log_callback(nullptr, nullptr, level);
    ASSERT_FALSE(result) << level;
    EXPECT_EQ(result.error().status, ORLOP_INVALID_ARGUMENT);
  }
  log_warning("still here");
  EXPECT_EQ(lines_.size(), 1u);
}

struct Overlap {
  std::atomic<int> inside{0};
  std::atomic<int> calls{0};
  std::atomic<bool> overlapped{false};
};

void watch_overlap(void* user, int32_t, const char*) {
  auto& overlap = *static_cast<Overlap*>(user);
  if (overlap.inside.fetch_add(1) != 0) overlap.overlapped = true;
  overlap.calls.fetch_add(1);
  std::this_thread::yield();
  overlap.inside.fetch_sub(1);
}

TEST_F(Log, CallsBackOneThreadAtATime) {
  Overlap overlap;
  ASSERT_TRUE(set_log_callback(watch_overlap, &overlap, ORLOP_LOG_INFO));
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([] {
        for (int j = 0; j < 500; ++j) log_info("{}", j);
      });
    }
  }
  EXPECT_EQ(overlap.calls, 2000);
  EXPECT_FALSE(overlap.overlapped);
  ASSERT_TRUE(set_log_callback(nullptr, nullptr, ORLOP_LOG_OFF));
}

// After set_log_callback has returned, the old callback's target may be freed.
TEST_F(Log, ReplacingWaitsForARunningCallback) {
  struct Slow {
    std::atomic<bool> entered{false};
    std::atomic<bool> left{false};
  } slow;
  const auto linger = [](void* user, int32_t, const char*) {
    auto& state = *static_cast<Slow*>(user);
    state.entered = true;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    state.left = true;
  };
  ASSERT_TRUE(set_log_callback(linger, &slow, ORLOP_LOG_INFO));
  std::jthread other([] { log_info("slow"); });
  while (!slow.entered) std::this_thread::yield();
  ASSERT_TRUE(set_log_callback(nullptr, nullptr, ORLOP_LOG_OFF));
  EXPECT_TRUE(slow.left);
}

}  // namespace
}  // namespace orlop
