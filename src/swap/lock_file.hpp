// LockFile: a file held with flock that says who holds it.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "base/result.hpp"
#include "base/unique_fd.hpp"

namespace orlop::swap {

struct LockOwner {
  std::string host;
  std::string boot_id;  // of the running kernel: shared by all containers on a machine
  pid_t pid = 0;
  std::string started;  // UTC, ISO 8601

  static LockOwner self();
  [[nodiscard]] bool is_on_this_machine() const;
};

// Who wrote the lock file; ORLOP_NOT_FOUND when it says nothing (its owner died in between).
Result<LockOwner> read_lock_owner(const std::string& path);

enum class Missing : std::uint8_t { create, fail };

// Opens and locks. ORLOP_BUSY when somebody holds it; ORLOP_NOT_FOUND when the file or its directory vanished
// meanwhile.
Result<unique_fd> take_lock(const std::string& path, Missing missing);

Result<> write_lock_owner(const unique_fd& lock, const std::string& path, const LockOwner& owner);

}  // namespace orlop::swap
