#include "swap/striping.hpp"

#include <algorithm>
#include <utility>

namespace orlop::swap {
namespace {

// A drive that had no room does not get for ever what it missed.
constexpr double kMostDue = 2 * kStripeGrains;

}  // namespace

void Striping::set_shares(std::vector<double> shares) {
  shares_ = std::move(shares);
  due_.resize(shares_.size());
}

std::vector<Stripe> Striping::cut(std::uint32_t grains, std::vector<std::uint32_t> room) {
  std::vector<Stripe> stripes;
  while (grains > 0) {
    const std::uint32_t wanted = std::min(grains, kStripeGrains);
    const std::uint32_t drive = most_due(wanted, room);
    const std::uint32_t count = room[drive] == 0 ? grains : std::min(wanted, room[drive]);
    room[drive] -= std::min(count, room[drive]);
    grains -= count;
    note(drive, count);
    if (!stripes.empty() && stripes.back().drive == drive) {
      stripes.back().grain_count += count;
    } else {
      stripes.push_back({drive, count});
    }
  }
  return stripes;
}

// Of those with room; of all where none has any.
std::uint32_t Striping::most_due(std::uint32_t grains, const std::vector<std::uint32_t>& room) const {
  const auto rank = [&](std::uint32_t drive) { return std::pair(room[drive] > 0, due_[drive] + shares_[drive] * grains); };
  std::uint32_t best = 0;
  for (std::uint32_t drive = 1; drive < shares_.size(); ++drive) {
    if (rank(drive) > rank(best)) best = drive;
  }
  return best;
}

void Striping::note(std::uint32_t drive, std::uint32_t grains) {
  due_[drive] -= grains;
  for (std::size_t i = 0; i < due_.size(); ++i) due_[i] = std::clamp(due_[i] + shares_[i] * grains, -kMostDue, kMostDue);
}

}  // namespace orlop::swap
