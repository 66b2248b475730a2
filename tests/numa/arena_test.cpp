#include "numa/arena.hpp"

#include <algorithm>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/bytes.hpp"
#include "numa/pages.hpp"

namespace orlop::numa {
namespace {

using testing::HasSubstr;

class ArenaTest : public testing::Test {
 protected:
  Arena make(std::uint64_t bytes, const ArenaOptions& options = {}) {
    return Arena::create(topology_, bytes, options).value();
  }
  Topology topology_ = Topology::detect().value();
};

std::size_t resident_pages(std::span<std::byte> memory) {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  std::vector<unsigned char> present(divide_up(memory.size(), page));
  EXPECT_EQ(::mincore(memory.data(), memory.size(), present.data()), 0);
  return static_cast<std::size_t>(
      std::count_if(present.begin(), present.end(), [](unsigned char c) { return (c & 1) != 0; }));
}

std::size_t pages_of(std::uint64_t bytes) {
  return divide_up(bytes, static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)));
}

TEST_F(ArenaTest, GivesItsLastByteAndNotOneMore) {
  constexpr std::uint64_t kBytes = 3_MiB + 17;
  Arena arena = make(kBytes);
  EXPECT_EQ(arena.memory().size(), kBytes);

  const auto first = arena.take(1_MiB, 64).value();
  const auto rest = arena.take(2_MiB + 17, 1).value();
  EXPECT_EQ(first.data(), arena.memory().data());
  EXPECT_EQ(rest.data() + rest.size(), arena.memory().data() + kBytes);
  EXPECT_EQ(arena.taken_bytes(), kBytes);
  rest.back() = std::byte{1};

  const auto refused = arena.take(1, 1);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().status, ORLOP_NO_MEMORY);
  EXPECT_THAT(refused.error().message, HasSubstr("3145745 of 3145745 B are taken, 1 B are missing"));
  EXPECT_EQ(arena.taken_bytes(), kBytes);
}

TEST_F(ArenaTest, ARefusalCountsTheGapThatAlignmentNeeds) {
  Arena arena = make(8192);
  ASSERT_TRUE(arena.take(1, 1));
  EXPECT_FALSE(arena.take(8191, 64));
  const auto refused = arena.take(8192, 4096);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("4096 B are missing"));
  EXPECT_TRUE(arena.take(4096, 4096));
}

TEST_F(ArenaTest, SizesThatOverflowAreRefused) {
  Arena arena = make(4096);
  ASSERT_TRUE(arena.take(1, 1));
  EXPECT_EQ(arena.take(UINT64_MAX, 1).error().status, ORLOP_NO_MEMORY);
  EXPECT_FALSE(Arena::create(topology_, UINT64_MAX));
  EXPECT_FALSE(Arena::create(topology_, UINT64_MAX - 4_MiB));
}

TEST_F(ArenaTest, AlignsToPowersOfTwoUpToAHugePage) {
  Arena arena = make(8_MiB);
  EXPECT_TRUE(is_aligned(arena.memory().data(), 2_MiB));
  for (std::uint64_t alignment = 1; alignment <= 2_MiB; alignment *= 2) {
    EXPECT_TRUE(is_aligned(arena.take(1, alignment).value().data(), alignment)) << alignment;
  }
  for (const std::uint64_t alignment : {std::uint64_t{0}, std::uint64_t{48}, std::uint64_t{4_MiB}}) {
    EXPECT_EQ(arena.take(1, alignment).error().status, ORLOP_INVALID_ARGUMENT) << alignment;
  }
}

TEST_F(ArenaTest, IsPopulatedWhenAsked) {
  constexpr std::uint64_t kBytes = 130_MiB;  // three pieces, the last one short
  const Arena arena = make(kBytes);
  EXPECT_EQ(resident_pages(arena.memory()), pages_of(kBytes));
}

TEST_F(ArenaTest, IsLeftAloneUntilTouchedWhenAsked) {
  const std::uint64_t more_than_the_pool = free_explicit_huge_bytes("", std::nullopt) + 32_MiB;
  const Arena arena = make(more_than_the_pool, {.populate = Populate::on_touch});
  EXPECT_EQ(resident_pages(arena.memory()), 0u);
  arena.memory().back() = std::byte{1};
  EXPECT_GE(resident_pages(arena.memory()), 1u);
}

