#include "swap/mover.hpp"

#include <gmock/gmock.h>

#include "faulty.hpp"
#include "support.hpp"

namespace orlop::swap {
namespace {

using namespace testing;
using aio::Direction;
using aio::Priority;
using ::testing::HasSubstr;

constexpr std::uint64_t kBytes = 64 * 1024;

// A file, memory to go with it, and a mover over a queue that may have faults.
struct Bench {
  explicit Bench(const std::shared_ptr<Faults>& faults = std::make_shared<Faults>()) {
    file = std::make_unique<aio::File>(aio::File::open(directory / "file", aio::Existing::must_not_exist).value());
    EXPECT_TRUE(file->preallocate(64 * kBytes));
    MoverOptions options;
    options.drives.push_back({.make_queue = faulty_queue(faults)});
    options.drives[0].queue.depth = 4;
    options.drives[0].requests.read_request_bytes = options.drives[0].requests.write_request_bytes = 16 * 1024;
    mover = Mover::create(std::move(options)).value();
  }
  MoveRequest move(Direction direction, std::uint64_t slot, Priority priority = Priority::write_back) {
    return {direction, priority, {{file.get(), memory(slot), slot * kBytes, kBytes}}, 0};
  }
  std::byte* memory(std::uint64_t slot) { return aligned + slot * kBytes; }

