#include "swap/pipeline.hpp"

#include <fcntl.h>

#include <fstream>
#include <iterator>

#include <gmock/gmock.h>

#include "faulty.hpp"
#include "support.hpp"

namespace orlop::swap {
namespace {

using namespace testing;
using ::testing::AllOf;
using ::testing::HasSubstr;

struct Trained {
  explicit Trained(std::vector<BlockSpec> specs, std::shared_ptr<Faults> faults = nullptr,
               aio::QueueKind kind = aio::QueueKind::threads, unsigned slab_count = 0)
      : blocks(std::move(specs)), order(forward_order(blocks.size())), model(blocks) {
    auto options = options_in(directory);
    options.queue = kind;
    options.slab_count = slab_count;
    options.overrides = {16 * 1024, 8};
    if (faults != nullptr) options.make_queues = {faulty_queue(faults, kind)};
    auto made = make_nvme_states(topology(), blocks, options);
    EXPECT_TRUE(made) << made.error().message;
    states = std::move(*made);
  }
  Result<SweepReport> sweep(std::uint32_t salt) {
    return states->sweep(order, changing_visitor(blocks, salt), kNeverCancelled);
  }
  // Sweeps until something goes wrong, waiting for the write-back too.
  Result<> sweep_and_drain(std::uint32_t salt) {
    TRY(sweep(salt));
    return states->drain(-1);
  }
  [[nodiscard]] std::string store_path() const { return directory.path() + "/orlop/test/rank0.store"; }

