// Moves of files that belong to a program, over every queue and over one with faults.
#include "swap/file_queue.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <atomic>
#include <fstream>
#include <thread>

#include <gmock/gmock.h>

#include "faulty.hpp"
#include "support.hpp"

namespace orlop::swap {
namespace {

using namespace testing;
using aio::Direction;
using ::testing::AllOf;
using ::testing::HasSubstr;

std::vector<std::byte> random_bytes(std::mt19937_64& random, std::size_t count) {
  std::vector<std::byte> bytes(count);
  for (auto& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

void make_file(const std::string& path, std::span<const std::byte> bytes) {
  std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char*>(bytes.data()),
                                              static_cast<std::streamsize>(bytes.size()));
}

std::vector<std::byte> content_of(const std::string& path) {
  std::vector<std::byte> bytes(fs::file_size(path));
  std::ifstream(path, std::ios::binary).read(reinterpret_cast<char*>(bytes.data()),
                                             static_cast<std::streamsize>(bytes.size()));
  return bytes;
}

std::unique_ptr<FileQueue> queue_over(QueueFactory make_queue, std::uint64_t block_bytes = 1024, unsigned depth = 2) {
  FileQueueOptions options;
  options.make_queue = std::move(make_queue);
  options.queue.depth = depth;
  options.block_bytes = block_bytes;
  auto made = FileQueue::create(std::move(options));
  EXPECT_TRUE(made) << made.error().message;
  return std::move(*made);
}

std::unique_ptr<FileQueue> thread_queue() {
  return queue_over([](const auto& options) { return aio::make_queue(aio::QueueKind::threads, options); });
}

Result<> move(FileQueue& queue, Direction direction, const std::string& path, std::uint64_t offset,
              std::span<std::byte> memory) {
  TRY_ASSIGN(const Ticket ticket, queue.submit({direction, path, offset, memory}));
  return queue.wait(ticket, -1);
}

class EveryQueue : public ::testing::TestWithParam<aio::QueueKind> {
 protected:
  void SetUp() override {
    const auto made = aio::make_queue(GetParam(), {});
    if (!made && made.error().status == ORLOP_UNSUPPORTED) GTEST_SKIP() << "not available here: " << made.error().message;
    queue_ = queue_over([](const auto& options) { return aio::make_queue(GetParam(), options); });
  }

  TemporaryDirectory directory_;
  std::unique_ptr<FileQueue> queue_;
};

// Against a file in memory: sizes and offsets that are multiples of nothing, of sectors and of pages, memory aligned to
// one byte and to a page.
TEST_P(EveryQueue, MovesAnyBytesAtAnyOffsetExactly) {
  constexpr std::uint64_t kSizes[] = {1, 511, 512, 1023, 4095, 4096, 4097, 20000, 65536, 100001};
  constexpr std::uint64_t kOffsets[] = {0, 1, 512, 4096, 8192, 12289};
  std::mt19937_64 random(3);
  std::vector<std::byte> expected = random_bytes(random, 200000);
  const std::string path = directory_ / "file";
  make_file(path, expected);
  std::vector<std::byte> room(200000 + 2 * 4096);
  std::byte* const page = room.data() + 4096 - reinterpret_cast<std::uintptr_t>(room.data()) % 4096;
  for (int i = 0; i < 120; ++i) {
    const std::uint64_t bytes = kSizes[random() % std::size(kSizes)];
    const std::uint64_t offset = kOffsets[random() % std::size(kOffsets)];
    const std::span<std::byte> memory(page + (random() % 2 == 0 ? 0 : 1 + random() % 4095), bytes);
    if (random() % 2 == 0) {
      const auto values = random_bytes(random, bytes);
      std::ranges::copy(values, memory.begin());
      std::ranges::copy(values, expected.begin() + static_cast<std::ptrdiff_t>(offset));
      ASSERT_TRUE(move(*queue_, Direction::write, path, offset, memory));
    } else {
      std::ranges::fill(memory, std::byte{0});
      ASSERT_TRUE(move(*queue_, Direction::read, path, offset, memory));
      ASSERT_TRUE(std::ranges::equal(memory, std::span(expected).subspan(offset, bytes))) << bytes << " at " << offset;
    }
  }
  EXPECT_EQ(content_of(path), expected);
}

TEST_P(EveryQueue, KeepsSeveralMovesUnderWay) {
  std::mt19937_64 random(5);
  std::vector<std::vector<std::byte>> contents;
  std::vector<Ticket> tickets;
  for (int i = 0; i < 12; ++i) contents.push_back(random_bytes(random, 3000 + 1111 * static_cast<std::size_t>(i)));
  for (std::size_t i = 0; i < contents.size(); ++i) {
    tickets.push_back(queue_->submit({Direction::write, directory_ / fmt::format("{}", i).c_str(), 0, contents[i]}).value());
  }
  for (const Ticket ticket : tickets) EXPECT_TRUE(queue_->wait(ticket, -1));
  for (std::size_t i = 0; i < contents.size(); ++i) {
    EXPECT_EQ(content_of(directory_ / fmt::format("{}", i).c_str()), contents[i]);
  }
}

INSTANTIATE_TEST_SUITE_P(FileQueue, EveryQueue,
                         ::testing::Values(aio::QueueKind::uring, aio::QueueKind::aio, aio::QueueKind::threads),
                         [](const auto& tested) { return std::string(aio::name_of(tested.param)); });

TEST(FileQueue, GivesANewFileTheModeThatProgramsGive) {
  TemporaryDirectory directory;
  const auto queue = thread_queue();
  std::vector<std::byte> bytes(5000, std::byte{7});
  const mode_t before = ::umask(022);
  EXPECT_TRUE(move(*queue, Direction::write, directory / "new", 0, bytes));
  ::umask(before);
  struct stat info {};
  ASSERT_EQ(::stat((directory / "new").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0644u);
  EXPECT_EQ(content_of(directory / "new"), bytes);
}

TEST(FileQueue, MovesNothingAtAll) {
  TemporaryDirectory directory;
  const auto queue = thread_queue();
  EXPECT_TRUE(move(*queue, Direction::write, directory / "empty", 0, {}));
  EXPECT_EQ(fs::file_size(directory / "empty"), 0u);
  EXPECT_TRUE(move(*queue, Direction::read, directory / "empty", 0, {}));
}

TEST(FileQueue, ReadsWhatADescriptorRefersTo) {
  TemporaryDirectory directory;
  const auto queue = thread_queue();
  std::mt19937_64 random(9);
  const auto content = random_bytes(random, 9001);
  make_file(directory / "file", content);
  const int fd = ::open((directory / "file").c_str(), O_RDONLY | O_CLOEXEC);
  fs::remove(directory / "file");
  std::vector<std::byte> found(9001);
  EXPECT_TRUE(move(*queue, Direction::read, fmt::format("/proc/self/fd/{}", fd), 0, found));
  EXPECT_EQ(found, content);
  ::close(fd);
}

TEST(FileQueue, RefusesToReadBehindTheEnd) {
  TemporaryDirectory directory;
  const auto queue = thread_queue();
  make_file(directory / "file", std::vector<std::byte>(5000));
  std::vector<std::byte> memory(4096);
  const auto refused = queue->submit({Direction::read, directory / "file", 905, memory});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().status, ORLOP_INVALID_ARGUMENT);
  EXPECT_THAT(refused.error().message, AllOf(HasSubstr(directory / "file"), HasSubstr("has 5000 bytes")));
  EXPECT_TRUE(move(*queue, Direction::read, directory / "file", 904, memory));
}

TEST(FileQueue, NamesAFileThatIsNotThere) {
  TemporaryDirectory directory;
  const auto queue = thread_queue();
  std::vector<std::byte> memory(1);
  const auto refused = queue->submit({Direction::read, directory / "none", 0, memory});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().status, ORLOP_NOT_FOUND);
  EXPECT_THAT(refused.error().message, HasSubstr(directory / "none"));
}

TEST(FileQueue, GivesTheErrorOfOneMoveToItsTicketAlone) {
  TemporaryDirectory directory;
  const auto faults = std::make_shared<Faults>();
  faults->script = [](std::uint64_t, const aio::Request& request) {
    return aio::Fault{.error_number = request.offset == 8192 ? EIO : 0};
  };
  const auto queue = queue_over(faulty_queue(faults), 4096);
  faults->arm();
  std::vector<std::byte> bad(3 * 4096), good(2 * 4096);
  const Ticket failing = queue->submit({Direction::write, directory / "bad", 0, bad}).value();
  const Ticket passing = queue->submit({Direction::write, directory / "good", 0, good}).value();
  const auto failed = queue->wait(failing, -1);
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().status, ORLOP_IO_ERROR);
  EXPECT_THAT(failed.error().message, AllOf(HasSubstr(directory / "bad"), HasSubstr("errno 5")));
  EXPECT_TRUE(queue->wait(passing, -1));
  EXPECT_TRUE(queue->wait(failing, -1)) << "an outcome is given once";
}

TEST(FileQueue, ResumesWhatComesBackShort) {
  TemporaryDirectory directory;
  const auto faults = std::make_shared<Faults>();
  faults->script = [](std::uint64_t op, const aio::Request&) { return aio::Fault{.short_by = op % 3 == 0 ? 100u : 0u}; };
  const auto queue = queue_over(faulty_queue(faults), 1024);
  std::mt19937_64 random(2);
  auto content = random_bytes(random, 30001);
  faults->arm();
  ASSERT_TRUE(move(*queue, Direction::write, directory / "file", 0, content));
  std::vector<std::byte> found(content.size());
  ASSERT_TRUE(move(*queue, Direction::read, directory / "file", 0, found));
  EXPECT_EQ(found, content);
  EXPECT_GT(faults->struck, 0u);
}

TEST(FileQueue, ATimeoutLeavesTheMoveUnderWay) {
  TemporaryDirectory directory;
  const auto faults = delay_of(Direction::write, 60);
  const auto queue = queue_over(faulty_queue(faults), 4096);
  faults->arm();
  std::vector<std::byte> bytes(4096);
  const Ticket ticket = queue->submit({Direction::write, directory / "file", 0, bytes}).value();
  const auto early = queue->wait(ticket, 0);
  ASSERT_FALSE(early);
  EXPECT_EQ(early.error().status, ORLOP_TIMEOUT);
  EXPECT_TRUE(queue->wait(ticket, -1));
}

TEST(FileQueue, FinishesEveryMoveBeforeItIsGone) {
  TemporaryDirectory directory;
  const auto faults = delay_of(Direction::write, 5);
  std::vector<std::byte> bytes(40000, std::byte{3});
  {
    const auto queue = queue_over(faulty_queue(faults), 4096);
    faults->arm();
    ASSERT_TRUE(queue->submit({Direction::write, directory / "file", 0, bytes}));
  }
  EXPECT_EQ(content_of(directory / "file"), bytes);
}

TEST(FileQueue, RefusesMoreMovesThanItHasFilesFor) {
  TemporaryDirectory directory;
  std::vector<std::byte> memory(FileQueue::kMaximum);  // a byte each; longer than the queue, which still moves when it ends
  const auto queue = thread_queue();
  make_file(directory / "file", std::vector<std::byte>(1));
  Ticket first;
  for (std::size_t i = 0; i < FileQueue::kMaximum; ++i) {
    const auto ticket = queue->submit({Direction::read, directory / "file", 0, std::span(memory).subspan(i, 1)});
    ASSERT_TRUE(ticket) << ticket.error().message;
    if (i == 0) first = *ticket;
  }
  const auto of_the_first = std::span(memory).first(1);
  const auto refused = queue->submit({Direction::read, directory / "file", 0, of_the_first});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().status, ORLOP_OUT_OF_ORDER);
  EXPECT_TRUE(queue->wait(first, -1));
  EXPECT_TRUE(queue->submit({Direction::read, directory / "file", 0, of_the_first}));
}

TEST(FileQueue, TakesMovesFromManyThreads) {
  TemporaryDirectory directory;
  const auto queue = thread_queue();
  std::atomic<int> succeeded{0};
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&, thread] {
      const std::string path = directory / fmt::format("{}", thread).c_str();
      std::vector<std::byte> bytes(7777, static_cast<std::byte>(thread)), found(7777);
      for (int i = 0; i < 10; ++i) {
        const bool is_moved = move(*queue, Direction::write, path, 0, bytes) && move(*queue, Direction::read, path, 0, found);
        if (is_moved && found == bytes) ++succeeded;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(succeeded, 40);
}

}  // namespace
}  // namespace orlop::swap
