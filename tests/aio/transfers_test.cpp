#include "aio/transfers.hpp"

#include <algorithm>
#include <cerrno>
#include <map>
#include <random>
#include <set>
#include <thread>

#include <gmock/gmock.h>

#include "aio/faulty_queue.hpp"
#include "aio/thread_queue.hpp"
#include "scratch.hpp"

namespace orlop::aio {
namespace {

using namespace std::chrono_literals;
using testing::AllOf;
using testing::HasSubstr;

constexpr std::uint64_t kFileBytes = 4_MiB;

// Passes everything on and remembers what was asked of it.
class RecordingQueue final : public Queue {
 public:
  explicit RecordingQueue(std::unique_ptr<Queue> inner) : inner_(std::move(inner)) {}

  Result<std::size_t> submit(std::span<const Request> requests) override {
    const auto accepted = inner_->submit(requests);
    if (!accepted) return accepted;
    requests_.insert(requests_.end(), requests.begin(),
                     requests.begin() + static_cast<std::ptrdiff_t>(*accepted));
    in_flight_ += *accepted;
    most_in_flight_ = std::max(most_in_flight_, in_flight_);
    return accepted;
  }
  Result<std::size_t> wait(std::span<Completion> completions, std::size_t minimum) override {
    if (waits_until_failure_ == 0) return fail(ORLOP_INTERNAL, "queue: broken: for a test");
    if (waits_until_failure_ > 0) --waits_until_failure_;
    const auto count = inner_->wait(completions, minimum);
    if (count) in_flight_ -= *count;
    return count;
  }
  void interrupt() override { inner_->interrupt(); }
  void register_memory(std::span<const std::span<std::byte>> regions) override {
    inner_->register_memory(regions);
  }
  void register_files(std::span<const int> fds) override { inner_->register_files(fds); }
  [[nodiscard]] unsigned depth() const override { return inner_->depth(); }
  [[nodiscard]] std::string_view name() const override { return inner_->name(); }

  std::vector<Request> requests_;  // accepted, in order
  std::size_t in_flight_ = 0;
  std::size_t most_in_flight_ = 0;
  int waits_until_failure_ = -1;

 private:
  std::unique_ptr<Queue> inner_;
};

Result<std::unique_ptr<Queue>> make_faulty(QueueKind kind, unsigned depth, FaultyOptions faults) {
  TRY_ASSIGN(auto inner, make_queue(kind, {.depth = depth}));
  return std::make_unique<FaultyQueue>(std::move(inner), std::move(faults));
}

// Runs until every move has been reported; results by id.
std::map<std::uint64_t, Result<>> finish(Transfers& transfers) {
  std::map<std::uint64_t, Result<>> results;
  std::vector<MoveDone> done;
  while (!transfers.idle()) {
    const auto result = transfers.run(done);
    EXPECT_TRUE(result) << result.error().message;
    for (auto& move : done)
      EXPECT_TRUE(results.emplace(move.id, std::move(move.result)).second) << "twice: " << move.id;
    done.clear();
    if (!result) break;
  }
  return results;
}

Result<> finish_one(Transfers& transfers) {
  auto results = finish(transfers);
  EXPECT_EQ(results.size(), 1u);
  return results.empty() ? fail(ORLOP_INTERNAL, "no move was reported") : std::move(results.begin()->second);
}

class Scene {
 public:
  explicit Scene(Access access = Access::direct) {
    write_content(folder_ / "file", kFileBytes);
    file_ = std::make_unique<File>(File::open(folder_ / "file", Existing::open, access).value());
  }

