// Transfers: whole, checked moves between memory and files, over one Queue and on its thread.
//
// A move is cut into requests of at most `*_request_bytes`, never more of them in flight than the queue's
// depth. Demand reads go first; prefetches and write-backs share as `mixing` says; within a class moves go in
// order of arrival. Short requests are resumed, EINTR and EAGAIN tried again. The first error ends its move
// with a sentence (path, offset, bytes, errno, free space) once all of its requests have come back, so that
// memory is never touched after a move is reported. A file that ends inside a read is ORLOP_CORRUPT.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "aio/file.hpp"
#include "aio/queue.hpp"
#include "aio/turns.hpp"

namespace orlop::aio {

// Borrows the file and the memory until its move is reported. For a direct file, memory, offset and bytes
// must be aligned as the file says; otherwise the move ends with ORLOP_INVALID_ARGUMENT.
struct Piece {
  const File* file;
  std::byte* memory;
  std::uint64_t offset;
  std::uint64_t bytes;
};
std::uint64_t bytes_of(std::span<const Piece> pieces);

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
  std::uint64_t read_request_bytes = 1u << 20;  // rounded down to the file's alignment, at least that
  std::uint64_t write_request_bytes = 1u << 20;
  Mixing mixing = Mixing::mixed;
  std::uint64_t phase_bytes = kDefaultPhaseBytes;
};

class Transfers {
 public:
  Transfers(std::unique_ptr<Queue> queue, TransferOptions options);
  ~Transfers();  // drops what was not submitted and waits for what is in flight

  Transfers(Transfers&& other) noexcept;
  Transfers& operator=(Transfers&&) = delete;

  void start(Move move);

  // Runs the queue: submits what fits, waits for at least one completion unless nothing is in flight, a move
  // is finished already, or interrupted, and appends finished moves to `done`. A failure of the queue itself
  // is returned and ends every move, those started later too.
  Result<> run(std::vector<MoveDone>& done);

  [[nodiscard]] bool idle() const;  // every move has been reported
  // Drops requests that were not submitted yet: their moves end with ORLOP_CANCELLED once the rest came back.
  void cancel_waiting();
  void set_options(TransferOptions options);  // for what is submitted from now on
  Queue& queue() { return *queue_; }

 private:
  class State;
  std::unique_ptr<Queue> queue_;
  std::unique_ptr<State> state_;
};

}  // namespace orlop::aio
