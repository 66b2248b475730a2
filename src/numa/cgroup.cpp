#include "numa/cgroup.hpp"

#include <algorithm>
#include <string_view>

#include "numa/text_file.hpp"

namespace orlop::numa {
namespace {

enum class Version { v1, v2 };

// Where a hierarchy is mounted: `point` shows the groups from `top` down.
struct Mount {
  std::string top;
  std::string point;
  Version version;
  std::string options;  // v1: names the controllers
};

std::vector<std::string_view> split_commas(std::string_view text) {
  std::vector<std::string_view> parts;
  while (!text.empty()) {
    const auto length = std::min(text.find(','), text.size());
    parts.push_back(text.substr(0, length));
    text.remove_prefix(std::min(length + 1, text.size()));
  }
  return parts;
}

bool lists(std::string_view commas, std::string_view word) {
  const auto words = split_commas(commas);
  return std::find(words.begin(), words.end(), word) != words.end();
}

// mountinfo writes white space and backslashes in paths as three octal digits.
std::string unescape(std::string_view text) {
  std::string path;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\' || i + 3 >= text.size()) {
      path += text[i];
      continue;
    }
    path += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0'));
    i += 3;
  }
  return path;
}

// "35 31 0:32 / /sys/fs/cgroup/memory rw [optional ...] - cgroup cgroup rw,memory"
std::optional<Mount> parse_mount(std::string_view line) {
  const auto words = split_words(line);
  const auto dash = std::find(words.begin(), words.end(), "-");
  if (words.size() < 5 || words.end() - dash < 4) return std::nullopt;
  if (dash[1] != "cgroup" && dash[1] != "cgroup2") return std::nullopt;
  return Mount{unescape(words[3]), unescape(words[4]), dash[1] == "cgroup" ? Version::v1 : Version::v2,
               std::string(dash[3])};
}

std::vector<Mount> read_mounts(const std::string& root) {
  std::vector<Mount> mounts;
  const auto text = read_optional_text(root + "/proc/self/mountinfo");
  if (!text) return mounts;
  for (const std::string_view line : split_lines(*text)) {
    if (auto mount = parse_mount(line)) mounts.push_back(*std::move(mount));
  }
  return mounts;
}

// This process's group in the hierarchy of `controller` ("" is v2): the third field of "4:memory:/a/b".
std::optional<std::string> group_path(const std::string& root, std::string_view controller) {
  const auto text = read_optional_text(root + "/proc/self/cgroup");
  if (!text) return std::nullopt;
  for (const std::string_view line : split_lines(*text)) {
    const auto first = line.find(':');
    const auto second = first == std::string_view::npos ? first : line.find(':', first + 1);
    if (second == std::string_view::npos) continue;
    const std::string_view controllers = line.substr(first + 1, second - first - 1);
    if (controller.empty() ? controllers.empty() : lists(controllers, controller)) {
      return std::string(line.substr(second + 1));
    }
  }
  return std::nullopt;
}

// The part of `path` below the mount's top; nothing when the group is not under it.
std::optional<std::string> path_below(const Mount& mount, const std::string& path) {
  if (path.find("/..") != std::string::npos) return std::nullopt;  // outside our cgroup namespace
  const std::string top = mount.top == "/" ? "" : mount.top;
  if (path.compare(0, top.size(), top) != 0) return std::nullopt;
  std::string below = path.substr(top.size());
  if (!below.empty() && below[0] != '/') return std::nullopt;  // "/ab" is not under "/a"
  if (below == "/") below.clear();
  return below;
}

std::vector<std::string> directories_upwards(const std::string& point, std::string below) {
  std::vector<std::string> directories;
  while (!below.empty()) {
    directories.push_back(point + below);
    below.erase(below.rfind('/'));
  }
  directories.push_back(point);
  return directories;
}

// From this process's group to the top of the mount. A container may see only its own group, mounted under a
// path that it cannot relate to /proc/self/cgroup: then the mount point is the group.
std::vector<std::string> group_directories(const std::string& root, Version version,
                                           std::string_view controller) {
  const auto path = group_path(root, version == Version::v2 ? "" : controller);
  if (!path) return {};
  std::optional<std::string> fallback;
  for (const Mount& mount : read_mounts(root)) {
    if (mount.version != version) continue;
    if (version == Version::v1 && !lists(mount.options, controller)) continue;
    if (const auto below = path_below(mount, *path)) return directories_upwards(root + mount.point, *below);
    if (!fallback) fallback = root + mount.point;
  }
  return fallback ? std::vector{*fallback} : std::vector<std::string>{};
}

