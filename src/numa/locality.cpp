#include "numa/locality.hpp"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <system_error>

#include "numa/text_file.hpp"

namespace orlop::numa {
namespace {

namespace fs = std::filesystem;

std::optional<int> read_node(const fs::path& file) {
  const auto text = read_optional_text(file.string());
  const auto node = text ? parse_integer(*text) : std::nullopt;
  if (!node || *node < 0) return std::nullopt;  // -1: the firmware does not say
  return static_cast<int>(*node);
}

// A block device's directory lies below that of the controller, which has the numa_node file.
std::optional<int> find_node_upwards(fs::path directory, const fs::path& end) {
  for (; directory != end && directory.has_relative_path(); directory = directory.parent_path()) {
    if (const auto node = read_node(directory / "numa_node")) return node;
  }
  return std::nullopt;
}

std::optional<fs::path> first_member(const fs::path& device) {
  std::error_code error;
  fs::directory_iterator members(device / "slaves", error);
  if (error || members == fs::directory_iterator{}) return std::nullopt;
  std::optional<fs::path> first;  // in name order, so that the answer does not depend on the directory's
  for (; members != fs::directory_iterator{} && !error; members.increment(error)) {
    if (!first || members->path() < *first) first = members->path();
  }
  return first;
}

std::optional<int> node_of_device_directory(const fs::path& sys, fs::path device) {
  constexpr int kDeepestStack = 8;
  std::error_code error;
  for (int depth = 0; depth < kDeepestStack; ++depth) {
    device = fs::canonical(device, error);
    if (error) return std::nullopt;
    const auto member = first_member(device);
    if (!member) return find_node_upwards(device, sys);
    device = *member;
  }
  return std::nullopt;
}

}  // namespace

std::optional<int> os_node_of_block_device(const std::string& root, std::string_view name) {
  if (name.starts_with("/dev/")) name.remove_prefix(5);
  std::string entry(name);
  std::replace(entry.begin(), entry.end(), '/', '!');  // as sysfs writes "cciss/c0d0"
  if (entry.empty() || entry == "." || entry == "..") return std::nullopt;
  std::error_code error;
  const fs::path sys = fs::canonical(root + "/sys", error);
  if (error) return std::nullopt;
  return node_of_device_directory(sys, sys / "class" / "block" / entry);
}

std::optional<int> os_node_of_pci(const std::string& root, std::string_view address) {
  std::string entry(address);
  std::transform(entry.begin(), entry.end(), entry.begin(), [](unsigned char c) { return std::tolower(c); });
  if (entry.empty() || entry.find('/') != std::string::npos) return std::nullopt;
  return read_node(fs::path(root + "/sys/bus/pci/devices") / entry / "numa_node");
}

}  // namespace orlop::numa