  TemporaryDirectory directory;
  std::vector<BlockSpec> blocks;
  std::vector<std::uint32_t> order;
  Model model;
  std::unique_ptr<States> states;
};

std::vector<BlockSpec> few_blocks() {
  auto blocks = equal_blocks(7, 2 * 2048);
  blocks[3] = {kChunkElements + 2048, kSeparate};
  return blocks;
}

// ---- Ordinary weather

TEST(Pipeline, KeepsItsContentWhenRequestsAreShortRefusedAndReordered) {
  std::mt19937_64 random(3);
  for (const auto kind : {aio::QueueKind::uring, aio::QueueKind::aio, aio::QueueKind::threads}) {
    auto faults = std::make_shared<Faults>();
    faults->order = aio::CompletionOrder::shuffled;
    faults->script = [](std::uint64_t op, const aio::Request&) {
      return aio::Fault{op % 7 == 3 ? EINTR : op % 11 == 5 ? EAGAIN : 0, op % 5 == 2 ? 4096u : 0u};
    };
    auto blocks = random_blocks(random, 9);
    for (auto& block : blocks) block.elements = std::min<std::uint64_t>(block.elements, kChunkElements + 2048);
    Trained run(blocks, faults, kind);
    faults->arm();
    for (std::uint32_t sweep = 1; sweep <= 3; ++sweep) {
      std::shuffle(run.order.begin(), run.order.end(), random);
      ASSERT_TRUE(run.states->prefetch(run.order));
      const auto swept = run.sweep(sweep);
      ASSERT_TRUE(swept) << swept.error().message;
      run.model.sweep(run.order, sweep);
    }
    EXPECT_EQ(run.model.difference(*run.states), "");
    EXPECT_GT(faults->struck, 10u);
  }
}

TEST(Pipeline, ReadsWhatIsStillBeingWrittenAsItWillBe) {
  const auto faults = delay_of(aio::Direction::write, 5);
  Trained run(few_blocks(), faults);
  faults->arm();
  for (std::uint32_t sweep = 1; sweep <= 4; ++sweep) {
    ASSERT_TRUE(run.sweep(sweep));
    run.model.sweep(run.order, sweep);
    std::reverse(run.order.begin(), run.order.end());  // the next begins with what was written last
    ASSERT_TRUE(run.states->prefetch(run.order));
  }
  EXPECT_EQ(run.model.difference(*run.states), "");
}

TEST(Pipeline, WorksWithTheSmallestRing) {
  Trained run(equal_blocks(11, 6 * 2048), nullptr, aio::QueueKind::threads, kMinimumSlabs);
  for (std::uint32_t sweep = 1; sweep <= 3; ++sweep) {
    ASSERT_TRUE(run.states->prefetch(run.order));
    ASSERT_TRUE(run.sweep(sweep));
    run.model.sweep(run.order, sweep);
  }
  EXPECT_EQ(run.model.difference(*run.states), "");
}

TEST(Pipeline, WhatWasPrefetchedIsNotReadAgain) {
  Trained run(equal_blocks(4, 2048));
  const auto before = run.states->traffic();
  ASSERT_TRUE(run.states->prefetch(run.order));
  ASSERT_TRUE(run.states->prefetch(run.order));
  ASSERT_TRUE(run.states->drain(-1));
  EXPECT_EQ(run.states->traffic().read_bytes - before.read_bytes, planes_bytes(run.blocks));
  ASSERT_TRUE(run.sweep_and_drain(1));
  EXPECT_EQ(run.states->traffic().read_bytes - before.read_bytes, planes_bytes(run.blocks) + kHeaderBytes);
}

TEST(Pipeline, WhatWasPrefetchedIsReadAgainOnceItWasModified) {
  Trained run(few_blocks());
  ASSERT_TRUE(run.states->prefetch(run.order));
  ASSERT_TRUE(run.states->access(2, Change::modified, [&](const BlockMemory& memory) -> Result<> {
    for (std::uint64_t chunk = 0; chunk < chunk_count(run.blocks[2]); ++chunk) {
      change_chunk(run.blocks[2], memory, chunk, 77 + 2);
    }
    return {};
  }));
  run.model.change_block(2, 77);
  ASSERT_TRUE(run.sweep(5));
  run.model.sweep(run.order, 5);
  EXPECT_EQ(run.model.difference(*run.states), "");
}

TEST(Pipeline, AccessWorksWhileEverySlabHoldsWhatWasPrefetched) {
  Trained run(few_blocks(), nullptr, aio::QueueKind::threads, kMinimumSlabs);
  ASSERT_TRUE(run.states->prefetch(run.order));
  EXPECT_EQ(run.model.difference(*run.states), "");
}

TEST(Pipeline, ASweepMovesEveryPlaneOnceEachWayAndOneHeader) {
  Trained run(few_blocks());
  for (std::uint32_t sweep = 1; sweep <= 3; ++sweep) {
    const auto before = run.states->traffic();
    ASSERT_TRUE(run.sweep_and_drain(sweep));
    const auto after = run.states->traffic();
    EXPECT_EQ(after.read_bytes - before.read_bytes, planes_bytes(run.blocks) + kHeaderBytes);
    EXPECT_EQ(after.write_bytes - before.write_bytes, planes_bytes(run.blocks));
    EXPECT_GT(after.busy_ns, before.busy_ns);
  }
}

TEST(Pipeline, ReportsWhereTheTimeWent) {
  const auto faults = delay_of(aio::Direction::read, 20);
  Trained run(equal_blocks(3, 2048), faults);
  faults->arm();
  const auto report = run.states->sweep(
      run.order,
      [&](const Visit& visit) {
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
        return changing_visitor(run.blocks, 1)(visit);
      },
      kNeverCancelled);
  ASSERT_TRUE(report);
  EXPECT_GE(report->work_ns, 30'000'000);
  EXPECT_GE(report->exposed_io_ns, 15'000'000);
}

TEST(Pipeline, RefusesABlockTwiceAndOneThatIsNotThere) {
  Trained run(few_blocks());
  for (const std::vector<std::uint32_t>& order : {std::vector<std::uint32_t>{0, 1, 0}, {99}}) {
    const auto swept = run.states->sweep(order, changing_visitor(run.blocks, 1), kNeverCancelled);
    ASSERT_FALSE(swept);
    EXPECT_EQ(swept.error().status, ORLOP_INVALID_ARGUMENT);
    EXPECT_FALSE(run.states->prefetch(order));
  }
  EXPECT_FALSE(run.states->access(7, Change::none, [](const BlockMemory&) -> Result<> { return {}; }));
  EXPECT_TRUE(run.sweep(1)) << "nothing has failed";
}

TEST(Pipeline, AVisitorsErrorStopsTheSweepAndLeavesItsBlockAsItWas) {
  Trained run(few_blocks());
  const auto swept = run.states->sweep(
      run.order,
      [&](const Visit& visit) -> Result<> {
        TRY(changing_visitor(run.blocks, 9)(visit));
        if (visit.block == 2) return fail(ORLOP_DEVICE_ERROR, "the device is gone");
        return {};
      },
      kNeverCancelled);
  ASSERT_FALSE(swept);
  EXPECT_EQ(swept.error().message, "the device is gone");
  run.model.sweep(std::vector<std::uint32_t>{0, 1}, 9);
  EXPECT_EQ(run.model.difference(*run.states), "");
}

// ---- Cancelling and waiting

TEST(Pipeline, IsCancelledBetweenBlocksAndGoesOnLater) {
  Trained run(few_blocks());
  std::atomic<bool> cancel{false};
  const auto swept = run.states->sweep(
      run.order,
      [&](const Visit& visit) {
        cancel = visit.block == 3;
        return changing_visitor(run.blocks, 1)(visit);
      },
      cancel);
  ASSERT_FALSE(swept);
  EXPECT_EQ(swept.error().status, ORLOP_CANCELLED);
  run.model.sweep(std::span(run.order).first(4), 1);
  EXPECT_EQ(run.model.difference(*run.states), "");
  ASSERT_TRUE(run.sweep(2));
  run.model.sweep(run.order, 2);
  EXPECT_EQ(run.model.difference(*run.states), "");
}

TEST(Pipeline, IsCancelledWhileItWaitsForASlowDrive) {
  const auto faults = delay_of(aio::Direction::read, 500);
  Trained run(equal_blocks(20, 2048), faults);
  faults->arm();
  std::atomic<bool> cancel{false};
  std::thread canceller([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    cancel = true;
  });
  const auto begin = std::chrono::steady_clock::now();
  const auto swept = run.states->sweep(run.order, changing_visitor(run.blocks, 1), cancel);
  canceller.join();
  ASSERT_FALSE(swept);
  EXPECT_EQ(swept.error().status, ORLOP_CANCELLED);
  run.states.reset();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(1900));
  EXPECT_TRUE(run.directory.is_empty());
}

TEST(Pipeline, DrainTellsWhenTimeIsUpAndCanBeCalledAgain) {
  const auto faults = delay_of(aio::Direction::write, 300);
  Trained run(equal_blocks(2, 2048), faults);
  faults->arm();
  ASSERT_TRUE(run.sweep(1));
  const auto drained = run.states->drain(20);
  ASSERT_FALSE(drained);
  EXPECT_EQ(drained.error().status, ORLOP_TIMEOUT);
  EXPECT_TRUE(run.states->drain(-1));
  EXPECT_TRUE(run.states->drain(0));
}

// ---- A drive that fails

class FailingDrive : public ::testing::TestWithParam<int> {};

TEST_P(FailingDrive, AtAnyRequestEndsInOneSentenceThatIsRepeated) {
  std::uint64_t never_reached = 0;
  for (std::uint64_t op = 0; op < 80; op += op < 30 ? 1 : 7) {
    const auto faults = error_at(op, GetParam());
    Trained run(few_blocks(), faults);
    faults->arm();
    auto result = run.sweep_and_drain(1);
    if (faults->struck == 0) {
      ++never_reached;
      EXPECT_TRUE(result);
      continue;
    }
    ASSERT_FALSE(result) << "request " << op;
    EXPECT_EQ(result.error().status, status_of_errno(GetParam()));
    EXPECT_THAT(result.error().message, AllOf(HasSubstr(run.store_path()), HasSubstr("errno")));
    const std::string first = result.error().message;
    for (const auto& later :
         {run.sweep_and_drain(2), run.states->prefetch(run.order), run.states->drain(-1),
          run.states->access(0, Change::none, [](const BlockMemory&) -> Result<> { return {}; })}) {
      ASSERT_FALSE(later);
      EXPECT_EQ(later.error().message, first);
    }
    run.states.reset();
    EXPECT_TRUE(run.directory.is_empty());
  }
  EXPECT_LT(never_reached, 8u);
}

INSTANTIATE_TEST_SUITE_P(Errors, FailingDrive, ::testing::Values(EIO, ENOSPC));

TEST(Pipeline, AFailedWriteBackSurfacesAtTheNextCallWhicheverItIs) {
  for (int next = 0; next < 3; ++next) {
    auto faults = std::make_shared<Faults>();
    faults->script = [](std::uint64_t, const aio::Request& request) {
      return aio::Fault{request.direction == aio::Direction::write ? EIO : 0};
    };
    Trained run(equal_blocks(1, 2048), faults);
    faults->arm();
    ASSERT_TRUE(run.sweep(1)) << "the last write-back is behind it";
    while (faults->struck == 0) std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    const auto later = next == 0   ? run.states->prefetch(run.order)
                       : next == 1 ? run.sweep_and_drain(2)
                                   : run.states->access(0, Change::none, [](const BlockMemory&) -> Result<> { return {}; });
    ASSERT_FALSE(later);
    EXPECT_EQ(later.error().status, ORLOP_IO_ERROR);
  }
}

TEST(Pipeline, AFailedAccessIsReportedAndRemembered) {
  const auto faults = error_at(0, EIO);
  Trained run(few_blocks(), faults);
  faults->arm();
  const auto read = run.states->access(1, Change::none, [](const BlockMemory&) -> Result<> { return {}; });
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().status, ORLOP_IO_ERROR);
  EXPECT_FALSE(run.sweep(1));
}

