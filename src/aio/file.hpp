// File: a store file opened for direct I/O where the filesystem allows it.
#pragma once

#include <cstdint>
#include <string>

#include "aio/direct_io.hpp"
#include "base/result.hpp"
#include "base/unique_fd.hpp"

namespace orlop::aio {

enum class Access : std::uint8_t { direct, buffered };
enum class Existing : std::uint8_t { must_not_exist, open };  // what to do with a file that is there already
enum class Purpose : std::uint8_t { reading, writing };       // of a program's own file

class File {
 public:
  // Opens `path` for reading and writing and creates it (mode 0600) if it is not there; its directory must
  // be. Where direct I/O is refused or means nothing (a filesystem in memory) the file is buffered, with a
  // warning that says what that costs.
  static Result<File> open(const std::string& path, Existing existing, Access wanted = Access::direct);

  // Opens a file of the program's own: to read, which must be there, or to write, which is created (mode 0666 less the
  // umask) if it is not. Where direct I/O is refused or means nothing it is buffered, without a word: access() says it.
  static Result<File> open_foreign(const std::string& path, Purpose purpose, Access wanted = Access::direct);

  // Reserves space so that no write into [0, bytes) can fail for lack of it (fallocate; where the filesystem
  // has none, zeros are written where nothing is yet). What the file holds stays. Error: ORLOP_NO_SPACE with
  // the shortfall, and the file is as long as before.
  Result<> preallocate(std::uint64_t bytes);
  // Gives back what is behind `bytes`.
  Result<> shrink(std::uint64_t bytes);
  Result<std::uint64_t> size() const;
  Result<> sync_data() const;

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

// The directory in which `path` lies: "." for a bare name.
std::string directory_of(const std::string& path);

}  // namespace orlop::aio
