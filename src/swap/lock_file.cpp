#include "swap/lock_file.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <fstream>

#include <nlohmann/json.hpp>

#include "base/stamp.hpp"

namespace orlop::swap {
namespace {

std::string host_name() {
  std::array<char, 256> name = {};
  if (::gethostname(name.data(), name.size() - 1) != 0) return "unknown";
  return name.data();
}

std::string running_boot_id() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string id;
  std::getline(file, id);
  return id;
}

// Between open and flock the owner may have unlinked the file: then what is locked is no longer what others see.
bool still_names(const std::string& path, int fd) {
  struct stat by_path = {};
  struct stat by_fd = {};
  return ::stat(path.c_str(), &by_path) == 0 && ::fstat(fd, &by_fd) == 0 && by_path.st_ino == by_fd.st_ino &&
         by_path.st_dev == by_fd.st_dev;
}

tl::unexpected<Error> lock_failed(const std::string& path, int error) {
  return fail(status_of_errno(error), "lock: on {}: {}", path, describe_errno(error));
}

}  // namespace

LockOwner LockOwner::self() { return {host_name(), running_boot_id(), ::getpid(), utc_now()}; }

// Containers get new host names but keep the boot id; a reboot changes the boot id but keeps the name.
bool LockOwner::is_on_this_machine() const {
  return host == host_name() || (!boot_id.empty() && boot_id == running_boot_id());
}

Result<LockOwner> read_lock_owner(const std::string& path) {
  std::ifstream file(path);
  const auto json = nlohmann::json::parse(file, nullptr, false);
  if (!json.is_object()) return fail(ORLOP_NOT_FOUND, "lock: on {}: does not say who holds it", path);
  const auto text = [&](const char* key) {
    const auto found = json.find(key);
    return found != json.end() && found->is_string() ? found->get<std::string>() : std::string();
  };
  const auto pid = json.find("pid");
  return LockOwner{text("host"), text("boot_id"),
                   pid != json.end() && pid->is_number_integer() ? pid->get<pid_t>() : 0, text("started")};
}

Result<unique_fd> take_lock(const std::string& path, Missing missing) {
  const int flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW | (missing == Missing::create ? O_CREAT : 0);
  unique_fd fd(::open(path.c_str(), flags, 0644));
  if (!fd.is_open()) return lock_failed(path, errno);
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) return fail(ORLOP_BUSY, "lock: on {}: held by another process", path);
    return lock_failed(path, errno);
  }
  if (!still_names(path, fd.get())) return fail(ORLOP_NOT_FOUND, "lock: on {}: was removed meanwhile", path);
  return fd;
}

Result<> write_lock_owner(const unique_fd& lock, const std::string& path, const LockOwner& owner) {
  const auto text = nlohmann::json{{"host", owner.host},
                                   {"boot_id", owner.boot_id},
                                   {"pid", owner.pid},
                                   {"started", owner.started}}
                        .dump() + "\n";
  if (::ftruncate(lock.get(), 0) != 0) return lock_failed(path, errno);
  const auto written = ::pwrite(lock.get(), text.data(), text.size(), 0);
  if (written < 0) return lock_failed(path, errno);
  if (static_cast<std::size_t>(written) != text.size()) return lock_failed(path, ENOSPC);
  return {};
}

}  // namespace orlop::swap
