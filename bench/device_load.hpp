// What stands in for forward and backward.
#pragma once

#include <chrono>

#include "bench/options.hpp"

namespace orlop::bench {

// Passes the time asleep, or with a thread spinning on every processor; returns early when interrupted.
void pass_time(DeviceLoad load, std::chrono::nanoseconds time);

}  // namespace orlop::bench
