// WakeEvent: an eventfd by which other threads end a wait.
#pragma once

#include <cerrno>
#include <cstdint>
#include <sys/eventfd.h>
#include <utility>

#include "base/log.hpp"
#include "base/unique_fd.hpp"

namespace orlop::aio {

class WakeEvent {
 public:
  static Result<WakeEvent> create() {
    unique_fd fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!fd.is_open()) return fail(status_of_errno(errno), "eventfd: for a queue: {}", describe_errno(errno));
    return WakeEvent(std::move(fd));
  }

  void signal() const {
    const std::uint64_t one = 1;
    // EAGAIN: the counter is full, so a wake-up is pending already.
    if (::write(fd_.get(), &one, sizeof one) < 0 && errno != EAGAIN) {
      log_error("wake a queue: on its eventfd: {}", describe_errno(errno));
    }
  }

  // Takes all signals so far as one; true if there was any.
  [[nodiscard]] bool take() const {
    std::uint64_t count = 0;
    return ::read(fd_.get(), &count, sizeof count) == static_cast<ssize_t>(sizeof count);
  }

  [[nodiscard]] int fd() const { return fd_.get(); }

 private:
  explicit WakeEvent(unique_fd fd) : fd_(std::move(fd)) {}

  unique_fd fd_;
};

}  // namespace orlop::aio
