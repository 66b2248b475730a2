#include "base/unique_fd.hpp"

#include <cerrno>
#include <fcntl.h>
#include <utility>

#include <gtest/gtest.h>

namespace orlop {
namespace {

int open_null() {
  return ::open("/dev/null", O_RDONLY | O_CLOEXEC);
}

bool is_open_in_kernel(int fd) {
  return ::fcntl(fd, F_GETFD) != -1 || errno != EBADF;
}

TEST(UniqueFd, OwnsNothingAtFirst) {
  const unique_fd fd;
  EXPECT_FALSE(fd.is_open());
  EXPECT_EQ(fd.get(), -1);
}

TEST(UniqueFd, ClosesWhatItOwns) {
  int raw = -1;
  {
    const unique_fd fd(open_null());
    raw = fd.get();
    ASSERT_TRUE(fd.is_open());
    ASSERT_TRUE(is_open_in_kernel(raw));
  }
  EXPECT_FALSE(is_open_in_kernel(raw));
}

TEST(UniqueFd, TakesZeroForADescriptor) {
  // Whether 0 is open belongs to the test's runner; only the predicate is tested.
  unique_fd fd(::dup(STDIN_FILENO));
  unique_fd zero(0);
  EXPECT_TRUE(zero.is_open());
  const int kept = ::dup(0);
  zero.reset();
  EXPECT_FALSE(zero.is_open());
  if (kept >= 0) {
    ASSERT_EQ(::dup2(kept, 0), 0);
    ::close(kept);
  }
}

TEST(UniqueFd, MovingLeavesTheSourceEmpty) {
  unique_fd source(open_null());
  const int raw = source.get();
  const unique_fd target(std::move(source));
  EXPECT_EQ(target.get(), raw);
  EXPECT_FALSE(source.is_open());  // NOLINT(bugprone-use-after-move): what is tested
  EXPECT_TRUE(is_open_in_kernel(raw));
}

TEST(UniqueFd, AssigningClosesWhatWasOwnedBefore) {
  unique_fd target(open_null());
  unique_fd source(open_null());
  const int before = target.get();
  const int after = source.get();
  target = std::move(source);
  EXPECT_FALSE(is_open_in_kernel(before));
  EXPECT_EQ(target.get(), after);
  EXPECT_TRUE(is_open_in_kernel(after));
}

TEST(UniqueFd, AssigningToItselfKeepsTheDescriptor) {
  unique_fd fd(open_null());
  const int raw = fd.get();
  unique_fd& same = fd;
  fd = std::move(same);
  EXPECT_EQ(fd.get(), raw);
  EXPECT_TRUE(is_open_in_kernel(raw));
}

TEST(UniqueFd, ResetReplacesOrCloses) {
  unique_fd fd(open_null());
  const int first = fd.get();
  const int second = open_null();
  fd.reset(second);
  EXPECT_FALSE(is_open_in_kernel(first));
  EXPECT_EQ(fd.get(), second);
  fd.reset();
  EXPECT_FALSE(fd.is_open());
  EXPECT_FALSE(is_open_in_kernel(second));
}

}  // namespace
}  // namespace orlop
