#include "swap/slab.hpp"

#include <cassert>
#include <utility>

#include "base/log.hpp"

namespace orlop::swap {

SlabLease::SlabLease(SlabLease&& other) noexcept
    : ring_(std::exchange(other.ring_, nullptr)),
      index_(other.index_),
      mover_(std::exchange(other.mover_, nullptr)),
      ticket_(other.ticket_) {}

SlabLease& SlabLease::operator=(SlabLease&& other) noexcept {
  if (this == &other) return *this;
  end();
  ring_ = std::exchange(other.ring_, nullptr);
  index_ = other.index_;
  mover_ = std::exchange(other.mover_, nullptr);
  ticket_ = other.ticket_;
  return *this;
}

std::byte* SlabLease::data() const { return ring_->memory().data() + index_ * ring_->slab_bytes(); }

Result<> SlabLease::start(Mover& mover, MoveRequest request) {
  assert(mover_ == nullptr);
  TRY_ASSIGN(ticket_, mover.submit(std::move(request)));
  mover_ = &mover;
  return {};
}

bool SlabLease::is_settled() const { return mover_ == nullptr || mover_->poll(ticket_); }

Result<> SlabLease::wait(int timeout_ms) {
  if (mover_ == nullptr) return {};
  auto result = mover_->wait(ticket_, timeout_ms);
  if (result || result.error().status != ORLOP_TIMEOUT) mover_ = nullptr;
  return result;
}

void SlabLease::end() {
  if (ring_ == nullptr) return;
  if (const auto result = wait(); !result && result.error().status != ORLOP_CANCELLED) {
    log_warning("slab: given back after: {}", result.error().message);
  }
  std::exchange(ring_, nullptr)->free_.push_back(index_);
}

Result<std::unique_ptr<SlabRing>> SlabRing::create(const numa::Topology& topology, unsigned count,
                                                   std::uint64_t slab_bytes, const numa::ArenaOptions& options) {
  TRY_ASSIGN(const std::uint64_t bytes, checked_multiply(count, slab_bytes));
  TRY_ASSIGN(auto arena, numa::Arena::create(topology, bytes, options));
  return std::unique_ptr<SlabRing>(new SlabRing(std::move(arena), count, slab_bytes));
}

SlabRing::SlabRing(numa::Arena arena, unsigned count, std::uint64_t slab_bytes)
    : arena_(std::move(arena)), count_(count), slab_bytes_(slab_bytes) {
  for (unsigned index = count; index-- > 0;) free_.push_back(index);
}

std::optional<SlabLease> SlabRing::take() {
  if (free_.empty()) return std::nullopt;
  const unsigned index = free_.back();
  free_.pop_back();
  return SlabLease(this, index);
}

}  // namespace orlop::swap
