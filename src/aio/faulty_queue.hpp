// FaultyQueue: any queue, with the faults of bad days added by a script. For tests.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <random>
#include <vector>

#include "aio/queue.hpp"

namespace orlop::aio {

// What happens to one request. Default: nothing.
struct Fault {
  int error_number = 0;  // completes with this errno and moves nothing: EIO, ENOSPC, EINTR, EAGAIN ...
  std::uint32_t short_by =
      0;  // moves this many bytes less, if that leaves any; what was not read is scribbled over
  std::chrono::microseconds delay{0};  // the completion is held back this long
};

// `op` counts requests as they are accepted, from 0; a request that is tried again is a new one.
using FaultScript = std::function<Fault(std::uint64_t op, const Request& request)>;

enum class CompletionOrder : std::uint8_t {
  natural,
  shuffled  // withheld until all in flight have completed, then given out at random, no more than asked for
};

struct FaultyOptions {
  FaultScript script = {};  // empty: none
  CompletionOrder order = CompletionOrder::natural;
  std::uint64_t seed = 1;
  std::size_t accept_at_most = SIZE_MAX;  // requests per submit
  unsigned refuse_submit_every = 0;       // every n-th submit accepts none; 0: never
};

// Faults at the given operations, counted from 0.
FaultScript fault_at(std::vector<std::uint64_t> ops, Fault fault);
// A fault at every n-th operation, first at n - 1.
FaultScript fault_every(std::uint64_t n, Fault fault);

class FaultyQueue final : public Queue {
 public:
  FaultyQueue(std::unique_ptr<Queue> inner, FaultyOptions options);

  Result<std::size_t> submit(std::span<const Request> requests) override;
  Result<std::size_t> wait(std::span<Completion> completions, std::size_t minimum) override;
  void interrupt() override;
  void register_memory(std::span<const std::span<std::byte>> regions) override {
    inner_->register_memory(regions);
  }
  void register_files(std::span<const int> fds) override { inner_->register_files(fds); }
  [[nodiscard]] unsigned depth() const override { return inner_->depth(); }
  [[nodiscard]] std::string_view name() const override { return inner_->name(); }

  [[nodiscard]] std::uint64_t ops() const { return ops_; }        // requests accepted so far
  [[nodiscard]] std::uint64_t faults() const { return faults_; }  // of these with a fault

 private:
  using Clock = std::chrono::steady_clock;
  struct Slot {
    Request request;
    Fault fault;
  };
  struct Held {
    std::uint32_t slot;
    std::int64_t result;
    Clock::time_point due;
  };

  Result<bool> accept(const Request& request);
  Result<bool> pass_on(std::uint32_t slot);
  void hold(std::uint32_t slot, std::int64_t result);
  Result<> gather(std::size_t minimum);
  Result<> gather_or_sleep();
  std::size_t give_out(std::span<Completion> completions, std::size_t target);
  [[nodiscard]] std::size_t in_flight() const { return slots_.size() - free_slots_.size(); }
  bool take_interrupt();

  std::unique_ptr<Queue> inner_;
  FaultyOptions options_;
  std::mt19937_64 random_;
  std::vector<Slot> slots_;
  std::vector<std::uint32_t> free_slots_;
  std::vector<Held> held_;  // completed, not yet given out
  std::vector<Completion> gathered_;
  std::size_t inside_ = 0;  // in flight in the inner queue
  std::uint64_t ops_ = 0;
  std::uint64_t faults_ = 0;
  std::uint64_t submits_ = 0;
  std::mutex mutex_;
  std::condition_variable interrupted_;
  bool was_interrupted_ = false;
};

}  // namespace orlop::aio
