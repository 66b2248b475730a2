// A child process that works until it is killed.
#pragma once

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <gtest/gtest.h>

namespace orlop {

// Forks. In the child `body(begun)` runs, and calls begun() when it has come to where the test wants it: false if nobody
// listens any more. Returns the child's id after that. Before threads are started: a child has none but this one.
template <typename Body>
pid_t start_child(const Body& body) {
  int ends[2] = {};
  EXPECT_EQ(::pipe(ends), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // does not outlive a test that is killed itself
    body([&] { return ::write(ends[1], "x", 1) == 1; });
    ::_exit(1);
  }
  ::close(ends[1]);
  char byte = 0;
  EXPECT_EQ(::read(ends[0], &byte, 1), 1) << "the child ended before it had begun";
  ::close(ends[0]);
  return child;
}

inline void kill_child(pid_t child) {
  ASSERT_EQ(::kill(child, SIGKILL), 0);
  ASSERT_EQ(::waitpid(child, nullptr, 0), child);
}

}  // namespace orlop
