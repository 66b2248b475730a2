// Logging into the host program's callback; silent until one is set. Formatting and levels by spdlog.
#pragma once

#include <utility>

#include <spdlog/spdlog.h>

#include "base/result.hpp"

namespace orlop {

// The process's logger. Never prints; see orlop_log_set.
spdlog::logger& logger();

Result<> set_log_callback(orlop_log_callback callback, void* user, int level);

template <typename... Args>
void log_debug(fmt::format_string<Args...> format, Args&&... args) {
  logger().debug(format, std::forward<Args>(args)...);
}
template <typename... Args>
void log_info(fmt::format_string<Args...> format, Args&&... args) {
  logger().info(format, std::forward<Args>(args)...);
}
template <typename... Args>
void log_warning(fmt::format_string<Args...> format, Args&&... args) {
  logger().warn(format, std::forward<Args>(args)...);
}
template <typename... Args>
void log_error(fmt::format_string<Args...> format, Args&&... args) {
  logger().error(format, std::forward<Args>(args)...);
}

}  // namespace orlop