// ---- A file that is not what it was

std::vector<char> content_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// Where in the store a plane of a block begins: found by its content, which is unlike any other's.
std::uint64_t find_plane(Trained& run, std::uint32_t block, Plane plane) {
  std::vector<char> wanted(1024);
  EXPECT_TRUE(run.states->access(block, Change::none, [&](const BlockMemory& memory) -> Result<> {
    std::memcpy(wanted.data(), memory.as<std::byte>(plane), wanted.size());
    return {};
  }));
  const auto content = content_of(run.store_path());
  const auto found = std::search(content.begin(), content.end(), wanted.begin(), wanted.end());
  EXPECT_NE(found, content.end());
  return static_cast<std::uint64_t>(found - content.begin());
}

void flip_byte(const std::string& path, std::uint64_t offset) {
  const unique_fd fd(::open(path.c_str(), O_RDWR));
  char byte = 0;
  ASSERT_EQ(::pread(fd.get(), &byte, 1, static_cast<off_t>(offset)), 1);
  byte = static_cast<char>(byte ^ 0x10);
  ASSERT_EQ(::pwrite(fd.get(), &byte, 1, static_cast<off_t>(offset)), 1);
  ASSERT_EQ(::fsync(fd.get()), 0);
}

// Content that is unlike in every plane of every block.
void make_unlike(Trained& run) {
  for (std::uint32_t block = 0; block < run.blocks.size(); ++block) {
    std::mt19937_64 random(block + 1);
    ASSERT_TRUE(run.states->access(block, Change::modified, [&](const BlockMemory& memory) -> Result<> {
      for (const auto plane : kPlanes) {
        if (!run.blocks[block].planes.contains(plane)) continue;
        for (std::uint64_t i = 0; i < run.blocks[block].elements * element_bytes(plane); ++i) {
          memory.as<std::uint8_t>(plane)[i] = static_cast<std::uint8_t>(random());
        }
      }
      return {};
    }));
  }
}

