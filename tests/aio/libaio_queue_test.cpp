#include <cerrno>
#include <sys/syscall.h>

#include <gmock/gmock.h>

#include "queue_contract.hpp"
#include "refusal.hpp"

namespace orlop::aio {
namespace {

Result<std::unique_ptr<Queue>> make_aio(const QueueOptions& options) {
  return make_queue(QueueKind::aio, options);
}

INSTANTIATE_TEST_SUITE_P(Libaio, QueueContract, testing::Values(QueueMaker{"aio", make_aio}),
                         testing::PrintToStringParamName());

TEST(LibaioQueue, SaysItsName) {
  ORLOP_QUEUE_OR_SKIP(queue, make_aio({}));
  EXPECT_EQ(queue->name(), "aio");
}

TEST(LibaioQueue, SaysThatTheSystemsLimitIsReached) {
  ORLOP_QUEUE_OR_SKIP(queue, make_aio({}));
  const bool ran = run_refusing({{SYS_io_setup, EAGAIN}}, [] {
    const auto refused = make_aio({.depth = 8});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().status, ORLOP_UNSUPPORTED);
    EXPECT_THAT(refused.error().message, testing::HasSubstr("fs.aio-max-nr"));
  });
  if (!ran) GTEST_SKIP() << "no seccomp filters here";
}

}  // namespace
}  // namespace orlop::aio
