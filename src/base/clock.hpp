// Monotonic time.
#pragma once

#include <chrono>
#include <cstdint>

namespace orlop {

inline std::int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

constexpr double seconds_of_ns(std::int64_t ns) { return static_cast<double>(ns) * 1e-9; }

}  // namespace orlop
