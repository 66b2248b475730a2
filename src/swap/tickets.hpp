// Tickets: the moves under way, and their outcomes until somebody has asked for them. A move has a part on each drive that
// it touches, and is finished when all of them are. Thread-safe.
#pragma once

#include <array>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <unordered_map>

#include "aio/queue.hpp"
#include "base/result.hpp"
#include "base/trace.hpp"

namespace orlop::swap {

// Names a move under way. The default is one that has completed.
struct Ticket {
  std::uint64_t id = 0;
};

class Tickets {
 public:
  static constexpr std::size_t kMaximum = 4096;

  // `trace` may be null.
  explicit Tickets(Trace* trace) : trace_(trace) {}

  // `index`: of the block, for the trace. Fails when kMaximum have not been waited for.
  Result<Ticket> open(aio::Direction direction, std::uint32_t index, std::uint64_t bytes, std::size_t part_count);
  // One part has come back. The first error is the move's.
  void finish_part(std::uint64_t id, Result<> outcome);

  // Whether wait() would return at once.
  [[nodiscard]] bool poll(Ticket ticket) const;
  // The outcome, kept until it is asked for here; from then on the ticket counts as completed. ORLOP_TIMEOUT after
  // timeout_ms (-1: for ever).
  Result<> wait(Ticket ticket, int timeout_ms);

  // Moves finished so far; wait_beyond returns when there are more than `seen`, or after timeout_ms.
  [[nodiscard]] std::uint64_t finished() const;
  void wait_beyond(std::uint64_t seen, int timeout_ms) const;

 private:
  struct Move {
    aio::Direction direction;
    std::uint32_t index;
    std::uint64_t bytes;
    std::int64_t begin_ns;
    std::size_t parts_left;
    Result<> outcome = {};
  };

  // With mutex_ held.
  [[nodiscard]] bool is_over(std::uint64_t id) const;
  void record(const Move& move);

  Trace* const trace_;
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;  // a move has finished
  std::unordered_map<std::uint64_t, Move> moves_;
  std::uint64_t last_id_ = 0;
  std::uint64_t finished_ = 0;
  std::array<std::int64_t, 2> lane_end_ns_ = {};  // of the trace: read, write
};

}  // namespace orlop::swap
