#include "base/log.hpp"

#include <memory>
#include <mutex>
#include <string>

#include <spdlog/sinks/base_sink.h>

namespace orlop {
namespace {

int level_of(spdlog::level::level_enum level) {
  switch (level) {
    case spdlog::level::trace:
    case spdlog::level::debug:
      return ORLOP_LOG_DEBUG;
    case spdlog::level::info:
      return ORLOP_LOG_INFO;
    case spdlog::level::warn:
      return ORLOP_LOG_WARNING;
    default:
      return ORLOP_LOG_ERROR;
  }
}

spdlog::level::level_enum spdlog_level_of(int level) {
  static constexpr spdlog::level::level_enum kLevels[] = {spdlog::level::debug, spdlog::level::info,
                                                          spdlog::level::warn, spdlog::level::err,
                                                          spdlog::level::off};
  return kLevels[level];
}

class CallbackSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  void set(orlop_log_callback callback, void* user) {
    const std::lock_guard lock(mutex_);
    callback_ = callback;
    user_ = user;
  }

 private:
  void sink_it_(const spdlog::details::log_msg& message) override {
    if (callback_ == nullptr) return;
    const std::string line(message.payload.data(), message.payload.size());
    callback_(user_, level_of(message.level), line.c_str());
  }
  void flush_() override {}

  orlop_log_callback callback_ = nullptr;
  void* user_ = nullptr;
};

struct Log {
  std::shared_ptr<CallbackSink> sink = std::make_shared<CallbackSink>();
  spdlog::logger logger{"orlop", sink};

  Log() { logger.set_level(spdlog::level::off); }
};

Log& log() {
  static Log* const log = new Log;  // outlives every thread that might still log at exit
  return *log;
}

}  // namespace

spdlog::logger& logger() { return log().logger; }

Result<> set_log_callback(orlop_log_callback callback, void* user, int level) {
  if (level < ORLOP_LOG_DEBUG || level > ORLOP_LOG_OFF) {
    return fail(ORLOP_INVALID_ARGUMENT, "log level: {}: not one of ORLOP_LOG_DEBUG (0) to ORLOP_LOG_OFF (4)", level);
  }
  log().sink->set(callback, user);
  log().logger.set_level(callback == nullptr ? spdlog::level::off : spdlog_level_of(level));
  return {};
}

}  // namespace orlop
