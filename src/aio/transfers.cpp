#include "aio/transfers.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <optional>
#include <thread>
#include <utility>

#include "base/bytes.hpp"
#include "base/log.hpp"

namespace orlop::aio {

std::uint64_t bytes_of(std::span<const Piece> pieces) {
  std::uint64_t bytes = 0;
  for (const Piece& piece : pieces) bytes += piece.bytes;
  return bytes;
}

namespace {

constexpr std::uint64_t kLargestRequestBytes = 1_GiB;
constexpr unsigned kQuickTries = 16;   // of one request, before pausing between them
constexpr unsigned kMostTries = 1000;  // without progress: a second or more
constexpr std::chrono::milliseconds kPauseBetweenTries{1};
constexpr std::chrono::microseconds kPauseWithoutRoom{100};

// A move under way.
struct Pending {
  Move move;
  std::size_t piece = 0;       // the next request is cut from this piece,
  std::uint64_t cut = 0;       // from here on
  unsigned outstanding = 0;    // slots that it holds
  bool is_waiting = false;     // there is more to cut
  bool is_active = false;      // started and not yet reported
  std::optional<Error> error;  // the first
  Pending* next = nullptr;     // in its class
};

// Moves of one class that have not been cut up completely, in order of arrival.
class WaitingList {
 public:
  [[nodiscard]] bool empty() const { return first_ == nullptr; }
  [[nodiscard]] Pending* front() const { return first_; }
  void push(Pending& pending) {
    pending.next = nullptr;
    (first_ == nullptr ? first_ : last_->next) = &pending;
    last_ = &pending;
    pending.is_waiting = true;
  }
  void pop() {
    first_->is_waiting = false;
    first_ = first_->next;
  }

 private:
  Pending* first_ = nullptr;
  Pending* last_ = nullptr;
};

// A request that is in flight or goes next.
struct Slot {
  Pending* pending = nullptr;
  const File* file = nullptr;
  std::byte* memory = nullptr;
  std::uint64_t offset = 0;
  std::uint32_t bytes = 0;
  unsigned tries = 0;  // without progress
};

const char* name_of(Direction direction) {
  return direction == Direction::read ? "read" : "write";
}

std::uint64_t unit_of(const File& file) {
  return std::max(file.alignment().memory, file.alignment().offset);
}

bool is_aligned_for(const Piece& piece) {
  const auto [memory, offset] = piece.file->alignment();
  return is_aligned(piece.memory, memory) && is_aligned(piece.offset, offset) &&
         is_aligned(piece.bytes, offset);
}

std::optional<Error> find_misaligned(const Move& move) {
  for (const auto& piece : move.pieces) {
    if (is_aligned_for(piece)) continue;
    return fail(ORLOP_INVALID_ARGUMENT,
                "{}: {} ({} bytes at offset {}, memory at {}): direct transfers of this file must be "
                "multiples of {} bytes in "
                "memory aligned to {}",
                name_of(move.direction), piece.file->path(), piece.bytes, piece.offset,
                static_cast<const void*>(piece.memory), piece.file->alignment().offset,
                piece.file->alignment().memory)
        .value();
  }
  return std::nullopt;
}

std::string place_of(const Slot& slot) {
  return fmt::format("{} at offset {}", format_bytes(slot.bytes), slot.offset);
}

Error error_of_errno(Direction direction, const Slot& slot, int error) {
  std::string free;
  if (status_of_errno(error) == ORLOP_NO_SPACE) {
    const auto bytes = free_bytes(directory_of(slot.file->path()));
    free = bytes ? fmt::format(", {} free there", format_bytes(*bytes)) : "";
  }
  return {status_of_errno(error),
          fmt::format("{}: {} ({}{}): {}{}", name_of(direction), slot.file->path(), place_of(slot), free,
                      describe_errno(error), free.empty() ? "" : "; free space or choose another nvme_path")};
}

Error error_of_end(const Slot& slot, std::uint64_t file_bytes) {
  return {
      ORLOP_CORRUPT,
      fmt::format("read: {} ({}, file of {} bytes): the file ends {} bytes too early; it was truncated or "
                  "replaced since it was written",
                  slot.file->path(), place_of(slot), file_bytes, slot.offset + slot.bytes - file_bytes)};
}

Error error_of_tries(Direction direction, const Slot& slot, std::string_view why) {
  return {ORLOP_IO_ERROR, fmt::format("{}: {} ({}): no progress in {} tries: {}", name_of(direction),
                                      slot.file->path(), place_of(slot), kMostTries, why)};
}

bool is_retried(std::int64_t result) {
  return result == -EINTR || result == -EAGAIN;
}

}  // namespace

class Transfers::State {
 public:
  State(Queue& queue, TransferOptions options)
      : queue_(queue), options_(options), turns_(options.mixing, options.phase_bytes) {
    const auto depth = queue.depth();
    slots_.resize(depth);
    requests_.reserve(depth);
    completions_.resize(depth);
    ready_.reserve(depth);
    for (unsigned i = depth; i > 0; --i) free_slots_.push_back(i - 1);
  }

