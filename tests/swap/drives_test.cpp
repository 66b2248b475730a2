// States in a store on several drives, which here are directories on one.
#include <fstream>

#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include "child.hpp"
#include "faulty.hpp"
#include "support.hpp"
#include "swap/layout.hpp"
#include "swap/saved_store.hpp"

namespace orlop::swap {
namespace {

using namespace testing;
using ::testing::AllOf;
using ::testing::HasSubstr;

// <directory>/0, <directory>/1 ... are the drives.
NvmeOptions options_on(const TemporaryDirectory& directory, std::size_t drives) {
  auto options = options_in(directory);
  options.nvme_paths.clear();
  for (std::size_t i = 0; i < drives; ++i) {
    options.nvme_paths.push_back(fmt::format("{}/{}", directory.path(), i));
    fs::create_directories(options.nvme_paths.back());
  }
  return options;
}

std::string store_on(const TemporaryDirectory& directory, std::size_t drive) {
  return fmt::format("{}/{}/orlop/test/rank0.store", directory.path(), drive);
}

bool are_empty(const NvmeOptions& options) {
  return std::all_of(options.nvme_paths.begin(), options.nvme_paths.end(), [](const auto& path) { return fs::is_empty(path); });
}

std::unique_ptr<States> made(const std::vector<BlockSpec>& blocks, const NvmeOptions& options) {
  auto states = make_nvme_states(topology(), blocks, options);
  EXPECT_TRUE(states) << states.error().message;
  return std::move(*states);
}

std::string refusal(const NvmeOptions& options, std::vector<BlockSpec> blocks = equal_blocks(2, 2048)) {
  const auto states = make_nvme_states(topology(), std::move(blocks), options);
  EXPECT_FALSE(states);
  return states ? "" : states.error().message;
}

Result<> sweep_and_drain(States& states, const std::vector<BlockSpec>& blocks, std::uint32_t salt) {
  TRY(states.sweep(forward_order(blocks.size()), changing_visitor(blocks, salt), kNeverCancelled));
  return states.drain(-1);
}

// Requests of one drive take so long.
QueueFactory slow_queue(int milliseconds) {
  auto faults = std::make_shared<Faults>();
  faults->script = [=](std::uint64_t, const aio::Request&) {
    aio::Fault fault;
    fault.delay = std::chrono::milliseconds(milliseconds);
    return fault;
  };
  faults->arm();
  return faulty_queue(faults);
}

// ---- The same content as the definition, on any number of drives

class NvmeStatesOnDrives : public ::testing::TestWithParam<std::size_t> {};

TEST_P(NvmeStatesOnDrives, HoldWhatPlainVectorsHoldAndSayWhatEachDriveMoved) {
  std::mt19937_64 random(7);
  auto blocks = random_blocks(random, 17);
  blocks.push_back({60 * kChunkElements, kStored});  // over many stripes
  TemporaryDirectory directory;
  auto options = options_on(directory, GetParam());
  options.plane_slab_count = 3;
  auto states = made(blocks, options);
  Model model(blocks);
  EXPECT_EQ(model.difference(*states), "") << "states begin as zero";
  auto order = forward_order(blocks.size());
  for (std::uint32_t sweep = 1; sweep <= 6; ++sweep) {
    std::shuffle(order.begin(), order.end(), random);
    ASSERT_TRUE(states->prefetch(order));
    ASSERT_TRUE(states->sweep(order, changing_visitor(blocks, sweep), kNeverCancelled));
    model.sweep(order, sweep);
    const auto last = static_cast<std::uint32_t>(blocks.size() - 1);
    ASSERT_TRUE(states->read_plane({last, Plane::param}, [](const PlaneView& view) {
      for (std::size_t chunk = 0; chunk < view.read.size(); ++chunk) view.sum_chunk(chunk);
    }));
  }
  EXPECT_EQ(model.difference(*states), "");
  ASSERT_TRUE(states->drain(-1));

  const Traffic all = states->traffic();
  const auto drives = states->by_drive();
  ASSERT_EQ(drives.size(), GetParam());
  std::uint64_t read = 0;
  std::uint64_t written = 0;
  double shares = 0;
  std::int64_t busy_ns = 0;
  for (std::size_t i = 0; i < drives.size(); ++i) {
    busy_ns += drives[i].traffic.busy_ns;
    EXPECT_EQ(drives[i].path, options.nvme_paths[i]);
    EXPECT_GT(drives[i].traffic.write_bytes, 0u);
    EXPECT_LE(drives[i].traffic.busy_ns, all.busy_ns + all.busy_ns / 100) << "but for two looks at the clock";
    read += drives[i].traffic.read_bytes;
    written += drives[i].traffic.write_bytes;
    shares += drives[i].share;
  }
  EXPECT_LE(all.busy_ns, busy_ns + busy_ns / 100) << "time counts once where several are busy";
  EXPECT_EQ(read, all.read_bytes);
  EXPECT_EQ(written, all.write_bytes);
  EXPECT_EQ(written, 6 * planes_bytes(blocks));
  EXPECT_DOUBLE_EQ(shares, 1);
  states.reset();
  EXPECT_TRUE(are_empty(options));
}

TEST_P(NvmeStatesOnDrives, TakeWhatWasSaid) {
  std::mt19937_64 random(11);
  const auto blocks = random_blocks(random, 12);
  TemporaryDirectory directory;
  const TierUse said = nvme_states_use(blocks, 0, 0, GetParam());
  const auto states = made(blocks, options_on(directory, GetParam()));
  EXPECT_EQ(states->use().host_bytes, said.host_bytes);
  EXPECT_EQ(states->use().nvme_bytes, said.nvme_bytes);
  std::uint64_t bytes = 0;
  for (std::size_t i = 0; i < GetParam(); ++i) bytes += fs::file_size(store_on(directory, i));
  EXPECT_EQ(bytes, said.nvme_bytes);
}

INSTANTIATE_TEST_SUITE_P(Counts, NvmeStatesOnDrives, ::testing::Values(1, 2, 3, 7));

TEST(Drives, AreDescribedOneByOne) {
  TemporaryDirectory directory;
  const auto states = made(equal_blocks(3, 4096), options_on(directory, 2));
  const auto described = nlohmann::json::parse(states->describe());
  EXPECT_EQ(described["path"], store_on(directory, 0));
  ASSERT_EQ(described["drives"].size(), 2u);
  EXPECT_EQ(described["drives"][1]["path"], store_on(directory, 1));
  EXPECT_EQ(described["drives"][1]["calibration"]["origin"], "configured");
}

// ---- Shares

TEST(Drives, OneThatIsSlowGetsLessAndTheContentStays) {
  TemporaryDirectory directory;
  auto options = options_on(directory, 2);
  options.make_queues = {slow_queue(0), slow_queue(25)};
  const auto blocks = equal_blocks(16, 4 * kChunkElements);  // a sweep moves more than is needed to look
  CapturedLog log;
  const auto states = made(blocks, options);
  Model model(blocks);
  EXPECT_DOUBLE_EQ(states->by_drive()[1].share, 0.5) << "nothing is known yet";
  for (std::uint32_t sweep = 1; sweep <= 5; ++sweep) {
    ASSERT_TRUE(sweep_and_drain(*states, blocks, sweep));
    model.sweep(forward_order(blocks.size()), sweep);
  }
  const auto before = states->by_drive();
  EXPECT_LT(before[1].share, 0.3);
  EXPECT_GT(before[0].gb_s, before[1].gb_s);
  ASSERT_TRUE(sweep_and_drain(*states, blocks, 6));
  model.sweep(forward_order(blocks.size()), 6);
  const auto after = states->by_drive();
  const auto written = [&](std::size_t i) { return after[i].traffic.write_bytes - before[i].traffic.write_bytes; };
  EXPECT_LT(written(1), written(0) / 2);
  EXPECT_EQ(written(0) + written(1), planes_bytes(blocks));
  EXPECT_EQ(model.difference(*states), "");
  EXPECT_THAT(log.text(), HasSubstr(fmt::format("on {}/1: moves", directory.path())));
}

TEST(Drives, NoFileBecomesLongerThanTheBudgetAllows) {
  TemporaryDirectory directory;
  auto options = options_on(directory, 2);
  options.make_queues = {slow_queue(0), slow_queue(25)};
  const auto blocks = equal_blocks(16, 4 * kChunkElements);  // a sweep moves more than is needed to look
  options.limit_bytes = nvme_states_use(blocks, 0, 0, 2).nvme_bytes;
  const auto states = made(blocks, options);
  Model model(blocks);
  for (std::uint32_t sweep = 1; sweep <= 5; ++sweep) {
    ASSERT_TRUE(sweep_and_drain(*states, blocks, sweep));
    model.sweep(forward_order(blocks.size()), sweep);
  }
  EXPECT_LT(states->by_drive()[1].share, 0.5);
  EXPECT_EQ(states->use().nvme_bytes, options.limit_bytes);
  EXPECT_EQ(model.difference(*states), "");
}

// ---- A drive that fails

class FailingSecondDrive : public ::testing::TestWithParam<int> {};

TEST_P(FailingSecondDrive, AtAnyRequestEndsInASentenceWithItsNameAndHarmsNoBlockThatWasWritten) {
  std::uint64_t never_reached = 0;
  for (std::uint64_t op = 0; op < 60; op += op < 20 ? 1 : 7) {
    TemporaryDirectory directory;
    auto options = options_on(directory, 2);
    const auto faults = error_at(op, GetParam());
    options.make_queues = {slow_queue(0), faulty_queue(faults)};
    const auto blocks = equal_blocks(9, 3 * kChunkElements);
    auto states = made(blocks, options);
    faults->arm();
    const auto result = sweep_and_drain(*states, blocks, 1);
    if (faults->struck == 0) {
      ++never_reached;
      EXPECT_TRUE(result);
      continue;
    }
    ASSERT_FALSE(result) << "request " << op;
    EXPECT_EQ(result.error().status, status_of_errno(GetParam()));
    EXPECT_THAT(result.error().message, AllOf(HasSubstr(store_on(directory, 1)), HasSubstr("errno")));
    EXPECT_EQ(states->drain(-1).error().message, result.error().message) << "it is said again";
    states.reset();
    EXPECT_TRUE(are_empty(options));
  }
  EXPECT_LT(never_reached, 6u);
}

INSTANTIATE_TEST_SUITE_P(Errors, FailingSecondDrive, ::testing::Values(EIO, ENOSPC));

// A whole block as a checkpoint says where it is, compared with its sums.
std::string damage_of(const SavedStore& store, const BlockSpec& spec, const StoredBlock& stored, std::span<const ChunkSums> sums) {
  const ExtentLayout layout = extent_layout(spec);
  std::vector<std::byte> room(layout.total_bytes + kPlaneAlignment);
  std::byte* const base = room.data() + (kPlaneAlignment - reinterpret_cast<std::uintptr_t>(room.data()) % kPlaneAlignment);
  if (const auto read = store.read(stored.extent, 0, {base, layout.total_bytes}); !read) return read.error().message;
  BlockMemory memory;
  for (std::size_t plane = 0; plane < kPlaneCount; ++plane) memory.planes[plane] = base + layout.offset[plane];
  for (std::uint64_t chunk = 0; chunk < sums.size(); ++chunk) {
    if (chunk_sums(spec, memory, chunk) != sums[chunk]) return fmt::format("chunk {} differs", chunk);
  }
  return "";
}

TEST(Drives, WhatACheckpointRefersToOutlivesADriveThatFails) {
  TemporaryDirectory directory;
  auto options = options_on(directory, 2);
  const auto faults = error_at(30, EIO);
  options.make_queues = {slow_queue(0), faulty_queue(faults)};
  const auto blocks = equal_blocks(9, 3 * kChunkElements);
  auto states = made(blocks, options);
  ASSERT_TRUE(sweep_and_drain(*states, blocks, 1));
  fs::create_directories(directory / "saved");
  const CheckpointRef ref{"id-1", directory / "saved/rank0.manifest", *device_of(directory / "saved"), {}, false};
  const auto stored = states->keep(ref, {}).value().value();
  const auto header = CheckpointHeader::of("id-1", 1);
  std::ofstream(ref.manifest).write(reinterpret_cast<const char*>(&header), sizeof header);
  states->complete("id-1");
  faults->arm();
  for (std::uint32_t sweep = 2; sweep < 9 && faults->struck == 0; ++sweep) {
    static_cast<void>(sweep_and_drain(*states, blocks, sweep));
  }
  ASSERT_GT(faults->struck, 0u);
  EXPECT_FALSE(states->drain(-1));
  states.reset();
  const auto store = SavedStore::open(stored.stores);
  ASSERT_TRUE(store) << store.error().message;
  std::span<const ChunkSums> sums = stored.sums;
  for (std::uint32_t block = 0; block < blocks.size(); ++block) {
    const auto count = chunk_count(blocks[block]);
    EXPECT_EQ(damage_of(*store, blocks[block], stored.blocks[block], sums.first(count)), "") << block;
    sums = sums.subspan(count);
  }
}

TEST(Drives, AFailureWhileTheSecondIsWrittenFirstLeavesNothingOnEither) {
  TemporaryDirectory directory;
  auto options = options_on(directory, 2);
  const auto faults = error_at(2, ENOSPC);
  faults->arm();
  options.make_queues = {slow_queue(0), faulty_queue(faults)};
  EXPECT_THAT(refusal(options, equal_blocks(20, 8 * kChunkElements)), HasSubstr(store_on(directory, 1)));
  EXPECT_TRUE(are_empty(options));
}

TEST(Drives, AFileThatVanishesIsNamed) {
  TemporaryDirectory directory;
  const auto blocks = equal_blocks(9, 3 * kChunkElements);
  const auto states = made(blocks, options_on(directory, 2));
  fs::remove(store_on(directory, 1));
  const auto swept = sweep_and_drain(*states, blocks, 1);
  ASSERT_FALSE(swept);
  EXPECT_THAT(swept.error().message, AllOf(HasSubstr("was removed"), HasSubstr(store_on(directory, 1))));
}

// ---- Bad lists

TEST(Drives, ABadEntryIsNamedWithItsIndexAndNothingIsCreated) {
  TemporaryDirectory directory;
  auto options = options_on(directory, 2);
  const std::string good = options.nvme_paths[0];
  options.nvme_paths[1] = directory / "missing";
  EXPECT_THAT(refusal(options), AllOf(HasSubstr("nvme_path[1]: on "), HasSubstr("missing"), HasSubstr("create the directory")));
  std::ofstream(directory / "file") << "x";
  options.nvme_paths = {directory / "file", good};
  EXPECT_THAT(refusal(options), AllOf(HasSubstr("nvme_path[0]: on "), HasSubstr("is not a directory")));
  options.nvme_paths = {good, directory / "1", good + "/../0"};
  EXPECT_THAT(refusal(options), AllOf(HasSubstr("nvme_path[2]: on "), HasSubstr("is the same directory as nvme_path[0]")));
  options.nvme_paths.clear();
  EXPECT_THAT(refusal(options), HasSubstr("on 0 directories: a store has 1 to"));
  EXPECT_TRUE(fs::is_empty(good));
}

TEST(Drives, TooLittleRoomOnAllTogetherIsRefusedWithTheShortfall) {
  TemporaryDirectory directory;
  const auto options = options_on(directory, 2);
  const std::vector<BlockSpec> blocks(3, BlockSpec{std::uint64_t{1} << 38, kSplit});  // 2.5 TiB each
  EXPECT_THAT(refusal(options, blocks),
              AllOf(HasSubstr(fmt::format("nvme_path: on {}, {}: the store needs {} bytes", options.nvme_paths[0],
                                          options.nvme_paths[1], nvme_states_use(blocks, 0, 0, 2).nvme_bytes)),
                    HasSubstr("too few")));
  EXPECT_TRUE(are_empty(options));
}

TEST(Drives, ARunInUseOnOneOfThemIsRefused) {
  TemporaryDirectory directory;
  const auto both = options_on(directory, 2);
  auto second = both;
  second.nvme_paths = {both.nvme_paths[1]};
  const auto states = made(equal_blocks(2, 2048), second);
  EXPECT_THAT(refusal(both), HasSubstr(fmt::format("{}/orlop/test: in use by process", both.nvme_paths[1])));
  EXPECT_TRUE(fs::is_empty(both.nvme_paths[0]));
}

// ---- A process that dies

TEST(Drives, WhatAKilledRunLeftIsReclaimedOnAllOfThem) {
  TemporaryDirectory directory;
  const auto options = options_on(directory, 2);
  const auto blocks = equal_blocks(6, 3 * kChunkElements);
  kill_child(start_child([&](const auto& begun) {
    auto states = make_nvme_states(topology(), blocks, options);
    const bool has_begun = begun();
    for (std::uint32_t sweep = 1; states && has_begun; ++sweep) {
      if (!sweep_and_drain(**states, blocks, sweep)) break;
    }
  }));
  for (std::size_t i = 0; i < 2; ++i) EXPECT_TRUE(fs::exists(store_on(directory, i)));
  auto states = made(blocks, options);
  Model model(blocks);
  EXPECT_EQ(model.difference(*states), "") << "a new run begins with zeros";
  states.reset();
  EXPECT_TRUE(are_empty(options));
}

}  // namespace
}  // namespace orlop::swap