  TemporaryDirectory directory;
  std::vector<std::byte> bytes = std::vector<std::byte>(65 * kBytes);
  std::byte* aligned = bytes.data() + (kBytes - reinterpret_cast<std::uintptr_t>(bytes.data()) % kBytes) % kBytes;
  std::unique_ptr<aio::File> file;
  std::unique_ptr<Mover> mover;
};

TEST(Mover, WritesAndReadsBack) {
  Bench bench;
  std::memset(bench.memory(0), 0x5a, kBytes);
  ASSERT_TRUE(bench.mover->wait(bench.mover->submit(bench.move(Direction::write, 0)).value(), -1));
  std::memset(bench.memory(0), 0, kBytes);
  ASSERT_TRUE(bench.mover->wait(bench.mover->submit(bench.move(Direction::read, 0)).value(), -1));
  EXPECT_EQ(bench.memory(0)[kBytes - 1], std::byte{0x5a});
  EXPECT_EQ(bench.mover->traffic().read_bytes, kBytes);
  EXPECT_EQ(bench.mover->traffic().write_bytes, kBytes);
  EXPECT_GT(bench.mover->traffic().busy_ns, 0);
  EXPECT_EQ(bench.mover->queue_name(0), "threads");
}

TEST(Mover, TakesMovesFromManyThreads) {
  Bench bench;
  std::vector<std::thread> threads;
  std::atomic<int> succeeded{0};
  for (std::uint64_t thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&, thread] {
      for (std::uint64_t i = 0; i < 32; ++i) {
        const auto ticket = bench.mover->submit(bench.move(Direction::write, thread * 16 + i % 16));
        if (ticket && bench.mover->wait(*ticket, -1)) ++succeeded;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(succeeded, 128);
  EXPECT_EQ(bench.mover->traffic().write_bytes, 128 * kBytes);
  EXPECT_EQ(bench.mover->finished(), 128u);
}

TEST(Mover, TellsWhenTimeIsUpAndKeepsTheResultUntilItIsAskedFor) {
  const auto faults = delay_of(Direction::write, 200);
  faults->arm();
  Bench bench(faults);
  const auto ticket = bench.mover->submit(bench.move(Direction::write, 0)).value();
  EXPECT_FALSE(bench.mover->poll(ticket));
  const auto early = bench.mover->wait(ticket, 10);
  ASSERT_FALSE(early);
  EXPECT_EQ(early.error().status, ORLOP_TIMEOUT);
  bench.mover->wait_beyond(0, -1);
  EXPECT_TRUE(bench.mover->poll(ticket));
  EXPECT_TRUE(bench.mover->wait(ticket, 0));
}

TEST(Mover, ReportsAnErrorOnceAndGoesOn) {
  const auto faults = error_at(0, EIO);
  faults->arm();
  Bench bench(faults);
  const auto failed = bench.mover->submit(bench.move(Direction::write, 0)).value();
  const auto fine = bench.mover->submit(bench.move(Direction::write, 1)).value();
  const auto result = bench.mover->wait(failed, -1);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().status, ORLOP_IO_ERROR);
  EXPECT_THAT(result.error().message, HasSubstr(bench.file->path()));
  EXPECT_TRUE(bench.mover->wait(fine, -1));
  EXPECT_TRUE(bench.mover->wait(failed, -1)) << "asked for already";
}

TEST(Mover, CancelsWhatHasNotBegun) {
  const auto faults = delay_of(Direction::write, 100);
  faults->arm();
  Bench bench(faults);
  std::vector<Ticket> tickets;
  for (std::uint64_t slot = 0; slot < 60; ++slot) {
    tickets.push_back(bench.mover->submit(bench.move(Direction::write, slot)).value());
  }
  bench.mover->cancel_waiting();
  const auto begin = std::chrono::steady_clock::now();
  std::size_t cancelled = 0;
  for (const auto ticket : tickets) {
    const auto result = bench.mover->wait(ticket, -1);
    cancelled += !result && result.error().status == ORLOP_CANCELLED ? 1 : 0;
  }
  EXPECT_GE(cancelled, 55u);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(1));
  EXPECT_TRUE(bench.mover->wait(bench.mover->submit(bench.move(Direction::write, 0)).value(), -1)) << "goes on";
}

TEST(Mover, IsDestroyedOnlyWhenNothingTouchesMemoryAnyMore) {
  const auto faults = delay_of(Direction::write, 150);
  faults->arm();
  Bench bench(faults);
  (void)bench.mover->submit(bench.move(Direction::write, 0)).value();
  while (faults->ops == 0) std::this_thread::yield();
  const auto begin = std::chrono::steady_clock::now();
  bench.mover.reset();
  EXPECT_GE(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(100));
}

TEST(Mover, PassesOnWhyThereIsNoQueue) {
  MoverOptions options;
  options.drives.push_back({.make_queue = [](const aio::QueueOptions&) -> Result<std::unique_ptr<aio::Queue>> {
    return fail(ORLOP_UNSUPPORTED, "not on this kernel");
  }});
  const auto mover = Mover::create(std::move(options));
  ASSERT_FALSE(mover);
  EXPECT_EQ(mover.error().message, "not on this kernel");
}

// A queue that breaks while it is waited for.
class BrokenQueue final : public aio::Queue {
 public:
  Result<std::size_t> submit(std::span<const aio::Request> requests) override { return requests.size(); }
  Result<std::size_t> wait(std::span<aio::Completion>, std::size_t) override {
    return fail(ORLOP_IO_ERROR, "the ring is broken");
  }
  void interrupt() override {}
  void register_memory(std::span<const std::span<std::byte>>) override {}
  void register_files(std::span<const int>) override {}
  unsigned depth() const override { return 4; }
  std::string_view name() const override { return "broken"; }
};

TEST(Mover, EndsEveryMoveWhenTheQueueItselfFails) {
  Bench bench;
  MoverOptions options;
  options.drives.push_back({.make_queue = [](const aio::QueueOptions&) -> Result<std::unique_ptr<aio::Queue>> {
    return std::make_unique<BrokenQueue>();
  }});
  const auto mover = Mover::create(std::move(options)).value();
  std::vector<Ticket> tickets;
  for (int i = 0; i < 10; ++i) {
    if (const auto ticket = mover->submit(bench.move(Direction::write, 0))) tickets.push_back(*ticket);
  }
  ASSERT_FALSE(tickets.empty());
  for (const auto ticket : tickets) {
    const auto result = mover->wait(ticket, -1);
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().message, "the ring is broken");
  }
  EXPECT_FALSE(mover->submit(bench.move(Direction::write, 0)));
}

TEST(Mover, RefusesMoreTicketsThanItKeepsResultsFor) {
  Bench bench;
  for (std::size_t i = 0; i < Tickets::kMaximum; ++i) {
    ASSERT_TRUE(bench.mover->submit({Direction::write, Priority::write_back, {}, 0}));
  }
  const auto refused = bench.mover->submit({Direction::write, Priority::write_back, {}, 0});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().status, ORLOP_INTERNAL);
}

}  // namespace
}  // namespace orlop::swap
