#include "swap/run_directory.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "base/bytes.hpp"
#include "base/log.hpp"
#include "swap/lock_file.hpp"
#include "swap/pin.hpp"
#include "swap/saved_store.hpp"
#include "swap/store_file.hpp"

namespace orlop::swap {
namespace {

namespace fs = std::filesystem;

constexpr int kAttempts = 100;  // each lost to another run that was removing what it shares with us
// Somebody who looks for leftovers holds a dead run's lock for a moment; a run in use holds it for good.
constexpr int kBusyAttempts = 10;
constexpr std::chrono::milliseconds kBusyPause{20};
constexpr std::size_t kLongestRunId = 200;

std::string root_of(const std::string& nvme_path) { return (fs::path(nvme_path) / "orlop").string(); }

Result<> check_run_id(const std::string& run_id) {
  const auto is_allowed = [](unsigned char c) { return std::isalnum(c) != 0 || c == '.' || c == '_' || c == '-'; };
  if (!run_id.empty() && run_id.size() <= kLongestRunId && run_id != "." && run_id != ".." &&
      std::all_of(run_id.begin(), run_id.end(), is_allowed)) {
    return {};
  }
  return fail(ORLOP_INVALID_ARGUMENT, "run id: \"{}\": must be 1 to {} letters, digits, '.', '_' or '-'", run_id,
              kLongestRunId);
}

std::vector<fs::path> entries_of(const fs::path& directory) {
  std::vector<fs::path> entries;
  std::error_code error;
  for (fs::directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
    entries.push_back(it->path());
  }
  return entries;
}

bool is_lock(const fs::path& file) {
  return file.filename().string().starts_with("rank") && file.extension() == ".lock";
}
bool is_store(const fs::path& file) {
  return file.filename().string().starts_with("rank") && file.extension() == ".store";
}

std::uint64_t allocated_bytes(const fs::path& file) {
  struct stat status = {};
  if (::lstat(file.c_str(), &status) != 0) return 0;
  return static_cast<std::uint64_t>(status.st_blocks) * 512;
}

// Unlinks; what is gone already is as wanted. Returns the bytes that became free.
std::uint64_t remove_file(const fs::path& file) {
  const std::uint64_t bytes = allocated_bytes(file);
  if (::unlink(file.c_str()) == 0) return bytes;
  if (errno != ENOENT) log_warning("remove: on {}: {}", file.string(), describe_errno(errno));
  return 0;
}

void remove_directory_if_empty(const std::string& directory) {
  if (::rmdir(directory.c_str()) == 0) return;
  if (errno != ENOTEMPTY && errno != EEXIST && errno != ENOENT) {
    log_warning("remove: on {}: {}", directory, describe_errno(errno));
  }
}

Result<> make_directory(const std::string& path) {
  if (::mkdir(path.c_str(), 0755) == 0 || errno == EEXIST) return {};
  return fail(status_of_errno(errno), "run directory: on {}: cannot be created: {}", path, describe_errno(errno));
}

// What earlier runs left behind, with its locks taken so that nobody starts using it meanwhile.
struct Leftover {
  fs::path directory;
  std::vector<fs::path> stores;
  std::vector<fs::path> lock_paths;
  std::vector<unique_fd> locks;
  Pins pins;
};

bool take_leftover_lock(const fs::path& path, Leftover& leftover) {
  const auto owner = read_lock_owner(path.string());
  if (owner && !owner->is_on_this_machine()) return false;  // flock need not reach across machines
  auto lock = take_lock(path.string(), Missing::fail);
  if (!lock) return false;
  leftover.locks.push_back(std::move(*lock));
  leftover.lock_paths.push_back(path);
  return true;
}

// Nothing when the directory is in use, or is none of ours.
std::optional<Leftover> find_leftover(const fs::path& directory) {
  Leftover leftover;
  leftover.directory = directory;
  for (const auto& file : entries_of(directory)) {
    if (is_lock(file) && !take_leftover_lock(file, leftover)) return std::nullopt;
    if (is_store(file)) leftover.stores.push_back(file);
  }
  if (leftover.locks.empty()) return std::nullopt;
  leftover.pins = pins_in(directory.string());
  return leftover;
}

std::vector<GrainRun> pinned_runs(const Pins& pins, const std::string& opening) {
  std::vector<GrainRun> runs;
  for (const Pin& pin : pins.held) {
    if (pin.opening == opening) runs.insert(runs.end(), pin.runs.begin(), pin.runs.end());
  }
  return runs;
}

// A checkpoint names every drive of its store, also one on which it has no grain.
bool is_pinned(const Pins& pins, const std::string& opening) {
  return std::any_of(pins.held.begin(), pins.held.end(), [&](const Pin& pin) { return pin.opening == opening; });
}

std::uint64_t bytes_of(const std::vector<GrainRun>& runs) {
  std::uint64_t grains = 0;
  for (const GrainRun& run : runs) grains += run.grain_count;
  return grains * kGrainBytes;
}

// The bytes of a store that no checkpoint refers to; all of them stay where a pin cannot be read.
std::uint64_t unpinned_bytes(const fs::path& store, const Pins& pins) {
  const auto opening = opening_of(store.string());
  if (!pins.unreadable.empty() || (!opening && !pins.held.empty())) return 0;
  const bool is_kept = is_pinned(pins, opening.value_or(""));
  const std::uint64_t kept = is_kept ? grain_offset(0) + bytes_of(pinned_runs(pins, *opening)) : 0;
  const std::uint64_t there = allocated_bytes(store);
  return there > kept ? there - kept : 0;
}

// Returns the bytes that became free. The store stays, trimmed, where checkpoints refer to it.
std::uint64_t give_up_store(const fs::path& store, const Pins& pins) {
  if (!pins.unreadable.empty()) {
    log_warning("run directory: on {}: {} cannot be read, so all of {} is kept; remove it if its checkpoint is gone",
                store.parent_path().string(), pins.unreadable.front(), store.string());
    return 0;
  }
  const auto opening = opening_of(store.string());
  if (!opening && !pins.held.empty()) {
    log_warning("run directory: on {}: its header cannot be read, so all of it is kept for the checkpoints there",
                store.string());
    return 0;
  }
  if (!opening || !is_pinned(pins, *opening)) return remove_file(store);
  return trim_store(store.string(), pinned_runs(pins, *opening));
}

void log_reclaimed(const std::string& path, std::uint64_t bytes) {
  log_info("run directory: on {}: left over from an earlier run; reclaimed {} ({} bytes)", path, format_bytes(bytes),
           bytes);
}

std::uint64_t reclaim(const Leftover& leftover) {
  std::uint64_t bytes = 0;
  for (const auto& store : leftover.stores) bytes += give_up_store(store, leftover.pins);
  for (const auto& pin : leftover.pins.dead) remove_pin(pin);
  const bool is_kept = !leftover.pins.held.empty() || !leftover.pins.unreadable.empty();
  if (!is_kept) {
    for (const auto& lock : leftover.lock_paths) remove_file(lock);
    remove_directory_if_empty(leftover.directory.string());
  }
  if (bytes > 0 || !is_kept) log_reclaimed(leftover.directory.string(), bytes);
  return bytes;
}

std::uint64_t reclaim_under(const std::string& root) {
  std::uint64_t bytes = 0;
  for (const auto& directory : entries_of(root)) {
    if (const auto leftover = find_leftover(directory)) bytes += reclaim(*leftover);
  }
  return bytes;
}

tl::unexpected<Error> busy(const std::string& path, const std::string& lock_path) {
  const auto owner = read_lock_owner(lock_path);
  if (!owner) {
    return fail(ORLOP_BUSY, "run directory: on {}: in use by another process; stop it or choose another run id", path);
  }
  return fail(ORLOP_BUSY,
              "run directory: on {}: in use by process {} on {} since {}; stop it or choose another run id", path,
              owner->pid, owner->host, owner->started);
}

// The lock could be had, but was taken by another machine, where it may still be held: flock need not reach there.
Result<> refuse_other_machine(const std::string& path, const std::string& lock_path) {
  const auto owner = read_lock_owner(lock_path);
  if (!owner || owner->is_on_this_machine()) return {};
  return fail(ORLOP_BUSY,
              "run directory: on {}: taken by process {} on {} since {}; choose another run id, or remove the "
              "directory if that process is gone",
              path, owner->pid, owner->host, owner->started);
}

// One try; ORLOP_NOT_FOUND when another run removed `root` or `path`, thought empty, in between.
Result<unique_fd> make_and_lock(const std::string& root, const std::string& path, const std::string& lock_path) {
  TRY(make_directory(root));
  TRY(make_directory(path));
  return take_lock(lock_path, Missing::create);
}

// Tries until it has a lock, or is refused for good.
template <typename TakeLock>
Result<unique_fd> with_patience(const TakeLock& take) {
  for (int attempt = 1;; ++attempt) {
    auto lock = take();
    if (lock || lock.error().status != ORLOP_BUSY || attempt == kBusyAttempts) return lock;
    std::this_thread::sleep_for(kBusyPause);
  }
}

Result<unique_fd> make_and_lock_somehow(const std::string& root, const std::string& path,
                                        const std::string& lock_path) {
  for (int attempt = 1;; ++attempt) {
    auto lock = with_patience([&] { return make_and_lock(root, path, lock_path); });
    if (lock || lock.error().status != ORLOP_NOT_FOUND || attempt == kAttempts) return lock;
  }
}

// What an earlier opening of this rank left, while others of the run may live on: given up, or set aside for the
// checkpoints that refer to it.
Result<> set_aside(const RunPaths& paths, int rank) {
  const Pins pins = pins_in(paths.directory);
  const auto opening = opening_of(paths.store);
  if (const std::uint64_t bytes = give_up_store(paths.store, pins); bytes > 0) log_reclaimed(paths.directory, bytes);
  if (!opening || !fs::exists(paths.store)) return {};
  const std::string kept = kept_store_path(paths.directory, rank, *opening);
  if (::rename(paths.store.c_str(), kept.c_str()) == 0) return {};
  const int error = errno;
  return fail(status_of_errno(error), "run directory: on {}: a store with checkpoints cannot be renamed {}: {}",
              paths.store, kept, describe_errno(error));
}

}  // namespace

RunPaths run_paths(const std::string& nvme_path, const std::string& run_id, int rank) {
  const std::string root = root_of(nvme_path);
  const std::string directory = (fs::path(root) / run_id).string();
  return {root, directory, live_store_path(directory, rank), fmt::format("{}/rank{}.lock", directory, rank)};
}

std::string live_store_path(const std::string& directory, int rank) {
  return fmt::format("{}/rank{}.store", directory, rank);
}

std::string kept_store_path(const std::string& directory, int rank, const std::string& opening) {
  return fmt::format("{}/rank{}-{}.store", directory, rank, opening);
}

Result<> check_directory(const std::string& nvme_path, const std::string& entry) {
  struct stat status = {};
  if (::stat(nvme_path.c_str(), &status) != 0) {
    const int error = errno;
    return fail(status_of_errno(error), "nvme_path{}: on {}: {}{}", entry, nvme_path, describe_errno(error),
                error == ENOENT ? "; create the directory or choose another" : "");
  }
  if (!S_ISDIR(status.st_mode)) {
    return fail(ORLOP_NOT_FOUND, "nvme_path{}: on {}: is not a directory; name one on the drive to use", entry, nvme_path);
  }
  if (::access(nvme_path.c_str(), W_OK | X_OK) != 0) {
    const int error = errno;
    return fail(status_of_errno(error), "nvme_path{}: on {}: cannot be written: {}; choose a directory that can",
                entry, nvme_path, describe_errno(error));
  }
  return {};
}

Result<> check_not_busy(const std::string& nvme_path, const std::string& run_id, int rank) {
  TRY(check_run_id(run_id));
  const RunPaths paths = run_paths(nvme_path, run_id, rank);
  const auto lock = with_patience([&] { return take_lock(paths.lock, Missing::fail); });
  if (!lock && lock.error().status == ORLOP_BUSY) return busy(paths.directory, paths.lock);
  return {};
}

std::uint64_t reclaimable_bytes(const std::string& nvme_path) {
  std::uint64_t bytes = 0;
  for (const auto& directory : entries_of(root_of(nvme_path))) {
    const auto leftover = find_leftover(directory);
    if (!leftover) continue;
    for (const auto& store : leftover->stores) bytes += unpinned_bytes(store, leftover->pins);
  }
  return bytes;
}

std::uint64_t reclaim_leftovers(const std::string& nvme_path) { return reclaim_under(root_of(nvme_path)); }

Result<RunDirectory> RunDirectory::acquire(const std::string& nvme_path, const std::string& run_id, int rank) {
  TRY(check_run_id(run_id));
  TRY(check_directory(nvme_path));
  const RunPaths paths = run_paths(nvme_path, run_id, rank);
  reclaim_leftovers(nvme_path);

  auto lock = make_and_lock_somehow(paths.root, paths.directory, paths.lock);
  if (!lock) {
    remove_directory_if_empty(paths.directory);
    remove_directory_if_empty(paths.root);
    if (lock.error().status == ORLOP_BUSY) return busy(paths.directory, paths.lock);
    return tl::unexpected(lock.error());
  }
  TRY(refuse_other_machine(paths.directory, paths.lock));
  TRY(set_aside(paths, rank));
  RunDirectory directory(paths, std::move(*lock));
  TRY(write_lock_owner(directory.lock_, paths.lock, LockOwner::self()));
  return directory;
}

// Checkpoints of earlier openings may have been deleted meanwhile.
void RunDirectory::reclaim_set_aside() {
  const Pins pins = pins_in(paths_.directory);
  for (const auto& file : entries_of(paths_.directory)) {
    if (is_store(file) && file != paths_.store) give_up_store(file, pins);
  }
  const std::string live = opening_of(paths_.store).value_or("");
  for (const auto& pin : pins.dead) {
    if (pin.opening != live) remove_pin(pin);
  }
}

// The lock goes last: until then nobody else takes the directory for theirs. It stays where a store does, so that later
// runs know the directory for one that has ended. What this run went on from may be needed no longer.
RunDirectory::~RunDirectory() {
  if (!lock_.is_open()) return;
  reclaim_under(paths_.root);
  if (!is_kept_) {
    static_cast<void>(::truncate(paths_.store.c_str(), 0));  // a forked child may hold the file, but no longer its space
    remove_file(paths_.store);
  }
  const auto entries = entries_of(paths_.directory);
  if (std::any_of(entries.begin(), entries.end(), is_store)) {
    static_cast<void>(::ftruncate(lock_.get(), 0));  // nobody's, on whatever machine
    return;
  }
  remove_file(paths_.lock);
  remove_directory_if_empty(paths_.directory);
  remove_directory_if_empty(paths_.root);
}

}  // namespace orlop::swap
