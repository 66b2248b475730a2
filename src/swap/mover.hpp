// Mover: the thread that owns the ring. Moves are submitted from any thread, get a ticket, and are carried out whole
// and checked.
#pragma once

#include <array>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "aio/transfers.hpp"
#include "base/trace.hpp"
#include "swap/queue_factory.hpp"
#include "swap/states.hpp"

namespace orlop::swap {

// Names a move under way. The default is one that has completed.
struct Ticket {
  std::uint64_t id = 0;
};

struct MoverOptions {
  QueueFactory make_queue;
  aio::QueueOptions queue;
  aio::TransferOptions requests;
  std::vector<std::span<std::byte>> memory;  // to register with the queue
  std::vector<int> files;                    // likewise
  Trace* trace = nullptr;
};

struct MoveRequest {
  aio::Direction direction;
  aio::Priority priority;
  std::vector<aio::Piece> pieces;  // files and memory belong to the move until its ticket is done
  std::uint32_t index = 0;         // of the block, for the trace
};

class Mover {
 public:
  static Result<std::unique_ptr<Mover>> create(MoverOptions options);
  // Moves that have not begun end with ORLOP_CANCELLED; what is in flight is waited for.
  ~Mover();
  Mover(const Mover&) = delete;
  Mover& operator=(const Mover&) = delete;

  // Thread-safety of all that follows: any thread.

  // Fails when the queue has failed, and when kMaximumTickets have not been waited for.
  Result<Ticket> submit(MoveRequest request);
  // Whether wait() would return at once.
  [[nodiscard]] bool poll(Ticket ticket) const;
  // The outcome, kept until it is asked for here; from then on the ticket counts as completed. ORLOP_TIMEOUT after
  // timeout_ms (-1: for ever).
  Result<> wait(Ticket ticket, int timeout_ms);

  // Moves finished so far; wait_beyond returns when there are more than `seen`, or after timeout_ms.
  [[nodiscard]] std::uint64_t finished() const;
  void wait_beyond(std::uint64_t seen, int timeout_ms) const;

  // Drops what was not given to the drive yet; those moves end with ORLOP_CANCELLED once the rest has come back.
  void cancel_waiting();

  [[nodiscard]] Traffic traffic() const;
  [[nodiscard]] const std::string& queue_name() const { return queue_name_; }

  static constexpr std::size_t kMaximumTickets = 4096;

 private:
  struct Tracked {
    aio::Direction direction;
    std::uint32_t index;
    std::uint64_t bytes;
    std::int64_t begin_ns;
    std::optional<Result<>> outcome;  // none: not finished
  };
  enum class Running : std::uint8_t { yes, until_idle };
  enum class Cancel : std::uint8_t { no, asked };

  explicit Mover(MoverOptions options);
  void start_thread();

  // On the I/O thread.
  void run();
  Result<> open_queue();
  void carry_out();
  bool await_work();
  void settle(std::vector<aio::MoveDone>& done);
  void give_up(const Error& error);

  // With mutex_ held.
  void wake();
  void finish(std::uint64_t id, Result<> outcome);
  void count(const Tracked& tracked);
  void record(const Tracked& tracked);
  void note_flight();

  const MoverOptions options_;
  std::string queue_name_;

  mutable std::mutex mutex_;
  std::condition_variable work_;             // for the I/O thread
  mutable std::condition_variable changed_;  // a move has finished
  std::vector<aio::Move> inbox_;             // submitted, not yet taken by the I/O thread
  std::unordered_map<std::uint64_t, Tracked> moves_;
  std::uint64_t last_id_ = 0;
  std::uint64_t finished_ = 0;
  std::uint64_t read_bytes_ = 0;
  std::uint64_t write_bytes_ = 0;
  std::int64_t busy_ns_ = 0;
  std::int64_t flight_begin_ns_ = 0;               // 0: nothing in flight
  std::array<std::int64_t, 2> lane_end_ns_ = {};   // of the trace: read, write
  std::optional<Result<>> opened_;
  std::optional<Error> failure_;  // of the queue itself
  Running running_ = Running::yes;
  Cancel cancel_ = Cancel::no;
  bool is_in_queue_ = false;  // the I/O thread may be waiting for completions

  std::unique_ptr<aio::Transfers> transfers_;  // the I/O thread's alone, but for interrupting its queue
  std::thread thread_;
};

}  // namespace orlop::swap
