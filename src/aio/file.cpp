#include "aio/file.hpp"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include <vector>

#include "base/bytes.hpp"
#include "base/log.hpp"

namespace orlop::aio {
namespace {

constexpr mode_t kMode = 0600;
constexpr mode_t kForeignMode = 0666;
constexpr std::uint64_t kFillBytes = 1_MiB;

orlop_status status_of_open(int error) {
  return error == EISDIR || error == EEXIST ? ORLOP_INVALID_ARGUMENT : status_of_errno(error);
}

const char* hint_of_open(int error) {
  switch (error) {
    case ENOENT:
      return "; create its directory first";
    case ENOTDIR:
      return "; a part of the path is a file";
    case EISDIR:
      return "; give the path of a file";
    case EEXIST:
      return "; remove it or choose another name";
    case EROFS:
    case EACCES:
      return "; choose a directory that may be written";
    default:
      return "";
  }
}

template <typename Call>
auto retry_interrupted(Call call) {
  decltype(call()) result;
  do {
    result = call();
  } while (result < 0 && errno == EINTR);
  return result;
}

void warn_buffered(const std::string& path, std::string_view why) {
  log_warning(
      "open: {}: {}: it is read and written through the page cache, which takes host memory outside every "
      "budget, "
      "copies each byte once more and cannot keep several requests in flight as a drive wants",
      path, why);
}

Result<unique_fd> open_fd(const std::string& path, int flags, mode_t mode) {
  unique_fd fd(retry_interrupted([&] { return ::open(path.c_str(), flags, mode); }));
  if (fd.is_open()) return fd;
  const int error = errno;
  const bool is_made = (flags & O_CREAT) != 0;
  return fail(status_of_open(error), "open: {}: {}{}", path, describe_errno(error), is_made ? hint_of_open(error) : "");
}

bool take_direct(const unique_fd& fd) {
  const int flags = ::fcntl(fd.get(), F_GETFL);
  return flags >= 0 && ::fcntl(fd.get(), F_SETFL, flags | O_DIRECT) == 0;
}

// The descriptor without O_DIRECT after all.
Result<> drop_direct(const unique_fd& fd, const std::string& path) {
  const int flags = ::fcntl(fd.get(), F_GETFL);
  if (flags >= 0 && ::fcntl(fd.get(), F_SETFL, flags & ~O_DIRECT) == 0) return {};
  return fail(ORLOP_IO_ERROR, "open: {}: leave direct I/O: {}", path, describe_errno(errno));
}

Result<struct stat> stat_of(const File& file) {
  struct stat info {};
  if (::fstat(file.fd(), &info) == 0) return info;
  return fail(status_of_errno(errno), "size: {}: {}", file.path(), describe_errno(errno));
}

std::string shortfall(std::uint64_t needed, std::uint64_t free) {
  if (needed <= free) return fmt::format("{} free, but the filesystem keeps them", format_bytes(free));
  return fmt::format("{} free, {} bytes ({}) too little", format_bytes(free), needed - free,
                     format_bytes(needed - free));
}

Result<> write_zeros(const File& file, std::uint64_t begin, std::uint64_t end) {
  const unique_fd fd(::open(fmt::format("/proc/self/fd/{}", file.fd()).c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd.is_open())
    return fail(status_of_errno(errno), "fill: {}: open: {}", file.path(), describe_errno(errno));
  const std::vector<std::byte> zeros(kFillBytes);
  while (begin < end) {
    const auto bytes = std::min<std::uint64_t>(zeros.size(), end - begin);
    const auto written =
        retry_interrupted([&] { return ::pwrite(fd.get(), zeros.data(), bytes, static_cast<off_t>(begin)); });
    if (written < 0) {
      return fail(status_of_errno(errno), "fill: {} ({} at offset {}): {}", file.path(), format_bytes(bytes),
                  begin, describe_errno(errno));
    }
    begin += static_cast<std::uint64_t>(written);
  }
  if (::fdatasync(fd.get()) != 0) {
    return fail(status_of_errno(errno), "fill: {}: sync: {}", file.path(), describe_errno(errno));
  }
  return {};
}

// Writes zeros wherever [0, bytes) has no data yet. Where the filesystem cannot tell holes, they end with the
// file.
Result<> fill_holes(const File& file, std::uint64_t bytes) {
  TRY_ASSIGN(const auto size, file.size());
  std::uint64_t at = 0;
  while (at < bytes) {
    const auto hole =
        at < size ? ::lseek(file.fd(), static_cast<off_t>(at), SEEK_HOLE) : static_cast<off_t>(at);
    const auto begin = hole < 0 ? size : static_cast<std::uint64_t>(hole);
    const auto data = begin < size ? ::lseek(file.fd(), static_cast<off_t>(begin), SEEK_DATA) : -1;
    const auto end = data < 0 ? bytes : std::min(bytes, static_cast<std::uint64_t>(data));
    if (begin < end) TRY(write_zeros(file, begin, end));
    at = std::max(end, begin);
  }
  return {};
}

tl::unexpected<Error> no_space(const File& file, std::uint64_t bytes, std::uint64_t there, std::uint64_t free,
                               std::string_view why) {
  return fail(ORLOP_NO_SPACE,
              "reserve: {} ({} wanted, {} of them there, {}): {}; free that much or choose another nvme_path",
              file.path(), format_bytes(bytes), format_bytes(there), shortfall(bytes - there, free), why);
}

Result<> reserve(const File& file, std::uint64_t bytes, std::uint64_t there) {
  if (retry_interrupted([&] { return ::fallocate(file.fd(), 0, 0, static_cast<off_t>(bytes)); }) == 0)
    return {};
  const int error = errno;
  if (error == EOPNOTSUPP || error == ENOSYS) {
    log_info("reserve: {}: the filesystem has no fallocate: writes {} of zeros", file.path(),
             format_bytes(bytes - there));
    return fill_holes(file, bytes);
  }
  if (status_of_errno(error) != ORLOP_NO_SPACE) {
    return fail(status_of_errno(error), "reserve: {} ({}): {}", file.path(), format_bytes(bytes),
                describe_errno(error));
  }
  TRY_ASSIGN(const auto free, free_bytes(directory_of(file.path())));
  return no_space(file, bytes, there, free, describe_errno(error));
}

}  // namespace

File::File(unique_fd fd, std::string path, Access access, Alignment alignment)
    : fd_(std::move(fd)), path_(std::move(path)), access_(access), alignment_(alignment) {}

Result<File> File::open(const std::string& path, Existing existing, Access wanted) {
  const int flags = O_RDWR | O_CREAT | O_CLOEXEC | (existing == Existing::must_not_exist ? O_EXCL : 0);
  // Not with O_DIRECT at once: a filesystem that refuses it may have created the file by then.
  TRY_ASSIGN(auto fd, open_fd(path, flags, kMode));
  if (wanted == Access::buffered) return File(std::move(fd), path, Access::buffered, {});
  if (is_in_memory(fd.get())) {
    log_warning(
        "open: {}: its filesystem keeps files in memory: what is stored there takes host memory outside "
        "every "
        "budget and its speed says nothing about a drive",
        path);
    return File(std::move(fd), path, Access::buffered, {});
  }
  if (!take_direct(fd)) {
    warn_buffered(path, fmt::format("direct I/O is refused: {}", describe_errno(errno)));
    return File(std::move(fd), path, Access::buffered, {});
  }
  if (const auto alignment = direct_alignment(fd.get()))
    return File(std::move(fd), path, Access::direct, *alignment);
  TRY(drop_direct(fd, path));
  warn_buffered(path, "its filesystem takes no direct I/O for it");
  return File(std::move(fd), path, Access::buffered, {});
}

Result<File> File::open_foreign(const std::string& path, Purpose purpose, Access wanted) {
  const int flags = O_CLOEXEC | (purpose == Purpose::reading ? O_RDONLY : O_WRONLY | O_CREAT);
  TRY_ASSIGN(auto fd, open_fd(path, flags, kForeignMode));
  const bool is_direct = wanted == Access::direct && !is_in_memory(fd.get()) && take_direct(fd);
  if (!is_direct) return File(std::move(fd), path, Access::buffered, {});
  if (const auto alignment = known_alignment(fd.get())) return File(std::move(fd), path, Access::direct, *alignment);
  TRY(drop_direct(fd, path));
  return File(std::move(fd), path, Access::buffered, {});
}

Result<> File::preallocate(std::uint64_t bytes) {
  if (bytes == 0) return {};
  TRY_ASSIGN(const struct stat before, stat_of(*this));
  const auto there = std::min(static_cast<std::uint64_t>(before.st_blocks) * 512, bytes);
  TRY_ASSIGN(const auto free, free_bytes(directory_of(path_)));
  if (bytes - there > free) return no_space(*this, bytes, there, free, "the disk is too full");
  auto result = reserve(*this, bytes, there);
  if (!result && ::ftruncate(fd(), before.st_size) != 0) {
    log_warning("reserve: {}: give back what was reserved: {}", path_, describe_errno(errno));
  }
  return result;
}

Result<> File::shrink(std::uint64_t bytes) {
  if (retry_interrupted([&] { return ::ftruncate(fd(), static_cast<off_t>(bytes)); }) == 0) return {};
  return fail(status_of_errno(errno), "shrink: {} ({}): {}", path_, format_bytes(bytes), describe_errno(errno));
}

Result<std::uint64_t> File::size() const {
  TRY_ASSIGN(const struct stat info, stat_of(*this));
  return static_cast<std::uint64_t>(info.st_size);
}

Result<> File::sync_data() const {
  if (retry_interrupted([&] { return ::fdatasync(fd()); }) == 0) return {};
  return fail(status_of_errno(errno), "sync: {}: {}; what was written last may be lost", path_,
              describe_errno(errno));
}

Result<std::uint64_t> free_bytes(const std::string& directory) {
  struct statvfs info {};
  if (retry_interrupted([&] { return ::statvfs(directory.c_str(), &info); }) != 0) {
    return fail(status_of_errno(errno), "free space: {}: {}", directory, describe_errno(errno));
  }
  return static_cast<std::uint64_t>(info.f_bavail) * info.f_frsize;
}

std::string directory_of(const std::string& path) {
  const auto slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

}  // namespace orlop::aio
