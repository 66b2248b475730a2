// Transfers: whole, checked moves between memory and files, over one Queue and on its thread.
//
// A move is cut into requests of at most `request_bytes`, submitted most urgent class first and, within a class, in
// order of arrival, never more than the queue's depth at once. Short requests are resumed, EINTR and EAGAIN tried
// again; the first error ends its move with a sentence (path, offset, bytes, errno, free space) once all of
// its requests have come back, so that memory is never touched after a move is reported.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "aio/file.hpp"
#include "aio/queue.hpp"

namespace orlop::aio {

// Urgency, most urgent first.
enum class Priority : std::uint8_t { demand_read, prefetch, write_back };
inline constexpr std::size_t kPriorityCount = 3;

struct Piece {
  const File* file;
  std::byte* memory;
  std::uint64_t offset;
  std::uint64_t bytes;
};

struct Move {
  Direction direction;
  Priority priority;
  std::vector<Piece> pieces;
  std::uint64_t id;  // comes back when it is done
};

struct MoveDone {
  std::uint64_t id;
  Result<> result;
};

struct TransferOptions {
  std::uint64_t read_request_bytes = 1u << 20;
  std::uint64_t write_request_bytes = 1u << 20;
};

class Transfers {
 public:
  Transfers(std::unique_ptr<Queue> queue, TransferOptions options);
  ~Transfers();  // waits for what is in flight

  void start(Move move);

  // Runs the queue: submits what fits, waits for at least one completion unless nothing is in flight or interrupted,
  // and appends finished moves to `done`. A failure of the queue itself is returned and ends every move.
  Result<> run(std::vector<MoveDone>& done);

  [[nodiscard]] bool idle() const;
  // Drops requests that were not submitted yet: their moves end with ORLOP_CANCELLED once the rest came back.
  void cancel_waiting();
  void set_options(TransferOptions options);
  Queue& queue() { return *queue_; }

 private:
  struct Pending;
  struct State;
  std::unique_ptr<Queue> queue_;
  std::unique_ptr<State> state_;
};

}  // namespace orlop::aio
