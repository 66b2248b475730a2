#include "swap/nvme_states.hpp"

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
  for (std::uint32_t sweep = 1; sweep <= 12; ++sweep) {
    std::shuffle(order.begin(), order.end(), random);
    const std::span part(order.data(), 1 + random() % order.size());
    if (random() % 2 == 0) {
      ASSERT_TRUE((*nvme)->prefetch(part));
    }
    if (random() % 4 == 0) {
      ASSERT_TRUE((*nvme)->prefetch(forward_order(blocks.size()))) << "another order than the sweep's";
    }
    for (auto* states : {nvme->get(), host.get()}) {
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

}  // namespace
}  // namespace orlop::swap
