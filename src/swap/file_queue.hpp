// FileQueue: whole, checked moves between any memory and a program's own files, of any size and at any offset. One thread
// owns the ring; moves come from any thread.
//
// The whole pages of a move go directly, past the page cache, where the file takes that and its offset and memory are
// aligned; the rest of it goes through the page cache. No page is ever moved in both ways, so that neither sees the
// other's old bytes.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "swap/mover.hpp"

namespace orlop::swap {

struct FileQueueOptions {
  QueueFactory make_queue = aio::make_best_queue;
  aio::QueueOptions queue = {};
  std::uint64_t block_bytes = 1u << 20;  // of a request; rounded down to the file's alignment, at least that
};

struct FileMove {
  aio::Direction direction;
  std::string path;
  std::uint64_t offset;
  std::span<std::byte> memory;  // belongs to the move until its ticket has been waited for
};

class FileQueue {
 public:
  static constexpr std::size_t kMaximum = 256;  // moves that were not waited for: each has up to two open files

  static Result<std::unique_ptr<FileQueue>> create(FileQueueOptions options);
  ~FileQueue();  // waits for every move, and logs what failed

  // Opens the file and begins the move. Errors: those of opening it; ORLOP_INVALID_ARGUMENT (it ends before the last byte
  // to read), ORLOP_OUT_OF_ORDER (kMaximum moves were not waited for).
  Result<Ticket> submit(const FileMove& move);
  // The outcome, once: ORLOP_TIMEOUT after timeout_ms (-1: for ever). A ticket that was waited for counts as done.
  Result<> wait(Ticket ticket, int timeout_ms);

  [[nodiscard]] const std::string& queue_name() const { return mover_->queue_name(0); }

 private:
  // One after the other, so that they stay where a move refers to them.
  using Files = std::vector<std::unique_ptr<aio::File>>;

  explicit FileQueue(std::unique_ptr<Mover> mover) : mover_(std::move(mover)) {}

  std::mutex mutex_;
  std::unordered_map<std::uint64_t, Files> open_;  // by ticket
  std::unique_ptr<Mover> mover_;                   // last: it uses the files
};

}  // namespace orlop::swap