TEST_F(ArenaTest, CanBePopulatedLaterAndKeepsWhatIsThere) {
  Arena arena = make(130_MiB, {.populate = Populate::on_touch});
  arena.memory().front() = std::byte{7};
  ASSERT_TRUE(arena.populate(topology_));
  EXPECT_EQ(resident_pages(arena.memory()), pages_of(130_MiB));
  EXPECT_EQ(arena.memory().front(), std::byte{7});
}

TEST_F(ArenaTest, StartsWithZeros) {
  const Arena arena = make(2_MiB);
  EXPECT_TRUE(std::all_of(arena.memory().begin(), arena.memory().end(),
                          [](std::byte b) { return b == std::byte{}; }));
}

TEST_F(ArenaTest, OfNothingIsEmpty) {
  Arena arena = make(0);
  EXPECT_TRUE(arena.memory().empty());
  EXPECT_FALSE(arena.take(1, 1));
}

TEST_F(ArenaTest, LargerThanTheMachineIsRefusedWithTheNumbers) {
  const auto host = host_memory().value();
  const std::uint64_t bytes = host.total_bytes + 1_GiB;
  const auto arena = Arena::create(topology_, bytes);
  ASSERT_FALSE(arena);
  EXPECT_EQ(arena.error().status, ORLOP_NO_MEMORY);
  EXPECT_THAT(arena.error().message, HasSubstr(std::to_string(bytes)));
  EXPECT_THAT(arena.error().message, HasSubstr("available, limited by"));
  EXPECT_THAT(arena.error().message, HasSubstr("missing"));
}

TEST_F(ArenaTest, OnANodeThatIsNotThereIsRefused) {
  EXPECT_EQ(Arena::create(topology_, 4096, {.node = 99}).error().status, ORLOP_INVALID_ARGUMENT);
  EXPECT_EQ(Arena::create(topology_, 4096, {.node = -2}).error().status, ORLOP_INVALID_ARGUMENT);
}

TEST_F(ArenaTest, OnANodeOfASyntheticTopologyIsOrdinaryMemory) {
  const Topology topology = Topology::synthetic("numa:4 core:2 pu:1").value();
  const auto arena = Arena::create(topology, 4_MiB, {.node = 3});
  ASSERT_TRUE(arena) << arena.error().message;
  EXPECT_EQ(resident_pages(arena->memory()), pages_of(4_MiB));
}

TEST_F(ArenaTest, OnNodeZeroIsPopulated) {
  const Arena arena = make(4_MiB, {.node = 0});
  EXPECT_EQ(resident_pages(arena.memory()), pages_of(4_MiB));
}

TEST_F(ArenaTest, MovesItsMemoryAndItsCount) {
  Arena first = make(4_MiB);
  const auto taken = first.take(1_MiB, 1).value();
  taken[0] = std::byte{42};
  Arena second(std::move(first));
  EXPECT_TRUE(first.memory().empty());  // NOLINT(bugprone-use-after-move): moved from means empty
  EXPECT_EQ(second.taken_bytes(), 1_MiB);
  EXPECT_EQ(second.memory()[0], std::byte{42});

  Arena third = make(2_MiB);
  third = std::move(second);
  EXPECT_TRUE(second.memory().empty());  // NOLINT(bugprone-use-after-move)
  EXPECT_EQ(third.memory().size(), 4_MiB);
  EXPECT_EQ(third.memory()[0], std::byte{42});
}

TEST_F(ArenaTest, GivesItsMemoryBackWhenDestroyed) {
  std::byte* data = nullptr;
  {
    const Arena arena = make(4_MiB);
    data = arena.memory().data();
  }
  unsigned char present = 0;
  EXPECT_EQ(::mincore(data, 1, &present), -1);
  EXPECT_EQ(errno, ENOMEM);
}

// What a forked child says about the first page of an arena.
bool child_has(const Arena& arena) {
  const pid_t child = ::fork();
  if (child == 0) {
    unsigned char present = 0;
    ::_exit(::mincore(arena.memory().data(), 1, &present) == 0 ? 1 : 0);
  }
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  return WEXITSTATUS(status) == 1;
}

TEST_F(ArenaTest, IsInheritedByAChildOnlyWhenAsked) {
  EXPECT_FALSE(child_has(make(2_MiB)));
  const auto shared = Arena::create(topology_, 2_MiB, {.children = Children::inherit});
  ASSERT_TRUE(shared) << shared.error().message;
  EXPECT_TRUE(child_has(*shared));
}

}  // namespace
}  // namespace orlop::numa
