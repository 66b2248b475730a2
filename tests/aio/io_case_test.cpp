#include "bench/io_case.hpp"

#include <gmock/gmock.h>

#include "scratch.hpp"

namespace orlop::bench {
namespace {

TEST(IoCase, MeasuresReadsWritesAndTheirMixBesideTheRoof) {
  const aio::ScratchFolder folder;
  for (const auto kind : {aio::QueueKind::uring, aio::QueueKind::aio, aio::QueueKind::threads}) {
    if (!aio::make_queue(kind, {})) continue;
    const auto report = measure_io({.directory = folder.path(),
                                    .file_bytes = 48_MiB,
                                    .rounds = 2,
                                    .queue = kind,
                                    .request_bytes = 256_KiB,
                                    .depth = 8});
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_EQ(report->queue, aio::name_of(kind));
    EXPECT_EQ(report->calibration.origin, "configured");
    ASSERT_EQ(report->cases.size(), 3u);
    EXPECT_EQ(report->cases[0].name, "read");
    EXPECT_EQ(report->cases[1].name, "write");
    EXPECT_EQ(report->cases[2].name, "mix");
    for (const auto& found : report->cases) {
      EXPECT_EQ(found.bytes, 48_MiB);
      EXPECT_EQ(found.request_bytes, 256_KiB);
      EXPECT_EQ(found.depth, 8u);
      EXPECT_GT(found.gb_s.median, 0);
      EXPECT_LE(found.gb_s.p10, found.gb_s.median);
      EXPECT_LE(found.gb_s.median, found.gb_s.p90);
      EXPECT_GT(found.roof_gb_s.median, 0);
      EXPECT_GT(found.ratio, 0);
    }
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));  // nothing is left behind
}

TEST(IoCase, SaysWhatIsWrongWithTheDirectory) {
  const aio::ScratchFolder folder;
  const auto missing = measure_io({.directory = folder / "nowhere"});
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().status, ORLOP_NOT_FOUND);
  const auto full = measure_io({.directory = folder.path(), .file_bytes = 1ull << 50});
  ASSERT_FALSE(full);
  EXPECT_EQ(full.error().status, ORLOP_NO_SPACE);
  EXPECT_THAT(full.error().message, testing::HasSubstr("too little"));
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

}  // namespace
}  // namespace orlop::bench
