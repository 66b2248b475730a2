// Background: one thread that runs one task at a time, so that the caller can wait for it in slices and answer signals
// in between.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>

#include "base/result.hpp"

namespace orlop::zero3 {

class Background {
 public:
  explicit Background(const char* thread_name);  // at most 15 characters
  ~Background();  // waits for the task under way

  // The previous task must have been waited for.
  void start(std::function<Result<>()> task);

  // The task's result, once; nothing when it is still running after timeout_ms (-1: for ever).
  std::optional<Result<>> wait(int timeout_ms);

 private:
  void run();

  const char* thread_name_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::function<Result<>()> task_;
  std::optional<Result<>> result_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace orlop::zero3
