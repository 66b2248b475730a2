#include "swap/checkpoint_ref.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

namespace orlop::swap {
namespace {

namespace fs = std::filesystem;

constexpr std::array<char, 8> kMagic = {'O', 'R', 'L', 'O', 'P', 'C', 'K', 'P'};

// How deep below the directory two levels above its own, and among how many entries, a manifest is looked for.
constexpr int kSearchDepth = 4;
constexpr int kMostEntries = 50'000;

// None where that cannot be told.
std::optional<bool> is_there(const fs::path& path) {
  struct stat status = {};
  if (::stat(path.c_str(), &status) == 0) return true;
  if (errno == ENOENT || errno == ENOTDIR) return false;
  return std::nullopt;
}

// None where that cannot be told.
std::optional<fs::path> nearest_existing(fs::path path) {
  for (;; path = path.parent_path()) {
    const auto found = is_there(path);
    if (!found) return std::nullopt;
    if (*found || !path.has_relative_path()) return path;
  }
}

Presence search(const fs::path& root, const CheckpointRef& checkpoint) {
  const fs::path name = fs::path(checkpoint.manifest).filename();
  std::error_code error;
  fs::recursive_directory_iterator it(root, error);  // a directory that may not be read ends it with an error
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

std::optional<std::uint64_t> device_of(const std::string& path) {
  struct stat status = {};
  if (::stat(path.c_str(), &status) != 0) return std::nullopt;
  return static_cast<std::uint64_t>(status.st_dev);
}

std::optional<std::string> checkpoint_id_at(const std::string& path) {
  CheckpointHeader header;
  std::ifstream file(path, std::ios::binary);
  if (!file.read(reinterpret_cast<char*>(&header), sizeof header) || !header.has_magic()) return std::nullopt;
  return std::string(header.id_text());
}

namespace {

// These names are there from before the manifest is renamed into place until the checkpoint is forgotten.
Presence presence_by_link(const CheckpointRef& checkpoint) {
  struct stat status = {};
  if (::stat(checkpoint.link.c_str(), &status) != 0) return Presence::unknown;
  if (status.st_nlink <= checkpoint.link_count) return Presence::gone;
  return checkpoint_id_at(checkpoint.link) == checkpoint.id ? Presence::there : Presence::gone;
}

}  // namespace

Presence presence_of(const CheckpointRef& checkpoint) {
  if (checkpoint_id_at(checkpoint.manifest) == checkpoint.id) return Presence::there;
  const fs::path directory = fs::path(checkpoint.manifest).parent_path();
  if (!checkpoint.is_complete && is_there(directory)) return Presence::gone;  // its process died before
  if (!checkpoint.link.empty()) return presence_by_link(checkpoint);
  const auto nearest = nearest_existing(directory.parent_path().parent_path());
  if (!nearest || device_of(nearest->string()) != checkpoint.device) return Presence::unknown;
  return search(*nearest, checkpoint);
}

}  // namespace orlop::swap
