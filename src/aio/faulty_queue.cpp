#include "aio/faulty_queue.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/bytes.hpp"

namespace orlop::aio {
namespace {

constexpr int kScribble = 0xee;
constexpr std::uint32_t kLargestSector = 4096;  // direct requests to the inner queue stay multiples of this
constexpr std::chrono::microseconds kNap{50};

bool is_fault(const Fault& fault) {
  return fault.error_number != 0 || fault.short_by != 0 || fault.delay != std::chrono::microseconds{0};
}

bool is_shortened(const Request& request, const Fault& fault) {
  return fault.short_by > 0 && fault.short_by < request.bytes;
}

}  // namespace

FaultScript fault_at(std::vector<std::uint64_t> ops, Fault fault) {
  return [ops = std::move(ops), fault](std::uint64_t op, const Request&) {
    return std::find(ops.begin(), ops.end(), op) == ops.end() ? Fault{} : fault;
  };
}

FaultScript fault_every(std::uint64_t n, Fault fault) {
  return [n, fault](std::uint64_t op, const Request&) { return op % n == n - 1 ? fault : Fault{}; };
}

FaultyQueue::FaultyQueue(std::unique_ptr<Queue> inner, FaultyOptions options)
    : inner_(std::move(inner)), options_(std::move(options)), random_(options_.seed) {
  const auto depth = inner_->depth();
  slots_.resize(depth);
  gathered_.resize(depth);
  held_.reserve(depth);
  for (unsigned i = depth; i > 0; --i) free_slots_.push_back(i - 1);
}

Result<std::size_t> FaultyQueue::submit(std::span<const Request> requests) {
  ++submits_;
  if (options_.refuse_submit_every != 0 && submits_ % options_.refuse_submit_every == 0)
    return std::size_t{0};
  std::size_t count = 0;
  while (count < std::min(requests.size(), options_.accept_at_most) && !free_slots_.empty()) {
    TRY_ASSIGN(const bool accepted, accept(requests[count]));
    if (!accepted) break;
    ++count;
  }
  return count;
}

Result<bool> FaultyQueue::accept(const Request& request) {
  const auto slot = free_slots_.back();
  slots_[slot] = {request, options_.script ? options_.script(ops_, request) : Fault{}};
  const auto& fault = slots_[slot].fault;
  if (fault.error_number == 0) {
    TRY_ASSIGN(const bool accepted, pass_on(slot));
    if (!accepted) return false;
  } else {
    hold(slot, -fault.error_number);
  }
  free_slots_.pop_back();
  ++ops_;
  faults_ += is_fault(fault) ? 1 : 0;
  return true;
}

Result<bool> FaultyQueue::pass_on(std::uint32_t slot) {
  const auto& [original, fault] = slots_[slot];
  Request request = original;
  request.tag = slot;
  if (is_shortened(original, fault)) {
    const auto rounded = align_up(original.bytes - fault.short_by, kLargestSector);
    request.bytes = static_cast<std::uint32_t>(std::min<std::uint64_t>(rounded, original.bytes));
  }
  TRY_ASSIGN(const auto accepted, inner_->submit({&request, 1}));
  inside_ += accepted;
  return accepted == 1;
}

// Puts a completion aside, with the slot's fault applied.
void FaultyQueue::hold(std::uint32_t slot, std::int64_t result) {
  const auto& [request, fault] = slots_[slot];
  if (is_shortened(request, fault) && result >= 0) {
    result = std::min<std::int64_t>(result, request.bytes - fault.short_by);
    if (request.direction == Direction::read) {
      std::memset(request.memory + result, kScribble, request.bytes - static_cast<std::uint64_t>(result));
    }
  }
  held_.push_back({slot, result, Clock::now() + fault.delay});
}

Result<std::size_t> FaultyQueue::wait(std::span<Completion> completions, std::size_t minimum) {
  const auto target = std::min({minimum, completions.size(), in_flight()});
  TRY(gather(0));
  auto count = give_out(completions, target);
  while (count < target) {
    if (take_interrupt()) return count;
    TRY(gather_or_sleep());
    count += give_out(completions.subspan(count), target - count);
  }
  return count;
}

// Takes what the inner queue has completed.
Result<> FaultyQueue::gather(std::size_t minimum) {
  TRY_ASSIGN(const auto count, inner_->wait(gathered_, minimum));
  inside_ -= count;
  for (const auto& completion : std::span(gathered_).first(count)) {
    hold(static_cast<std::uint32_t>(completion.tag), completion.result);
  }
  return {};
}

// Nothing can be given out now: waits for the inner queue, or for what is held to become due.
Result<> FaultyQueue::gather_or_sleep() {
  const bool only_inner_helps = held_.empty() || options_.order == CompletionOrder::shuffled;
  if (inside_ > 0 && only_inner_helps) return gather(1);
  {
    std::unique_lock lock(mutex_);
    interrupted_.wait_for(lock, kNap, [&] { return was_interrupted_; });
  }
  return gather(0);
}

std::size_t FaultyQueue::give_out(std::span<Completion> completions, std::size_t target) {
  const bool shuffles = options_.order == CompletionOrder::shuffled;
  if (shuffles && inside_ > 0) return 0;
  if (shuffles) std::shuffle(held_.begin(), held_.end(), random_);
  const auto most =
      shuffles ? std::min(completions.size(), std::max<std::size_t>(target, 1)) : completions.size();
  const auto now = Clock::now();
  std::size_t count = 0;
  std::size_t kept = 0;
  for (const auto& held : held_) {
    if (count == most || held.due > now) {
      held_[kept++] = held;
      continue;
    }
    completions[count++] = {slots_[held.slot].request.tag, held.result};
    free_slots_.push_back(held.slot);
  }
  held_.resize(kept);
  return count;
}

void FaultyQueue::interrupt() {
  {
    const std::lock_guard lock(mutex_);
    was_interrupted_ = true;
  }
  interrupted_.notify_one();
  inner_->interrupt();
}

bool FaultyQueue::take_interrupt() {
  const std::lock_guard lock(mutex_);
  return std::exchange(was_interrupted_, false);
}

}  // namespace orlop::aio
