// Striping: which drive each stretch of an extent goes to. Over time every drive gets its share of the grains, and what is
// much longer than a stripe is on all of them: a plane that is read by itself comes from all drives at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace orlop::swap {

// 1 MiB: what drives want of one request, and still a small part of a plane.
inline constexpr std::uint32_t kStripeGrains = 4;

struct Stripe {
  std::uint32_t drive;
  std::uint32_t grain_count;
  friend bool operator==(const Stripe&, const Stripe&) = default;
};

class Striping {
 public:
  // They add up to 1.
  explicit Striping(std::vector<double> shares) { set_shares(std::move(shares)); }

  void set_shares(std::vector<double> shares);
  [[nodiscard]] const std::vector<double>& shares() const { return shares_; }

  // Stripes of neighbouring drives, in order, of `grains` in all. `room`: free grains by drive; a drive without any is
  // passed over while another has some.
  std::vector<Stripe> cut(std::uint32_t grains, std::vector<std::uint32_t> room);

 private:
  [[nodiscard]] std::uint32_t most_due(std::uint32_t grains, const std::vector<std::uint32_t>& room) const;
  void note(std::uint32_t drive, std::uint32_t grains);

  std::vector<double> shares_;
  std::vector<double> due_;  // grains that each drive is behind its share
};

}  // namespace orlop::swap
