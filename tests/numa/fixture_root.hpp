// A directory that stands for "/" in tests of what is read from /proc and /sys.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <system_error>

#include <gtest/gtest.h>

namespace orlop::numa {

class FixtureRoot : public testing::Test {
 protected:
  FixtureRoot() {
    std::string pattern = (std::filesystem::temp_directory_path() / "orlop-root-XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp failed: " + pattern);
    root_ = pattern;
  }
  ~FixtureRoot() override {
    std::error_code ignored;
    std::filesystem::remove_all(root_, ignored);
  }

  void write(std::string_view path, std::string_view text) {
    const std::filesystem::path file = root_ + std::string(path);
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }
  void link(std::string_view path, std::string_view target) {
    const std::filesystem::path file = root_ + std::string(path);
    std::filesystem::create_directories(file.parent_path());
    std::filesystem::create_symlink(root_ + std::string(target), file);
  }
  [[nodiscard]] const std::string& root() const { return root_; }

 private:
  std::string root_;
};

}  // namespace orlop::numa
