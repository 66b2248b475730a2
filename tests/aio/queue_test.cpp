#include "aio/queue.hpp"

#include <cerrno>
#include <sys/syscall.h>

#include <gmock/gmock.h>

#include "refusal.hpp"
#include "scratch.hpp"

namespace orlop::aio {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(Queue, KindsHaveNames) {
  for (const auto kind : {QueueKind::uring, QueueKind::aio, QueueKind::threads}) {
    EXPECT_EQ(queue_kind_of(name_of(kind)).value(), kind);
  }
  EXPECT_EQ(queue_kind_of("io_uring").value(), QueueKind::uring);
  EXPECT_EQ(queue_kind_of("libaio").value(), QueueKind::aio);
  EXPECT_THAT(queue_kind_of("iouring").error().message, HasSubstr("uring, aio, threads"));
}

TEST(Queue, RefusesDepthAndThreadsOfZero) {
  for (const auto kind : {QueueKind::uring, QueueKind::aio, QueueKind::threads}) {
    EXPECT_EQ(make_queue(kind, {.depth = 0}).error().status, ORLOP_INVALID_ARGUMENT);
  }
  EXPECT_EQ(make_queue(QueueKind::threads, {.thread_count = 0}).error().status, ORLOP_INVALID_ARGUMENT);
  EXPECT_EQ(make_best_queue({.depth = 0}).error().status, ORLOP_INVALID_ARGUMENT);
}

TEST(Queue, MakesTheKindAskedForOrSaysWhyNot) {
  for (const auto kind : {QueueKind::uring, QueueKind::aio, QueueKind::threads}) {
    const auto queue = make_queue(kind, {});
    if (queue) {
      EXPECT_EQ((*queue)->name(), name_of(kind));
    } else {
      EXPECT_NE(kind, QueueKind::threads);
      EXPECT_EQ(queue.error().status, ORLOP_UNSUPPORTED);
    }
  }
}

#ifndef ORLOP_HAVE_URING
TEST(Queue, SaysThatTheBuildHasNoUring) {
  EXPECT_THAT(make_queue(QueueKind::uring, {}).error().message, HasSubstr("-Dio_uring=disabled"));
}
#endif
#ifndef ORLOP_HAVE_LIBAIO
TEST(Queue, SaysThatTheBuildHasNoLibaio) {
  EXPECT_THAT(make_queue(QueueKind::aio, {}).error().message, HasSubstr("-Dlibaio=disabled"));
}
#endif

TEST(Queue, TheBestIsTheFirstThatWorks) {
  const auto best = make_best_queue({});
  ASSERT_TRUE(best);
  for (const auto kind : {QueueKind::uring, QueueKind::aio, QueueKind::threads}) {
    if (!make_queue(kind, {})) continue;
    EXPECT_EQ((*best)->name(), name_of(kind));
    break;
  }
}

TEST(Queue, FallsBackWhenTheKernelRefusesAndSaysThePrice) {
  const LogCapture log;
  const bool has_aio = make_queue(QueueKind::aio, {}).has_value();
  const bool ran = run_refusing({{SYS_io_uring_setup, EPERM}}, [&] {
    const auto queue = make_best_queue({});
    ASSERT_TRUE(queue) << queue.error().message;
    EXPECT_EQ((*queue)->name(), has_aio ? "aio" : "threads");
  });
  if (!ran) GTEST_SKIP() << "no seccomp filters here";
  ASSERT_FALSE(log.warnings().empty());
  EXPECT_THAT(log.warnings()[0], AllOf(HasSubstr("io_uring"), HasSubstr("processor time")));
}

TEST(Queue, FallsBackToThreadsWhenTheKernelHasNoAsynchronousIo) {
  const LogCapture log;
  const bool ran = run_refusing({{SYS_io_uring_setup, ENOSYS}, {SYS_io_setup, ENOSYS}}, [] {
    const auto queue = make_best_queue({.thread_count = 3});
    ASSERT_TRUE(queue) << queue.error().message;
    EXPECT_EQ((*queue)->name(), "threads");
  });
  if (!ran) GTEST_SKIP() << "no seccomp filters here";
  EXPECT_THAT(log.warnings(),
              ElementsAre(HasSubstr("using Linux AIO instead"), HasSubstr("using 3 threads")));
}

}  // namespace
}  // namespace orlop::aio
