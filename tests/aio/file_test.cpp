#include "aio/file.hpp"

#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <gmock/gmock.h>

#include "refusal.hpp"
#include "scratch.hpp"

namespace orlop::aio {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::uint64_t reserved_bytes(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 ? static_cast<std::uint64_t>(info.st_blocks) * 512 : 0;
}

TEST(File, OpensWhatIsThereAndCreatesWhatIsNot) {
  const ScratchFolder folder;
  ASSERT_TRUE(File::open(folder / "file", Existing::must_not_exist));
  write_content(folder / "file", 64_KiB);
  const auto again = File::open(folder / "file", Existing::open);
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(again->size().value(), 64_KiB);
  EXPECT_TRUE(has_content(read_whole(folder / "file"), 0));
}

TEST(File, OpensAForeignFileToReadOnlyIfItIsThere) {
  const ScratchFolder folder;
  EXPECT_EQ(File::open_foreign(folder / "file", Purpose::reading).error().status, ORLOP_NOT_FOUND);
  write_content(folder / "file", 5000);
  const auto opened = File::open_foreign(folder / "file", Purpose::reading);
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_EQ(opened->size().value(), 5000u);
  const char byte = 0;
  EXPECT_EQ(::pwrite(opened->fd(), &byte, 1, 0), -1);
}

TEST(File, SaysNothingWhereAForeignFileIsBuffered) {
  const ScratchFolder folder("/dev/shm");
  LogCapture log;
  const auto opened = File::open_foreign(folder / "file", Purpose::writing);
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_EQ(opened->access(), Access::buffered);
  EXPECT_TRUE(log.warnings().empty());
}

TEST(File, RefusesToReplaceAFile) {
  const ScratchFolder folder;
  write_content(folder / "file", 4096);
  const auto refused = File::open(folder / "file", Existing::must_not_exist);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().status, ORLOP_INVALID_ARGUMENT);
  EXPECT_THAT(refused.error().message, AllOf(HasSubstr(folder / "file"), HasSubstr("errno 17")));
}

TEST(File, SaysThatTheDirectoryIsMissing) {
  const ScratchFolder folder;
  const auto refused = File::open(folder / "nowhere/file", Existing::open);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().status, ORLOP_NOT_FOUND);
  EXPECT_THAT(refused.error().message,
              AllOf(HasSubstr(folder / "nowhere/file"), HasSubstr("create its directory")));
}

TEST(File, SaysThatThePathIsADirectoryOrLeadsThroughAFile) {
  const ScratchFolder folder;
  EXPECT_EQ(File::open(folder.path(), Existing::open).error().status, ORLOP_INVALID_ARGUMENT);
  write_content(folder / "file", 4096);
  const auto refused = File::open(folder / "file/store", Existing::open);
  EXPECT_EQ(refused.error().status, ORLOP_NOT_FOUND);
  EXPECT_THAT(refused.error().message, HasSubstr("a part of the path is a file"));
}

TEST(File, SaysThatTheDirectoryMayNotBeWritten) {
  // A read-only filesystem refuses root too.
  const bool ran = run_refusing({{SYS_openat, EROFS, 2, O_CREAT}}, [] {
    const ScratchFolder folder;
    const auto refused = File::open(folder / "file", Existing::open);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().status, ORLOP_NO_PERMISSION);
    EXPECT_THAT(refused.error().message, HasSubstr("errno 30"));
  });
  if (!ran) GTEST_SKIP() << "no seccomp filters here";
}

TEST(File, SaysItsAlignment) {
  const ScratchFolder folder;
  const auto buffered = File::open(folder / "buffered", Existing::open, Access::buffered);
  ASSERT_TRUE(buffered);
  EXPECT_EQ(buffered->access(), Access::buffered);
  EXPECT_EQ(buffered->alignment(), (Alignment{1, 1}));
  const auto direct = File::open(folder / "direct", Existing::open);
  ASSERT_TRUE(direct);
  if (direct->access() == Access::buffered) GTEST_SKIP() << "no direct I/O under " << folder.path();
  EXPECT_TRUE(is_power_of_two(direct->alignment().memory));
  EXPECT_GE(direct->alignment().offset, 512u);
}

TEST(File, InMemoryIsBufferedAndSaysWhatThatCosts) {
  if (::access("/dev/shm", W_OK) != 0) GTEST_SKIP() << "no /dev/shm here";
  const ScratchFolder folder("/dev/shm");
  const LogCapture log;
  const auto file = File::open(folder / "file", Existing::open);
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ(file->access(), Access::buffered);
  EXPECT_THAT(log.warnings(), ElementsAre(HasSubstr("takes host memory outside every budget")));
}

TEST(File, RefusedDirectIoIsBufferedAndSaysWhatThatCosts) {
  const ScratchFolder folder;
  const LogCapture log;
  const bool ran = run_refusing({{SYS_fcntl, EINVAL, 2, O_DIRECT}}, [&] {
    const auto file = File::open(folder / "file", Existing::must_not_exist);
    ASSERT_TRUE(file) << file.error().message;
    EXPECT_EQ(file->access(), Access::buffered);
    EXPECT_EQ(file->alignment(), (Alignment{1, 1}));
  });
  if (!ran) GTEST_SKIP() << "no seccomp filters here";
  EXPECT_THAT(log.warnings(),
              ElementsAre(AllOf(HasSubstr("direct I/O is refused"), HasSubstr("page cache"))));
}

