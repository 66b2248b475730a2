#include "swap/file_queue.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "base/bytes.hpp"
#include "base/log.hpp"

namespace orlop::swap {
namespace {

std::uint64_t page_bytes() {
  static const auto bytes = static_cast<std::uint64_t>(std::max(::sysconf(_SC_PAGESIZE), 4096L));
  return bytes;
}

// What has no whole page in it is not worth asking.
aio::Access access_for(const FileMove& move) {
  const bool has_whole_page = is_aligned(move.offset, page_bytes()) && move.memory.size() >= page_bytes();
  return has_whole_page ? aio::Access::direct : aio::Access::buffered;
}

// The bytes from the move's beginning that go directly to a direct file: whole pages, or none.
std::uint64_t direct_bytes(const FileMove& move, const aio::File& file) {
  const std::uint64_t unit = std::max<std::uint64_t>(page_bytes(), file.alignment().offset);
  const bool is_possible = is_aligned(move.offset, unit) && is_aligned(move.memory.data(), file.alignment().memory);
  return is_possible ? align_down(move.memory.size(), unit) : 0;
}

// Of an ordinary file; a device has no size to ask for.
Result<> check_end(const FileMove& move, const aio::File& file) {
  struct stat info {};
  if (::fstat(file.fd(), &info) != 0) {
    return fail(status_of_errno(errno), "read: {}: {}", move.path, describe_errno(errno));
  }
  TRY_ASSIGN(const std::uint64_t end, checked_add(move.offset, move.memory.size()));
  if (!S_ISREG(info.st_mode) || end <= static_cast<std::uint64_t>(info.st_size)) return {};
  return fail(ORLOP_INVALID_ARGUMENT, "read: {} ({} bytes at offset {}): the file has {} bytes; read fewer", move.path,
              move.memory.size(), move.offset, info.st_size);
}

}  // namespace

Result<std::unique_ptr<FileQueue>> FileQueue::create(FileQueueOptions options) {
  MoverOptions mover;
  mover.drives.push_back({.make_queue = std::move(options.make_queue), .queue = options.queue});
  mover.drives.front().requests.read_request_bytes = options.block_bytes;
  mover.drives.front().requests.write_request_bytes = options.block_bytes;
  TRY_ASSIGN(auto made, Mover::create(std::move(mover)));
  return std::unique_ptr<FileQueue>(new FileQueue(std::move(made)));
}

FileQueue::~FileQueue() {
  for (const auto& [id, files] : open_) {
    const auto ended = mover_->wait({id}, -1);
    if (!ended) log_error("file queue: closed while moves were under way: {}", ended.error().message);
  }
}

Result<Ticket> FileQueue::submit(const FileMove& move) {
  const bool is_read = move.direction == aio::Direction::read;
  const auto purpose = is_read ? aio::Purpose::reading : aio::Purpose::writing;
  Files files;
  MoveRequest request{move.direction, is_read ? aio::Priority::prefetch : aio::Priority::write_back, {}};
  const auto add = [&](aio::File file, std::uint64_t begin, std::uint64_t end) {
    files.push_back(std::make_unique<aio::File>(std::move(file)));
    if (begin < end) {
      request.pieces.push_back({files.back().get(), move.memory.data() + begin, move.offset + begin, end - begin});
    }
  };
  const std::uint64_t end = move.memory.size();
  TRY_ASSIGN(aio::File file, aio::File::open_foreign(move.path, purpose, access_for(move)));
  if (is_read) TRY(check_end(move, file));
  if (file.access() == aio::Access::buffered) {
    add(std::move(file), 0, end);
  } else {
    const std::uint64_t whole = direct_bytes(move, file);
    add(std::move(file), 0, whole);
    if (whole < end) {
      TRY_ASSIGN(aio::File cached, aio::File::open_foreign(move.path, purpose, aio::Access::buffered));
      add(std::move(cached), whole, end);
    }
  }

  const std::lock_guard lock(mutex_);
  if (open_.size() >= kMaximum) {
    return fail(ORLOP_OUT_OF_ORDER, "file queue: on {} moves that nobody has waited for: wait for some of them first",
                open_.size());
  }
  TRY_ASSIGN(const Ticket ticket, mover_->submit(std::move(request)));
  open_.emplace(ticket.id, std::move(files));
  return ticket;
}

Result<> FileQueue::wait(Ticket ticket, int timeout_ms) {
  auto outcome = mover_->wait(ticket, timeout_ms);
  const bool is_over = outcome || outcome.error().status != ORLOP_TIMEOUT;
  if (is_over) {
    const std::lock_guard lock(mutex_);
    open_.erase(ticket.id);
  }
  return outcome;
}

}  // namespace orlop::swap
