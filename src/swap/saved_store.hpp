// SavedStore: a store that no engine here writes: what checkpoints refer to, and what crashed runs left.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "swap/space.hpp"

namespace orlop::swap {

// Which file of a store, wherever it is now: it is renamed when another opening of the run takes its place.
struct StoreRef {
  std::string directory;  // of the run
  std::string run_id;
  std::string opening;
  int rank = 0;
  int drive = 0;
};

class SavedStore {
 public:
  // The files of a store, by drive. ORLOP_NOT_FOUND when no file in one of the directories is that store.
  static Result<SavedStore> open(std::span<const StoreRef> refs);

  // Reads from an extent, at multiples of 4096 into memory aligned like that. A file that ends too soon is ORLOP_CORRUPT.
  Result<> read(const Extent& extent, std::uint64_t offset, std::span<std::byte> into) const;

  // Of the file in which a byte of an extent is.
  [[nodiscard]] const std::string& path_of(const Extent& extent, std::uint64_t offset) const;

 private:
  struct File {
    unique_fd fd;
    std::string path;
  };
  static Result<File> open_file(const StoreRef& ref);
  SavedStore() = default;
  std::vector<File> files_;
};

// Past the page cache where the filesystem can: a checkpoint is read once.
Result<unique_fd> open_to_read(const std::string& path);

// All of `into`, or an error: ORLOP_CORRUPT where the file ends too soon.
Result<> read_whole(int fd, const std::string& path, std::uint64_t offset, std::span<std::byte> into);

// The opening that a store file's header names; none when it is no store.
std::optional<std::string> opening_of(const std::string& path);

// Gives grains back to the filesystem, which need not be able to.
void punch_grains(int fd, const GrainRun& run);

// Gives everything back but these runs (in any order, overlapping or not). Returns the bytes that became free.
std::uint64_t trim_store(const std::string& path, std::vector<GrainRun> kept);

}  // namespace orlop::swap
