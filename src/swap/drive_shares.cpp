#include "swap/drive_shares.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "base/bytes.hpp"
#include "base/log.hpp"

namespace orlop::swap {
namespace {

constexpr std::uint64_t kLeastMeasured = 1_MiB;  // of a drive's traffic; less says nothing
constexpr double kWeightOfNew = 0.5;             // against what was measured before
constexpr double kNotable = 1.0 / 16;

std::uint64_t bytes_of(std::span<const Traffic> traffic) {
  std::uint64_t bytes = 0;
  for (const Traffic& drive : traffic) bytes += drive.read_bytes + drive.write_bytes;
  return bytes;
}

Traffic operator-(const Traffic& a, const Traffic& b) {
  return {a.read_bytes - b.read_bytes, a.write_bytes - b.write_bytes, a.busy_ns - b.busy_ns};
}

}  // namespace

std::vector<double> shares_of(std::span<const double> gb_s) {
  const bool are_known = std::all_of(gb_s.begin(), gb_s.end(), [](double rate) { return rate > 0; });
  std::vector<double> shares(gb_s.begin(), gb_s.end());
  if (!are_known) std::fill(shares.begin(), shares.end(), 1.0);
  const double sum = std::accumulate(shares.begin(), shares.end(), 0.0);
  for (double& share : shares) share = std::max(share / sum, kLeastShare);
  const double raised = std::accumulate(shares.begin(), shares.end(), 0.0);
  for (double& share : shares) share /= raised;
  return shares;
}

DriveShares::DriveShares(std::vector<std::string> paths, std::vector<double> gb_s, std::vector<Traffic> before,
                         std::uint64_t interval_bytes)
    : paths_(std::move(paths)),
      interval_bytes_(interval_bytes),
      gb_s_(std::move(gb_s)),
      shares_(shares_of(gb_s_)),
      said_(shares_),
      before_(std::move(before)) {}

bool DriveShares::look(std::span<const Traffic> traffic) {
  const std::lock_guard lock(mutex_);
  if (bytes_of(traffic) - bytes_of(before_) < interval_bytes_) return false;
  for (std::size_t drive = 0; drive < traffic.size(); ++drive) measure(drive, traffic[drive] - before_[drive]);
  before_.assign(traffic.begin(), traffic.end());
  auto shares = shares_of(gb_s_);
  if (shares == shares_) return false;
  shares_ = std::move(shares);
  say_if_notable();
  return true;
}

void DriveShares::measure(std::size_t drive, const Traffic& since) {
  const std::uint64_t bytes = since.read_bytes + since.write_bytes;
  if (bytes < kLeastMeasured || since.busy_ns <= 0) return;
  const double found = static_cast<double>(bytes) / static_cast<double>(since.busy_ns);
  double& known = gb_s_[drive];
  known = known > 0 ? known + kWeightOfNew * (found - known) : found;
}

void DriveShares::say_if_notable() {
  const auto is_notable = [&](std::size_t i) { return std::abs(shares_[i] - said_[i]) >= kNotable; };
  bool says = false;
  for (std::size_t i = 0; i < shares_.size(); ++i) says = says || is_notable(i);
  if (!says) return;
  for (std::size_t i = 0; i < shares_.size(); ++i) {
    log_info("store: on {}: moves {:.2f} GB/s and gets {:.0f} % of what is written, {:.0f} % before", paths_[i], gb_s_[i],
             shares_[i] * 100, said_[i] * 100);
  }
  said_ = shares_;
}

std::vector<double> DriveShares::shares() const {
  const std::lock_guard lock(mutex_);
  return shares_;
}

std::vector<double> DriveShares::gb_s() const {
  const std::lock_guard lock(mutex_);
  return gb_s_;
}

}  // namespace orlop::swap