TEST(Pipeline, AFlippedByteIsFoundAndNamed) {
  Trained run(few_blocks());
  make_unlike(run);
  ASSERT_TRUE(run.sweep_and_drain(1));
  const std::uint64_t plane_begin = find_plane(run, 3, Plane::exp_avg);
  const std::uint64_t chunk_begin = plane_begin + kChunkElements * 4;
  flip_byte(run.store_path(), chunk_begin + 100);
  std::vector<std::uint32_t> visited;
  const auto swept = run.states->sweep(
      run.order,
      [&](const Visit& visit) {
        visited.push_back(visit.block);
        return changing_visitor(run.blocks, 2)(visit);
      },
      kNeverCancelled);
  ASSERT_FALSE(swept);
  EXPECT_EQ(swept.error().status, ORLOP_CORRUPT);
  EXPECT_THAT(swept.error().message,
              AllOf(HasSubstr(run.store_path()), HasSubstr("block 3"), HasSubstr("plane exp_avg,"),
                    HasSubstr("chunk 1"), HasSubstr(fmt::format("offset {},", chunk_begin)), HasSubstr("generation 2"),
                    HasSubstr("expected sum"), HasSubstr("found")));
  EXPECT_EQ(visited.back(), 3u) << "nothing behind it is touched";
  EXPECT_FALSE(run.states->drain(-1));
}

TEST(Pipeline, AFlippedByteIsFoundByAccessToo) {
  Trained run(few_blocks());
  make_unlike(run);
  flip_byte(run.store_path(), find_plane(run, 5, Plane::lo) + 17);
  const auto read = run.states->access(5, Change::none, [](const BlockMemory&) -> Result<> { return {}; });
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().status, ORLOP_CORRUPT);
  EXPECT_THAT(read.error().message, AllOf(HasSubstr("block 5"), HasSubstr("plane lo,")));
}

