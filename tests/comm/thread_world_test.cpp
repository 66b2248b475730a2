#include "thread_world.hpp"

#include <atomic>

#include "communicator_contract.hpp"
#include "faulty_communicator.hpp"

namespace orlop::comm {
namespace {

World make_world(int size) {
  return World{"threads_" + std::to_string(size), size,
               [size](const auto& body) { ThreadWorld(size).run(body); }};
}

// The adaptor changes nothing until its time has come.
World make_faulty_world(int size) {
  return World{"faulty_" + std::to_string(size), size, [size](const auto& body) {
                 ThreadWorld(size).run([&](Communicator& inner) {
                   FaultyCommunicator comm(inner, UINT64_MAX);
                   body(comm);
                 });
               }};
}

}  // namespace

INSTANTIATE_TEST_SUITE_P(Threads, CommunicatorContract,
                         testing::Values(make_world(1), make_world(2), make_world(3), make_world(7),
                                         make_faulty_world(2)),
                         name_of_world);

TEST(FaultyCommunicator, FailsTheCollectiveItWasToldAndNoOther) {
  for (std::uint64_t k = 0; k < 5; ++k) {
    std::atomic<int> failed{0};
    ThreadWorld(2).run([&](Communicator& inner) {
      FaultyCommunicator comm(inner, k);
      std::vector<std::byte> shard(4);
      std::vector<std::byte> whole(8);
      std::vector<float> floats(2);
      float kept = 0;
      std::int64_t value = 1;
      const Result<> results[] = {comm.all_gather(shard, whole), comm.all_reduce_sum({&value, 1}),
                                  comm.reduce_scatter_sum(floats, {&kept, 1}), comm.broadcast(shard, 0),
                                  comm.barrier()};
      for (std::uint64_t i = 0; i < 5; ++i) EXPECT_EQ(results[i].has_value(), i != k);
      if (!results[k]) ++failed;
    });
    EXPECT_EQ(failed, 2);
  }
}

}  // namespace orlop::comm
