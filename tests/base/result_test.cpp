#include "base/result.hpp"

#include <cerrno>
#include <memory>
#include <string>
#include <utility>

#include <gtest/gtest.h>

namespace orlop {
namespace {

Result<int> half_of(int n) {
  if (n % 2 != 0) return fail(ORLOP_INVALID_ARGUMENT, "halve: on {}: odd", n);
  return n / 2;
}

Result<int> quarter_of(int n, int* reached) {
  TRY_ASSIGN(const int half, half_of(n));
  *reached = 1;
  TRY_ASSIGN(const int quarter, half_of(half));
  *reached = 2;
  return quarter;
}

Result<> all_even(int a, int b) {
  TRY(half_of(a));
  TRY(half_of(b));
  return {};
}

TEST(Result, FailureCarriesStatusAndSentence) {
  const auto result = half_of(3);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().status, ORLOP_INVALID_ARGUMENT);
  EXPECT_EQ(result.error().message, "halve: on 3: odd");
}

TEST(Result, TryAssignReturnsTheFirstErrorAndStops) {
  int reached = 0;
  EXPECT_EQ(quarter_of(8, &reached).value(), 2);
  EXPECT_EQ(reached, 2);
  reached = 0;
  EXPECT_EQ(quarter_of(6, &reached).error().message, "halve: on 3: odd");
  EXPECT_EQ(reached, 1);
  reached = 0;
  EXPECT_EQ(quarter_of(5, &reached).error().message, "halve: on 5: odd");
  EXPECT_EQ(reached, 0);
}

TEST(Result, TryDropsAValueAndReturnsAnError) {
  EXPECT_TRUE(all_even(2, 4));
  EXPECT_EQ(all_even(2, 5).error().message, "halve: on 5: odd");
}

TEST(Result, TryAssignMovesWhatCannotBeCopied) {
  const auto make = []() -> Result<std::unique_ptr<int>> { return std::make_unique<int>(7); };
  const auto take = [&]() -> Result<int> {
    TRY_ASSIGN(const std::unique_ptr<int> owned, make());
    return *owned;
  };
  EXPECT_EQ(take().value(), 7);
}

TEST(Result, ErrnoIsDescribedInWordsAndNumber) {
  EXPECT_EQ(describe_errno(ENOSPC), "No space left on device (errno 28)");
  EXPECT_EQ(describe_errno(EIO), "Input/output error (errno 5)");
}

TEST(Result, ErrnoMapsToTheStatusThatSaysWhatToDo) {
  const std::pair<int, orlop_status> cases[] = {
      {ENOSPC, ORLOP_NO_SPACE},        {EDQUOT, ORLOP_NO_SPACE},
      {EFBIG, ORLOP_NO_SPACE},         {EACCES, ORLOP_NO_PERMISSION},
      {EPERM, ORLOP_NO_PERMISSION},    {EROFS, ORLOP_NO_PERMISSION},
      {ENOENT, ORLOP_NOT_FOUND},       {ENOTDIR, ORLOP_NOT_FOUND},
      {ENOMEM, ORLOP_NO_MEMORY},       {ENOSYS, ORLOP_UNSUPPORTED},
      {EOPNOTSUPP, ORLOP_UNSUPPORTED}, {EIO, ORLOP_IO_ERROR},
      {EINVAL, ORLOP_IO_ERROR},        {0, ORLOP_IO_ERROR},
      {123456, ORLOP_IO_ERROR},
  };
  for (const auto& [error_number, status] : cases)
    EXPECT_EQ(status_of_errno(error_number), status) << error_number;
}

}  // namespace
}  // namespace orlop
