#include "aio/thread_queue.hpp"

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <mutex>
#include <pthread.h>
#include <signal.h>
#include <system_error>
#include <thread>
#include <unistd.h>
#include <vector>

namespace orlop::aio {
namespace {

// First in, first out, in memory taken once.
template <typename T>
class Ring {
 public:
  explicit Ring(std::size_t capacity) : items_(capacity) {}
  [[nodiscard]] bool empty() const { return count_ == 0; }
  [[nodiscard]] std::size_t size() const { return count_; }
  void push(const T& item) { items_[(first_ + count_++) % items_.size()] = item; }
  T pop() {
    const T item = items_[first_];
    first_ = (first_ + 1) % items_.size();
    --count_;
    return item;
  }

 private:
  std::vector<T> items_;
  std::size_t first_ = 0;
  std::size_t count_ = 0;
};

Completion carry_out(const Request& request) {
  const auto offset = static_cast<off_t>(request.offset);
  const auto moved = request.direction == Direction::read
                         ? ::pread(request.fd, request.memory, request.bytes, offset)
                         : ::pwrite(request.fd, request.memory, request.bytes, offset);
  return {request.tag, moved < 0 ? -static_cast<std::int64_t>(errno) : moved};
}

// While it lives, threads that are started leave signals to the threads of the program.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~SignalsBlocked() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  sigset_t before_{};
};

class ThreadQueue final : public Queue {
 public:
  explicit ThreadQueue(unsigned depth) : depth_(depth), requested_(depth), completed_(depth) {}

  ~ThreadQueue() override {
    {
      const std::lock_guard lock(mutex_);
      is_closing_ = true;  // workers leave once everything accepted has been carried out
    }
    work_.notify_all();
    for (auto& worker : workers_) worker.join();
  }

  ThreadQueue(const ThreadQueue&) = delete;
  ThreadQueue& operator=(const ThreadQueue&) = delete;

  Result<> start(unsigned count) {
    const SignalsBlocked signals_blocked;
    workers_.reserve(count);
    try {
      while (workers_.size() < count) workers_.emplace_back([this] { work(); });
    } catch (const std::system_error& error) {
      return fail(ORLOP_UNSUPPORTED, "thread queue: start thread {} of {}: {}", workers_.size() + 1, count,
                  error.what());
    }
    return {};
  }

  Result<std::size_t> submit(std::span<const Request> requests) override {
    std::size_t count = 0;
    {
      const std::lock_guard lock(mutex_);
      count = std::min<std::size_t>(requests.size(), depth_ - in_flight_);
      for (const auto& request : requests.first(count)) requested_.push(request);
      in_flight_ += count;
    }
    if (count == 1) work_.notify_one();
    if (count > 1) work_.notify_all();
    return count;
  }

  Result<std::size_t> wait(std::span<Completion> completions, std::size_t minimum) override {
    std::unique_lock lock(mutex_);
    const auto target = std::min({minimum, completions.size(), in_flight_});
    done_.wait(lock, [&] { return completed_.size() >= target || was_interrupted_; });
    const auto count = std::min(completions.size(), completed_.size());
    for (auto& completion : completions.first(count)) completion = completed_.pop();
    in_flight_ -= count;
    if (count < target) was_interrupted_ = false;
    return count;
  }

  void interrupt() override {
    {
      const std::lock_guard lock(mutex_);
      was_interrupted_ = true;
    }
    done_.notify_one();
  }

  // Nothing to gain: pread and pwrite know no registration.
  void register_memory(std::span<const std::span<std::byte>>) override {}
  void register_files(std::span<const int>) override {}

  [[nodiscard]] unsigned depth() const override { return depth_; }
  [[nodiscard]] std::string_view name() const override { return "threads"; }

 private:
  void work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      work_.wait(lock, [&] { return !requested_.empty() || is_closing_; });
      if (requested_.empty()) return;
      const Request request = requested_.pop();
      lock.unlock();
      const Completion completion = carry_out(request);
      lock.lock();
      completed_.push(completion);
      done_.notify_one();
    }
  }

  const unsigned depth_;
  std::mutex mutex_;
  std::condition_variable work_;  // something was requested, or the queue closes
  std::condition_variable done_;  // something has completed, or an interrupt
  Ring<Request> requested_;
  Ring<Completion> completed_;
  std::size_t in_flight_ = 0;  // accepted and not yet returned
  bool was_interrupted_ = false;
  bool is_closing_ = false;
  std::vector<std::thread> workers_;
};

}  // namespace

Result<std::unique_ptr<Queue>> make_thread_queue(const QueueOptions& options) {
  auto queue = std::make_unique<ThreadQueue>(options.depth);
  TRY(queue->start(options.thread_count));
  return queue;
}

}  // namespace orlop::aio