  [[nodiscard]] Piece piece(std::uint64_t offset, std::uint64_t bytes) const {
    return {file_.get(), memory_.data() + offset, offset, bytes};
  }
  [[nodiscard]] Move read(std::uint64_t offset, std::uint64_t bytes, std::uint64_t id = 0,
                          Priority priority = Priority::prefetch) const {
    return {Direction::read, priority, {piece(offset, bytes)}, id};
  }
  [[nodiscard]] Move write(std::uint64_t offset, std::uint64_t bytes, std::uint64_t id = 0) const {
    return {Direction::write, Priority::write_back, {piece(offset, bytes)}, id};
  }
  [[nodiscard]] bool memory_has(std::uint64_t offset, std::uint64_t bytes, std::uint64_t version = 0) const {
    return has_content(memory_.span(offset, bytes), offset, version);
  }
  [[nodiscard]] bool file_has(std::uint64_t offset, std::uint64_t bytes, std::uint64_t version) const {
    return has_content(std::span<const std::byte>(read_whole(path())).subspan(offset, bytes), offset,
                       version);
  }
  [[nodiscard]] std::string path() const { return folder_ / "file"; }

  ScratchFolder folder_;
  std::unique_ptr<File> file_;
  AlignedMemory memory_{kFileBytes};
};

constexpr TransferOptions kSmallRequests = {.read_request_bytes = 64 << 10, .write_request_bytes = 32 << 10};

// ---- What a move becomes ----

class TransfersOverRecorder : public testing::Test {
 protected:
  TransfersOverRecorder() {
    auto recorder = std::make_unique<RecordingQueue>(make_thread_queue({.depth = 4}).value());
    recorder_ = recorder.get();
    transfers_ = std::make_unique<Transfers>(std::move(recorder), kSmallRequests);
  }

