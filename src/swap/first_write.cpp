#include "swap/first_write.hpp"

#include <algorithm>
#include <deque>

#include "base/bytes.hpp"

namespace orlop::swap {
namespace {

constexpr std::size_t kMovesAtOnce = 4;
constexpr std::uint64_t kMoveBytes = 16_MiB;
constexpr int kCancelPollMs = 50;

bool is_cancelled(const std::atomic<bool>* cancel) {
  return cancel != nullptr && cancel->load(std::memory_order_relaxed);
}

tl::unexpected<Error> cancelled(const aio::File& file, std::uint64_t written, std::uint64_t bytes) {
  return fail(ORLOP_CANCELLED, "first write: on {} ({} of {} bytes written): cancelled", file.path(), written, bytes);
}

// Waits for a move; ORLOP_TIMEOUT never comes out.
Result<> wait_or_cancel(Mover& mover, Ticket ticket, const std::atomic<bool>* cancel) {
  for (;;) {
    auto result = mover.wait(ticket, kCancelPollMs);
    if (result || result.error().status != ORLOP_TIMEOUT) return result;
    if (is_cancelled(cancel)) mover.cancel_waiting();
  }
}

Result<> settle_all(Mover& mover, std::deque<Ticket>& tickets, const std::atomic<bool>* cancel) {
  Result<> first;
  for (; !tickets.empty(); tickets.pop_front()) {
    auto result = wait_or_cancel(mover, tickets.front(), cancel);
    if (first) first = std::move(result);
  }
  return first;
}

}  // namespace

Result<> write_zeros(Mover& mover, const aio::File& file, std::uint64_t bytes, std::span<std::byte> zeros,
                     const std::atomic<bool>* cancel) {
  const std::uint64_t step = std::min<std::uint64_t>(kMoveBytes, zeros.size());
  std::deque<Ticket> tickets;
  Result<> result;
  std::uint64_t offset = 0;
  while (result && offset < bytes && !is_cancelled(cancel)) {
    const std::uint64_t length = std::min(step, bytes - offset);
    auto ticket = mover.submit(
        {aio::Direction::write, aio::Priority::write_back, {{&file, zeros.data(), offset, length}}, 0});
    if (!ticket) {
      result = tl::unexpected(ticket.error());
      break;
    }
    tickets.push_back(*ticket);
    offset += length;
    if (tickets.size() < kMovesAtOnce) continue;
    result = wait_or_cancel(mover, tickets.front(), cancel);
    tickets.pop_front();
  }
  auto rest = settle_all(mover, tickets, cancel);
  if (is_cancelled(cancel)) return cancelled(file, offset, bytes);
  return result ? rest : result;
}

}  // namespace orlop::swap
