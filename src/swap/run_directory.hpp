// RunDirectory: <nvme_path>/orlop/<run id>, owned by one process per rank.
//
// It holds rank<r>.store and rank<r>.lock. The lock file is held with flock, which the system gives up when its
// owner dies however it dies, and says in JSON who that is. A directory whose locks nobody holds and that was made on
// this machine is left over: its space is reclaimed by the next run, but for what checkpoints refer to (pin.hpp). A store
// that they refer to is renamed rank<r>-<opening>.store when another opening of the run begins.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "base/result.hpp"
#include "base/unique_fd.hpp"

namespace orlop::swap {

// Where a rank's files are.
struct RunPaths {
  std::string root;       // <nvme_path>/orlop
  std::string directory;  // <root>/<run id>
  std::string store;
  std::string lock;
};
RunPaths run_paths(const std::string& nvme_path, const std::string& run_id, int rank);
std::string live_store_path(const std::string& directory, int rank);
std::string kept_store_path(const std::string& directory, int rank, const std::string& opening);

class RunDirectory {
 public:
  // Errors: ORLOP_INVALID_ARGUMENT (run id), ORLOP_BUSY (naming process and host), those of check_directory.
  static Result<RunDirectory> acquire(const std::string& nvme_path, const std::string& run_id, int rank);

  RunDirectory(RunDirectory&& other) noexcept = default;
  RunDirectory& operator=(RunDirectory&&) = delete;
  ~RunDirectory();  // removes the store, unless it is kept, the lock and what is empty then

  // Gives back what earlier openings' stores hold for checkpoints that are gone.
  void reclaim_set_aside();

  // Checkpoints refer to the store: it stays, with a lock that nobody holds.
  void keep_store() { is_kept_ = true; }

  [[nodiscard]] const std::string& path() const { return paths_.directory; }
  [[nodiscard]] const std::string& store_path() const { return paths_.store; }
  [[nodiscard]] const std::string& lock_path() const { return paths_.lock; }

 private:
  RunDirectory(RunPaths paths, unique_fd lock) : paths_(std::move(paths)), lock_(std::move(lock)) {}

  RunPaths paths_;
  unique_fd lock_;
  bool is_kept_ = false;
};

// That it exists, is a directory, and may be written: ORLOP_NOT_FOUND, ORLOP_NO_PERMISSION. `entry`: of a list, for the
// sentence, as "[1]".
Result<> check_directory(const std::string& nvme_path, const std::string& entry = "");

// ORLOP_BUSY when the run is in use; touches nothing.
Result<> check_not_busy(const std::string& nvme_path, const std::string& run_id, int rank);

// Bytes that acquire() would win back from what earlier runs left.
std::uint64_t reclaimable_bytes(const std::string& nvme_path);

// Wins them back; what acquire() does first, and the end of a run last.
std::uint64_t reclaim_leftovers(const std::string& nvme_path);

}  // namespace orlop::swap
