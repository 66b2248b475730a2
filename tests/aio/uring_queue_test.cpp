#include <array>
#include <cerrno>
#include <sys/syscall.h>

#include <gmock/gmock.h>

#include "queue_contract.hpp"
#include "refusal.hpp"

namespace orlop::aio {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Result<std::unique_ptr<Queue>> make_uring(const QueueOptions& options) {
  return make_queue(QueueKind::uring, options);
}

INSTANTIATE_TEST_SUITE_P(Uring, QueueContract, testing::Values(QueueMaker{"uring", make_uring}),
                         testing::PrintToStringParamName());

TEST(UringQueue, SaysItsName) {
  ORLOP_QUEUE_OR_SKIP(queue, make_uring({}));
  EXPECT_EQ(queue->name(), "uring");
}

TEST(UringQueue, TakesADepthThatTheKernelClamps) {
  ORLOP_QUEUE_OR_SKIP(queue, make_uring({.depth = 1u << 20}));
  EXPECT_LT(queue->depth(), 1u << 20);
  EXPECT_GE(queue->depth(), 1024u);
}

TEST(UringQueue, SaysThatTheKernelForbidsIt) {
  ORLOP_QUEUE_OR_SKIP(queue, make_uring({}));
  const bool ran = run_refusing({{SYS_io_uring_setup, EPERM}}, [] {
    const auto refused = make_uring({});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().status, ORLOP_UNSUPPORTED);
    EXPECT_THAT(refused.error().message, HasSubstr("kernel.io_uring_disabled"));
  });
  if (!ran) GTEST_SKIP() << "no seccomp filters here";
}

// Registering and enabling the ring are one system call; only registering has a count (argument 3).
TEST(UringQueue, WorksWithoutRegisteringAndSaysOnceWhatThatCosts) {
  ORLOP_QUEUE_OR_SKIP(available, make_uring({}));
  ScratchFolder folder;
  write_content(folder / "file", 1_MiB);
  const auto file = File::open(folder / "file", Existing::open);
  ASSERT_TRUE(file);
  const AlignedMemory memory(1_MiB);
  const LogCapture log;
  const bool ran = run_refusing({{SYS_io_uring_register, ENOMEM, 3, 0xffff}}, [&] {
    auto queue = make_uring({});
    ASSERT_TRUE(queue) << queue.error().message;
    const std::array regions = {memory.span()};
    for (int i = 0; i < 2; ++i) {
      (*queue)->register_memory(regions);
      (*queue)->register_files(std::array{file->fd()});
    }
    const Request request{Direction::read, file->fd(), memory.data(), 1 << 20, 0, 3};
    ASSERT_EQ((*queue)->submit({&request, 1}).value(), 1u);
    Completion completion{};
    ASSERT_EQ((*queue)->wait({&completion, 1}, 1).value(), 1u);
    EXPECT_EQ(completion.result, 1 << 20);
  });
  if (!ran) GTEST_SKIP() << "no seccomp filters here";
  EXPECT_TRUE(has_content(memory.span(), 0));
  EXPECT_THAT(log.warnings(), ElementsAre(AllOf(HasSubstr("1.00 MiB of memory"), HasSubstr("RLIMIT_MEMLOCK")),
                                          HasSubstr("register 1 files")));
}

}  // namespace
}  // namespace orlop::aio
