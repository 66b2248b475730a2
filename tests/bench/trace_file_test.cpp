#include "bench/trace_file.hpp"

#include <filesystem>
#include <fstream>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace orlop::bench {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class TraceFileTest : public testing::Test {
 protected:
  ~TraceFileTest() override { std::filesystem::remove(path_); }

  Result<TraceFile> read(const std::string& text) {
    std::ofstream(path_) << text;
    return read_trace_file(path_);
  }

  std::string error_of(const std::string& text) {
    const auto trace = read(text);
    EXPECT_FALSE(trace) << text;
    return trace ? "" : trace.error().message;
  }

  std::string path_ = testing::TempDir() + "trace_file_test." + std::to_string(::getpid()) + ".json";
};

// With these units and steps.
std::string with(const char* units, const char* steps) {
  return fmt::format(R"({{"format": "orlop-trace-1", "model": "m", "units": {}, "steps": {}}})", units,
                     steps);
}

TEST_F(TraceFileTest, UnitsAndStepsAreRead) {
  const auto trace = read(
      with(R"([["a", 5], ["b.c", 7]])", R"([[[0, "f", 0.5], [1, "r", 0], [1, "b", 2]], [[0, "b", 1]]])"));
  ASSERT_TRUE(trace) << trace.error().message;
  EXPECT_EQ(trace->model, "m");
  EXPECT_THAT(trace->names, ElementsAre("a", "b.c"));
  EXPECT_THAT(trace->elements, ElementsAre(5, 7));
  ASSERT_EQ(trace->steps.size(), 2u);
  ASSERT_EQ(trace->steps[0].size(), 3u);
  EXPECT_EQ(trace->steps[0][0].compute_seconds, 0.5);
  EXPECT_EQ(trace->steps[0][1].kind, zero3::UseKind::recompute);
  EXPECT_EQ(trace->steps[0][2].unit, 1u);
}

TEST_F(TraceFileTest, WhatIsWrongIsNamedWithItsPlace) {
  const char* const units = R"([["a", 5]])";
  EXPECT_THAT(error_of("{"), HasSubstr("is not JSON"));
  EXPECT_THAT(error_of("[]"), HasSubstr("format"));
  EXPECT_THAT(error_of(R"({"format": "orlop-trace-1"})"), HasSubstr("model"));
  EXPECT_THAT(error_of(with("[]", "[]")), HasSubstr("units"));
  EXPECT_THAT(error_of(with(R"([["a", 5], ["b", -1]])", "[]")), HasSubstr("steps"));
  EXPECT_THAT(error_of(with(R"([["a", 5], ["b", -1]])", "[[]]")), HasSubstr("units[1]"));
  EXPECT_THAT(error_of(with(R"([["a", 0]])", "[[]]")), HasSubstr("units[0]"));
  EXPECT_THAT(error_of(with(units, "[[]]")), HasSubstr("steps[0]: is not a list of uses"));
  EXPECT_THAT(error_of(with(units, R"([[[0, "f", 1], [1, "f", 1]]])")),
              HasSubstr("steps[0][1]: there is no such unit"));
  EXPECT_THAT(error_of(with(units, R"([[[0, "x", 1]]])")), HasSubstr("steps[0][0]: its kind"));
  EXPECT_THAT(error_of(with(units, R"([[[0, "f", -1]]])")), HasSubstr("seconds"));
  EXPECT_THAT(error_of(with(units, R"([[[0, "f"]]])")), HasSubstr("is not [UNIT, KIND, SECONDS]"));
}

TEST_F(TraceFileTest, AFileThatIsNotThereIsSaid) {
  const auto trace = read_trace_file("/nowhere/trace.json");
  ASSERT_FALSE(trace);
  EXPECT_THAT(trace.error().message, HasSubstr("on /nowhere/trace.json: cannot be read"));
}

}  // namespace
}  // namespace orlop::bench
