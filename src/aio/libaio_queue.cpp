#include "aio/libaio_queue.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <poll.h>
#include <vector>

#include <libaio.h>

#include "aio/wake.hpp"
#include "base/log.hpp"

namespace orlop::aio {
namespace {

constexpr long kBlindWaitNs =
    5'000'000;  // between looks at the wake event where the kernel cannot poll it for us

Result<> set_up(io_context_t& context, unsigned depth) {
  const int error = io_setup(static_cast<int>(depth + 1), &context);  // one more: the poll of the wake event
  if (error == 0) return {};
  const char* hint = error == -EAGAIN   ? " (the system's limit is reached: raise fs.aio-max-nr)"
                     : error == -ENOSYS ? " (the kernel has none, or a seccomp filter hides it)"
                                        : "";
  return fail(ORLOP_UNSUPPORTED, "Linux AIO queue: set up for {} requests: {}{}", depth,
              describe_errno(-error), hint);
}

// A request that io_submit refused for what it asks: it waits here to be returned as a completion.
struct Refused {
  const iocb* block;
  int error;  // a negative errno
};

class LibaioQueue final : public Queue {
 public:
  static Result<std::unique_ptr<Queue>> create(const QueueOptions& options) {
    TRY_ASSIGN(auto wake, WakeEvent::create());
    std::unique_ptr<LibaioQueue> queue(new LibaioQueue(std::move(wake)));
    TRY(set_up(queue->context_, options.depth));
    queue->has_slots(options.depth);
    return queue;
  }

  ~LibaioQueue() override {
    if (context_ == nullptr) return;
    wait_for_all();
    const int error = io_destroy(context_);
    if (error < 0) log_error("Linux AIO queue: close: {}", describe_errno(-error));
  }

  LibaioQueue(const LibaioQueue&) = delete;
  LibaioQueue& operator=(const LibaioQueue&) = delete;

  Result<std::size_t> submit(std::span<const Request> requests) override {
    const auto offered = std::min(requests.size(), free_slots_.size());
    for (std::size_t i = 0; i < offered; ++i) offered_[i] = prepare(requests[i]);
    std::size_t accepted = 0;
    while (accepted < offered) {
      TRY_ASSIGN(const auto taken, submit_some({offered_.data() + accepted, offered - accepted}));
      if (taken == 0) break;
      accepted += taken;
    }
    for (auto i = offered; i > accepted; --i) release(*offered_[i - 1]);
    return accepted;
  }

  Result<std::size_t> wait(std::span<Completion> completions, std::size_t minimum) override {
    const auto target = std::min({minimum, completions.size(), in_flight()});
    auto count = take_refused(completions);
    TRY(reap(completions, count, 0));
    while (count < target && !was_interrupted_) {
      arm();
      TRY(reap(completions, count, 1));
    }
    if (count < target) was_interrupted_ = false;
    return count;
  }

  void interrupt() override { wake_.signal(); }

  // The kernel has no such thing for Linux AIO.
  void register_memory(std::span<const std::span<std::byte>>) override {}
  void register_files(std::span<const int>) override {}

  [[nodiscard]] unsigned depth() const override { return static_cast<unsigned>(blocks_.size()); }
  [[nodiscard]] std::string_view name() const override { return "aio"; }

 private:
  explicit LibaioQueue(WakeEvent wake) : wake_(std::move(wake)) {}

  void has_slots(unsigned count) {
    blocks_.resize(count);
    tags_.resize(count);
    offered_.resize(count);
    events_.resize(count + 1);
    refused_.reserve(count);
    for (unsigned i = count; i > 0; --i) free_slots_.push_back(i - 1);
  }

  [[nodiscard]] std::size_t in_flight() const { return blocks_.size() - free_slots_.size(); }
  [[nodiscard]] std::size_t slot_of(const iocb& block) const {
    return static_cast<std::size_t>(&block - blocks_.data());
  }

  iocb* prepare(const Request& request) {
    const auto slot = free_slots_.back();
    free_slots_.pop_back();
    tags_[slot] = request.tag;
    iocb& block = blocks_[slot];
    const auto offset = static_cast<long long>(request.offset);
    if (request.direction == Direction::read)
      io_prep_pread(&block, request.fd, request.memory, request.bytes, offset);
    else
      io_prep_pwrite(&block, request.fd, request.memory, request.bytes, offset);
    return &block;
  }

