#include "aio/uring_queue.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <ctime>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <vector>

#include <liburing.h>

#include "aio/wake.hpp"
#include "base/bytes.hpp"
#include "base/log.hpp"

namespace orlop::aio {
namespace {

constexpr std::uint64_t kLargestRegisteredBytes = 1_GiB;  // the kernel's limit for one buffer
constexpr std::size_t kMostRegisteredBuffers = 16384;
constexpr std::uint64_t kWakeUserData = UINT64_MAX;  // requests have the index of their slot
constexpr std::uint64_t kDisarmUserData = UINT64_MAX - 1;
constexpr unsigned kOwnEntries = 2;  // wake and disarm, beside the requests

// What we would like of the ring, in the order in which it is given up when the kernel does not know it.
constexpr std::array kSetupFlags = {IORING_SETUP_DEFER_TASKRUN, IORING_SETUP_SINGLE_ISSUER,
                                    IORING_SETUP_R_DISABLED, IORING_SETUP_CLAMP};

constexpr unsigned all_setup_flags() {
  unsigned flags = 0;
  for (const auto flag : kSetupFlags) flags |= flag;
  return flags;
}

Result<> set_up(io_uring& ring, unsigned entries) {
  unsigned flags = all_setup_flags();
  int error = io_uring_queue_init(entries, &ring, flags);
  for (const auto flag : kSetupFlags) {
    if (error != -EINVAL) break;
    flags &= ~flag;
    error = io_uring_queue_init(entries, &ring, flags);
  }
  if (error == 0) {
    log_debug("io_uring queue: {} entries, setup flags {:#x} of {:#x}", ring.sq.ring_entries, flags,
              all_setup_flags());
    return {};
  }
  const char* hint = error == -EPERM || error == -EACCES
                         ? " (sysctl kernel.io_uring_disabled or a seccomp filter forbids it)"
                     : error == -ENOSYS ? " (the kernel has none, or a seccomp filter hides it)"
                     : error == -ENOMEM ? " (RLIMIT_MEMLOCK too small?)"
                                        : "";
  return fail(ORLOP_UNSUPPORTED, "io_uring queue: set up with {} entries: {}{}", entries,
              describe_errno(-error), hint);
}

// Once per process: a calibration makes dozens of queues.
std::atomic<bool> warned_about_memory = false;
std::atomic<bool> warned_about_files = false;

struct RegisteredPiece {
  const std::byte* begin;
  const std::byte* end;
  unsigned index;
};

std::vector<iovec> cut_into_pieces(std::span<const std::span<std::byte>> regions) {
  std::vector<iovec> pieces;
  for (const auto region : regions) {
    for (std::uint64_t at = 0; at < region.size(); at += kLargestRegisteredBytes) {
      pieces.push_back(
          {region.data() + at, std::min<std::size_t>(kLargestRegisteredBytes, region.size() - at)});
    }
  }
  return pieces;
}

void sleep_a_millisecond() {
  const timespec millisecond = {0, 1'000'000};
  ::nanosleep(&millisecond, nullptr);
}

class UringQueue final : public Queue {
 public:
  static Result<std::unique_ptr<Queue>> create(const QueueOptions& options) {
    TRY_ASSIGN(auto wake, WakeEvent::create());
    std::unique_ptr<UringQueue> queue(new UringQueue(std::move(wake)));
    TRY(set_up(queue->ring_, options.depth + kOwnEntries));
    queue->is_set_up_ = true;
    queue->has_slots(std::min(options.depth, queue->ring_.sq.ring_entries - kOwnEntries));
    return queue;
  }

  ~UringQueue() override {
    if (!is_set_up_) return;
    wait_for_all();
    io_uring_queue_exit(&ring_);
  }

  UringQueue(const UringQueue&) = delete;
  UringQueue& operator=(const UringQueue&) = delete;

  Result<std::size_t> submit(std::span<const Request> requests) override {
    TRY(enable());
    const auto count = std::min(requests.size(), free_slots_.size());
    for (const auto& request : requests.first(count)) prepare(request);
    TRY(push());
    return count;
  }

  Result<std::size_t> wait(std::span<Completion> completions, std::size_t minimum) override {
    TRY(enable());
    const auto target = std::min({minimum, completions.size(), in_flight()});
    if (target == 0) TRY(poll());
    auto count = reap(completions);
    while (count < target && !was_interrupted_) {
      TRY(block());
      count += reap(completions.subspan(count));
    }
    if (count < target) was_interrupted_ = false;
    return count;
  }

  void interrupt() override { wake_.signal(); }

