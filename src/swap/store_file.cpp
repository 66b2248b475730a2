#include "swap/store_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "base/stamp.hpp"
#include "swap/layout.hpp"
#include "swap/saved_store.hpp"
#include "swap/store_header.hpp"

namespace orlop::swap {
namespace {

std::unique_ptr<std::byte[], void (*)(std::byte*)> aligned_page() {
  return {static_cast<std::byte*>(std::aligned_alloc(kHeaderBytes, kHeaderBytes)),
          [](std::byte* page) { std::free(page); }};
}

// pread and pwrite of the header, whole or an error.
template <typename Call>
Result<> move_header(Call call, int fd, std::byte* page, const std::string& path) {
  ssize_t moved = 0;
  do {
    moved = call(fd, page, kHeaderBytes, 0);
  } while (moved < 0 && errno == EINTR);
  if (moved < 0) {
    const int error = errno;
    return fail(status_of_errno(error), "store header: on {} (offset 0, {} bytes): {}", path, kHeaderBytes,
                describe_errno(error));
  }
  if (moved != static_cast<ssize_t>(kHeaderBytes)) {
    return fail(ORLOP_IO_ERROR, "store header: on {} (offset 0): {} of {} bytes moved", path, moved, kHeaderBytes);
  }
  return {};
}

// The end of a sentence about a file that should have been ours.
std::string whose(const StoreHeader& header, const StoreIdentity& ours) {
  if (!header.is_valid()) return fmt::format("it is no store (run {} had its own there)", ours.run_id);
  if (header.run() != ours.run_id) return fmt::format("it belongs to run {}, not {}", header.run(), ours.run_id);
  if (header.opening() == ours.uuid && header.drive != static_cast<std::uint32_t>(ours.drive)) {
    return fmt::format("it is the part of drive {}, not of drive {}", header.drive, ours.drive);
  }
  return fmt::format("it belongs to another opening of run {} ({}, rank {}), not {}, rank {}", ours.run_id,
                     header.opening(), header.rank, ours.uuid, ours.rank);
}

std::string whose_file(const std::string& path, const StoreIdentity& ours) {
  const unique_fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  StoreHeader header;
  if (fd.is_open() && ::pread(fd.get(), &header, sizeof header, 0) != static_cast<ssize_t>(sizeof header)) header = {};
  return whose(header, ours);
}

}  // namespace

StoreIdentity StoreIdentity::create(const std::string& run_id, int rank) { return {run_id, random_uuid(), rank, 0}; }

StoreFile::StoreFile(aio::File file, StoreIdentity identity)
    : file_(std::move(file)), identity_(std::move(identity)), header_(aligned_page()) {}

Result<std::unique_ptr<StoreFile>> StoreFile::create(const std::string& path, StoreIdentity identity) {
  TRY_ASSIGN(auto file, aio::File::open(path, aio::Existing::must_not_exist));
  if (file.alignment().offset > kPlaneAlignment || file.alignment().memory > kPlaneAlignment) {
    return fail(ORLOP_UNSUPPORTED, "store: on {}: the drive wants transfers aligned to {} bytes, the store has {}",
                path, std::max(file.alignment().offset, file.alignment().memory), kPlaneAlignment);
  }
  std::unique_ptr<StoreFile> made(new StoreFile(std::move(file), std::move(identity)));
  if (made->header_ == nullptr) return fail(ORLOP_NO_MEMORY, "store header: {} bytes: not available", kHeaderBytes);
  TRY(made->note_inode());
  return made;
}

Result<> StoreFile::check_grains(std::uint64_t grains) const {
  if (grains <= UINT32_MAX) return {};
  return fail(ORLOP_INVALID_ARGUMENT, "store: on {} ({}): larger than a store can be ({})", file_.path(),
              format_bytes(store_file_bytes(grains)), format_bytes(UINT32_MAX * kGrainBytes));
}

Result<> StoreFile::resize(std::uint64_t grains) {
  TRY(check_grains(grains));
  const std::uint64_t wanted = store_file_bytes(grains);
  if (wanted < bytes()) TRY(file_.shrink(wanted));
  if (wanted > bytes()) TRY(file_.preallocate(wanted));
  bytes_ = wanted;
  space_ = Space(static_cast<std::uint32_t>(grains));
  return {};
}

Result<> StoreFile::grow(std::uint64_t grains) {
  TRY(check_grains(space_.grain_count() + grains));
  const std::uint64_t wanted = bytes() + grains * kGrainBytes;
  TRY(file_.preallocate(wanted));
  bytes_ = wanted;
  space_.grow(static_cast<std::uint32_t>(grains));
  return write_header();
}

void StoreFile::trim() {
  for (const GrainRun& run : space_.free_runs()) punch_grains(file_.fd(), run);
}

Result<> StoreFile::note_inode() {
  struct stat status = {};
  if (::fstat(file_.fd(), &status) != 0) {
    const int error = errno;
    return fail(status_of_errno(error), "store: on {}: {}", file_.path(), describe_errno(error));
  }
  device_ = status.st_dev;
  inode_ = status.st_ino;
  return {};
}

Result<> StoreFile::write_header() {
  const auto header = StoreHeader::of(identity_, bytes());
  std::memcpy(header_.get(), &header, sizeof header);
  return move_header(::pwrite, file_.fd(), header_.get(), file_.path());
}

// ---- Is it still ours

Result<> StoreFile::check_identity() {
  TRY(check_name());
  TRY(check_size());
  return check_header();
}

Result<> StoreFile::check_name() const {
  struct stat status = {};
  if (::stat(file_.path().c_str(), &status) != 0) {
    const int error = errno;
    return fail(ORLOP_CORRUPT, "store file was removed: on {} (run {}): {}", file_.path(), identity_.run_id,
                describe_errno(error));
  }
  if (status.st_dev == device_ && status.st_ino == inode_) return {};
  return fail(ORLOP_CORRUPT, "store file was replaced: on {}: {}", file_.path(), whose_file(file_.path(), identity_));
}

Result<> StoreFile::check_size() const {
  TRY_ASSIGN(const std::uint64_t found, file_.size());
  if (found >= bytes()) return {};
  return fail(ORLOP_CORRUPT, "store file was truncated: on {} (has {} bytes, needs {}): states of run {} are lost",
              file_.path(), found, bytes(), identity_.run_id);
}

Result<> StoreFile::check_header() {
  TRY(move_header(::pread, file_.fd(), header_.get(), file_.path()));
  StoreHeader header;
  std::memcpy(&header, header_.get(), sizeof header);
  const auto ours = StoreHeader::of(identity_, bytes());
  if (std::memcmp(&header, &ours, sizeof header) == 0) return {};
  return fail(ORLOP_CORRUPT, "store file was overwritten: on {}: {}", file_.path(), whose(header, identity_));
}

}  // namespace orlop::swap
