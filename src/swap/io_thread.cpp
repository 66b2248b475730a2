#include "swap/io_thread.hpp"

#include <pthread.h>
#include <signal.h>

#include <exception>
#include <utility>

#include "base/log.hpp"

namespace orlop::swap {
namespace {

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

IoThread::IoThread(IoThreadOptions options, Tickets& tickets, BusyTime& busy)
    : options_(std::move(options)), tickets_(tickets), busy_(busy) {}

Result<std::unique_ptr<IoThread>> IoThread::create(IoThreadOptions options, Tickets& tickets, BusyTime& busy) {
  std::unique_ptr<IoThread> made(new IoThread(std::move(options), tickets, busy));
  made->start();
  Result<> opened;
  {
    std::unique_lock lock(made->mutex_);
    made->began_.wait(lock, [&] { return made->opened_.has_value(); });
    opened = *made->opened_;
  }
  TRY(opened);
  return made;
}

IoThread::~IoThread() {
  {
    const std::lock_guard lock(mutex_);
    running_ = Running::until_idle;
    cancel_ = Cancel::asked;
    wake();
  }
  if (thread_.joinable()) thread_.join();
}

void IoThread::start() {
  const SignalsBlocked blocked;
  thread_ = std::thread([this] { run(); });
  pthread_setname_np(thread_.native_handle(), "orlop-io");
}

Result<> IoThread::check() const {
  const std::lock_guard lock(mutex_);
  if (failure_) return tl::unexpected(*failure_);
  return {};
}

void IoThread::submit(aio::Move move) {
  const std::lock_guard lock(mutex_);
  if (failure_) return tickets_.finish_part(move.id, tl::unexpected(*failure_));
  parts_.emplace(move.id, Part{move.direction, aio::bytes_of(move.pieces)});
  inbox_.push_back(std::move(move));
  wake();
}

// Wherever the thread sleeps.
void IoThread::wake() {
  if (is_in_queue_) transfers_->queue().interrupt();
  work_.notify_one();
}

void IoThread::cancel_waiting() {
  const std::lock_guard lock(mutex_);
  cancel_ = Cancel::asked;
  wake();
}

Traffic IoThread::traffic() const {
  const std::lock_guard lock(mutex_);
  return {read_bytes_, write_bytes_, own_busy_.ns()};
}

// ---- On the thread itself

void IoThread::run() {
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
    began_.notify_all();
  }
  if (!is_open) return;
  try {
    carry_out();
  } catch (const std::exception& exception) {
    give_up({ORLOP_INTERNAL, fmt::format("I/O thread: {}", exception.what())});
  }
  transfers_.reset();  // here: one thread owns the ring until its end
}

Result<> IoThread::open_queue() {
  TRY_ASSIGN(auto queue, options_.make_queue(options_.queue));
  if (!options_.memory.empty()) queue->register_memory(options_.memory);
  if (options_.file != nullptr) {
    const int fd = options_.file->fd();
    queue->register_files({&fd, 1});
  }
  queue_name_ = queue->name();
  transfers_ = std::make_unique<aio::Transfers>(std::move(queue), options_.requests);
  return {};
}

void IoThread::carry_out() {
  std::vector<aio::MoveDone> done;
  while (await_work()) {
    const auto ran = transfers_->run(done);
    if (!ran) return give_up(ran.error());
    settle(done);
  }
}

// Sleeps while there is nothing to do, and starts what was submitted. False when all is done and over.
bool IoThread::await_work() {
  std::unique_lock lock(mutex_);
  is_in_queue_ = false;
  work_.wait(lock, [&] { return !inbox_.empty() || !transfers_->idle() || running_ == Running::until_idle; });
  for (auto& move : std::exchange(inbox_, {})) transfers_->start(std::move(move));
  if (std::exchange(cancel_, Cancel::no) == Cancel::asked) transfers_->cancel_waiting();
  note_flight(transfers_->idle());
  is_in_queue_ = !transfers_->idle();
  return is_in_queue_;
}

void IoThread::settle(std::vector<aio::MoveDone>& done) {
  if (done.empty()) return;
  const std::lock_guard lock(mutex_);
  note_flight(transfers_->idle());
  for (auto& move : done) finish(move.id, std::move(move.result));
  done.clear();
}

// The queue has failed, and with it every move. They are reported only when memory is free of them: Transfers'
// destructor waits.
void IoThread::give_up(const Error& error) {
  log_error("I/O thread: {}", error.message);
  {
    const std::lock_guard lock(mutex_);
    failure_ = error;
    is_in_queue_ = false;  // nobody interrupts it any more
  }
  transfers_.reset();
  const std::lock_guard lock(mutex_);
  note_flight(true);
  inbox_.clear();
  while (!parts_.empty()) finish(parts_.begin()->first, tl::unexpected(error));
}

void IoThread::finish(std::uint64_t id, Result<> outcome) {
  const auto part = parts_.extract(id);
  if (!part) return;
  if (outcome) (part.mapped().direction == aio::Direction::read ? read_bytes_ : write_bytes_) += part.mapped().bytes;
  tickets_.finish_part(id, std::move(outcome));
}

// Keeps the time during which something was in flight.
void IoThread::note_flight(bool is_idle) {
  if (is_idle != is_in_flight_) return;
  is_in_flight_ = !is_idle;
  for (BusyTime* const time : {&busy_, &own_busy_}) is_idle ? time->end() : time->begin();
}

}  // namespace orlop::swap