  void register_memory(std::span<const std::span<std::byte>> regions) override {
    disarm();
    if (!registered_.empty()) check_unregistered("memory", io_uring_unregister_buffers(&ring_));
    registered_.clear();
    const auto pieces = cut_into_pieces(regions);
    if (pieces.empty()) return;
    const int error =
        pieces.size() > kMostRegisteredBuffers
            ? -E2BIG
            : io_uring_register_buffers(&ring_, pieces.data(), static_cast<unsigned>(pieces.size()));
    if (error < 0) return warn_about_memory(pieces, error);
    remember(pieces);
  }

  void register_files(std::span<const int> fds) override {
    disarm();
    if (!files_.empty()) check_unregistered("files", io_uring_unregister_files(&ring_));
    files_.clear();
    if (fds.empty()) return;
    const int error = io_uring_register_files(&ring_, fds.data(), static_cast<unsigned>(fds.size()));
    if (error >= 0) return files_.assign(fds.begin(), fds.end());
    if (warned_about_files.exchange(true)) return;
    log_warning(
        "io_uring queue: register {} files: {}; works without, at the price of looking each file up for "
        "every "
        "request",
        fds.size(), describe_errno(-error));
  }

  [[nodiscard]] unsigned depth() const override { return static_cast<unsigned>(tags_.size()); }
  [[nodiscard]] std::string_view name() const override { return "uring"; }

 private:
  explicit UringQueue(WakeEvent wake) : wake_(std::move(wake)) {}

  void has_slots(unsigned count) {
    tags_.resize(count);
    for (unsigned i = count; i > 0; --i) free_slots_.push_back(i - 1);
  }

  [[nodiscard]] std::size_t in_flight() const { return tags_.size() - free_slots_.size(); }

  // A ring with SINGLE_ISSUER belongs to the thread that enables it, so that waits for the first use.
  Result<> enable() {
    if (is_enabled_) return {};
    if ((ring_.flags & IORING_SETUP_R_DISABLED) != 0) {
      // liburing 2.3 declares io_uring_enable_rings but does not export it.
      const auto error =
          ::syscall(SYS_io_uring_register, ring_.ring_fd, IORING_REGISTER_ENABLE_RINGS, nullptr, 0);
      if (error < 0) return failed("enable", errno);
    }
    is_enabled_ = true;
    return {};
  }

  static tl::unexpected<Error> failed(const char* what, int error) {
    return fail(status_of_errno(error), "io_uring queue: {}: {}{}", what, describe_errno(error),
                error == EEXIST ? "; it is owned by another thread" : "");
  }

  // The submission ring has room for every slot and our own entries, so there is always a free one.
  io_uring_sqe* next_entry() { return io_uring_get_sqe(&ring_); }

  void prepare(const Request& request) {
    const auto slot = free_slots_.back();
    free_slots_.pop_back();
    tags_[slot] = request.tag;
    io_uring_sqe* const entry = next_entry();
    const int buffer = index_of(request.memory, request.bytes);
    const auto file = std::find(files_.begin(), files_.end(), request.fd);
    const bool is_registered = file != files_.end();
    const int fd = is_registered ? static_cast<int>(file - files_.begin()) : request.fd;
    if (request.direction == Direction::read) {
      if (buffer >= 0)
        io_uring_prep_read_fixed(entry, fd, request.memory, request.bytes, request.offset, buffer);
      else
        io_uring_prep_read(entry, fd, request.memory, request.bytes, request.offset);
    } else {
      if (buffer >= 0)
        io_uring_prep_write_fixed(entry, fd, request.memory, request.bytes, request.offset, buffer);
      else
        io_uring_prep_write(entry, fd, request.memory, request.bytes, request.offset);
    }
    entry->user_data = slot;
    if (is_registered) entry->flags |= IOSQE_FIXED_FILE;
  }

  // Index of the registered buffer in which a range of memory lies, or -1.
  [[nodiscard]] int index_of(const std::byte* memory, std::uint64_t bytes) const {
    auto after =
        std::upper_bound(registered_.begin(), registered_.end(), memory,
                         [](const std::byte* p, const RegisteredPiece& piece) { return p < piece.begin; });
    if (after == registered_.begin()) return -1;
    const auto& piece = *--after;
    const bool is_inside = memory < piece.end && bytes <= static_cast<std::uint64_t>(piece.end - memory);
    return is_inside ? static_cast<int>(piece.index) : -1;
  }

  // Hands prepared entries to the kernel. What it has no room for now goes with the next wait.
  Result<> push() {
    while (io_uring_sq_ready(&ring_) > 0) {
      const int submitted = io_uring_submit(&ring_);
      if (submitted > 0 || submitted == -EINTR) continue;
      if (submitted == 0 || submitted == -EAGAIN || submitted == -EBUSY) return {};
      return failed("submit", -submitted);
    }
    return {};
  }

