// What the tests of aio share: a folder that goes away, aligned memory, content that tells where it belongs,
// the log.
#pragma once

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <unistd.h>
#include <vector>

#include <gtest/gtest.h>

#include "aio/file.hpp"
#include "aio/queue.hpp"
#include "base/bytes.hpp"
#include "base/log.hpp"

namespace orlop::aio {

class ScratchFolder {
 public:
  explicit ScratchFolder(const std::string& parent = std::filesystem::temp_directory_path()) {
    path_ = parent + "/orlop-test-XXXXXX";
    if (::mkdtemp(path_.data()) == nullptr) std::abort();
  }
  ~ScratchFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

// Zeroed memory aligned to 4096.
class AlignedMemory {
 public:
  explicit AlignedMemory(std::size_t bytes)
      : data_(static_cast<std::byte*>(std::aligned_alloc(4096, align_up(bytes, 4096)))), size_(bytes) {
    std::memset(data_.get(), 0, bytes);
  }
  [[nodiscard]] std::byte* data() const { return data_.get(); }
  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] std::span<std::byte> span() const { return {data_.get(), size_}; }
  [[nodiscard]] std::span<std::byte> span(std::size_t at, std::size_t bytes) const {
    return span().subspan(at, bytes);
  }

 private:
  struct Free {
    void operator()(std::byte* p) const { std::free(p); }
  };
  std::unique_ptr<std::byte, Free> data_;
  std::size_t size_;
};

// Each 8 bytes say where in the file they belong and which version they are.
inline void fill_content(std::span<std::byte> memory, std::uint64_t offset, std::uint64_t version = 0) {
  for (std::size_t i = 0; i + 8 <= memory.size(); i += 8) {
    const std::uint64_t word = (offset + i + 1) * 0x9e3779b97f4a7c15u ^ version * 0xc2b2ae3d27d4eb4fu;
    std::memcpy(memory.data() + i, &word, 8);
  }
}

inline bool has_content(std::span<const std::byte> memory, std::uint64_t offset, std::uint64_t version = 0) {
  std::vector<std::byte> expected(memory.size());
  fill_content(expected, offset, version);
  return std::memcmp(memory.data(), expected.data(), memory.size()) == 0;
}

// Writes content of a version over [0, bytes) without any queue, and reads a range back the same way.
inline void write_content(const std::string& path, std::uint64_t bytes, std::uint64_t version = 0) {
  std::vector<std::byte> content(bytes);
  fill_content(content, 0, version);
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "wb"), &std::fclose);
  ASSERT_NE(file, nullptr);
  ASSERT_EQ(std::fwrite(content.data(), 1, bytes, file.get()), bytes);
}

inline std::vector<std::byte> read_whole(const std::string& path) {
  std::vector<std::byte> content(std::filesystem::file_size(path));
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"), &std::fclose);
  if (file == nullptr || std::fread(content.data(), 1, content.size(), file.get()) != content.size())
    content.clear();
  return content;
}

// Receives the library's log while it lives.
class LogCapture {
 public:
  LogCapture() { static_cast<void>(set_log_callback(&LogCapture::receive, this, ORLOP_LOG_INFO)); }
  ~LogCapture() { static_cast<void>(set_log_callback(nullptr, nullptr, ORLOP_LOG_OFF)); }
  LogCapture(const LogCapture&) = delete;
  LogCapture& operator=(const LogCapture&) = delete;

  [[nodiscard]] std::vector<std::string> lines(int level) const {
    const std::lock_guard lock(mutex_);
    std::vector<std::string> found;
    for (const auto& [line_level, line] : lines_) {
      if (line_level == level) found.push_back(line);
    }
    return found;
  }
  [[nodiscard]] std::vector<std::string> warnings() const { return lines(ORLOP_LOG_WARNING); }

 private:
  static void receive(void* self, std::int32_t level, const char* line) {
    auto& log = *static_cast<LogCapture*>(self);
    const std::lock_guard lock(log.mutex_);
    log.lines_.emplace_back(level, line);
  }
  mutable std::mutex mutex_;
  std::vector<std::pair<int, std::string>> lines_;
};

// The queue, or the reason why this machine or build has none of that kind (then the test is skipped).
#define ORLOP_QUEUE_OR_SKIP(queue, made)                                      \
  auto queue##_result = (made);                                               \
  if (!queue##_result && queue##_result.error().status == ORLOP_UNSUPPORTED)  \
    GTEST_SKIP() << "not available here: " << queue##_result.error().message; \
  ASSERT_TRUE(queue##_result) << queue##_result.error().message;              \
  auto queue = std::move(*queue##_result)

}  // namespace orlop::aio
