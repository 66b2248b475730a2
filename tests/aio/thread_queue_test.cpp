#include "aio/thread_queue.hpp"

#include "queue_contract.hpp"

namespace orlop::aio {
namespace {

INSTANTIATE_TEST_SUITE_P(Threads, QueueContract, testing::Values(QueueMaker{"threads", make_thread_queue}),
                         testing::PrintToStringParamName());

TEST(ThreadQueue, SaysItsName) {
  EXPECT_EQ(make_thread_queue({})->get()->name(), "threads");
}

}  // namespace
}  // namespace orlop::aio