  // Lets the kernel post completions that wait for this thread to ask (DEFER_TASKRUN).
  Result<> poll() {
    TRY(push());
    const int error = io_uring_get_events(&ring_);
    if (error < 0 && error != -EINTR && error != -EAGAIN && error != -EBUSY) return failed("poll", -error);
    return {};
  }

  // Until at least one completion is there. One, because an interrupt is one completion too.
  Result<> block() {
    arm();
    const int error = io_uring_submit_and_wait(&ring_, 1);
    if (error >= 0 || error == -EINTR) return {};
    if (error != -EAGAIN && error != -EBUSY) return failed("wait", -error);
    sleep_a_millisecond();  // the kernel is out of memory for requests: let some finish
    return poll();
  }

  void arm() {
    if (is_armed_) return;
    io_uring_sqe* const entry = next_entry();
    io_uring_prep_poll_add(entry, wake_.fd(), POLLIN);
    entry->user_data = kWakeUserData;
    is_armed_ = true;
  }

  // Takes back the poll of the wake event: kernels before 5.13 register only while no request at all is in
  // flight.
  void disarm() {
    if (!is_armed_) return;
    io_uring_sqe* const entry = next_entry();
    io_uring_prep_poll_remove(entry, kWakeUserData);
    entry->user_data = kDisarmUserData;
    is_disarming_ = true;
    while (is_armed_ || is_disarming_) {
      const int error = io_uring_submit_and_wait(&ring_, 1);
      if (error < 0 && error != -EINTR) return;
      reap({});
    }
  }

  std::size_t reap(std::span<Completion> completions) {
    std::size_t count = 0;
    unsigned seen = 0;
    unsigned head = 0;
    io_uring_cqe* entry = nullptr;
    io_uring_for_each_cqe(&ring_, head, entry) {
      if (is_ours(*entry)) {
        take_ours(*entry);
      } else {
        if (count == completions.size()) break;
        completions[count++] = complete(*entry);
      }
      ++seen;
    }
    io_uring_cq_advance(&ring_, seen);
    return count;
  }

  static bool is_ours(const io_uring_cqe& entry) { return entry.user_data >= kDisarmUserData; }

  void take_ours(const io_uring_cqe& entry) {
    if (entry.user_data == kDisarmUserData) {
      is_disarming_ = false;
      return;
    }
    is_armed_ = false;
    if (entry.res != -ECANCELED) was_interrupted_ = wake_.take() || was_interrupted_;
  }

  Completion complete(const io_uring_cqe& entry) {
    const auto slot = static_cast<std::uint32_t>(entry.user_data);
    free_slots_.push_back(slot);
    return {tags_[slot], entry.res};
  }

  static void check_unregistered(const char* what, int error) {
    if (error < 0) log_warning("io_uring queue: unregister {}: {}", what, describe_errno(-error));
  }

  void remember(const std::vector<iovec>& pieces) {
    for (unsigned i = 0; i < pieces.size(); ++i) {
      const auto* const begin = static_cast<const std::byte*>(pieces[i].iov_base);
      registered_.push_back({begin, begin + pieces[i].iov_len, i});
    }
    std::sort(registered_.begin(), registered_.end(),
              [](const auto& a, const auto& b) { return a.begin < b.begin; });
  }

  void warn_about_memory(const std::vector<iovec>& pieces, int error) {
    if (warned_about_memory.exchange(true)) return;
    std::uint64_t bytes = 0;
    for (const auto& piece : pieces) bytes += piece.iov_len;
    log_warning(
        "io_uring queue: register {} of memory: {}; works without, at the price of pinning the pages of "
        "every "
        "request anew{}",
        format_bytes(bytes), describe_errno(-error),
        error == -ENOMEM ? "; raise RLIMIT_MEMLOCK (ulimit -l) to avoid that" : "");
  }

  void wait_for_all() {
    std::array<Completion, 64> completions;
    while (in_flight() > 0) {
      const auto count = wait(completions, in_flight());
      if (count) continue;
      log_error("io_uring queue: closed with {} requests in flight: {}", in_flight(), count.error().message);
      return;
    }
  }

  io_uring ring_{};
  WakeEvent wake_;
  std::vector<std::uint64_t> tags_;  // of the request in each slot
  std::vector<std::uint32_t> free_slots_;
  std::vector<RegisteredPiece> registered_;  // by address
  std::vector<int> files_;                   // their position is their index
  bool is_set_up_ = false;
  bool is_enabled_ = false;
  bool is_armed_ = false;  // a poll of the wake event is in the ring
  bool is_disarming_ = false;
  bool was_interrupted_ = false;
};

}  // namespace

Result<std::unique_ptr<Queue>> make_uring_queue(const QueueOptions& options) {
  return UringQueue::create(options);
}

}  // namespace orlop::aio
