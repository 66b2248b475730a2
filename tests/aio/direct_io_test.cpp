#include "aio/direct_io.hpp"

#include <cerrno>
#include <fcntl.h>

#include "scratch.hpp"

namespace orlop::aio {
namespace {

// A descriptor for direct I/O, or none where the folder's filesystem has no such thing.
unique_fd open_direct(const std::string& path) {
  unique_fd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_DIRECT, 0600));
  if (fd.is_open() && is_in_memory(fd.get())) fd.reset();
  return fd;
}

bool transfers(int fd, Alignment alignment) {
  const AlignedMemory memory(16384);
  return ::pwrite(fd, memory.data() + alignment.memory, alignment.offset, alignment.offset) ==
         static_cast<ssize_t>(alignment.offset);
}

TEST(DirectIo, WhatEachSourceSaysGetsThrough) {
  const ScratchFolder folder;
  const auto fd = open_direct(folder / "file");
  if (!fd.is_open()) GTEST_SKIP() << "no direct I/O under " << folder.path();
  int sources = 0;
  for (const auto& alignment :
       {alignment_by_trying(fd.get()), alignment_by_statx(fd.get()), alignment_of_device(fd.get())}) {
    if (!alignment) continue;
    ++sources;
    EXPECT_TRUE(transfers(fd.get(), *alignment)) << alignment->memory << " " << alignment->offset;
  }
  EXPECT_GE(sources, 1);
}

TEST(DirectIo, TryingLeavesAnEmptyFileEmpty) {
  const ScratchFolder folder;
  const auto fd = open_direct(folder / "file");
  if (!fd.is_open()) GTEST_SKIP() << "no direct I/O under " << folder.path();
  const auto found = alignment_by_trying(fd.get());
  ASSERT_TRUE(found);
  EXPECT_GE(found->offset, 512u);
  EXPECT_LE(found->offset, kLargestAlignment);
  EXPECT_EQ(std::filesystem::file_size(folder / "file"), 0u);
}

TEST(DirectIo, TryingOnlyReadsAFileThatHoldsSomething) {
  const ScratchFolder folder;
  write_content(folder / "file", 64_KiB);
  const auto fd = open_direct(folder / "file");
  if (!fd.is_open()) GTEST_SKIP() << "no direct I/O under " << folder.path();
  EXPECT_TRUE(alignment_by_trying(fd.get()));
  EXPECT_TRUE(has_content(read_whole(folder / "file"), 0));
}

TEST(DirectIo, TryingDoesNotKnowForAFileTooShortToTell) {
  const ScratchFolder folder;
  write_content(folder / "file", 100 * 8);
  const auto fd = open_direct(folder / "file");
  if (!fd.is_open()) GTEST_SKIP() << "no direct I/O under " << folder.path();
  EXPECT_FALSE(alignment_by_trying(fd.get()));
}

TEST(DirectIo, KnowsFilesystemsInMemory) {
  if (::access("/dev/shm", W_OK) != 0) GTEST_SKIP() << "no /dev/shm here";
  const ScratchFolder folder("/dev/shm");
  const unique_fd fd(::open((folder / "file").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  EXPECT_TRUE(is_in_memory(fd.get()));
}

}  // namespace
}  // namespace orlop::aio
