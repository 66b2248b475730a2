#include "swap/mover.hpp"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <exception>
#include <utility>

#include "base/clock.hpp"
#include "base/log.hpp"

namespace orlop::swap {
namespace {

std::uint64_t bytes_of(const std::vector<aio::Piece>& pieces) {
  std::uint64_t bytes = 0;
  for (const auto& piece : pieces) bytes += piece.bytes;
  return bytes;
}

template <typename Condition>
bool wait_until(std::condition_variable& changed, std::unique_lock<std::mutex>& lock, int timeout_ms,
                const Condition& condition) {
  if (timeout_ms >= 0) return changed.wait_for(lock, std::chrono::milliseconds(timeout_ms), condition);
  changed.wait(lock, condition);
  return true;
}

// The host program's signals are handled on its own threads.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
};

}  // namespace

Mover::Mover(MoverOptions options) : options_(std::move(options)) {}

Result<std::unique_ptr<Mover>> Mover::create(MoverOptions options) {
  std::unique_ptr<Mover> mover(new Mover(std::move(options)));
  mover->start_thread();
  Result<> opened;
  {
    std::unique_lock lock(mover->mutex_);
    mover->changed_.wait(lock, [&] { return mover->opened_.has_value(); });
    opened = *mover->opened_;
  }
  TRY(opened);
  return mover;
}

Mover::~Mover() {
  {
    const std::lock_guard lock(mutex_);
    running_ = Running::until_idle;
    cancel_ = Cancel::asked;
    wake();
  }
  if (thread_.joinable()) thread_.join();
}

void Mover::start_thread() {
  const SignalsBlocked blocked;
  thread_ = std::thread([this] { run(); });
  pthread_setname_np(thread_.native_handle(), "orlop-io");
}

Result<Ticket> Mover::submit(MoveRequest request) {
  const std::lock_guard lock(mutex_);
  if (failure_) return tl::unexpected(*failure_);
  if (moves_.size() >= kMaximumTickets) {
    return fail(ORLOP_INTERNAL, "mover: {} tickets: nobody has waited for them", moves_.size());
  }
  moves_.emplace(++last_id_,
                 Tracked{request.direction, request.index, bytes_of(request.pieces), now_ns(), std::nullopt});
  inbox_.push_back({request.direction, request.priority, std::move(request.pieces), last_id_});
  wake();
  return Ticket{last_id_};
}

// Wherever the I/O thread sleeps.
void Mover::wake() {
  if (is_in_queue_) transfers_->queue().interrupt();
  work_.notify_one();
}

bool Mover::poll(Ticket ticket) const {
  const std::lock_guard lock(mutex_);
  const auto found = moves_.find(ticket.id);
  return found == moves_.end() || found->second.outcome.has_value();
}

Result<> Mover::wait(Ticket ticket, int timeout_ms) {
  std::unique_lock lock(mutex_);
  const auto is_over = [&] {
    const auto found = moves_.find(ticket.id);
    return found == moves_.end() || found->second.outcome.has_value();
  };
  if (!wait_until(changed_, lock, timeout_ms, is_over)) {
    return fail(ORLOP_TIMEOUT, "transfer: not finished after {} ms", timeout_ms);
  }
  auto node = moves_.extract(ticket.id);
  return node ? std::move(*node.mapped().outcome) : Result<>{};
}

std::uint64_t Mover::finished() const {
  const std::lock_guard lock(mutex_);
  return finished_;
}

void Mover::wait_beyond(std::uint64_t seen, int timeout_ms) const {
  std::unique_lock lock(mutex_);
  wait_until(changed_, lock, timeout_ms, [&] { return finished_ > seen; });
}

void Mover::cancel_waiting() {
  const std::lock_guard lock(mutex_);
  cancel_ = Cancel::asked;
  wake();
}

Traffic Mover::traffic() const {
  const std::lock_guard lock(mutex_);
  const std::int64_t open_ns = flight_begin_ns_ == 0 ? 0 : now_ns() - flight_begin_ns_;
  return {read_bytes_, write_bytes_, busy_ns_ + open_ns};
}

// ---- The I/O thread