// Nothing for a missing file (the root group has none), "max", or the -1 of v1.
std::optional<std::uint64_t> read_limit(const std::string& path) {
  const auto text = read_optional_text(path);
  const auto value = text ? parse_integer(*text) : std::nullopt;
  if (!value || *value < 0) return std::nullopt;
  return static_cast<std::uint64_t>(*value);
}

std::optional<std::uint64_t> read_field(const std::string& path, std::string_view key) {
  const auto text = read_optional_text(path);
  return text ? find_field(*text, key) : std::nullopt;
}

std::optional<GroupMemory> read_v1_memory(const std::string& directory) {
  const auto limit = read_limit(directory + "/memory.limit_in_bytes");
  if (!limit) return std::nullopt;
  return GroupMemory{directory, *limit, read_limit(directory + "/memory.usage_in_bytes").value_or(0),
                     read_field(directory + "/memory.stat", "total_inactive_file").value_or(0)};
}

// Above memory.high the kernel stalls the group until it has reclaimed: as good as a wall for memory that
// stays.
std::optional<GroupMemory> read_v2_memory(const std::string& directory) {
  const auto max = read_limit(directory + "/memory.max");
  const auto high = read_limit(directory + "/memory.high");
  if (!max && !high) return std::nullopt;
  return GroupMemory{directory, std::min(max.value_or(UINT64_MAX), high.value_or(UINT64_MAX)),
                     read_limit(directory + "/memory.current").value_or(0),
                     read_field(directory + "/memory.stat", "inactive_file").value_or(0)};
}

std::optional<double> quota_of(std::optional<std::int64_t> quota, std::optional<std::int64_t> period) {
  if (!quota || !period || *quota <= 0 || *period <= 0) return std::nullopt;
  return static_cast<double>(*quota) / static_cast<double>(*period);
}

std::optional<double> read_v1_quota(const std::string& directory) {
  const auto quota = read_optional_text(directory + "/cpu.cfs_quota_us");
  const auto period = read_optional_text(directory + "/cpu.cfs_period_us");
  if (!quota || !period) return std::nullopt;
  return quota_of(parse_integer(*quota), parse_integer(*period));
}

std::optional<double> read_v2_quota(const std::string& directory) {
  const auto text = read_optional_text(directory + "/cpu.max");
  if (!text) return std::nullopt;
  const auto words = split_words(*text);  // "150000 100000" or "max 100000"
  if (words.size() != 2) return std::nullopt;
  return quota_of(parse_integer(words[0]), parse_integer(words[1]));
}

}  // namespace

// What is used less what the kernel takes back before it refuses anybody. Inactive file pages are clean or
// nearly so and nobody has used them lately; active ones are somebody's working set (often our own program's
// text), so they do not count.
std::uint64_t GroupMemory::available_bytes() const {
  const std::uint64_t held = used_bytes - std::min(used_bytes, reclaimable_bytes);
  return limit_bytes - std::min(limit_bytes, held);
}

std::vector<GroupMemory> memory_groups(const std::string& root) {
  std::vector<GroupMemory> groups;
  for (const std::string& directory : group_directories(root, Version::v1, "memory")) {
    if (auto group = read_v1_memory(directory)) groups.push_back(*std::move(group));
  }
  for (const std::string& directory : group_directories(root, Version::v2, "memory")) {
    if (auto group = read_v2_memory(directory)) groups.push_back(*std::move(group));
  }
  return groups;
}

std::optional<double> processor_quota(const std::string& root) {
  std::optional<double> least;
  const auto take = [&least](std::optional<double> quota) {
    if (quota) least = std::min(*quota, least.value_or(*quota));
  };
  for (const std::string& directory : group_directories(root, Version::v1, "cpu"))
    take(read_v1_quota(directory));
  for (const std::string& directory : group_directories(root, Version::v2, "cpu"))
    take(read_v2_quota(directory));
  return least;
}

}  // namespace orlop::numa
