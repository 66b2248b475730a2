#include "base/trace.hpp"

#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <thread>
#include <unistd.h>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace orlop {
namespace {

using nlohmann::json;

class TraceFile : public ::testing::Test {
 protected:
  ~TraceFile() override { std::filesystem::remove(path_); }

  json written(const Trace& trace) {
    const auto result = trace.write(path_);
    EXPECT_TRUE(result) << result.error().message;
    std::ifstream file(path_);
    return json::parse(file, nullptr, false);
  }

  // The events that took time; the others name lanes.
  static std::vector<json> spans_of(const json& document) {
    std::vector<json> spans;
    for (const json& event : document.at("traceEvents")) {
      if (event.at("ph") == "X") spans.push_back(event);
    }
    return spans;
  }

  std::string path_ =
      std::filesystem::temp_directory_path() / ("orlop_trace_test." + std::to_string(::getpid()) + ".json");
};

TraceEvent event(std::uint32_t index, std::int64_t begin_ns) {
  return {.name = "read block",
          .lane = TraceLane::read,
          .index = index,
          .bytes = 4096,
          .begin_ns = begin_ns,
          .end_ns = begin_ns + 500};
}

TEST_F(TraceFile, RecordsNothingBeforeItIsStarted) {
  Trace trace;
  trace.record(event(1, 0));
  EXPECT_FALSE(trace.is_recording());
  EXPECT_EQ(trace.recorded(), 0u);
  EXPECT_TRUE(spans_of(written(trace)).empty());
}

TEST_F(TraceFile, IsChromeTraceJson) {
  Trace trace;
  trace.start();
  trace.record(event(7, 1'000'000));
  trace.record({.name = "adam",
                .lane = TraceLane::work,
                .index = 7,
                .bytes = 10,
                .begin_ns = 1'002'000,
                .end_ns = 1'003'500});
  const json document = written(trace);
  EXPECT_EQ(document.at("displayTimeUnit"), "ms");
  const auto spans = spans_of(document);
  ASSERT_EQ(spans.size(), 2u);
  EXPECT_EQ(spans[0], (json{{"ph", "X"},
                            {"pid", 1},
                            {"tid", 1},
                            {"name", "read block"},
                            {"cat", "read"},
                            {"ts", 0.0},
                            {"dur", 0.5},
                            {"args", {{"index", 7}, {"bytes", 4096}}}}));
  EXPECT_EQ(spans[1].at("ts"), 2.0);
  EXPECT_EQ(spans[1].at("dur"), 1.5);
  EXPECT_NE(spans[1].at("tid"), spans[0].at("tid"));
}

TEST_F(TraceFile, NamesEveryLane) {
  const Trace trace;
  std::set<std::string> lanes;
  const json document = written(trace);
  for (const json& entry : document.at("traceEvents")) {
    ASSERT_EQ(entry.at("ph"), "M");
    lanes.insert(entry.at("args").at("name"));
  }
  EXPECT_EQ(lanes, (std::set<std::string>{"step", "read", "work", "write", "gradient", "unshard"}));
}

TEST_F(TraceFile, KeepsTheNewestEventsWhenItIsFull) {
  constexpr std::uint32_t kExtra = 100;
  Trace trace;
  trace.start();
  for (std::uint32_t i = 0; i < Trace::kCapacity + kExtra; ++i)
    trace.record(event(i, 1000 * static_cast<std::int64_t>(i)));
  EXPECT_EQ(trace.recorded(), Trace::kCapacity + kExtra);
  const auto spans = spans_of(written(trace));
  ASSERT_EQ(spans.size(), Trace::kCapacity);
  EXPECT_EQ(spans.front().at("args").at("index"), kExtra);
  EXPECT_EQ(spans.front().at("ts"), 0.0);
  EXPECT_EQ(spans.back().at("args").at("index"), Trace::kCapacity + kExtra - 1);
}

TEST_F(TraceFile, StartingAgainKeepsWhatIsThere) {
  Trace trace;
  trace.start();
  trace.record(event(1, 0));
  trace.start();
  EXPECT_EQ(spans_of(written(trace)).size(), 1u);
}

TEST_F(TraceFile, LosesNothingWhenThreadsRecordTogether) {
  Trace trace;
  trace.start();
  {
    std::vector<std::jthread> threads;
    for (std::uint32_t t = 0; t < 4; ++t) {
      threads.emplace_back([&trace, t] {
        for (std::uint32_t i = 0; i < 1000; ++i) trace.record(event(t * 1000 + i, 0));
      });
    }
  }
  std::set<std::uint32_t> indexes;
  for (const json& span : spans_of(written(trace)))
    indexes.insert(span.at("args").at("index").get<std::uint32_t>());
  EXPECT_EQ(indexes.size(), 4000u);
}

TEST(Trace, SaysWhyItCannotBeWritten) {
  const Trace trace;
  const auto result = trace.write("/nonexistent/directory/trace.json");
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().status, ORLOP_NOT_FOUND);
  EXPECT_EQ(result.error().message,
            "write trace: on /nonexistent/directory/trace.json: No such file or directory (errno 2)");
}

TEST(Trace, AFullDiskIsAnError) {
  if (::access("/dev/full", W_OK) != 0) GTEST_SKIP() << "/dev/full is not there";
  const Trace trace;
  const auto result = trace.write("/dev/full");
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().status, ORLOP_NO_SPACE) << result.error().message;
}

}  // namespace
}  // namespace orlop
