// Queue: the one interface to asynchronous file I/O. What it carries is raw: completions may be short or
// failed, and `Transfers` turns them into whole, checked moves.
//
// Threads. A queue is owned by one thread, which submits, waits and destroys; it may be built (and memory and
// files registered with it) on one thread and handed to another before its first submit or wait. Only
// interrupt() may come from elsewhere. Destroying a queue waits for what is in flight.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "base/result.hpp"

namespace orlop::aio {

enum class Direction : std::uint8_t { read, write };

struct Request {
  Direction direction;
  int fd;
  std::byte* memory;
  std::uint32_t bytes;
  std::uint64_t offset;
  std::uint64_t tag;  // comes back in the completion
};

struct Completion {
  std::uint64_t tag;
  std::int64_t result;  // bytes moved, or a negative errno
};

enum class QueueKind : std::uint8_t { uring, aio, threads };

struct QueueOptions {
  unsigned depth = 32;        // requests in flight at most
  unsigned thread_count = 4;  // of QueueKind::threads
};

class Queue {
 public:
  virtual ~Queue() = default;

  // Requests accepted, from the front; fewer than offered is normal (depth reached, EAGAIN) and not an error.
  // What is wrong with a single request (a bad descriptor, misalignment) comes back as its completion.
  virtual Result<std::size_t> submit(std::span<const Request> requests) = 0;

  // Blocks until `minimum` completions are there (0 polls), an interrupt, or none is in flight; returns how
  // many were written to `completions`, in any order. Accepted requests whose completion was not returned yet
  // count as in flight.
  virtual Result<std::size_t> wait(std::span<Completion> completions, std::size_t minimum) = 0;

  // Makes a wait that is under way, or else the next one that would block, return early. Several interrupts
  // may become one; none is lost. Any thread.
  virtual void interrupt() = 0;

  // Speed-ups that may be refused (memlock, old kernel): then the queue works as before and says so once in
  // the log with what it costs. Registering replaces what was registered; nothing may be in flight.
  // Registered memory stays mapped and registered files stay open until they are replaced or the queue is
  // gone: requests are matched by address and by descriptor.
  virtual void register_memory(std::span<const std::span<std::byte>> regions) = 0;
  virtual void register_files(std::span<const int> fds) = 0;

  [[nodiscard]] virtual unsigned depth()
      const = 0;  // may be less than asked for where the kernel has a limit
  [[nodiscard]] virtual std::string_view name() const = 0;  // "uring", "aio", "threads"
};

// Errors: ORLOP_UNSUPPORTED when the build or the kernel lacks that kind, with the reason;
// ORLOP_INVALID_ARGUMENT for a depth or thread count of 0.
Result<std::unique_ptr<Queue>> make_queue(QueueKind kind, const QueueOptions& options);

// The best kind that works here: uring, else aio, else threads; each refusal is logged with its reason and
// price.
Result<std::unique_ptr<Queue>> make_best_queue(const QueueOptions& options);

Result<QueueKind> queue_kind_of(
    std::string_view name);  // "uring" (also "io_uring"), "aio" ("libaio"), "threads"
std::string_view name_of(QueueKind kind);

}  // namespace orlop::aio
