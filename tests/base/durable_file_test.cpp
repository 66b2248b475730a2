#include "base/durable_file.hpp"

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include <gtest/gtest.h>

namespace orlop {
namespace {

namespace fs = std::filesystem;

// A directory of its own that the process is in.
class DurableFile : public testing::Test {
 protected:
  void SetUp() override {
    std::string folder = (fs::temp_directory_path() / "orlop-durable-XXXXXX").string();
    ASSERT_NE(::mkdtemp(folder.data()), nullptr);
    folder_ = folder;
    fs::current_path(folder_);
  }
  void TearDown() override {
    fs::current_path("/");
    fs::remove_all(folder_);
  }

  fs::path folder_;
};

std::string content_of(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

TEST_F(DurableFile, ReplacesWhatWasThere) {
  const std::string path = (folder_ / "a").string();
  ASSERT_TRUE(write_durably(path, "first and longer"));
  ASSERT_TRUE(write_durably(path, "second"));
  EXPECT_EQ(content_of(path), "second");
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), {}), 1) << "something is left beside it";
}

TEST_F(DurableFile, TakesANameWithoutADirectory) {
  const auto written = write_durably("latest", "global_step10");
  ASSERT_TRUE(written) << written.error().message;
  EXPECT_EQ(content_of(folder_ / "latest"), "global_step10");
}

TEST_F(DurableFile, LeavesNothingWhenItFails) {
  fs::create_directory(folder_ / "taken");
  const auto written = write_durably("taken", "text");
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().message.substr(0, 16), "rename: on taken");
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), {}), 1);
}

}  // namespace
}  // namespace orlop
