#include "base/durable_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>

#include "base/unique_fd.hpp"

namespace orlop {
namespace {

tl::unexpected<Error> failed(const char* what, const std::string& path, int error) {
  return fail(status_of_errno(error), "{}: on {}: {}", what, path, describe_errno(error));
}

Result<> write_whole(int fd, const std::string& path, std::string_view content) {
  while (!content.empty()) {
    const ssize_t written = ::write(fd, content.data(), content.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return failed("write", path, errno);
    content.remove_prefix(static_cast<std::size_t>(written));
  }
  if (::fsync(fd) != 0) return failed("sync", path, errno);
  return {};
}

}  // namespace

Result<> write_durably(const std::string& path, std::string_view content, std::span<const std::string> links) {
  const std::string temporary = path + ".partial";
  ::unlink(temporary.c_str());  // of a process that died; it may have other names
  const auto written = [&]() -> Result<> {
    const unique_fd fd(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
    if (!fd.is_open()) return failed("create", temporary, errno);
    TRY(write_whole(fd.get(), temporary, content));
    for (const std::string& link : links) {
      if (::link(temporary.c_str(), link.c_str()) != 0) return failed("link", link, errno);
    }
    if (::rename(temporary.c_str(), path.c_str()) != 0) return failed("rename", path, errno);
    return {};
  }();
  if (!written) {
    ::unlink(temporary.c_str());
    for (const std::string& link : links) ::unlink(link.c_str());
    return written;
  }
  const auto directory = std::filesystem::path(path).parent_path();
  return sync_directory(directory.empty() ? "." : directory.string());
}

Result<> sync_directory(const std::string& directory) {
  const unique_fd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.is_open()) return failed("open", directory, errno);
  if (::fsync(fd.get()) != 0 && errno != EINVAL) return failed("sync", directory, errno);
  return {};
}

}  // namespace orlop