  Scene scene_;
  RecordingQueue* recorder_;
  std::unique_ptr<Transfers> transfers_;
};

TEST_F(TransfersOverRecorder, CutsMovesIntoRequests) {
  transfers_->start(scene_.read(8192, 200 << 10));
  ASSERT_TRUE(finish_one(*transfers_));
  ASSERT_EQ(recorder_->requests_.size(), 4u);
  std::uint64_t offset = 8192;
  for (const auto& request : recorder_->requests_) {
    EXPECT_EQ(request.offset, offset);
    EXPECT_EQ(request.memory, scene_.memory_.data() + offset);
    EXPECT_EQ(request.bytes, std::min<std::uint64_t>(64 << 10, 8192 + (200 << 10) - offset));
    offset += request.bytes;
  }
  recorder_->requests_.clear();
  transfers_->start(scene_.write(0, 64 << 10));
  ASSERT_TRUE(finish_one(*transfers_));
  EXPECT_EQ(recorder_->requests_.size(), 2u);
}

TEST_F(TransfersOverRecorder, KeepsTheQueueFullAndNeverFuller) {
  for (std::uint64_t i = 0; i < 8; ++i) transfers_->start(scene_.read(i * 512_KiB, 512_KiB, i));
  EXPECT_EQ(finish(*transfers_).size(), 8u);
  EXPECT_EQ(recorder_->most_in_flight_, 4u);
  EXPECT_TRUE(scene_.memory_has(0, kFileBytes));
}

TEST_F(TransfersOverRecorder, DemandReadsOvertake) {
  transfers_->start(scene_.read(0, 2_MiB, 1));
  transfers_->start(scene_.read(2_MiB, 64_KiB, 2, Priority::demand_read));
  std::vector<MoveDone> done;
  while (done.empty()) ASSERT_TRUE(transfers_->run(done));
  EXPECT_EQ(done.front().id, 2u);
  EXPECT_EQ(recorder_->requests_.front().offset, 2_MiB);
  finish(*transfers_);
}

TEST_F(TransfersOverRecorder, MixesOrPhasesAsToldTo) {
  const auto directions = [&](Mixing mixing) {
    recorder_->requests_.clear();
    transfers_->set_options({64 << 10, 64 << 10, mixing, 256 << 10});
    transfers_->start(scene_.read(0, 1_MiB, 1));
    transfers_->start(scene_.write(2_MiB, 1_MiB, 2));
    EXPECT_EQ(finish(*transfers_).size(), 2u);
    std::string letters;
    for (const auto& request : recorder_->requests_)
      letters += request.direction == Direction::read ? 'r' : 'w';
    return letters;
  };
  EXPECT_EQ(directions(Mixing::mixed), "rwrwrwrwrwrwrwrwrwrwrwrwrwrwrwrw");
  EXPECT_EQ(directions(Mixing::phased), "rrrrwwwwrrrrwwwwrrrrwwwwrrrrwwww");
}

TEST_F(TransfersOverRecorder, MovesOfNothingAreDoneAtOnce) {
  transfers_->start({Direction::read, Priority::prefetch, {}, 1});
  transfers_->start({Direction::write, Priority::write_back, {scene_.piece(0, 0), scene_.piece(0, 0)}, 2});
  EXPECT_FALSE(transfers_->idle());
  const auto results = finish(*transfers_);
  EXPECT_EQ(results.size(), 2u);
  EXPECT_TRUE(recorder_->requests_.empty());
  EXPECT_TRUE(transfers_->idle());
}

TEST_F(TransfersOverRecorder, RefusesWhatTheFileCannotTakeDirectly) {
  if (scene_.file_->access() != Access::direct) GTEST_SKIP() << "no direct I/O here";
  transfers_->start(scene_.read(0, 1000, 1));
  transfers_->start(scene_.read(100, 4096, 2));
  auto shifted = scene_.read(0, 4096, 3);
  shifted.pieces[0].memory += 1;
  transfers_->start(std::move(shifted));
  for (const auto& [id, result] : finish(*transfers_)) {
    ASSERT_FALSE(result) << id;
    EXPECT_EQ(result.error().status, ORLOP_INVALID_ARGUMENT);
    EXPECT_THAT(result.error().message, HasSubstr(scene_.path()));
  }
  EXPECT_TRUE(recorder_->requests_.empty());
}

TEST_F(TransfersOverRecorder, AnInterruptEndsARun) {
  transfers_->start(scene_.read(0, kFileBytes));
  transfers_->queue().interrupt();
  std::vector<MoveDone> done;
  // Sooner or later a run has to wait, and returns instead: with or without requests that came back. What
  // counts is that the interrupt does not disturb the move.
  ASSERT_TRUE(transfers_->run(done));
  ASSERT_TRUE(finish_one(*transfers_));
  EXPECT_TRUE(scene_.memory_has(0, kFileBytes));
}

TEST_F(TransfersOverRecorder, AQueueThatFailsEndsEveryMove) {
  transfers_->start(scene_.read(0, 1_MiB, 1));
  transfers_->start(scene_.write(2_MiB, 1_MiB, 2));
  recorder_->waits_until_failure_ = 2;
  std::vector<MoveDone> done;
  Result<> result;
  while (result) result = transfers_->run(done);
  EXPECT_EQ(result.error().status, ORLOP_INTERNAL);
  ASSERT_EQ(done.size(), 2u);
  for (const auto& move : done) EXPECT_EQ(move.result.error().message, "queue: broken: for a test");
  EXPECT_TRUE(transfers_->idle());
  transfers_->start(scene_.read(0, 4096, 3));  // later moves too
  done.clear();
  EXPECT_FALSE(transfers_->run(done));
  ASSERT_EQ(done.size(), 1u);
  EXPECT_THAT(done.front().result.error().message, HasSubstr("broken"));
  EXPECT_TRUE(transfers_->idle());
}

TEST_F(TransfersOverRecorder, CancellingDropsWhatWasNotSubmitted) {
  for (std::uint64_t i = 0; i < 8; ++i) transfers_->start(scene_.read(i * 512_KiB, 512_KiB, i));
  std::vector<MoveDone> done;
  ASSERT_TRUE(transfers_->run(done));
  transfers_->cancel_waiting();
  const auto submitted = recorder_->requests_.size();
  auto results = finish(*transfers_);
  EXPECT_EQ(results.size() + done.size(), 8u);
  EXPECT_EQ(recorder_->requests_.size(), submitted);
  EXPECT_EQ(recorder_->in_flight_, 0u);
  int cancelled = 0;
  for (const auto& [id, result] : results) {
    if (result) continue;
    ++cancelled;
    EXPECT_EQ(result.error().status, ORLOP_CANCELLED);
  }
  EXPECT_GE(cancelled, 6);                            // at most two were submitted whole
  transfers_->start(scene_.read(0, kFileBytes, 99));  // and life goes on
  EXPECT_TRUE(finish_one(*transfers_));
  EXPECT_TRUE(scene_.memory_has(0, kFileBytes));
}

// ---- Over every queue, with faults ----

class TransfersOver : public testing::TestWithParam<QueueKind> {
 protected:
  Result<std::unique_ptr<Queue>> make(FaultyOptions faults = {}, unsigned depth = 8) {
    return make_faulty(GetParam(), depth, std::move(faults));
  }
  Scene scene_;
};

std::string kind_name(const testing::TestParamInfo<QueueKind>& info) {
  return std::string(name_of(info.param));
}

INSTANTIATE_TEST_SUITE_P(Queues, TransfersOver,
                         testing::Values(QueueKind::uring, QueueKind::aio, QueueKind::threads), kind_name);

TEST_P(TransfersOver, MovesPiecesThereAndBack) {
  ORLOP_QUEUE_OR_SKIP(queue, make());
  queue->register_memory(std::array{scene_.memory_.span()});
  queue->register_files(std::array{scene_.file_->fd()});
  Transfers transfers(std::move(queue), kSmallRequests);
  fill_content(scene_.memory_.span(), 0, 1);
  transfers.start({Direction::write,
                   Priority::write_back,
                   {scene_.piece(1_MiB, 512_KiB), scene_.piece(0, 4096), scene_.piece(3_MiB, 1_MiB)},
                   1});
  ASSERT_TRUE(finish_one(transfers));
  EXPECT_TRUE(scene_.file_has(0, 4096, 1));
  EXPECT_TRUE(scene_.file_has(4096, 1_MiB - 4096, 0));
  EXPECT_TRUE(scene_.file_has(1_MiB, 512_KiB, 1));
  EXPECT_TRUE(scene_.file_has(3_MiB, 1_MiB, 1));
  std::memset(scene_.memory_.data(), 0, kFileBytes);
  transfers.start(
      {Direction::read, Priority::demand_read, {scene_.piece(3_MiB, 1_MiB), scene_.piece(0, 4096)}, 2});
  ASSERT_TRUE(finish_one(transfers));
  EXPECT_TRUE(scene_.memory_has(0, 4096, 1));
  EXPECT_TRUE(scene_.memory_has(3_MiB, 1_MiB, 1));
  EXPECT_EQ(scene_.memory_.data()[4096], std::byte{0});
}

TEST_P(TransfersOver, ResumesShortTransfers) {
  for (const std::uint32_t short_by : {4096u, 1u, 5000u, 60u << 10}) {
    ORLOP_QUEUE_OR_SKIP(queue, make({.script = fault_every(2, {.short_by = short_by})}));
    Transfers transfers(std::move(queue), kSmallRequests);
    const std::uint64_t version = short_by;
    fill_content(scene_.memory_.span(), 0, version);
    transfers.start(scene_.write(0, kFileBytes));
    ASSERT_TRUE(finish_one(transfers));
    EXPECT_TRUE(scene_.file_has(0, kFileBytes, version)) << short_by;
    std::memset(scene_.memory_.data(), 0, kFileBytes);
    transfers.start(scene_.read(0, kFileBytes));
    ASSERT_TRUE(finish_one(transfers));
    EXPECT_TRUE(scene_.memory_has(0, kFileBytes, version)) << short_by;
  }
}

TEST_P(TransfersOver, TriesAgainAfterInterruptionsAndRefusals) {
  for (const int error : {EINTR, EAGAIN}) {
    // A storm: only every fourth request gets through.
    const auto storm = [error](std::uint64_t op, const Request&) {
      return op % 4 == 3 ? Fault{} : Fault{.error_number = error};
    };
    ORLOP_QUEUE_OR_SKIP(queue, make({.script = storm}));
    Transfers transfers(std::move(queue), kSmallRequests);
    std::memset(scene_.memory_.data(), 0, kFileBytes);
    transfers.start(scene_.read(0, kFileBytes));
    ASSERT_TRUE(finish_one(transfers));
    EXPECT_TRUE(scene_.memory_has(0, kFileBytes));
  }
}

TEST_P(TransfersOver, SurvivesPartialSubmission) {
  ORLOP_QUEUE_OR_SKIP(queue, make({.accept_at_most = 2, .refuse_submit_every = 3}));
  Transfers transfers(std::move(queue), kSmallRequests);
  transfers.start(scene_.read(0, kFileBytes));
  ASSERT_TRUE(finish_one(transfers));
  EXPECT_TRUE(scene_.memory_has(0, kFileBytes));
}

// Whatever request fails: exactly the move that it belongs to fails, with the place, and the rest arrives
// whole.
TEST_P(TransfersOver, AnErrorEndsItsMoveAndNoOther) {
  constexpr std::uint64_t kMoves = 8;
  constexpr std::uint64_t kBytes = kFileBytes / kMoves;  // 8 requests each
  for (std::uint64_t k = 0; k < 64; k += 5) {
    std::uint64_t failed_offset = 0;
    const auto script = [&](std::uint64_t op, const Request& request) {
      if (op != k) return Fault{};
      failed_offset = request.offset;
      return Fault{.error_number = EIO};
    };
    ORLOP_QUEUE_OR_SKIP(queue, make({.script = script}));
    Transfers transfers(std::move(queue), kSmallRequests);
    std::memset(scene_.memory_.data(), 0, kFileBytes);
    for (std::uint64_t i = 0; i < kMoves; ++i) transfers.start(scene_.read(i * kBytes, kBytes, i));
    for (const auto& [id, result] : finish(transfers)) {
      if (id == failed_offset / kBytes) {
        ASSERT_FALSE(result);
        EXPECT_EQ(result.error().status, ORLOP_IO_ERROR);
        EXPECT_THAT(result.error().message,
                    AllOf(HasSubstr(scene_.path()), HasSubstr("errno 5"), HasSubstr("64.0 KiB"),
                          HasSubstr(fmt::format("offset {}", failed_offset))));
      } else {
        EXPECT_TRUE(result) << result.error().message;
        EXPECT_TRUE(scene_.memory_has(id * kBytes, kBytes)) << "k " << k << ", move " << id;
      }
    }
  }
}

TEST_P(TransfersOver, AFullDiskIsNamedWithItsFreeSpace) {
  ORLOP_QUEUE_OR_SKIP(queue, make({.script = fault_at({6}, {.error_number = ENOSPC})}));
  Transfers transfers(std::move(queue), kSmallRequests);
  transfers.start(scene_.write(0, kFileBytes));
  const auto result = finish_one(transfers);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().status, ORLOP_NO_SPACE);
  EXPECT_THAT(result.error().message, AllOf(HasSubstr("write: " + scene_.path()), HasSubstr("free there"),
                                            HasSubstr("errno 28"), HasSubstr("free space or choose")));
}

TEST_P(TransfersOver, AFileThatEndsTooEarlyIsCorrupt) {
  std::filesystem::resize_file(scene_.path(), 1_MiB + 20'000);
  for (const std::uint64_t offset : {std::uint64_t{960_KiB}, std::uint64_t{2_MiB}}) {
    ORLOP_QUEUE_OR_SKIP(queue, make());
    Transfers transfers(std::move(queue), kSmallRequests);
    transfers.start(scene_.read(offset, 1_MiB));
    const auto result = finish_one(transfers);
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().status, ORLOP_CORRUPT);
    EXPECT_THAT(result.error().message,
                AllOf(HasSubstr(scene_.path()), HasSubstr("file of 1068576 bytes"), HasSubstr("truncated")));
  }
}

TEST_P(TransfersOver, GivesUpOnARequestThatNeverGetsThrough) {
  ORLOP_QUEUE_OR_SKIP(queue, make({.script = fault_every(1, {.error_number = EAGAIN})}));
  Transfers transfers(std::move(queue), kSmallRequests);
  transfers.start(scene_.read(0, 4096));
  const auto result = finish_one(transfers);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().status, ORLOP_IO_ERROR);
  EXPECT_THAT(result.error().message, AllOf(HasSubstr("no progress"), HasSubstr("errno 11")));
}

