// Queues with faults, armed when a test wants them.
#pragma once

#include <atomic>
#include <cerrno>
#include <functional>
#include <memory>

#include "aio/faulty_queue.hpp"
#include "swap/queue_factory.hpp"

namespace orlop::swap::testing {

// Shared between a test and the queue on the I/O thread.
struct Faults {
  std::atomic<bool> are_armed{false};
  std::atomic<std::uint64_t> ops{0};     // since armed
  std::atomic<std::uint64_t> struck{0};
  std::function<aio::Fault(std::uint64_t op, const aio::Request&)> script;
  aio::CompletionOrder order = aio::CompletionOrder::natural;

  void arm() {
    ops = 0;
    are_armed = true;
  }
  aio::Fault at(const aio::Request& request) {
    if (!are_armed) return {};
    const auto fault = script(ops++, request);
    if (fault.error_number != 0 || fault.short_by != 0 || fault.delay.count() != 0) ++struck;
    return fault;
  }
};

inline QueueFactory faulty_queue(const std::shared_ptr<Faults>& faults, aio::QueueKind kind = aio::QueueKind::threads) {
  return [faults, kind](const aio::QueueOptions& options) -> Result<std::unique_ptr<aio::Queue>> {
    TRY_ASSIGN(auto inner, aio::make_queue(kind, options));
    aio::FaultyOptions faulty;
    faulty.script = [faults](std::uint64_t, const aio::Request& request) { return faults->at(request); };
    faulty.order = faults->order;
    return std::make_unique<aio::FaultyQueue>(std::move(inner), faulty);
  };
}

inline std::shared_ptr<Faults> error_at(std::uint64_t op, int error_number) {
  auto faults = std::make_shared<Faults>();
  faults->script = [=](std::uint64_t at, const aio::Request&) { return aio::Fault{at == op ? error_number : 0}; };
  return faults;
}

inline std::shared_ptr<Faults> delay_of(aio::Direction direction, int milliseconds) {
  auto faults = std::make_shared<Faults>();
  faults->script = [=](std::uint64_t, const aio::Request& request) {
    aio::Fault fault;
    if (request.direction == direction) fault.delay = std::chrono::milliseconds(milliseconds);
    return fault;
  };
  return faults;
}

}  // namespace orlop::swap::testing