TEST(File, FindsItsAlignmentWithoutStatx) {
  const ScratchFolder folder;
  const auto with = File::open(folder / "file", Existing::open);
  ASSERT_TRUE(with);
  if (with->access() == Access::buffered) GTEST_SKIP() << "no direct I/O under " << folder.path();
  const bool ran = run_refusing({{SYS_statx, ENOSYS}}, [&] {
    const auto without = File::open(folder / "file", Existing::open);
    ASSERT_TRUE(without) << without.error().message;
    EXPECT_EQ(without->access(), Access::direct);
    EXPECT_GE(without->alignment().offset, with->alignment().offset);
  });
  if (!ran) GTEST_SKIP() << "no seccomp filters here";
}

TEST(File, PreallocatesWithoutTouchingWhatItHolds) {
  const ScratchFolder folder;
  write_content(folder / "file", 64_KiB);
  auto file = File::open(folder / "file", Existing::open);
  ASSERT_TRUE(file->preallocate(0));
  ASSERT_TRUE(file->preallocate(1_MiB));
  EXPECT_EQ(file->size().value(), 1_MiB);
  EXPECT_GE(reserved_bytes(folder / "file"), 1_MiB);
  EXPECT_TRUE(has_content(std::span<const std::byte>(read_whole(folder / "file")).first(64_KiB), 0));
  EXPECT_TRUE(file->preallocate(4096));  // less than there is: nothing to do
  EXPECT_EQ(file->size().value(), 1_MiB);
  EXPECT_TRUE(file->sync_data());
}

TEST(File, WritesZerosWhereTheFilesystemCannotPreallocate) {
  const ScratchFolder folder;
  write_content(folder / "file", 64_KiB);
  // Content, a hole, content again, and nothing beyond.
  std::filesystem::resize_file(folder / "file", 256_KiB);
  {
    std::vector<std::byte> content(64_KiB);
    fill_content(content, 192_KiB);
    const unique_fd fd(::open((folder / "file").c_str(), O_WRONLY | O_CLOEXEC));
    ASSERT_EQ(::pwrite(fd.get(), content.data(), content.size(), 192_KiB),
              static_cast<ssize_t>(content.size()));
  }
  const bool ran = run_refusing({{SYS_fallocate, EOPNOTSUPP}}, [&] {
    auto file = File::open(folder / "file", Existing::open);
    ASSERT_TRUE(file);
    const auto result = file->preallocate(3_MiB);
    ASSERT_TRUE(result) << result.error().message;
    EXPECT_EQ(file->size().value(), 3_MiB);
  });
  if (!ran) GTEST_SKIP() << "no seccomp filters here";
  EXPECT_GE(reserved_bytes(folder / "file"), 3_MiB);
  const auto content = read_whole(folder / "file");
  EXPECT_TRUE(has_content(std::span(content).first(64_KiB), 0));
  EXPECT_TRUE(has_content(std::span(content).subspan(192_KiB, 64_KiB), 192_KiB));
  EXPECT_EQ(content[100_KiB], std::byte{0});
  EXPECT_EQ(content[2_MiB], std::byte{0});
}

TEST(File, SaysByHowMuchTheDiskIsTooSmall) {
  const ScratchFolder folder;
  auto file = File::open(folder / "file", Existing::open);
  const auto free = free_bytes(folder.path()).value();
  const auto refused = file->preallocate(free + 1_GiB);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().status, ORLOP_NO_SPACE);
  EXPECT_THAT(refused.error().message, AllOf(HasSubstr(folder / "file"), HasSubstr("too little")));
  EXPECT_EQ(file->size().value(), 0u);
  EXPECT_EQ(reserved_bytes(folder / "file"), 0u);
}

TEST(File, GivesBackWhatItReservedWhenTheDiskFillsUp) {
  const ScratchFolder folder;
  const bool ran = run_refusing({{SYS_fallocate, ENOSPC}}, [&] {
    auto file = File::open(folder / "file", Existing::open);
    const auto refused = file->preallocate(1_MiB);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().status, ORLOP_NO_SPACE);
    EXPECT_THAT(refused.error().message, HasSubstr("errno 28"));
    EXPECT_EQ(file->size().value(), 0u);
  });
  if (!ran) GTEST_SKIP() << "no seccomp filters here";
}

TEST(File, FreeBytesOfNowhereIsAnError) {
  const auto refused = free_bytes("/nowhere/at/all");
  EXPECT_EQ(refused.error().status, ORLOP_NOT_FOUND);
  EXPECT_THAT(refused.error().message, HasSubstr("/nowhere/at/all"));
}

TEST(File, KnowsTheDirectoryOfAPath) {
  EXPECT_EQ(directory_of("/a/b"), "/a");
  EXPECT_EQ(directory_of("/a"), "/");
  EXPECT_EQ(directory_of("a"), ".");
}

}  // namespace
}  // namespace orlop::aio
