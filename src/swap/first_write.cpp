#include "swap/first_write.hpp"

#include <algorithm>
#include <deque>
#include <vector>

#include "base/bytes.hpp"

namespace orlop::swap {
namespace {

constexpr std::size_t kMovesAtOnce = 4;
constexpr std::uint64_t kMoveBytes = 16_MiB;
constexpr int kCancelPollMs = 50;

bool is_cancelled(const std::atomic<bool>* cancel) {
  return cancel != nullptr && cancel->load(std::memory_order_relaxed);
}

// One file on its way: a few moves under way, one behind the other.
class Filling {
 public:
  Filling(Mover& mover, const ZeroFile& file) : mover_(mover), file_(file) {}

  // Takes note of what has come back.
  Result<> reap() {
    while (!tickets_.empty() && mover_.poll(tickets_.front())) {
      const Ticket ticket = tickets_.front();
      tickets_.pop_front();
      TRY(mover_.wait(ticket, -1));
    }
    return {};
  }
  Result<> submit(std::span<std::byte> zeros) {
    while (offset_ < file_.bytes && tickets_.size() < kMovesAtOnce) {
      const std::uint64_t length = std::min<std::uint64_t>({kMoveBytes, zeros.size(), file_.bytes - offset_});
      TRY_ASSIGN(const Ticket ticket, mover_.submit({aio::Direction::write, aio::Priority::write_back,
                                                     {{file_.file, zeros.data(), offset_, length}}, 0}));
      tickets_.push_back(ticket);
      offset_ += length;
    }
    return {};
  }
  void settle() {
    for (; !tickets_.empty(); tickets_.pop_front()) static_cast<void>(mover_.wait(tickets_.front(), -1));
  }
  [[nodiscard]] bool is_done() const { return tickets_.empty() && offset_ == file_.bytes; }
  [[nodiscard]] tl::unexpected<Error> cancelled() const {
    return fail(ORLOP_CANCELLED, "first write: on {} ({} of {} bytes written): cancelled", file_.file->path(), offset_,
                file_.bytes);
  }

 private:
  Mover& mover_;
  ZeroFile file_;
  std::uint64_t offset_ = 0;
  std::deque<Ticket> tickets_;
};

Result<> fill_all(Mover& mover, std::vector<Filling>& files, std::span<std::byte> zeros, const std::atomic<bool>* cancel) {
  for (;;) {
    const std::uint64_t seen = mover.finished();
    if (is_cancelled(cancel)) return files.front().cancelled();
    for (Filling& file : files) {
      TRY(file.reap());
      TRY(file.submit(zeros));
    }
    if (std::all_of(files.begin(), files.end(), [](const Filling& file) { return file.is_done(); })) return {};
    mover.wait_beyond(seen, kCancelPollMs);
  }
}

}  // namespace

Result<> write_zeros(Mover& mover, std::span<const ZeroFile> files, std::span<std::byte> zeros,
                     const std::atomic<bool>* cancel) {
  std::vector<Filling> fillings;
  for (const ZeroFile& file : files) fillings.emplace_back(mover, file);
  auto filled = fill_all(mover, fillings, zeros, cancel);
  if (!filled) mover.cancel_waiting();
  for (Filling& file : fillings) file.settle();
  return filled;
}

}  // namespace orlop::swap
