// DriveShares: how much of what is written each drive gets: in proportion to what it was last measured to move while it was
// busy. Thread-safe.
#pragma once

#include <cstdint>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "swap/states.hpp"

namespace orlop::swap {

// Even the slowest drive gets so much, so that it is still measured and can come back.
inline constexpr double kLeastShare = 1.0 / 64;

// In proportion to the rates; equal where one of them is not known (0). They add up to 1.
std::vector<double> shares_of(std::span<const double> gb_s);

class DriveShares {
 public:
  // `gb_s`: what the drives were measured to move before, 0 where that is not known. They are measured anew whenever
  // another `interval_bytes` have been moved beyond `before`.
  DriveShares(std::vector<std::string> paths, std::vector<double> gb_s, std::vector<Traffic> before,
              std::uint64_t interval_bytes);

  // `traffic`: by drive, since the beginning. True when it has led to new shares.
  bool look(std::span<const Traffic> traffic);

  [[nodiscard]] std::vector<double> shares() const;
  [[nodiscard]] std::vector<double> gb_s() const;

 private:
  void measure(std::size_t drive, const Traffic& since);
  void say_if_notable();

  const std::vector<std::string> paths_;
  const std::uint64_t interval_bytes_;
  mutable std::mutex mutex_;
  std::vector<double> gb_s_;
  std::vector<double> shares_;
  std::vector<double> said_;     // the shares that the log was told last
  std::vector<Traffic> before_;  // when the drives were measured last
};

}  // namespace orlop::swap
