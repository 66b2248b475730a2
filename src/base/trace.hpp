// Trace: events of a run for chrome://tracing and Perfetto. Memory is taken once; when it is full the oldest events
// are overwritten, so recording never grows and never stops a step.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "base/result.hpp"

namespace orlop {

// What a lane (a row in the viewer) shows.
enum class TraceLane : std::uint8_t { step, read, work, write, gradient, fetch };

struct TraceEvent {
  const char* name;  // a literal
  TraceLane lane;
  std::uint32_t index;  // of the block or parameter
  std::uint64_t bytes;
  std::int64_t begin_ns;
  std::int64_t end_ns;
};

class Trace {
 public:
  static constexpr std::size_t kCapacity = 1u << 16;

  void start();  // takes the memory; before it, record() does nothing
  // Any thread, without a lock.
  void record(const TraceEvent& event);
  // Chrome trace JSON. Not while a step records.
  Result<> write(const std::string& path) const;
  [[nodiscard]] bool is_recording() const { return events_ != nullptr; }
  [[nodiscard]] std::uint64_t recorded() const { return next_.load(std::memory_order_relaxed); }

 private:
  std::unique_ptr<TraceEvent[]> events_;
  std::atomic<std::uint64_t> next_{0};
};

}  // namespace orlop