// A move is reported only when none of its requests can touch memory any more.
TEST_P(TransfersOver, ReportsAFailedMoveOnlyWhenItsRequestsAreBack) {
  const auto script = [](std::uint64_t op, const Request&) {
    return op == 0 ? Fault{.error_number = EIO} : Fault{.delay = 20ms};
  };
  ORLOP_QUEUE_OR_SKIP(inner, make({.script = script}));
  auto recorder = std::make_unique<RecordingQueue>(std::move(inner));
  const auto& recorded = *recorder;
  Transfers transfers(std::move(recorder), kSmallRequests);
  transfers.start(scene_.read(0, 512_KiB));
  std::vector<MoveDone> done;
  while (done.empty()) ASSERT_TRUE(transfers.run(done));
  EXPECT_EQ(recorded.in_flight_, 0u);
  EXPECT_EQ(recorded.requests_.size(), 8u);
  EXPECT_EQ(done.front().result.error().status, ORLOP_IO_ERROR);
}

TEST_P(TransfersOver, DestroyingDropsWhatWaitsAndWaitsForWhatIsInFlight) {
  ORLOP_QUEUE_OR_SKIP(queue, make({.script = fault_every(1, {.delay = 5ms})}));
  {
    Transfers transfers(std::move(queue), kSmallRequests);
    transfers.start(scene_.read(0, kFileBytes));
    std::vector<MoveDone> done;
    ASSERT_TRUE(transfers.run(done));
  }
  EXPECT_TRUE(scene_.memory_has(0, 512_KiB));
  EXPECT_EQ(scene_.memory_.data()[kFileBytes - 1], std::byte{0});
}

