// Ctrl-C and its kin: what runs is cancelled, what it made is removed, and the exit status says which signal it was.
#pragma once

#include "base/result.hpp"
#include "zero3/engine.hpp"

namespace orlop::bench {

// From now on a thread of its own waits for SIGINT, SIGTERM and SIGHUP; they are blocked in the caller and in every
// thread made later. A second one ends the process at once, as without us. Call it first in main.
Result<> catch_interrupts();

// The signal that came; 0: none.
int interrupted_by();
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
