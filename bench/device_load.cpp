#include "bench/device_load.hpp"

#include <algorithm>
#include <thread>
#include <vector>

#include "bench/interrupt.hpp"

namespace orlop::bench {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::milliseconds kSlice{20};

void sleep_until(Clock::time_point end) {
  while (Clock::now() < end && interrupted_by() == 0) {
    std::this_thread::sleep_until(std::min(end, Clock::now() + kSlice));
  }
}

void spin_until(Clock::time_point end) {
  volatile double x = 1;
  while (Clock::now() < end && interrupted_by() == 0) {
    for (int i = 0; i < 1000; ++i) x = x * 1.0000001;
  }
}

}  // namespace

void pass_time(DeviceLoad load, std::chrono::nanoseconds time) {
  const Clock::time_point end = Clock::now() + time;
  if (time.count() <= 0) return;
  if (load == DeviceLoad::sleep) return sleep_until(end);
  std::vector<std::jthread> others;
  for (unsigned i = 1; i < std::thread::hardware_concurrency(); ++i) others.emplace_back([end] { spin_until(end); });
  spin_until(end);
}

}  // namespace orlop::bench
