#include "swap/nvme_paths.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "aio/file.hpp"
#include "base/bytes.hpp"
#include "swap/drive_room.hpp"
#include "swap/run_directory.hpp"
#include "swap/store.hpp"

namespace orlop::swap {
namespace {

tl::unexpected<Error> too_few(std::span<const std::string> nvme_paths, std::uint64_t store_bytes, std::uint64_t free) {
  return fail(ORLOP_NO_SPACE,
              "nvme_path: on {}: the store needs {} bytes ({}), {} bytes ({}) are free: {} bytes ({}) too few",
              fmt::join(nvme_paths, ", "), store_bytes, format_bytes(store_bytes), free, format_bytes(free),
              store_bytes - free, format_bytes(store_bytes - free));
}

Result<> check_room(const std::string& nvme_path, std::uint64_t store_bytes) {
  TRY_ASSIGN(std::uint64_t free, aio::free_bytes(nvme_path));
  if (free >= store_bytes) return {};
  free += reclaimable_bytes(nvme_path);
  if (free >= store_bytes) return {};
  return too_few({&nvme_path, 1}, store_bytes, free);
}

// With what earlier runs left behind.
void add_reclaimable(std::span<const std::string> nvme_paths, std::vector<DriveRoom>& rooms) {
  for (std::size_t i = 0; i < nvme_paths.size(); ++i) {
    const std::uint64_t grains = reclaimable_bytes(nvme_paths[i]) / kGrainBytes;
    for (DriveRoom& room : rooms) room.grains += room.filesystem == rooms[i].filesystem ? grains : 0;
  }
}

Result<> check_room(std::span<const std::string> nvme_paths, std::uint64_t store_bytes) {
  if (nvme_paths.size() == 1) return check_room(nvme_paths.front(), store_bytes);
  const std::uint64_t header_bytes = nvme_paths.size() * store_file_bytes(0);
  const std::uint64_t wanted = (store_bytes - std::min(store_bytes, header_bytes)) / kGrainBytes;
  TRY_ASSIGN(auto rooms, rooms_for_files(nvme_paths));
  if (wanted <= grains_in(rooms)) return {};
  add_reclaimable(nvme_paths, rooms);
  if (wanted <= grains_in(rooms)) return {};
  return too_few(nvme_paths, store_bytes, header_bytes + grains_in(rooms) * kGrainBytes);
}

// Names an entry of a list; nothing where there is no list.
std::string entry_of(std::span<const std::string> nvme_paths, std::size_t index) {
  return nvme_paths.size() == 1 ? "" : fmt::format("[{}]", index);
}

Result<> check_named_once(std::span<const std::string> nvme_paths) {
  std::map<std::pair<dev_t, ino_t>, std::size_t> seen;
  for (std::size_t i = 0; i < nvme_paths.size(); ++i) {
    struct stat status = {};
    if (::stat(nvme_paths[i].c_str(), &status) != 0) continue;
    const auto [found, is_new] = seen.emplace(std::pair(status.st_dev, status.st_ino), i);
    if (is_new) continue;
    return fail(ORLOP_INVALID_ARGUMENT, "nvme_path{}: on {}: is the same directory as nvme_path[{}] ({}); name each drive once",
                entry_of(nvme_paths, i), nvme_paths[i], found->second, nvme_paths[found->second]);
  }
  return {};
}

}  // namespace

Result<> check_drives(std::span<const std::string> nvme_paths) {
  if (nvme_paths.empty() || nvme_paths.size() > kMostDrives) {
    return fail(ORLOP_INVALID_ARGUMENT, "nvme_path: on {} directories: a store has 1 to {}", nvme_paths.size(), kMostDrives);
  }
  for (std::size_t i = 0; i < nvme_paths.size(); ++i) TRY(check_directory(nvme_paths[i], entry_of(nvme_paths, i)));
  return check_named_once(nvme_paths);
}

Result<> check_nvme_paths(std::span<const std::string> nvme_paths, std::uint64_t store_bytes) {
  TRY(check_drives(nvme_paths));
  return check_room(nvme_paths, store_bytes);
}

}  // namespace orlop::swap
