// StoreFile: one drive's part of a store: a file whose grains are handed out, and whether it is still the one that was
// made. It begins with a header that names run, rank and drive, so that a file swapped for another is noticed.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "aio/file.hpp"
#include "swap/space.hpp"

namespace orlop::swap {

inline constexpr std::uint64_t kHeaderBytes = 4096;

// Where a grain begins in the file: behind the header, at a multiple of the grain's size.
constexpr std::uint64_t grain_offset(std::uint64_t grain) { return (grain + 1) * kGrainBytes; }

// A file of so many grains.
constexpr std::uint64_t store_file_bytes(std::uint64_t grains) { return grain_offset(grains); }

struct StoreIdentity {
  std::string run_id;
  std::string uuid;  // of this opening of the run, the same on all its drives
  int rank = 0;
  int drive = 0;
  static StoreIdentity create(const std::string& run_id, int rank);
};

class StoreFile {
 public:
  // Creates the file, without room for anything.
  static Result<std::unique_ptr<StoreFile>> create(const std::string& path, StoreIdentity identity);

  // Gives it room for exactly so many grains, all free; none may be in use.
  Result<> resize(std::uint64_t grains);
  // So many more, free. ORLOP_NO_SPACE: nothing has changed.
  Result<> grow(std::uint64_t grains);

  Result<> write_header();
  // That the file is still the one that was created: its name, its size, its header. Cheap; ORLOP_CORRUPT with a
  // sentence that says what happened to it.
  Result<> check_identity();
  // Gives free grains back to the filesystem; nothing may be allocated any more.
  void trim();

  [[nodiscard]] Space& space() { return space_; }
  [[nodiscard]] const Space& space() const { return space_; }
  [[nodiscard]] const aio::File& file() const { return file_; }
  [[nodiscard]] const StoreIdentity& identity() const { return identity_; }
  // From any thread.
  [[nodiscard]] std::uint64_t bytes() const { return bytes_.load(std::memory_order_relaxed); }

 private:
  StoreFile(aio::File file, StoreIdentity identity);
  [[nodiscard]] Result<> check_grains(std::uint64_t grains) const;
  Result<> note_inode();
  Result<> check_name() const;
  Result<> check_size() const;
  Result<> check_header();

  aio::File file_;
  StoreIdentity identity_;
  Space space_{0};
  std::atomic<std::uint64_t> bytes_{0};
  dev_t device_ = 0;
  ino_t inode_ = 0;
  std::unique_ptr<std::byte[], void (*)(std::byte*)> header_;  // aligned for direct I/O
};

}  // namespace orlop::swap
