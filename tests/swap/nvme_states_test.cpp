#include "swap/nvme_states.hpp"

#include <malloc.h>

#include <fstream>
#include <regex>

#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include "base/clock.hpp"
#include "child.hpp"
#include "faulty.hpp"
#include "rounds.hpp"
#include "support.hpp"
#include "swap/host_states.hpp"

namespace orlop::swap {
namespace {

using namespace testing;

// ---- The same content as the definition, whatever the queue

class NvmeStatesOverQueue : public ::testing::TestWithParam<aio::QueueKind> {};

TEST_P(NvmeStatesOverQueue, HoldsWhatPlainVectorsHoldAfterRandomSweeps) {
  std::mt19937_64 random(7);
  const auto blocks = random_blocks(random, 17);
  TemporaryDirectory directory;
  auto options = options_in(directory);
  options.queue = GetParam();
  auto nvme = make_nvme_states(topology(), blocks, options);
  ASSERT_TRUE(nvme) << nvme.error().message;
  auto host = make_host_states(topology(), blocks).value();
  Model model(blocks);
  EXPECT_EQ(model.difference(**nvme), "") << "states begin as zero";

  auto order = forward_order(blocks.size());
  for (std::uint32_t sweep = 1; sweep <= rounds(12, 6); ++sweep) {
    std::shuffle(order.begin(), order.end(), random);
    const std::span part(order.data(), 1 + random() % order.size());
    if (random() % 2 == 0) {
      ASSERT_TRUE((*nvme)->prefetch(part));
    }
    if (random() % 4 == 0) {
      ASSERT_TRUE((*nvme)->prefetch(forward_order(blocks.size()))) << "another order than the sweep's";
    }
    if (random() % 2 == 0) {
      const auto block = static_cast<std::uint32_t>(random() % blocks.size());
      for (States* states : {static_cast<States*>(nvme->get()), host.get()}) {
        ASSERT_TRUE(states->access(block, Change::modified, [&](const BlockMemory& memory) -> Result<> {
          for (std::uint64_t c = 0; c < chunk_count(blocks[block]); ++c) change_chunk(blocks[block], memory, c, 5 + block);
          return {};
        }));
      }
      model.change_block(block, 5);
    }
    for (States* states : {static_cast<States*>(nvme->get()), host.get()}) {
      const auto report = states->sweep(part, changing_visitor(blocks, sweep), kNeverCancelled);
      ASSERT_TRUE(report) << report.error().message;
    }
    model.sweep(part, sweep);
    if (sweep % 3 == 0) {
      ASSERT_EQ(model.difference(**nvme), "") << "sweep " << sweep;
    }
  }
  EXPECT_EQ(model.difference(*host), "");
  EXPECT_EQ(model.difference(**nvme), "");
  nvme->reset();
  EXPECT_TRUE(directory.is_empty());
}

INSTANTIATE_TEST_SUITE_P(All, NvmeStatesOverQueue,
                         ::testing::Values(aio::QueueKind::uring, aio::QueueKind::aio, aio::QueueKind::threads),
                         [](const auto& kind) { return std::string(aio::name_of(kind.param)); });

// ---- What it takes is what was said

TEST(NvmeStates, TakesWhatWasSaid) {
  std::mt19937_64 random(11);
  for (const unsigned slabs : {0u, 3u, 9u}) {
    const auto blocks = random_blocks(random, 12);
    TemporaryDirectory directory;
    auto options = options_in(directory);
    options.slab_count = slabs;
    const TierUse said = nvme_states_use(blocks, slabs);
    const auto states = make_nvme_states(topology(), blocks, options).value();
    EXPECT_EQ(states->use().host_bytes, said.host_bytes);
    EXPECT_EQ(states->use().staging_bytes, said.staging_bytes);
    EXPECT_EQ(states->use().nvme_bytes, said.nvme_bytes);
    EXPECT_EQ(fs::file_size(directory / "orlop/test/rank0.store"), said.nvme_bytes);
    const auto described = nlohmann::json::parse(states->describe());
    EXPECT_EQ(described["slabs"].get<std::uint64_t>() * described["slab_bytes"].get<std::uint64_t>(), said.staging_bytes);
  }
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
TEST(NvmeStates, ItsTablesFitInWhatWasSaid) {
  const auto blocks = equal_blocks(400, 2048);
  TemporaryDirectory directory;
  const auto options = options_in(directory);
  const TierUse said = nvme_states_use(blocks, 0);
  const auto before = ::mallinfo2().uordblks;
  const auto states = make_nvme_states(topology(), blocks, options).value();
  const auto order = forward_order(blocks.size());
  ASSERT_TRUE(states->sweep(order, changing_visitor(blocks, 1), kNeverCancelled));
  ASSERT_TRUE(states->drain(-1));
  const auto after = ::mallinfo2().uordblks;
  constexpr std::uint64_t kQueueAndThread = 64 * 1024;
  EXPECT_LE(after - before, said.host_bytes - said.staging_bytes + kQueueAndThread);
}
#endif

TEST(NvmeStates, AStoreOfSplitStatesIsTenBytesPerParameterAndLittleMore) {
  const auto blocks = equal_blocks(60, 4 << 20);
  const double elements = 60.0 * (4 << 20);
  EXPECT_LE(static_cast<double>(nvme_states_use(blocks, 0).nvme_bytes), 10 * elements * (66.0 / 60 + 0.001));
}

TEST(NvmeStates, DescribesItself) {
  TemporaryDirectory directory;
  auto options = options_in(directory);
  options.overrides = {64 * 1024, 5};
  const auto states = make_nvme_states(topology(), equal_blocks(3, 4096), options).value();
  const auto described = nlohmann::json::parse(states->describe());
  EXPECT_EQ(described["tier"], "nvme");
  EXPECT_EQ(described["path"], directory / "orlop/test/rank0.store");
  EXPECT_EQ(described["queue"], "threads");
  EXPECT_EQ(described["read_request_bytes"], 64 * 1024);
  EXPECT_EQ(described["depth"], 5);
  EXPECT_EQ(described["calibration"]["origin"], "configured");
  EXPECT_EQ(described["slabs"], kDefaultSlabs);
}

TEST(NvmeStates, CountsNoTrafficOfItsFirstWrite) {
  TemporaryDirectory directory;
  const auto states = make_nvme_states(topology(), equal_blocks(3, 4096), options_in(directory)).value();
  EXPECT_EQ(states->traffic().write_bytes, 0u);
  EXPECT_EQ(states->traffic().read_bytes, 0u);
}

TEST(NvmeStates, RecordsReadsAndWritesInTheTrace) {
  TemporaryDirectory directory;
  Trace trace;
  trace.start();
  auto options = options_in(directory);
  options.trace = &trace;
  const auto blocks = equal_blocks(5, 4096);
  const auto states = make_nvme_states(topology(), blocks, options).value();
  const auto before = trace.recorded();
  const auto order = forward_order(5);
  ASSERT_TRUE(states->sweep(order, changing_visitor(blocks, 1), kNeverCancelled));
  ASSERT_TRUE(states->drain(-1));
  EXPECT_EQ(trace.recorded() - before, 10u);
}

// ---- Bad input

Error error_of(const std::vector<BlockSpec>& blocks, const NvmeOptions& options) {
  const auto states = make_nvme_states(topology(), blocks, options);
  EXPECT_FALSE(states);
  return states ? Error{} : states.error();
}

TEST(NvmeStates, ADiskThatIsTooSmallIsRefusedWithTheExactShortfallBeforeAnythingIsCreated) {
  TemporaryDirectory directory;
  const std::vector<BlockSpec> blocks(3, BlockSpec{std::uint64_t{1} << 38, kSplit});  // 2.5 TiB each
  const auto error = error_of(blocks, options_in(directory));
  EXPECT_EQ(error.status, ORLOP_NO_SPACE);
  std::uint64_t needs = 0;
  std::uint64_t free = 0;
  std::uint64_t few = 0;
  const std::regex numbers("needs (\\d+) bytes .*, (\\d+) bytes .* are free: (\\d+) bytes .* too few");
  std::smatch found;
  ASSERT_TRUE(std::regex_search(error.message, found, numbers)) << error.message;
  needs = std::stoull(found[1]);
  free = std::stoull(found[2]);
  few = std::stoull(found[3]);
  EXPECT_EQ(needs, nvme_states_use(blocks, 0).nvme_bytes);
  EXPECT_EQ(few, needs - free);
  EXPECT_TRUE(directory.is_empty());
}

TEST(NvmeStates, BlocksAndSlabsThatCannotBeAreRefused) {
  TemporaryDirectory directory;
  EXPECT_EQ(error_of({}, options_in(directory)).status, ORLOP_INVALID_ARGUMENT);
  EXPECT_EQ(error_of({{0, kSplit}}, options_in(directory)).status, ORLOP_INVALID_ARGUMENT);
  EXPECT_EQ(error_of({{1000, kSplit}}, options_in(directory)).status, ORLOP_INVALID_ARGUMENT);
  EXPECT_EQ(error_of({{2048, {}}}, options_in(directory)).status, ORLOP_INVALID_ARGUMENT);
  auto options = options_in(directory);
  options.slab_count = 2;
  EXPECT_EQ(error_of(equal_blocks(3, 2048), options).status, ORLOP_INVALID_ARGUMENT);
  options = options_in(directory);
  options.overrides.request_bytes = 1000;
  EXPECT_EQ(error_of(equal_blocks(3, 2048), options).status, ORLOP_INVALID_CONFIG);
  EXPECT_TRUE(directory.is_empty());
}

TEST(NvmeStates, APathThatIsMissingOrNoDirectoryIsRefused) {
  TemporaryDirectory directory;
  auto options = options_in(directory);
  options.nvme_paths = {directory / "missing"};
  EXPECT_EQ(error_of(equal_blocks(1, 2048), options).status, ORLOP_NOT_FOUND);
  std::ofstream(directory / "file") << "x";
  options.nvme_paths = {directory / "file"};
  const auto error = error_of(equal_blocks(1, 2048), options);
  EXPECT_EQ(error.status, ORLOP_NOT_FOUND);
  EXPECT_THAT(error.message, ::testing::HasSubstr("not a directory"));
}

TEST(NvmeStates, AnotherInstanceOfTheSameRunIsRefusedAndHarmsNothing) {
  TemporaryDirectory directory;
  const auto blocks = equal_blocks(3, 4096);
  const auto order = forward_order(3);
  Model model(blocks);
  const auto states = make_nvme_states(topology(), blocks, options_in(directory)).value();
  ASSERT_TRUE(states->sweep(order, changing_visitor(blocks, 1), kNeverCancelled));
  model.sweep(order, 1);
  const auto error = error_of(blocks, options_in(directory));
  EXPECT_EQ(error.status, ORLOP_BUSY);
  EXPECT_THAT(error.message, ::testing::HasSubstr(fmt::format("in use by process {} on ", ::getpid())));
  EXPECT_EQ(model.difference(*states), "");
  EXPECT_TRUE(make_nvme_states(topology(), blocks, options_in(directory, "another"))) << "other runs are welcome";
}

TEST(NvmeStates, AFailedCreationLeavesNothing) {
  TemporaryDirectory directory;
  auto options = options_in(directory);
  options.make_queues = {[](const aio::QueueOptions&) -> Result<std::unique_ptr<aio::Queue>> {
    return fail(ORLOP_UNSUPPORTED, "no such queue today");
  }};
  EXPECT_EQ(error_of(equal_blocks(2, 2048), options).message, "no such queue today");
  const auto faults = error_at(5, ENOSPC);
  faults->arm();
  options.make_queues = {faulty_queue(faults)};
  EXPECT_EQ(error_of(equal_blocks(20, 200 * 2048), options).status, ORLOP_NO_SPACE);
  EXPECT_TRUE(directory.is_empty());
}

TEST(NvmeStates, CreationIsCancelledDuringTheFirstWrite) {
  TemporaryDirectory directory;
  std::atomic<bool> cancel{false};
  auto options = options_in(directory);
  options.cancel = &cancel;
  auto faults = std::make_shared<Faults>();
  std::atomic<std::int64_t> cancelled_ns{0};
  faults->script = [&](std::uint64_t op, const aio::Request&) {
    if (op == 10) {
      cancelled_ns = now_ns();
      cancel = true;
    }
    aio::Fault slow;
    slow.delay = std::chrono::milliseconds(20);
    return slow;
  };
  faults->arm();
  options.make_queues = {faulty_queue(faults)};
  const auto error = error_of(equal_blocks(50, 512 * 2048), options);
  EXPECT_EQ(error.status, ORLOP_CANCELLED);
  EXPECT_LT(now_ns() - cancelled_ns, 2'000'000'000) << "uncancelled it takes more than five seconds";
  EXPECT_TRUE(directory.is_empty());
}

// ---- A process that dies

// Sweeps for ever in a child; says when it has begun.
pid_t start_sweeping_child(const TemporaryDirectory& directory, const std::vector<BlockSpec>& blocks) {
  return start_child([&](const auto& begun) {
    auto states = make_nvme_states(topology(), blocks, options_in(directory));
    const auto order = forward_order(blocks.size());
    for (std::uint32_t sweep = 1; states; ++sweep) {
      if (!(*states)->sweep(order, changing_visitor(blocks, sweep), kNeverCancelled)) break;
      if (sweep == 1 && !begun()) break;
    }
  });
}

TEST(NvmeStates, ARunThatWasKilledDuringASweepCanBeOpenedAgain) {
  TemporaryDirectory directory;
  const auto blocks = equal_blocks(6, 8 * 2048);
  const pid_t child = start_sweeping_child(directory, blocks);
  const auto busy = error_of(blocks, options_in(directory));
  EXPECT_EQ(busy.status, ORLOP_BUSY);
  EXPECT_THAT(busy.message, ::testing::HasSubstr(fmt::format("process {} ", child)));
  kill_child(child);
  const auto left = fs::file_size(directory / "orlop/test/rank0.store");

  CapturedLog log;
  auto states = make_nvme_states(topology(), blocks, options_in(directory));
  ASSERT_TRUE(states) << states.error().message;
  EXPECT_THAT(log.text(), ::testing::AllOf(::testing::HasSubstr("left over"), ::testing::HasSubstr(fmt::format("({} bytes)", left))));
  Model model(blocks);
  EXPECT_EQ(model.difference(**states), "") << "a new run begins with zeros";
  states->reset();
  EXPECT_TRUE(directory.is_empty());
}

}  // namespace
}  // namespace orlop::swap