TEST(Transfers, ResumesUnalignedShortTransfersOfBufferedFiles) {
  Scene scene(Access::buffered);
  auto queue = make_faulty(QueueKind::threads, 8, {.script = fault_every(2, {.short_by = 777})});
  Transfers transfers(std::move(*queue), kSmallRequests);
  transfers.start({Direction::read,
                   Priority::prefetch,
                   {{scene.file_.get(), scene.memory_.data() + 8, 8, 3'000'000}},
                   0});
  ASSERT_TRUE(finish_one(transfers));
  EXPECT_TRUE(scene.memory_has(8, 3'000'000));
}

TEST(Transfers, DirectRequestsStayAlignedWhenResumed) {
  Scene scene;
  if (scene.file_->access() != Access::direct) GTEST_SKIP() << "no direct I/O here";
  auto faulty = make_faulty(QueueKind::threads, 4, {.script = fault_every(2, {.short_by = 777})});
  auto recorder = std::make_unique<RecordingQueue>(std::move(*faulty));
  const auto& recorded = *recorder;
  Transfers transfers(std::move(recorder), kSmallRequests);
  transfers.start(scene.read(0, kFileBytes));
  ASSERT_TRUE(finish_one(transfers));
  EXPECT_GT(recorded.requests_.size(), kFileBytes / (64 << 10));
  for (const auto& request : recorded.requests_) {
    EXPECT_TRUE(is_aligned(request.offset, scene.file_->alignment().offset));
    EXPECT_TRUE(is_aligned(request.memory, scene.file_->alignment().memory));
  }
}

