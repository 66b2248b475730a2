#include "bench/raw_io.hpp"

#include <gtest/gtest.h>

#include "scratch.hpp"

namespace orlop::bench {
namespace {

using aio::fill_content;
using aio::has_content;
using aio::read_whole;
using aio::ScratchFolder;
using aio::write_content;

TEST(RawIo, ReadsWithoutChangingTheFile) {
  const ScratchFolder folder;
  write_content(folder / "file", 4_MiB);
  auto raw = RawIo::open({folder / "file", 4_MiB, 64_KiB, 8});
  ASSERT_TRUE(raw) << raw.error().message;
  const auto rate = raw->run(1, 10_MiB);
  ASSERT_TRUE(rate) << rate.error().message;
  EXPECT_EQ(rate->bytes, 10_MiB);
  EXPECT_GT(rate->gb_per_s(), 0);
  EXPECT_TRUE(has_content(read_whole(folder / "file"), 0));
}

TEST(RawIo, WritesAllOfTheRegionAndNothingBeyond) {
  const ScratchFolder folder;
  write_content(folder / "file", 4_MiB);
  auto raw = RawIo::open({folder / "file", 2_MiB, 64_KiB, 8});
  ASSERT_TRUE(raw) << raw.error().message;
  ASSERT_TRUE(raw->run(0, 2_MiB));
  const auto content = read_whole(folder / "file");
  const std::vector<std::byte> zeros(2_MiB);
  EXPECT_TRUE(std::equal(zeros.begin(), zeros.end(), content.begin()));
  EXPECT_TRUE(has_content(std::span(content).subspan(2_MiB), 2_MiB));
}

// Half of the requests read what has not been written: half of the region is overwritten.
TEST(RawIo, MixesReadsAndWritesByTheFraction) {
  const ScratchFolder folder;
  write_content(folder / "file", 4_MiB);
  auto raw = RawIo::open({folder / "file", 4_MiB, 64_KiB, 1});
  ASSERT_TRUE(raw) << raw.error().message;
  const auto rate = raw->run(0.5, 2_MiB);
  ASSERT_TRUE(rate);
  EXPECT_EQ(rate->bytes, 2_MiB);
  const auto content = read_whole(folder / "file");
  EXPECT_TRUE(has_content(std::span(content).first(2_MiB), 0));
  EXPECT_FALSE(has_content(std::span(content).subspan(2_MiB, 64_KiB), 2_MiB));  // the first written
  EXPECT_FALSE(has_content(std::span(content).subspan(3_MiB - 64_KiB, 64_KiB), 3_MiB - 64_KiB));  // the 16th
  EXPECT_TRUE(has_content(std::span(content).subspan(3_MiB, 64_KiB), 3_MiB));
}

TEST(RawIo, SaysWhatFailed) {
  const ScratchFolder folder;
  EXPECT_EQ(RawIo::open({folder / "nothing", 4_MiB, 64_KiB, 8}).error().status, ORLOP_NOT_FOUND);
  EXPECT_EQ(RawIo::open({folder / "nothing", 4_MiB, 1000, 8}).error().status, ORLOP_INVALID_ARGUMENT);
  EXPECT_EQ(RawIo::open({folder / "nothing", 4096, 64_KiB, 8}).error().status, ORLOP_INVALID_ARGUMENT);
  write_content(folder / "file", 1_MiB);
  auto raw = RawIo::open({folder / "file", 4_MiB, 64_KiB, 8});  // the region is larger than the file
  ASSERT_TRUE(raw);
  EXPECT_EQ(raw->run(1, 4_MiB).error().status, ORLOP_IO_ERROR);
}

}  // namespace
}  // namespace orlop::bench
