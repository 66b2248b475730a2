#include "bench/report.hpp"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace orlop::bench {
namespace {

using testing::HasSubstr;

const std::vector<Case> kCases = {
    {"step", "10 GB", Unit::seconds, {3.951, 3.9, 4.2}, 2.53, 0.97},
    {"raw loop, half and half", "1 GB", Unit::gb_per_s, {2.61, 2.5, 2.7}, 2.61, 1.0},
    {"adam, inside the step", "500 M", Unit::gparam_per_s, {1.5, 1.4, 1.6}, std::nullopt, std::nullopt},
};

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

TEST(Report, TheTableHasALinePerCaseAndAllAreEquallyWide) {
  const auto lines = lines_of(table_of(kCases));
  ASSERT_EQ(lines.size(), 4u);
  for (const auto& line : lines) EXPECT_EQ(line.size(), lines[0].size()) << line;
}

TEST(Report, TheTableShowsUnitsAndPercent) {
  const auto lines = lines_of(table_of(kCases));
  EXPECT_THAT(lines[0], testing::ContainsRegex("case +size +median +p10 +p90 +GB/s +% of roof"));
  EXPECT_THAT(lines[1], testing::ContainsRegex("step +10 GB +3.95 s +3.9 s +4.2 s +2.53 +97.0"));
  EXPECT_THAT(lines[2], HasSubstr("2.61 GB/s"));
  EXPECT_THAT(lines[3], testing::ContainsRegex("1.50 Gp/s.* +- +-"));
}

TEST(Report, JsonHasNullForWhatWasNotMeasured) {
  const nlohmann::json cases = json_of(kCases);
  EXPECT_EQ(cases[0]["value"]["median"], 3.951);
  EXPECT_EQ(cases[0]["unit"], "s");
  EXPECT_TRUE(cases[2]["roof_fraction"].is_null());
}

class ReportFile : public testing::Test {
 protected:
  ReportFile() { std::filesystem::create_directory(directory_); }
  ~ReportFile() override { std::filesystem::remove_all(directory_); }
  const std::string directory_ =
      (std::filesystem::temp_directory_path() / ("report_test." + std::to_string(::getpid()))).string();
};

TEST_F(ReportFile, IsWrittenWhole) {
  const std::string path = directory_ + "/out.json";
  ASSERT_TRUE(write_json(path, {{"a", 1}}));
  std::ifstream file(path);
  EXPECT_EQ(nlohmann::json::parse(file)["a"], 1);
  EXPECT_FALSE(std::filesystem::exists(path + ".part"));
}

TEST_F(ReportFile, ThatCannotBeWrittenIsSaidBeforeTheRun) {
  const auto result = check_writable("--json", directory_ + "/none/out.json");
  ASSERT_FALSE(result);
  EXPECT_THAT(result.error().message, HasSubstr("--json: on " + directory_ + "/none/out.json: cannot be written"));
  EXPECT_TRUE(check_writable("--json", directory_ + "/out.json"));
  EXPECT_FALSE(std::filesystem::exists(directory_ + "/out.json"));
  EXPECT_TRUE(check_writable("--json", ""));
}

}  // namespace
}  // namespace orlop::bench