// ---- Random moves against a model ----

// A file of blocks, each with a version; a block is under at most one move at a time.
class ModelRun {
 public:
  ModelRun(std::unique_ptr<Queue> queue, std::uint64_t seed)
      : random_(seed), transfers_(std::move(queue), kSmallRequests), memory_(kFileBytes) {}

  void run(int moves) {
    for (int i = 0; i < moves; ++i) {
      if (random_() % 16 == 0) change_options();
      start_random();
      if (under_way_.size() > 6 || random_() % 3 == 0) step();
    }
    while (!transfers_.idle()) step();
    const auto content = read_whole(scene_.path());
    for (std::size_t b = 0; b < kBlocks; ++b) {
      EXPECT_TRUE(has_content(std::span(content).subspan(b * kBlock, kBlock), b * kBlock, versions_[b]))
          << "block " << b;
    }
  }

 private:
  static constexpr std::size_t kBlock = 16 << 10;
  static constexpr std::size_t kBlocks = kFileBytes / kBlock;
  struct UnderWay {
    Direction direction;
    std::vector<std::size_t> blocks;
  };

  void change_options() {
    const auto bytes = std::uint64_t{4096} << random_() % 6;
    transfers_.set_options({bytes, std::uint64_t{4096} << random_() % 6,
                            random_() % 2 == 0 ? Mixing::mixed : Mixing::phased, 128 << 10});
  }

