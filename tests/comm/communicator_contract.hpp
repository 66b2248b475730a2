// The contract suite of Communicator, written once. An implementation joins with a way to run a body on every
// rank and one line:
//   INSTANTIATE_TEST_SUITE_P(Self, CommunicatorContract, testing::Values(...), name_of_world);
#pragma once

#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "comm/communicator.hpp"

namespace orlop::comm {

struct World {
  std::string name;
  int size;
  // Runs the body once per rank. Expectations in it may come from several threads.
  std::function<void(const std::function<void(Communicator&)>&)> run;
};

inline std::string name_of_world(const testing::TestParamInfo<World>& info) {
  return info.param.name;
}
inline void PrintTo(const World& world, std::ostream* out) {
  *out << world.name;
}

class CommunicatorContract : public testing::TestWithParam<World> {
 protected:
  [[nodiscard]] std::size_t size() const { return static_cast<std::size_t>(GetParam().size); }
  void on_each_rank(const std::function<void(Communicator&)>& body) { GetParam().run(body); }

  // What `rank` contributes: known to every rank, different on each.
  static std::vector<std::byte> bytes_of(std::size_t rank, std::size_t count) {
    std::vector<std::byte> bytes(count);
    for (std::size_t i = 0; i < count; ++i) bytes[i] = static_cast<std::byte>((rank * 89 + i * 7 + 1) & 0xff);
    return bytes;
  }
  // Magnitudes are far apart, so that another order of additions gives other bits.
  static std::vector<float> floats_of(std::size_t rank, std::size_t count) {
    std::mt19937 random(static_cast<unsigned>(rank + 1));
    std::uniform_real_distribution<float> mantissa(-1.0f, 1.0f);
    std::uniform_int_distribution<int> exponent(-20, 20);
    std::vector<float> floats(count);
    for (float& value : floats) value = std::ldexp(mantissa(random), exponent(random));
    return floats;
  }
};

constexpr std::size_t kLengths[] = {0, 1, 3, 64, 4097};

TEST_P(CommunicatorContract, RanksAreNumberedFromZero) {
  std::vector<int> seen(size(), 0);
  on_each_rank([&](Communicator& comm) {
    EXPECT_EQ(comm.world_size(), GetParam().size);
    ASSERT_GE(comm.rank(), 0);
    ASSERT_LT(comm.rank(), comm.world_size());
    ++seen[static_cast<std::size_t>(comm.rank())];
  });
  EXPECT_EQ(seen, std::vector<int>(size(), 1));
}

TEST_P(CommunicatorContract, AllGatherPutsEveryShardAtItsRank) {
  for (const std::size_t length : kLengths) {
    std::vector<std::byte> expected;
    for (std::size_t rank = 0; rank < size(); ++rank) {
      const auto shard = bytes_of(rank, length);
      expected.insert(expected.end(), shard.begin(), shard.end());
    }
    on_each_rank([&](Communicator& comm) {
      const auto shard = bytes_of(static_cast<std::size_t>(comm.rank()), length);
      std::vector<std::byte> whole(length * size());
      EXPECT_TRUE(comm.all_gather(shard, whole));
      EXPECT_EQ(whole, expected) << length;
    });
  }
}

TEST_P(CommunicatorContract, AllGatherWorksInPlace) {
  constexpr std::size_t kLength = 100;
  on_each_rank([&](Communicator& comm) {
    std::vector<std::byte> whole(kLength * size());
    const std::span<std::byte> own =
        std::span(whole).subspan(static_cast<std::size_t>(comm.rank()) * kLength, kLength);
    const auto shard = bytes_of(static_cast<std::size_t>(comm.rank()), kLength);
    std::copy(shard.begin(), shard.end(), own.begin());
    EXPECT_TRUE(comm.all_gather(own, whole));
    for (std::size_t rank = 0; rank < size(); ++rank) {
      const auto expected = bytes_of(rank, kLength);
      EXPECT_TRUE(
          std::equal(expected.begin(), expected.end(), whole.begin() + static_cast<long>(rank * kLength)));
    }
  });
}

TEST_P(CommunicatorContract, AllReduceSumsIntegersExactly) {
  on_each_rank([&](Communicator& comm) {
    const std::int64_t rank = comm.rank();
    std::vector<std::int64_t> values = {rank, -rank, (std::int64_t{1} << 53) + rank, 0};
    EXPECT_TRUE(comm.all_reduce_sum(values));
    const auto n = static_cast<std::int64_t>(size());
    const std::int64_t ranks = n * (n - 1) / 2;
    EXPECT_EQ(values, (std::vector<std::int64_t>{ranks, -ranks, (n << 53) + ranks, 0}));
  });
}

TEST_P(CommunicatorContract, AllReduceWrapsAroundAtTheEnds) {
  on_each_rank([&](Communicator& comm) {
    std::int64_t value = std::numeric_limits<std::int64_t>::max();
    EXPECT_TRUE(comm.all_reduce_sum({&value, 1}));
    std::uint64_t expected = 0;
    for (std::size_t i = 0; i < size(); ++i) {
      expected += static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
    }
    EXPECT_EQ(static_cast<std::uint64_t>(value), expected);
  });
}

TEST_P(CommunicatorContract, ReduceScatterAddsInRankOrderBitForBit) {
  for (const std::size_t length : kLengths) {
    std::vector<float> expected = floats_of(0, length * size());
    for (std::size_t rank = 1; rank < size(); ++rank) {
      const auto more = floats_of(rank, length * size());
      for (std::size_t i = 0; i < more.size(); ++i) expected[i] += more[i];
    }
    on_each_rank([&](Communicator& comm) {
      const auto rank = static_cast<std::size_t>(comm.rank());
      const auto whole = floats_of(rank, length * size());
      std::vector<float> shard(length);
      EXPECT_TRUE(comm.reduce_scatter_sum(whole, shard));
      EXPECT_TRUE(
          std::equal(shard.begin(), shard.end(), expected.begin() + static_cast<long>(rank * length)));
    });
  }
}

TEST_P(CommunicatorContract, ReduceScatterKeepsTheSignOfZero) {
  on_each_rank([&](Communicator& comm) {
    const std::vector<float> whole(size(), -0.0f);
    float shard = 1.0f;
    EXPECT_TRUE(comm.reduce_scatter_sum(whole, {&shard, 1}));
    EXPECT_TRUE(shard == 0.0f && std::signbit(shard));
  });
}

TEST_P(CommunicatorContract, ReduceScatterWorksInPlace) {
  constexpr std::size_t kLength = 50;
  on_each_rank([&](Communicator& comm) {
    const auto rank = static_cast<std::size_t>(comm.rank());
    std::vector<float> whole(kLength * size(), static_cast<float>(rank + 1));
    EXPECT_TRUE(comm.reduce_scatter_sum(whole, std::span(whole).subspan(rank * kLength, kLength)));
    const auto sum = static_cast<float>(size() * (size() + 1) / 2);
    for (std::size_t i = 0; i < whole.size(); ++i) {
      EXPECT_EQ(whole[i], i / kLength == rank ? sum : static_cast<float>(rank + 1));
    }
  });
}

TEST_P(CommunicatorContract, BroadcastGivesEveryRankTheRootsBytes) {
  for (std::size_t root = 0; root < size(); ++root) {
    on_each_rank([&](Communicator& comm) {
      auto bytes = bytes_of(static_cast<std::size_t>(comm.rank()), 1000);
      EXPECT_TRUE(comm.broadcast(bytes, static_cast<int>(root)));
      EXPECT_EQ(bytes, bytes_of(root, 1000));
    });
  }
}

TEST_P(CommunicatorContract, SizesThatDoNotFitAreRefusedAndTheWorldGoesOn) {
  on_each_rank([&](Communicator& comm) {
    std::vector<std::byte> shard(8);
    std::vector<std::byte> whole(8 * size() + 1);
    EXPECT_EQ(comm.all_gather(shard, whole).error().status, ORLOP_INVALID_ARGUMENT);
    std::vector<float> floats(4 * size() + 1);
    std::vector<float> kept(4);
    EXPECT_EQ(comm.reduce_scatter_sum(floats, kept).error().status, ORLOP_INVALID_ARGUMENT);
    EXPECT_EQ(comm.broadcast(shard, -1).error().status, ORLOP_INVALID_ARGUMENT);
    EXPECT_EQ(comm.broadcast(shard, comm.world_size()).error().status, ORLOP_INVALID_ARGUMENT);
    EXPECT_TRUE(comm.barrier());
  });
}

TEST_P(CommunicatorContract, NobodyPassesABarrierBeforeAllHaveReachedIt) {
  std::vector<int> reached(size() * 64, 0);  // apart, one writer each
  on_each_rank([&](Communicator& comm) {
    for (int round = 1; round <= 50; ++round) {
      reached[static_cast<std::size_t>(comm.rank()) * 64] = round;
      EXPECT_TRUE(comm.barrier());
      for (std::size_t rank = 0; rank < size(); ++rank) EXPECT_EQ(reached[rank * 64], round);
      EXPECT_TRUE(comm.barrier());
    }
  });
}

TEST_P(CommunicatorContract, CollectivesFollowEachOtherWithoutMixing) {
  on_each_rank([&](Communicator& comm) {
    const auto rank = static_cast<std::size_t>(comm.rank());
    for (std::size_t round = 0; round < 100; ++round) {
      std::vector<std::byte> whole(16 * size());
      EXPECT_TRUE(comm.all_gather(bytes_of(rank + round, 16), whole));
      std::int64_t count = 1;
      EXPECT_TRUE(comm.all_reduce_sum({&count, 1}));
      EXPECT_EQ(count, GetParam().size);
      const auto last = bytes_of(size() - 1 + round, 16);
      EXPECT_TRUE(std::equal(last.begin(), last.end(), whole.end() - 16));
    }
  });
}

}  // namespace orlop::comm