void Mover::run() {
  auto opened = [this]() -> Result<> {
    try {
      return open_queue();
    } catch (const std::exception& exception) {
      return fail(ORLOP_INTERNAL, "I/O thread: {}", exception.what());
    }
  }();
  const bool is_open = opened.has_value();
  {
    const std::lock_guard lock(mutex_);
    opened_ = std::move(opened);
    changed_.notify_all();
  }
  if (!is_open) return;
  try {
    carry_out();
  } catch (const std::exception& exception) {
    give_up({ORLOP_INTERNAL, fmt::format("I/O thread: {}", exception.what())});
  }
  transfers_.reset();  // here: one thread owns the ring until its end
}

Result<> Mover::open_queue() {
  TRY_ASSIGN(auto queue, options_.make_queue(options_.queue));
  if (!options_.memory.empty()) queue->register_memory(options_.memory);
  if (!options_.files.empty()) queue->register_files(options_.files);
  queue_name_ = queue->name();
  transfers_ = std::make_unique<aio::Transfers>(std::move(queue), options_.requests);
  return {};
}

void Mover::carry_out() {
  std::vector<aio::MoveDone> done;
  while (await_work()) {
    const auto ran = transfers_->run(done);
    if (!ran) return give_up(ran.error());
    settle(done);
  }
}

// Sleeps while there is nothing to do, and starts what was submitted. False when all is done and over.
bool Mover::await_work() {
  std::unique_lock lock(mutex_);
  is_in_queue_ = false;
  work_.wait(lock, [&] { return !inbox_.empty() || !transfers_->idle() || running_ == Running::until_idle; });
  for (auto& move : std::exchange(inbox_, {})) transfers_->start(std::move(move));
  if (std::exchange(cancel_, Cancel::no) == Cancel::asked) transfers_->cancel_waiting();
  note_flight();
  is_in_queue_ = !transfers_->idle();
  return is_in_queue_;
}

void Mover::settle(std::vector<aio::MoveDone>& done) {
  if (done.empty()) return;
  const std::lock_guard lock(mutex_);
  for (auto& move : done) finish(move.id, std::move(move.result));
  done.clear();
  note_flight();
}

// The queue has failed, and with it every move. They are reported only when memory is free of them: Transfers'
// destructor waits.
void Mover::give_up(const Error& error) {
  log_error("I/O thread: {}", error.message);
  {
    const std::lock_guard lock(mutex_);
    failure_ = error;
    is_in_queue_ = false;  // nobody interrupts it any more
  }
  transfers_.reset();
  const std::lock_guard lock(mutex_);
  inbox_.clear();
  for (auto& [id, tracked] : moves_) {
    if (!tracked.outcome) finish(id, tl::unexpected(error));
  }
  if (flight_begin_ns_ != 0) busy_ns_ += now_ns() - std::exchange(flight_begin_ns_, 0);
}

void Mover::finish(std::uint64_t id, Result<> outcome) {
  const auto found = moves_.find(id);
  if (found == moves_.end()) return;
  found->second.outcome = std::move(outcome);
  count(found->second);
  record(found->second);
  ++finished_;
  changed_.notify_all();
}

void Mover::count(const Tracked& tracked) {
  if (!*tracked.outcome) return;
  (tracked.direction == aio::Direction::read ? read_bytes_ : write_bytes_) += tracked.bytes;
}

// Moves of a lane are carried out one behind the other: one begins when the one before it has ended.
void Mover::record(const Tracked& tracked) {
  if (options_.trace == nullptr) return;
  const bool is_read = tracked.direction == aio::Direction::read;
  std::int64_t& lane_end = lane_end_ns_[is_read ? 0 : 1];
  const std::int64_t begin = std::max(tracked.begin_ns, lane_end);
  lane_end = std::max(begin, now_ns());
  options_.trace->record({is_read ? "read" : "write", is_read ? TraceLane::read : TraceLane::write, tracked.index,
                          tracked.bytes, begin, lane_end});
}

// Keeps the time during which something was in flight.
void Mover::note_flight() {
  const bool is_idle = transfers_->idle();
  if (is_idle == (flight_begin_ns_ == 0)) return;
  const std::int64_t now = now_ns();
  if (is_idle) busy_ns_ += now - flight_begin_ns_;
  flight_begin_ns_ = is_idle ? 0 : now;
}

}  // namespace orlop::swap