  void start(Move move) {
    Pending& pending = take_pending();
    pending.move = std::move(move);
    pending.error = failure_ ? failure_ : find_misaligned(pending.move);
    if (!pending.error && skip_empty_pieces(pending)) list_of(pending).push(pending);
    finish_if_over(pending);
  }

  Result<> run() {
    if (failure_) return tl::unexpected<Error>(*failure_);
    auto result = turn();
    if (!result) give_up(result.error());
    return result;
  }

  void report(std::vector<MoveDone>& done) {
    for (Pending* const pending : finished_) {
      done.push_back({pending->move.id,
                      pending->error ? Result<>(tl::unexpect, std::move(*pending->error)) : Result<>()});
      *pending = {};
      free_pendings_.push_back(pending);
    }
    finished_.clear();
  }

  [[nodiscard]] bool idle() const { return free_pendings_.size() == pendings_.size(); }

  void cancel_waiting() {
    const auto cancelled = [](const Pending& pending) {
      return Error{ORLOP_CANCELLED,
                   fmt::format("{}: {}: cancelled before all of it was submitted",
                               name_of(pending.move.direction), pending.move.pieces.front().file->path())};
    };
    for (auto& list : waiting_) {
      while (!list.empty()) end(*list.front(), cancelled(*list.front()));
    }
    for (const auto index : std::exchange(ready_, {})) {
      Pending& pending = *slots_[index].pending;
      if (!pending.error) pending.error = cancelled(pending);
      release(index);
    }
    ready_.reserve(slots_.size());
  }

  void set_options(TransferOptions options) {
    options_ = options;
    turns_ = Turns(options.mixing, options.phase_bytes);
  }

  void close() {
    if (!failure_) settle();
  }

 private:
  Result<> turn() {
    TRY(submit());
    if (in_flight_ == 0) {
      if (finished_.empty() && !ready_.empty()) std::this_thread::sleep_for(kPauseWithoutRoom);
      return {};
    }
    TRY_ASSIGN(const auto count, queue_.wait(completions_, finished_.empty() ? 1 : 0));
    in_flight_ -= count;
    for (const auto& completion : std::span(completions_).first(count)) take(completion);
    return submit();
  }

  // The queue does not work any more: waits, as far as it still can, until nothing touches memory, and ends
  // every move.
  void give_up(const Error& failure) {
    failure_ = failure;
    for (auto& pending : pendings_) {
      if (pending->is_active && !pending->error && !is_finished(*pending)) pending->error = failure;
    }
    cancel_waiting();
    settle();
    for (auto& pending : pendings_) {
      if (pending->is_active && !is_finished(*pending)) finished_.push_back(pending.get());
    }
  }

  // Until nothing is in flight. A wait that returns none may have been interrupted.
  void settle() {
    for (unsigned empty = 0; in_flight_ > 0 || empty < 2;) {
      const auto count = queue_.wait(completions_, completions_.size());
      if (!count)
        return log_error("transfers: ended with {} requests in flight: {}", in_flight_,
                         count.error().message);
      in_flight_ -= std::min(in_flight_, *count);
      empty = *count == 0 ? empty + 1 : 0;
    }
  }

