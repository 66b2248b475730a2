#include "swap/drive_room.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "aio/file.hpp"
#include "swap/checkpoint_ref.hpp"
#include "swap/space.hpp"

namespace orlop::swap {
namespace {

using Grains = std::vector<std::uint64_t>;

constexpr std::uint64_t kOwnShareOfFilesystem = 256;  // a part of so many, for its own tables

// What is left of each filesystem.
std::map<std::uint64_t, std::uint64_t> left_by_filesystem(std::span<const DriveRoom> rooms) {
  std::map<std::uint64_t, std::uint64_t> left;
  for (const DriveRoom& room : rooms) left[room.filesystem] = std::max(left[room.filesystem], room.grains);
  return left;
}

// Shares of those that still take some.
std::vector<double> shares_of(std::span<const double> shares, const std::vector<bool>& is_open) {
  std::vector<double> some(shares.begin(), shares.end());
  for (std::size_t i = 0; i < some.size(); ++i) some[i] = is_open[i] ? some[i] : 0;
  return some;
}

}  // namespace

Result<DriveRoom> room_at(const std::string& directory) {
  TRY_ASSIGN(const std::uint64_t free, aio::free_bytes(directory));
  return DriveRoom{device_of(directory).value_or(0), free / kGrainBytes};
}

Result<std::vector<DriveRoom>> rooms_for_files(std::span<const std::string> directories) {
  std::vector<DriveRoom> rooms;
  for (const std::string& directory : directories) {
    TRY_ASSIGN(rooms.emplace_back(), room_at(directory));
  }
  std::map<std::uint64_t, std::uint64_t> files;
  for (const DriveRoom& room : rooms) ++files[room.filesystem];
  for (DriveRoom& room : rooms) {
    const std::uint64_t taken = files[room.filesystem] + room.grains / kOwnShareOfFilesystem;
    room.grains -= std::min(room.grains, taken);
  }
  return rooms;
}

// Whole parts first, then one each to those with the largest rest.
Grains apportion(std::uint64_t total, std::span<const double> shares) {
  const double sum = std::accumulate(shares.begin(), shares.end(), 0.0);
  Grains parts(shares.size());
  std::vector<std::pair<double, std::size_t>> rests;
  std::uint64_t given = 0;
  for (std::size_t i = 0; i < shares.size(); ++i) {
    const double exact = static_cast<double>(total) * (shares[i] / sum);
    parts[i] = std::min(static_cast<std::uint64_t>(exact), total - given);
    given += parts[i];
    if (shares[i] > 0) rests.emplace_back(static_cast<double>(parts[i]) - exact, i);
  }
  std::sort(rests.begin(), rests.end());
  for (std::size_t i = 0; given < total; i = (i + 1) % rests.size()) {
    ++parts[rests[i].second];
    ++given;
  }
  return parts;
}

// In rounds: filesystems that are asked for more than they have give all of it and are closed.
std::optional<Grains> apportion(std::uint64_t total, std::span<const double> shares, std::span<const DriveRoom> rooms) {
  if (total > grains_in(rooms)) return std::nullopt;
  auto left = left_by_filesystem(rooms);
  Grains given(shares.size());
  std::vector<bool> is_open(shares.size(), true);
  while (total > 0) {
    const Grains wanted = apportion(total, shares_of(shares, is_open));
    std::map<std::uint64_t, std::uint64_t> asked;
    for (std::size_t i = 0; i < wanted.size(); ++i) asked[rooms[i].filesystem] += wanted[i];
    const auto is_too_small = [&](std::uint64_t filesystem) { return asked[filesystem] > left[filesystem]; };
    const bool fits = std::none_of(asked.begin(), asked.end(), [&](const auto& entry) { return is_too_small(entry.first); });
    if (fits) {
      for (std::size_t i = 0; i < wanted.size(); ++i) given[i] += wanted[i];
      return given;
    }
    for (const auto& [filesystem, unused] : asked) {
      if (!is_too_small(filesystem)) continue;
      std::vector<bool> is_there = is_open;
      for (std::size_t i = 0; i < is_there.size(); ++i) is_there[i] = is_open[i] && rooms[i].filesystem == filesystem;
      const Grains all = apportion(left[filesystem], shares_of(shares, is_there));
      for (std::size_t i = 0; i < all.size(); ++i) {
        given[i] += all[i];
        if (is_there[i]) is_open[i] = false;
      }
      total -= left[filesystem];
      left[filesystem] = 0;
    }
  }
  return given;
}

std::uint64_t grains_in(std::span<const DriveRoom> rooms) {
  std::uint64_t grains = 0;
  for (const auto& [unused, left] : left_by_filesystem(rooms)) grains += left;
  return grains;
}

}  // namespace orlop::swap
