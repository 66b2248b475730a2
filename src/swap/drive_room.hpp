// DriveRoom: what the filesystem of a drive can still take, and how a store is shared out over drives that have room for
// more or less of it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.hpp"

namespace orlop::swap {

struct DriveRoom {
  std::uint64_t filesystem = 0;  // st_dev: drives on one filesystem share its room
  std::uint64_t grains = 0;
};

// Of the filesystem that holds `directory`.
Result<DriveRoom> room_at(const std::string& directory);

// Of all of them, for files that are not there yet: less their headers, and less what a filesystem itself takes for them.
Result<std::vector<DriveRoom>> rooms_for_files(std::span<const std::string> directories);

// `total` in proportion to the shares, exactly.
std::vector<std::uint64_t> apportion(std::uint64_t total, std::span<const double> shares);

// The same, but no drive gets more than it has room for while others have some left. None: all together have too little.
std::optional<std::vector<std::uint64_t>> apportion(std::uint64_t total, std::span<const double> shares,
                                                    std::span<const DriveRoom> rooms);

// What all of them can take.
std::uint64_t grains_in(std::span<const DriveRoom> rooms);

}  // namespace orlop::swap