  void release(const iocb& block) { free_slots_.push_back(static_cast<std::uint32_t>(slot_of(block))); }

  // How many were taken, from the front; 0 when the kernel has no room. One that is refused for what it asks
  // is taken and completes with its errno.
  Result<std::size_t> submit_some(std::span<iocb*> blocks) {
    const int submitted = io_submit(context_, static_cast<long>(blocks.size()), blocks.data());
    if (submitted >= 0) return static_cast<std::size_t>(submitted);
    if (submitted == -EAGAIN || submitted == -EINTR) return std::size_t{0};
    if (submitted == -ENOSYS)
      return fail(ORLOP_UNSUPPORTED, "Linux AIO queue: submit: {}", describe_errno(ENOSYS));
    refused_.push_back({blocks.front(), submitted});
    return std::size_t{1};
  }

  std::size_t take_refused(std::span<Completion> completions) {
    std::size_t count = 0;
    for (; count < completions.size() && !refused_.empty(); refused_.pop_back()) {
      completions[count++] = complete(*refused_.back().block, refused_.back().error);
    }
    return count;
  }

  // Adds what has completed to completions[count...]; waits for `minimum` events. One at most, because an
  // interrupt is one event too.
  Result<> reap(std::span<Completion> completions, std::size_t& count, long minimum) {
    const auto room = static_cast<long>(completions.size() - count);
    if (room == 0) return {};
    timespec blind = {0, is_blind_ ? kBlindWaitNs : 0};
    const bool waits_blindly = is_blind_ && minimum > 0;
    const int got = io_getevents(context_, minimum, room, events_.data(),
                                 minimum == 0 || waits_blindly ? &blind : nullptr);
    if (waits_blindly) was_interrupted_ = wake_.take() || was_interrupted_;
    if (got == -EINTR) return {};
    if (got < 0) return fail(status_of_errno(-got), "Linux AIO queue: wait: {}", describe_errno(-got));
    for (int i = 0; i < got; ++i) take(events_[static_cast<std::size_t>(i)], completions, count);
    return {};
  }

  void take(const io_event& event, std::span<Completion> completions, std::size_t& count) {
    if (event.obj == &wake_block_) {
      is_armed_ = false;
      was_interrupted_ = wake_.take() || was_interrupted_;
      return;
    }
    completions[count++] = complete(*event.obj, static_cast<std::int64_t>(event.res));
  }

  Completion complete(const iocb& block, std::int64_t result) {
    release(block);
    return {tags_[slot_of(block)], result};
  }

  void arm() {
    if (is_armed_ || is_blind_) return;
    io_prep_poll(&wake_block_, wake_.fd(), POLLIN);
    iocb* block = &wake_block_;
    const int submitted = io_submit(context_, 1, &block);
    is_armed_ = submitted == 1;
    is_blind_ = !is_armed_ && submitted != -EAGAIN && submitted != -EINTR;
    if (is_blind_)
      log_debug("Linux AIO queue: poll: {}: looks for interrupts every 5 ms", describe_errno(-submitted));
  }

  void wait_for_all() {
    std::array<Completion, 64> completions;
    while (in_flight() > 0) {
      const auto count = wait(completions, in_flight());
      if (count) continue;
      log_error("Linux AIO queue: closed with {} requests in flight: {}", in_flight(), count.error().message);
      return;
    }
  }

  io_context_t context_ = nullptr;
  WakeEvent wake_;
  iocb wake_block_{};
  std::vector<iocb> blocks_;
  std::vector<std::uint64_t> tags_;  // of the request in each block
  std::vector<std::uint32_t> free_slots_;
  std::vector<iocb*> offered_;
  std::vector<io_event> events_;
  std::vector<Refused> refused_;
  bool is_armed_ = false;  // a poll of the wake event is in the context
  bool is_blind_ = false;  // the kernel cannot poll the wake event (before 4.19)
  bool was_interrupted_ = false;
};

}  // namespace

Result<std::unique_ptr<Queue>> make_libaio_queue(const QueueOptions& options) {
  return LibaioQueue::create(options);
}

}  // namespace orlop::aio