  Pending& take_pending() {
    if (free_pendings_.empty()) {
      pendings_.push_back(std::make_unique<Pending>());
      free_pendings_.push_back(pendings_.back().get());
      finished_.reserve(pendings_.size());
      free_pendings_.reserve(pendings_.size());
    }
    Pending& pending = *free_pendings_.back();
    free_pendings_.pop_back();
    pending.is_active = true;
    return pending;
  }

  WaitingList& list_of(const Pending& pending) {
    return waiting_[static_cast<std::size_t>(pending.move.priority)];
  }

  // False when nothing is left to cut.
  static bool skip_empty_pieces(Pending& pending) {
    const auto& pieces = pending.move.pieces;
    while (pending.piece < pieces.size() && pending.cut == pieces[pending.piece].bytes) {
      ++pending.piece;
      pending.cut = 0;
    }
    return pending.piece < pieces.size();
  }

  [[nodiscard]] bool is_finished(const Pending& pending) const {
    return std::find(finished_.begin(), finished_.end(), &pending) != finished_.end();
  }

  void finish_if_over(Pending& pending) {
    if (pending.outstanding == 0 && !pending.is_waiting) finished_.push_back(&pending);
  }

  // The first error of a move wins; nothing more of it is submitted. Only the front of a class can be half
  // cut.
  void end(Pending& pending, Error error) {
    if (!pending.error) pending.error = std::move(error);
    if (!pending.is_waiting) return;
    list_of(pending).pop();
    finish_if_over(pending);
  }

  void release(std::uint32_t index) {
    Pending& pending = *slots_[index].pending;
    free_slots_.push_back(index);
    --pending.outstanding;
    finish_if_over(pending);
  }

  // Offers the queue what goes next: first what was short or refused before, then what is cut from waiting
  // moves.
  Result<> submit() {
    drop_ended();
    while (!free_slots_.empty() && cut_next()) {
    }
    if (ready_.empty()) return {};
    pause_if_stuck();
    requests_.clear();
    for (const auto index : ready_) requests_.push_back(request_of(index));
    TRY_ASSIGN(const auto accepted, queue_.submit(requests_));
    ready_.erase(ready_.begin(), ready_.begin() + static_cast<std::ptrdiff_t>(accepted));
    in_flight_ += accepted;
    return {};
  }

  // Requests of moves that have failed meanwhile do not go.
  void drop_ended() {
    const auto is_ended = [&](std::uint32_t index) { return slots_[index].pending->error.has_value(); };
    const auto kept =
        std::stable_partition(ready_.begin(), ready_.end(), [&](auto index) { return !is_ended(index); });
    std::for_each(kept, ready_.end(), [&](auto index) { release(index); });
    ready_.erase(kept, ready_.end());
  }

  // Cuts one request from the move whose turn it is; false when none waits.
  bool cut_next() {
    Turns::Waiting waiting{};
    for (std::size_t i = 0; i < kPriorityCount; ++i) waiting[i] = !waiting_[i].empty();
    if (std::find(waiting.begin(), waiting.end(), true) == waiting.end()) return false;
    auto& list = waiting_[static_cast<std::size_t>(turns_.next(waiting))];
    Pending& pending = *list.front();
    const auto index = free_slots_.back();
    free_slots_.pop_back();
    slots_[index] = cut_from(pending);
    turns_.went(pending.move.priority, slots_[index].bytes);
    ready_.push_back(index);
    if (!skip_empty_pieces(pending)) list.pop();
    return true;
  }

  Slot cut_from(Pending& pending) {
    const auto& piece = pending.move.pieces[pending.piece];
    const auto bytes =
        std::min(request_bytes(pending.move.direction, *piece.file), piece.bytes - pending.cut);
    const Slot slot{&pending, piece.file, piece.memory + pending.cut, piece.offset + pending.cut,
                    static_cast<std::uint32_t>(bytes)};
    pending.cut += bytes;
    ++pending.outstanding;
    return slot;
  }

  [[nodiscard]] std::uint64_t request_bytes(Direction direction, const File& file) const {
    const auto wanted =
        direction == Direction::read ? options_.read_request_bytes : options_.write_request_bytes;
    const auto unit = unit_of(file);
    return std::max(unit, align_down(std::min(wanted, kLargestRequestBytes), unit));
  }

