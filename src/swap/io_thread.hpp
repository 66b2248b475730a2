// IoThread: the thread that owns the ring of one drive. It carries out moves whole and checked, and says so to the tickets.
#pragma once

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
#include "swap/busy_time.hpp"
#include "swap/queue_factory.hpp"
#include "swap/states.hpp"
#include "swap/tickets.hpp"

namespace orlop::swap {

struct IoThreadOptions {
  QueueFactory make_queue;
  aio::QueueOptions queue = {};
  aio::TransferOptions requests = {};
  const aio::File* file = nullptr;                // to register with the queue; outlives the thread
  std::vector<std::span<std::byte>> memory = {};  // likewise
};

class IoThread {
 public:
  // `tickets` and `busy` (time during which any drive has something in flight) outlive it.
  static Result<std::unique_ptr<IoThread>> create(IoThreadOptions options, Tickets& tickets, BusyTime& busy);
  // Moves that have not begun end with ORLOP_CANCELLED; what is in flight is waited for.
  ~IoThread();
  IoThread(const IoThread&) = delete;
  IoThread& operator=(const IoThread&) = delete;

  // Thread-safety of all that follows: any thread.

  // The queue itself has failed.
  Result<> check() const;
  // A part of the move whose ticket is `move.id`; its outcome goes there, also when the queue has failed.
  void submit(aio::Move move);
  // Drops what was not given to the drive yet; those moves end with ORLOP_CANCELLED once the rest has come back.
  void cancel_waiting();

  [[nodiscard]] Traffic traffic() const;
  [[nodiscard]] const std::string& queue_name() const { return queue_name_; }
  [[nodiscard]] const aio::File* file() const { return options_.file; }

 private:
  struct Part {
    aio::Direction direction;
    std::uint64_t bytes;
  };
  enum class Running : std::uint8_t { yes, until_idle };
  enum class Cancel : std::uint8_t { no, asked };

  IoThread(IoThreadOptions options, Tickets& tickets, BusyTime& busy);
  void start();

  // On the thread itself.
  void run();
  Result<> open_queue();
  void carry_out();
  bool await_work();
  void settle(std::vector<aio::MoveDone>& done);
  void give_up(const Error& error);

  // With mutex_ held.
  void wake();
  void finish(std::uint64_t id, Result<> outcome);
  void note_flight(bool is_idle);

  const IoThreadOptions options_;
  Tickets& tickets_;
  BusyTime& busy_;
  BusyTime own_busy_;
  std::string queue_name_;

  mutable std::mutex mutex_;
  std::condition_variable work_;     // for the thread
  std::condition_variable began_;    // for who made it
  std::vector<aio::Move> inbox_;     // submitted, not yet taken by the thread
  std::unordered_map<std::uint64_t, Part> parts_;  // by ticket
  std::uint64_t read_bytes_ = 0;
  std::uint64_t write_bytes_ = 0;
  bool is_in_flight_ = false;
  std::optional<Result<>> opened_;
  std::optional<Error> failure_;  // of the queue itself
  Running running_ = Running::yes;
  Cancel cancel_ = Cancel::no;
  bool is_in_queue_ = false;  // the thread may be waiting for completions

  std::unique_ptr<aio::Transfers> transfers_;  // the thread's alone, but for interrupting its queue
  std::thread thread_;
};

}  // namespace orlop::swap