TEST(Pipeline, AStaleGenerationIsFound) {
  Trained run(equal_blocks(1, 2048));
  make_unlike(run);
  const auto before = content_of(run.store_path());
  const std::uint64_t begin = find_plane(run, 0, Plane::lo);
  ASSERT_TRUE(run.sweep_and_drain(1));
  const std::uint64_t now = find_plane(run, 0, Plane::lo);
  EXPECT_NE(now, begin) << "copy on write";
  const unique_fd fd(::open(run.store_path().c_str(), O_RDWR));
  ASSERT_EQ(::pwrite(fd.get(), before.data() + begin, 20480, static_cast<off_t>(now)), 20480);
  const auto swept = run.sweep(2);
  ASSERT_FALSE(swept);
  EXPECT_EQ(swept.error().status, ORLOP_CORRUPT);
}

TEST(Pipeline, ATruncatedStoreIsNoticedBetweenSweeps) {
  Trained run(few_blocks());
  const auto bytes = fs::file_size(run.store_path());
  fs::resize_file(run.store_path(), 4096);
  const auto swept = run.sweep(1);
  ASSERT_FALSE(swept);
  EXPECT_EQ(swept.error().status, ORLOP_CORRUPT);
  EXPECT_THAT(swept.error().message,
              AllOf(HasSubstr("truncated"), HasSubstr(run.store_path()),
                    HasSubstr(fmt::format("has 4096 bytes, needs {}", bytes))));
}

TEST(Pipeline, ATruncatedStoreIsNoticedDuringASweep) {
  Trained run(equal_blocks(30, 2048));
  const auto swept = run.states->sweep(
      run.order,
      [&](const Visit& visit) {
        if (visit.block == 1) fs::resize_file(run.store_path(), 4096);
        return changing_visitor(run.blocks, 1)(visit);
      },
      kNeverCancelled);
  const auto later = run.sweep_and_drain(2);
  ASSERT_FALSE(later);
  EXPECT_EQ(later.error().status, ORLOP_CORRUPT);
  if (!swept) {
    EXPECT_THAT(swept.error().message, HasSubstr("truncated"));
  }
}

TEST(Pipeline, AnotherFileMovedOverTheStoreIsNoticed) {
  Trained run(few_blocks());
  fs::copy_file(run.store_path(), run.directory / "other");
  fs::rename(run.directory / "other", run.store_path());
  const auto swept = run.sweep(1);
  ASSERT_FALSE(swept);
  EXPECT_EQ(swept.error().status, ORLOP_CORRUPT);
  EXPECT_THAT(swept.error().message, HasSubstr("replaced"));
}

TEST(Pipeline, AnotherRunsStoreCopiedOverOursIsNoticed) {
  for (const bool is_moved : {false, true}) {
    Trained run(few_blocks());
    auto options = options_in(run.directory, "other-run");
    auto other = make_nvme_states(topology(), run.blocks, options).value();
    const auto other_path = run.directory / "orlop/other-run/rank0.store";
    if (is_moved) {
      fs::rename(other_path, run.store_path());
    } else {
      fs::copy_file(other_path, run.store_path(), fs::copy_options::overwrite_existing);
    }
    const auto swept = run.sweep(1);
    ASSERT_FALSE(swept);
    EXPECT_EQ(swept.error().status, ORLOP_CORRUPT);
    EXPECT_THAT(swept.error().message, HasSubstr("it belongs to run other-run, not test"));
  }
}

TEST(Pipeline, ARemovedStoreIsNoticed) {
  Trained run(few_blocks());
  fs::remove(run.store_path());
  const auto swept = run.sweep(1);
  ASSERT_FALSE(swept);
  EXPECT_EQ(swept.error().status, ORLOP_CORRUPT);
  EXPECT_THAT(swept.error().message, HasSubstr("removed"));
}

TEST(Pipeline, LeavesSumsAloneWhenTheyAreLeftOut) {
  TemporaryDirectory directory;
  const auto blocks = few_blocks();
  auto options = options_in(directory);
  options.checksums = Checksums::left_out;
  auto states = make_nvme_states(topology(), blocks, options).value();
  Model model(blocks);
  const auto order = forward_order(blocks.size());
  for (std::uint32_t sweep = 1; sweep <= 2; ++sweep) {
    ASSERT_TRUE(states->sweep(
        order,
        [&](const Visit& visit) {
          EXPECT_TRUE(visit.recorded.empty() && visit.read.empty() && visit.written.empty());
          return changing_visitor(blocks, sweep)(visit);
        },
        kNeverCancelled));
    model.sweep(order, sweep);
  }
  EXPECT_EQ(model.difference(*states), "");
}

}  // namespace
}  // namespace orlop::swap
