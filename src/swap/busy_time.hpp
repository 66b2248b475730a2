// BusyTime: for how long something was under way. Thread-safe.
#pragma once

#include <cstdint>
#include <mutex>

#include "base/clock.hpp"

namespace orlop::swap {

class BusyTime {
 public:
  // Every begin() has its end(); while one is open, time counts once.
  void begin() {
    const std::lock_guard lock(mutex_);
    if (open_++ == 0) begin_ns_ = now_ns();
  }
  void end() {
    const std::lock_guard lock(mutex_);
    if (--open_ == 0) sum_ns_ += now_ns() - begin_ns_;
  }
  [[nodiscard]] std::int64_t ns() const {
    const std::lock_guard lock(mutex_);
    return open_ == 0 ? sum_ns_ : sum_ns_ + now_ns() - begin_ns_;
  }

 private:
  mutable std::mutex mutex_;
  unsigned open_ = 0;
  std::int64_t begin_ns_ = 0;
  std::int64_t sum_ns_ = 0;
};

}  // namespace orlop::swap
