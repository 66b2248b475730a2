#include "swap/slab.hpp"

#include "faulty.hpp"
#include "support.hpp"

namespace orlop::swap {
namespace {

using namespace testing;

TEST(SlabRing, HandsOutEachSlabOnce) {
  const auto ring = SlabRing::create(topology(), 3, 8192, {}).value();
  std::vector<SlabLease> leases;
  std::vector<std::byte*> places;
  while (auto lease = ring->take()) {
    places.push_back(lease->data());
    leases.push_back(std::move(*lease));
  }
  ASSERT_EQ(leases.size(), 3u);
  std::sort(places.begin(), places.end());
  EXPECT_EQ(places.front(), ring->memory().data());
  EXPECT_EQ(places[1] - places[0], 8192);
  EXPECT_EQ(places[2] - places[1], 8192);
  EXPECT_EQ(ring->memory().size(), 3u * 8192);
  leases.pop_back();
  EXPECT_EQ(ring->free_count(), 1u);
  leases.clear();
  EXPECT_EQ(ring->free_count(), 3u);
}

TEST(SlabLease, MovesWithoutEnding) {
  const auto ring = SlabRing::create(topology(), 2, 4096, {}).value();
  auto first = std::move(*ring->take());
  auto second = std::move(*ring->take());
  const auto* place = second.data();
  first = std::move(second);
  EXPECT_EQ(first.data(), place);
  EXPECT_EQ(ring->free_count(), 1u) << "what was assigned over has gone back";
}

TEST(SlabLease, GoesBackOnlyWhenItsMoveHasComeBack) {
  TemporaryDirectory directory;
  const auto ring = SlabRing::create(topology(), 1, 4096, {}).value();
  auto file = aio::File::open(directory / "file", aio::Existing::must_not_exist).value();
  ASSERT_TRUE(file.preallocate(4096));
  const auto faults = delay_of(aio::Direction::write, 100);
  faults->arm();
  MoverOptions options;
  options.drives.push_back({.make_queue = faulty_queue(faults)});
  const auto mover = Mover::create(std::move(options)).value();
  const auto begin = std::chrono::steady_clock::now();
  {
    auto lease = std::move(*ring->take());
    ASSERT_TRUE(lease.start(*mover, {aio::Direction::write, aio::Priority::write_back, {{&file, lease.data(), 0, 4096}}, 0}));
    EXPECT_FALSE(lease.is_settled());
    EXPECT_FALSE(ring->take());
  }
  EXPECT_GE(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(90));
  EXPECT_EQ(mover->finished(), 1u);
  EXPECT_TRUE(ring->take());
}

TEST(SlabRing, RefusesWhatMemoryThereIsNot) {
  const auto ring = SlabRing::create(topology(), 1u << 20, 1ull << 40, {});
  ASSERT_FALSE(ring);
  EXPECT_EQ(ring.error().status, ORLOP_NO_MEMORY);
}

}  // namespace
}  // namespace orlop::swap
