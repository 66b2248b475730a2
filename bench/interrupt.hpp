// Ctrl-C and its kin: what runs is cancelled, what it made is removed, and the exit status says which signal it was.
#pragma once

#include <chrono>
#include <span>
#include <string>

#include "base/result.hpp"
#include "zero3/engine.hpp"

namespace orlop::bench {

// From now on a thread of its own waits for SIGINT, SIGTERM and SIGHUP; they are blocked in the caller and in every
// thread made later. A second one ends the process at once, as without us. Call it before any thread is made.
//
// Cancelling takes moments, but for one thing: where memory is being made real, no call can stop the kernel. A process
// that is still there after kPatience ends itself, and removes its run directories first.
Result<> catch_interrupts();
inline constexpr std::chrono::milliseconds kPatience{1200};

// <nvme_path>/orlop/<run id> of each, if this process comes to hold its lock.
void remove_when_out_of_patience(std::span<const std::string> nvme_paths, const std::string& run_id);

// The signal that came; 0: none.
int interrupted_by();
// Says so on standard error, once; returns the exit status.
int say_interrupted(int signal);
// ORLOP_CANCELLED once one came.
Result<> go_on_unless_interrupted();

// While it lives, an interrupt cancels this engine, also one that came before.
class CancelOnInterrupt {
 public:
  explicit CancelOnInterrupt(zero3::Engine& engine);
  ~CancelOnInterrupt();
  CancelOnInterrupt(const CancelOnInterrupt&) = delete;
  CancelOnInterrupt& operator=(const CancelOnInterrupt&) = delete;

 private:
  zero3::Engine* engine_;
};

}  // namespace orlop::bench
