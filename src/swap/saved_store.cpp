#include "swap/saved_store.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "base/log.hpp"
#include "swap/run_directory.hpp"
#include "swap/store.hpp"
#include "swap/store_header.hpp"

namespace orlop::swap {
namespace {

std::optional<StoreHeader> header_at(const std::string& path) {
  const unique_fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  StoreHeader header;
  if (!fd.is_open() || ::pread(fd.get(), &header, sizeof header, 0) != static_cast<ssize_t>(sizeof header)) return {};
  if (!header.is_valid()) return {};
  return header;
}

std::uint64_t allocated_bytes(int fd) {
  struct stat status = {};
  return ::fstat(fd, &status) == 0 ? static_cast<std::uint64_t>(status.st_blocks) * 512 : 0;
}

}  // namespace

Result<SavedStore> SavedStore::open(std::span<const StoreRef> refs) {
  SavedStore store;
  for (const StoreRef& ref : refs) {
    TRY_ASSIGN(store.files_.emplace_back(), open_file(ref));
  }
  return store;
}

Result<SavedStore::File> SavedStore::open_file(const StoreRef& ref) {
  const std::string names[] = {live_store_path(ref.directory, ref.rank), kept_store_path(ref.directory, ref.rank, ref.opening)};
  for (const std::string& path : names) {
    const auto header = header_at(path);
    if (!header || header->opening() != ref.opening || header->run() != ref.run_id) continue;
    TRY_ASSIGN(unique_fd fd, open_to_read(path));
    return File{std::move(fd), path};
  }
  return fail(ORLOP_NOT_FOUND, "store: on {}: no file there is that of run {}, opening {}", ref.directory, ref.run_id,
              ref.opening);
}

Result<unique_fd> open_to_read(const std::string& path) {
  unique_fd fd(::open(path.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC));
  if (!fd.is_open() && errno == EINVAL) fd = unique_fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd.is_open()) return fd;
  const int error = errno;
  return fail(status_of_errno(error), "open: on {}: {}", path, describe_errno(error));
}

Result<> read_whole(int fd, const std::string& path, std::uint64_t offset, std::span<std::byte> into) {
  while (!into.empty()) {
    const ssize_t got = ::pread(fd, into.data(), into.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      const int error = errno;
      return fail(status_of_errno(error), "read: on {} (offset {}, {} bytes): {}", path, offset, into.size(),
                  describe_errno(error));
    }
    if (got == 0) {
      return fail(ORLOP_CORRUPT, "read: on {} (offset {}, {} bytes): the file ends there", path, offset, into.size());
    }
    offset += static_cast<std::uint64_t>(got);
    into = into.subspan(static_cast<std::size_t>(got));
  }
  return {};
}

Result<> SavedStore::read(const Extent& extent, std::uint64_t offset, std::span<std::byte> into) const {
  std::uint64_t run_begin = 0;
  for (const GrainRun& run : extent.runs) {
    const std::uint64_t run_end = run_begin + run.grain_count * kGrainBytes;
    if (into.empty()) break;
    if (offset < run_end) {
      const auto part = into.first(std::min<std::uint64_t>(into.size(), run_end - offset));
      const File& file = files_[run.drive];
      TRY(read_whole(file.fd.get(), file.path, grain_offset(run.first_grain) + (offset - run_begin), part));
      offset += part.size();
      into = into.subspan(part.size());
    }
    run_begin = run_end;
  }
  if (into.empty()) return {};
  return fail(ORLOP_CORRUPT, "read: on {}: {} bytes past the end of an extent", files_.front().path, into.size());
}

const std::string& SavedStore::path_of(const Extent& extent, std::uint64_t offset) const {
  return files_[Store::place_of(extent, offset).drive].path;
}

std::optional<std::string> opening_of(const std::string& path) {
  const auto header = header_at(path);
  if (!header) return std::nullopt;
  return std::string(header->opening());
}

void punch_grains(int fd, const GrainRun& run) {
  const auto begin = static_cast<off_t>(grain_offset(run.first_grain));
  const auto bytes = static_cast<off_t>(run.grain_count * kGrainBytes);
  if (::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, begin, bytes) != 0 && errno != EOPNOTSUPP) {
    log_debug("trim: {}", describe_errno(errno));
  }
}

std::uint64_t trim_store(const std::string& path, std::vector<GrainRun> kept) {
  const unique_fd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  struct stat status = {};
  if (!fd.is_open() || ::fstat(fd.get(), &status) != 0) return 0;
  const std::uint64_t before = allocated_bytes(fd.get());
  const auto grains = static_cast<std::uint32_t>(static_cast<std::uint64_t>(status.st_size) / kGrainBytes);
  std::sort(kept.begin(), kept.end(), [](const auto& a, const auto& b) { return a.first_grain < b.first_grain; });
  std::uint32_t at = 0;
  for (const GrainRun& run : kept) {
    if (run.first_grain > at) punch_grains(fd.get(), {at, run.first_grain - at});
    at = std::max(at, run.first_grain + run.grain_count);
  }
  if (at + 1 < grains) punch_grains(fd.get(), {at, grains - 1 - at});
  const std::uint64_t after = allocated_bytes(fd.get());
  return before > after ? before - after : 0;
}

}  // namespace orlop::swap
