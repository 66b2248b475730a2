#include "zero3/host_pool.hpp"

#include <cstring>
#include <random>

#include <gmock/gmock.h>

#include "base/bytes.hpp"

namespace orlop::zero3 {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::unique_ptr<HostPool> pool_of(std::uint64_t limit_bytes = UINT64_MAX, Locking locking = Locking::left_to_system) {
  auto opened = HostPool::open({.limit_bytes = limit_bytes, .locking = locking});
  EXPECT_TRUE(opened) << opened.error().message;
  return std::move(*opened);
}

TEST(HostPool, TakesNothingFromTheSystemBeforeItIsAsked) {
  EXPECT_EQ(pool_of()->use().host_bytes, 0u);
}

TEST(HostPool, LendsMemoryThatDirectTransfersTake) {
  const auto pool = pool_of();
  for (const std::uint64_t bytes : {1u, 4096u, 4097u}) {
    std::byte* const memory = pool->take(bytes).value();
    EXPECT_TRUE(is_aligned(memory, 4096));
    std::memset(memory, 1, bytes);
  }
  EXPECT_EQ(pool->use().used_bytes, 4u * 4096);
  EXPECT_EQ(pool->use().host_bytes, HostPool::kGrowthBytes);
}

TEST(HostPool, LendsTheSameMemoryAgainWithoutAskingTheSystem) {
  const auto pool = pool_of();
  std::byte* const first = pool->take(3_MiB).value();
  ASSERT_TRUE(pool->give_back(first));
  EXPECT_EQ(pool->take(3_MiB).value(), first);
  EXPECT_EQ(pool->use().host_bytes, HostPool::kGrowthBytes);
  EXPECT_EQ(pool->use().peak_bytes, 3_MiB);
}

TEST(HostPool, NeverTakesMoreThanItsLimit) {
  const auto pool = pool_of(7_MiB);
  std::byte* const memory = pool->take(2_MiB).value();
  EXPECT_EQ(pool->use().host_bytes, 6_MiB) << "whole huge pages";
  ASSERT_TRUE(pool->take(4_MiB));
  const auto refused = pool->take(1);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().status, ORLOP_NO_MEMORY);
  EXPECT_THAT(refused.error().message, AllOf(HasSubstr("orlop.memory.activations"), HasSubstr("1048576 bytes too many")));
  ASSERT_TRUE(pool->give_back(memory));
  EXPECT_TRUE(pool->take(2_MiB));
}

TEST(HostPool, RefusesWhatIsNotThere) {
  const auto pool = pool_of();
  EXPECT_EQ(pool->take(0).error().status, ORLOP_INVALID_ARGUMENT);
  EXPECT_FALSE(pool->take(UINT64_MAX));
  EXPECT_EQ(pool->take(1ull << 50).error().status, ORLOP_NO_MEMORY);
  std::byte* const memory = pool->take(1).value();
  EXPECT_TRUE(pool->give_back(memory));
  EXPECT_EQ(pool->give_back(memory).error().status, ORLOP_INVALID_ARGUMENT);
}

TEST(HostPool, LocksItsPagesOrSaysThatItCouldNot) {
  const auto pool = pool_of(2_MiB, Locking::locked);
  EXPECT_TRUE(pool->take(1));  // a container may allow no locking: a warning then
}

// Random takes and gives: pieces do not overlap, and when all are back the pool is whole again.
TEST(HostPool, JoinsWhatComesBack) {
  const auto pool = pool_of(256_MiB);
  std::mt19937_64 random(17);
  std::vector<std::pair<std::byte*, std::uint64_t>> lent;
  for (int i = 0; i < 3000; ++i) {
    if (lent.empty() || random() % 2 == 0) {
      const std::uint64_t bytes = 1 + random() % (lent.size() > 40 ? 4096 : 1_MiB);
      std::byte* const memory = pool->take(bytes).value();
      std::memset(memory, static_cast<int>(bytes % 251), bytes);
      lent.emplace_back(memory, bytes);
    } else {
      const std::size_t at = random() % lent.size();
      const auto [memory, bytes] = lent[at];
      ASSERT_EQ(memory[0], static_cast<std::byte>(bytes % 251));
      ASSERT_EQ(memory[bytes - 1], static_cast<std::byte>(bytes % 251));
      ASSERT_TRUE(pool->give_back(memory));
      lent[at] = lent.back();
      lent.pop_back();
    }
  }
  for (const auto& [memory, bytes] : lent) ASSERT_TRUE(pool->give_back(memory));
  const std::uint64_t host_bytes = pool->use().host_bytes;
  EXPECT_EQ(pool->use().used_bytes, 0u);
  for (std::uint64_t taken = 0; taken < host_bytes; taken += HostPool::kGrowthBytes) {
    ASSERT_TRUE(pool->take(HostPool::kGrowthBytes));
  }
  EXPECT_EQ(pool->use().host_bytes, host_bytes) << "it is in whole regions again";
}

}  // namespace
}  // namespace orlop::zero3
