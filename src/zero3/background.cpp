#include "zero3/background.hpp"

#include <pthread.h>
#include <signal.h>

#include <chrono>
#include <exception>
#include <utility>

namespace orlop::zero3 {
namespace {

Result<> run_caught(const std::function<Result<>()>& task) {
  try {
    return task();
  } catch (const std::exception& e) {
    return fail(ORLOP_INTERNAL, "engine thread: {}", e.what());
  }
}

// Signals are the host program's and go to its own threads.
void block_signals() {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
}

}  // namespace

Background::Background(const char* thread_name) : thread_name_(thread_name), thread_([this] { run(); }) {}

Background::~Background() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void Background::start(std::function<Result<>()> task) {
  {
    const std::lock_guard lock(mutex_);
    task_ = std::move(task);
    result_.reset();
  }
  changed_.notify_all();
}

std::optional<Result<>> Background::wait(int timeout_ms) {
  std::unique_lock lock(mutex_);
  const auto is_done = [this] { return result_.has_value(); };
  if (timeout_ms < 0) {
    changed_.wait(lock, is_done);
  } else if (!changed_.wait_for(lock, std::chrono::milliseconds(timeout_ms), is_done)) {
    return std::nullopt;
  }
  return std::exchange(result_, std::nullopt);
}

void Background::run() {
  pthread_setname_np(pthread_self(), thread_name_);
  block_signals();
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return stopping_ || task_; });
    if (!task_) return;
    const auto task = std::exchange(task_, nullptr);
    lock.unlock();
    auto result = run_caught(task);
    lock.lock();
    result_ = std::move(result);
    changed_.notify_all();
  }
}

}  // namespace orlop::zero3
