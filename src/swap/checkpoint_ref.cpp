#include "swap/checkpoint_ref.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>

namespace orlop::swap {
namespace {

namespace fs = std::filesystem;

constexpr std::array<char, 8> kMagic = {'O', 'R', 'L', 'O', 'P', 'C', 'K', 'P'};

// A renamed directory is looked for this deep below the nearest directory that is still there, among so many entries.
constexpr int kSearchDepth = 3;
constexpr int kMostEntries = 20'000;

fs::path nearest_existing(fs::path path) {
  std::error_code error;
  while (!fs::exists(path, error) && path.has_relative_path()) path = path.parent_path();
  return path;
}

std::optional<std::uint64_t> device_of(const fs::path& path) {
  struct stat status = {};
  if (::stat(path.c_str(), &status) != 0) return std::nullopt;
  return static_cast<std::uint64_t>(status.st_dev);
}

Presence search(const fs::path& root, const CheckpointRef& checkpoint) {
  const fs::path name = fs::path(checkpoint.manifest).filename();
  std::error_code error;
  fs::recursive_directory_iterator it(root, fs::directory_options::skip_permission_denied, error);
  int entries = 0;
  for (const fs::recursive_directory_iterator end; !error && it != end; it.increment(error)) {
    if (++entries > kMostEntries) return Presence::unknown;
    if (it.depth() >= kSearchDepth) it.disable_recursion_pending();
    if (it->path().filename() == name && checkpoint_id_at(it->path().string()) == checkpoint.id) return Presence::there;
  }
  return error ? Presence::unknown : Presence::gone;
}

}  // namespace

CheckpointHeader CheckpointHeader::of(std::string_view id, std::uint32_t format) {
  CheckpointHeader header;
  header.magic = kMagic;
  header.format = format;
  std::copy_n(id.begin(), std::min(id.size(), header.id.size() - 1), header.id.begin());
  return header;
}

bool CheckpointHeader::has_magic() const { return magic == kMagic; }
std::string_view CheckpointHeader::id_text() const { return {id.data(), ::strnlen(id.data(), id.size())}; }

std::optional<std::string> checkpoint_id_at(const std::string& path) {
  CheckpointHeader header;
  std::ifstream file(path, std::ios::binary);
  if (!file.read(reinterpret_cast<char*>(&header), sizeof header) || !header.has_magic()) return std::nullopt;
  return std::string(header.id_text());
}

Presence presence_of(const CheckpointRef& checkpoint) {
  const auto id = checkpoint_id_at(checkpoint.manifest);
  if (id == checkpoint.id) return Presence::there;
  const fs::path manifest = checkpoint.manifest;
  const fs::path nearest = nearest_existing(manifest.parent_path());
  if (device_of(nearest) != checkpoint.device) return Presence::unknown;
  // Overwritten in place by a later one, or its directory was renamed or deleted.
  return search(nearest == manifest.parent_path() ? nearest.parent_path() : nearest, checkpoint);
}

}  // namespace orlop::swap
