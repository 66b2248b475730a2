// The calls on file queues: argument checks and conversions, nothing else.
#include "swap/file_queue.hpp"

#include "base/bytes.hpp"
#include "capi/handle.hpp"

using namespace orlop;
using capi::not_null;

struct orlop_file_queue {
  std::unique_ptr<swap::FileQueue> queue;
  pid_t owner;
};

namespace {

constexpr std::uint64_t kLargestBlock = 1u << 30;
constexpr std::uint32_t kMostDepth = 4096;
constexpr std::uint32_t kMostThreads = 1024;

template <typename Number>
Result<> check_at_most(const char* what, Number given, Number most) {
  if (given <= most) return {};
  return fail(ORLOP_INVALID_ARGUMENT, "open file queue: on {} {}: must be at most {}", what, given, most);
}

Result<swap::FileQueueOptions> options_of(const orlop_file_queue_params& given) {
  TRY(check_at_most("depth", given.depth, kMostDepth));
  TRY(check_at_most("thread_count", given.thread_count, kMostThreads));
  TRY(check_at_most("block_bytes", given.block_bytes, kLargestBlock));
  swap::FileQueueOptions options;
  if (given.queue != nullptr) {
    TRY_ASSIGN(const aio::QueueKind kind, aio::queue_kind_of(given.queue));
    options.make_queue = [kind](const aio::QueueOptions& queue) { return aio::make_queue(kind, queue); };
  }
  if (given.depth != 0) options.queue.depth = given.depth;
  if (given.thread_count != 0) options.queue.thread_count = given.thread_count;
  if (given.block_bytes != 0) options.block_bytes = given.block_bytes;
  return options;
}

// Without anywhere to put the ticket, to its end.
Result<> begin(swap::FileQueue& queue, const swap::FileMove& move, orlop_ticket* ticket) {
  TRY_ASSIGN(const swap::Ticket begun, queue.submit(move));
  if (ticket == nullptr) return queue.wait(begun, -1);
  *ticket = begun.id;
  return {};
}

Result<swap::FileMove> move_of(const char* call, aio::Direction direction, const char* path, std::uint64_t offset,
                               std::uint64_t bytes, void* memory) {
  TRY(not_null(call, "its path", path));
  if (bytes != 0) TRY(not_null(call, "its memory", memory));
  TRY(checked_add(offset, bytes));
  return swap::FileMove{direction, path, offset, {static_cast<std::byte*>(memory), bytes}};
}

orlop_status start_move(const char* call, orlop_file_queue* queue, aio::Direction direction, const char* path,
                        std::uint64_t offset, std::uint64_t bytes, void* memory, orlop_ticket* ticket) {
  return capi::guarded([&]() -> Result<> {
    TRY(capi::check_owner(call, queue));
    TRY_ASSIGN(const swap::FileMove move, move_of(call, direction, path, offset, bytes, memory));
    return begin(*queue->queue, move, ticket);
  });
}

}  // namespace

extern "C" {

orlop_status orlop_file_queue_open(const orlop_file_queue_params* params, orlop_file_queue** queue) {
  constexpr const char* kCall = "open file queue";
  return capi::guarded([&]() -> Result<> {
    TRY(not_null(kCall, "where to put the handle", queue));
    *queue = nullptr;
    TRY_ASSIGN(const orlop_file_queue_params given, capi::read_struct(kCall, params));
    TRY_ASSIGN(swap::FileQueueOptions options, options_of(given));
    TRY_ASSIGN(auto made, swap::FileQueue::create(std::move(options)));
    *queue = new orlop_file_queue{std::move(made), ::getpid()};
    return {};
  });
}

orlop_status orlop_file_queue_read(orlop_file_queue* queue, const char* path, uint64_t offset, uint64_t bytes,
                                   void* destination, orlop_ticket* ticket) {
  return start_move("read file", queue, aio::Direction::read, path, offset, bytes, destination, ticket);
}

orlop_status orlop_file_queue_write(orlop_file_queue* queue, const char* path, uint64_t offset, uint64_t bytes,
                                    const void* source, orlop_ticket* ticket) {
  // Writes only read their memory; moves of both directions have one type.
  return start_move("write file", queue, aio::Direction::write, path, offset, bytes, const_cast<void*>(source), ticket);
}

orlop_status orlop_file_queue_wait(orlop_file_queue* queue, orlop_ticket ticket, int32_t timeout_ms) {
  return capi::guarded([&]() -> Result<> {
    TRY(capi::check_owner("wait for file", queue));
    return queue->queue->wait({ticket}, timeout_ms);
  });
}

orlop_status orlop_file_queue_close(orlop_file_queue** queue) {
  if (queue == nullptr || *queue == nullptr) return ORLOP_OK;
  return capi::guarded([&]() -> Result<> {
    orlop_file_queue* const handle = std::exchange(*queue, nullptr);
    if (handle->owner != ::getpid()) static_cast<void>(handle->queue.release());  // the parent's thread and ring
    delete handle;
    return {};
  });
}

}  // extern "C"
