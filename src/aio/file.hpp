// File: a store file opened for direct I/O where the filesystem allows it.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.hpp"
#include "base/unique_fd.hpp"

namespace orlop::aio {

enum class Access : std::uint8_t { direct, buffered };
enum class Existing : std::uint8_t { must_not_exist, open };

// What direct transfers of this file must be aligned to: asked of statx (STATX_DIOALIGN), else of the block device,
// else found by trying.
struct Alignment {
  std::uint32_t memory = 1;
  std::uint32_t offset = 1;  // of file offsets and lengths
};

class File {
 public:
  // Opens or creates `path` for reading and writing. Where O_DIRECT is refused the file is buffered, with a warning
  // that says what that costs.
  static Result<File> open(const std::string& path, Existing existing, Access wanted = Access::direct);

  // Reserves space so that no write into [0, bytes) can fail for lack of it (fallocate; where the filesystem has
  // none the space is written). Error: ORLOP_NO_SPACE with the shortfall.
  Result<> preallocate(std::uint64_t bytes);
  Result<std::uint64_t> size() const;
  Result<> sync_data();

  [[nodiscard]] int fd() const { return fd_.get(); }
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] Access access() const { return access_; }
  [[nodiscard]] Alignment alignment() const { return alignment_; }

 private:
  File(unique_fd fd, std::string path, Access access, Alignment alignment);

  unique_fd fd_;
  std::string path_;
  Access access_;
  Alignment alignment_;
};

// Free bytes that an unprivileged process may still write under `directory`.
Result<std::uint64_t> free_bytes(const std::string& directory);

}  // namespace orlop::aio