  // A request that is refused again and again is not worth a core.
  void pause_if_stuck() {
    const auto is_stuck = [&](auto index) { return slots_[index].tries >= kQuickTries; };
    if (std::any_of(ready_.begin(), ready_.end(), is_stuck)) std::this_thread::sleep_for(kPauseBetweenTries);
  }

  [[nodiscard]] Request request_of(std::uint32_t index) const {
    const Slot& slot = slots_[index];
    return {slot.pending->move.direction, slot.file->fd(), slot.memory, slot.bytes, slot.offset, index};
  }

  void take(const Completion& completion) {
    const auto index = static_cast<std::uint32_t>(completion.tag);
    Slot& slot = slots_[index];
    Pending& pending = *slot.pending;
    if (completion.result == slot.bytes || pending.error) return release(index);
    auto error = is_retried(completion.result)
                     ? try_again(slot, describe_errno(static_cast<int>(-completion.result)))
                 : completion.result < 0
                     ? error_of_errno(pending.move.direction, slot, static_cast<int>(-completion.result))
                     : resume(slot, static_cast<std::uint64_t>(completion.result));
    if (!error) return ready_.push_back(index);
    end(pending, std::move(*error));
    release(index);
  }

  static std::optional<Error> try_again(Slot& slot, std::string_view why) {
    if (++slot.tries < kMostTries) return std::nullopt;
    return error_of_tries(slot.pending->move.direction, slot, why);
  }

  // Goes on behind what has been moved; a direct file's last, partial sector is moved again.
  static std::optional<Error> resume(Slot& slot, std::uint64_t moved) {
    if (moved > slot.bytes) {
      return Error{ORLOP_INTERNAL, fmt::format("{}: {} ({}): the queue claims to have moved {} bytes",
                                               name_of(slot.pending->move.direction), slot.file->path(),
                                               place_of(slot), moved)};
    }
    if (slot.pending->move.direction == Direction::read) {
      const auto file_bytes = slot.file->size();
      if (!file_bytes) return file_bytes.error();
      if (slot.offset + moved >= *file_bytes) return error_of_end(slot, *file_bytes);
    }
    const auto whole = static_cast<std::uint32_t>(align_down(moved, unit_of(*slot.file)));
    if (whole == 0) return try_again(slot, fmt::format("{} of {} bytes moved", moved, slot.bytes));
    slot.memory += whole;
    slot.offset += whole;
    slot.bytes -= whole;
    slot.tries = 0;
    return std::nullopt;
  }

  Queue& queue_;
  TransferOptions options_;
  Turns turns_;
  std::array<WaitingList, kPriorityCount> waiting_;
  std::vector<std::unique_ptr<Pending>> pendings_;  // all there ever were; reused
  std::vector<Pending*> free_pendings_;
  std::vector<Pending*> finished_;  // to be reported
  std::vector<Slot> slots_;         // one per request in flight or ready
  std::vector<std::uint32_t> free_slots_;
  std::vector<std::uint32_t> ready_;  // slots that the queue has not accepted yet
  std::vector<Request> requests_;
  std::vector<Completion> completions_;
  std::size_t in_flight_ = 0;     // accepted by the queue
  std::optional<Error> failure_;  // of the queue
};

Transfers::Transfers(std::unique_ptr<Queue> queue, TransferOptions options)
    : queue_(std::move(queue)), state_(std::make_unique<State>(*queue_, options)) {}

Transfers::Transfers(Transfers&& other) noexcept = default;

Transfers::~Transfers() {
  if (state_ != nullptr) state_->close();
}

void Transfers::start(Move move) {
  state_->start(std::move(move));
}

Result<> Transfers::run(std::vector<MoveDone>& done) {
  auto result = state_->run();
  state_->report(done);
  return result;
}

bool Transfers::idle() const {
  return state_->idle();
}

void Transfers::cancel_waiting() {
  state_->cancel_waiting();
}

void Transfers::set_options(TransferOptions options) {
  state_->set_options(options);
}

}  // namespace orlop::aio