  void start_random() {
    UnderWay move{random_() % 2 == 0 ? Direction::read : Direction::write, {}};
    Move request{move.direction,
                 move.direction == Direction::write ? Priority::write_back
                 : random_() % 4 == 0               ? Priority::demand_read
                                                    : Priority::prefetch,
                 {},
                 next_id_};
    for (std::size_t pieces = random_() % 4; pieces > 0; --pieces) add_piece(move, request);
    under_way_[next_id_++] = move;
    transfers_.start(std::move(request));
  }

  // A run of free blocks.
  void add_piece(UnderWay& move, Move& request) {
    const auto first = random_() % kBlocks;
    const auto last = std::min(kBlocks, first + 1 + random_() % 12);
    auto end = first;
    for (; end < last && busy_.insert(end).second; ++end) {
      move.blocks.push_back(end);
      auto memory = memory_.span(end * kBlock, kBlock);
      if (move.direction == Direction::write)
        fill_content(memory, end * kBlock, ++versions_[end]);
      else
        std::memset(memory.data(), 0x55, kBlock);
    }
    if (end > first) {
      request.pieces.push_back(
          {scene_.file_.get(), memory_.data() + first * kBlock, first * kBlock, (end - first) * kBlock});
    }
  }

  void step() {
    std::vector<MoveDone> done;
    ASSERT_TRUE(transfers_.run(done));
    for (const auto& [id, result] : done) {
      ASSERT_TRUE(result) << result.error().message;
      const auto move = under_way_.extract(id);
      ASSERT_FALSE(move.empty()) << id;
      for (const auto b : move.mapped().blocks) {
        EXPECT_TRUE(has_content(memory_.span(b * kBlock, kBlock), b * kBlock, versions_[b])) << "block " << b;
        busy_.erase(b);
      }
    }
  }

  std::mt19937_64 random_;
  Scene scene_;
  Transfers transfers_;
  AlignedMemory memory_;
  std::vector<std::uint64_t> versions_ = std::vector<std::uint64_t>(kBlocks, 0);
  std::set<std::size_t> busy_;
  std::map<std::uint64_t, UnderWay> under_way_;
  std::uint64_t next_id_ = 1;
};

FaultScript bad_day(std::uint64_t seed) {
  return [random = std::mt19937_64(seed)](std::uint64_t, const Request& request) mutable {
    const auto dice = random() % 16;
    if (dice == 0) return Fault{.error_number = EINTR};
    if (dice == 1) return Fault{.error_number = EAGAIN};
    if (dice == 2) return Fault{.short_by = 4096};
    if (dice == 3) return Fault{.short_by = static_cast<std::uint32_t>(random() % request.bytes)};
    if (dice == 4) return Fault{.delay = std::chrono::microseconds(random() % 2000)};
    return Fault{};
  };
}

TEST_P(TransfersOver, RandomMovesMatchTheModel) {
  const char* given = std::getenv("ORLOP_TEST_SEED");
  const std::uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device{}();
  RecordProperty("seed", std::to_string(seed));
  SCOPED_TRACE(fmt::format("ORLOP_TEST_SEED={}", seed));
  for (std::uint64_t round = 0; round < 3; ++round) {
    ORLOP_QUEUE_OR_SKIP(queue,
                        make({.script = bad_day(seed + round),
                              .order = round == 1 ? CompletionOrder::shuffled : CompletionOrder::natural,
                              .seed = seed,
                              .accept_at_most = round == 2 ? 3u : SIZE_MAX,
                              .refuse_submit_every = round == 2 ? 5u : 0u}));
    ModelRun(std::move(queue), seed + round).run(300);
    if (HasFatalFailure()) return;
  }
}

}  // namespace
}  // namespace orlop::aio
