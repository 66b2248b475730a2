#include "aio/turns.hpp"

#include <string>

#include <gtest/gtest.h>

namespace orlop::aio {
namespace {

constexpr Turns::Waiting kAll = {true, true, true};
constexpr Turns::Waiting kBoth = {false, true, true};
constexpr Turns::Waiting kReads = {false, true, false};
constexpr Turns::Waiting kWrites = {false, false, true};

char letter(Priority priority) {
  return "drw"[static_cast<int>(priority)];
}

// Lets `count` requests go, prefetches of read_bytes and write-backs of write_bytes.
std::string order(Turns& turns, const Turns::Waiting& waiting, int count, std::uint64_t read_bytes = 1,
                  std::uint64_t write_bytes = 1) {
  std::string letters;
  for (int i = 0; i < count; ++i) {
    const auto next = turns.next(waiting);
    turns.went(next, next == Priority::write_back ? write_bytes : read_bytes);
    letters += letter(next);
  }
  return letters;
}

TEST(Turns, DemandReadsGoFirst) {
  for (const auto mixing : {Mixing::mixed, Mixing::phased}) {
    Turns turns(mixing, 4);
    EXPECT_EQ(order(turns, kAll, 10), "dddddddddd");
  }
}

TEST(Turns, MixedAlternatesByBytes) {
  Turns turns(Mixing::mixed, 4);
  EXPECT_EQ(order(turns, kBoth, 8), "rwrwrwrw");
  EXPECT_EQ(order(turns, kBoth, 10, 4, 1), "rwwwwrwwww");
}

TEST(Turns, MixedOwesNothingForTheTimeAlone) {
  Turns turns(Mixing::mixed, 4);
  EXPECT_EQ(order(turns, kReads, 50), std::string(50, 'r'));
  const auto mixed = order(turns, kBoth, 6);
  EXPECT_EQ(mixed, "wrwrwr");
}

TEST(Turns, PhasedServesOneForAWholePhase) {
  Turns turns(Mixing::phased, 4);
  EXPECT_EQ(order(turns, kBoth, 12), "rrrrwwwwrrrr");
}

TEST(Turns, PhasedIsNeverIdleWhileAnythingWaits) {
  Turns turns(Mixing::phased, 4);
  EXPECT_EQ(order(turns, kBoth, 2), "rr");
  EXPECT_EQ(order(turns, kWrites, 3), "www");  // reads ran out in their turn: the turn passes
  EXPECT_EQ(order(turns, kBoth, 6), "wrrrrw");
}

TEST(Turns, DemandReadsDoNotUseUpAPhase) {
  Turns turns(Mixing::phased, 4);
  EXPECT_EQ(order(turns, kBoth, 3), "rrr");
  EXPECT_EQ(order(turns, kAll, 20), std::string(20, 'd'));
  EXPECT_EQ(order(turns, kBoth, 3), "rww");
}

}  // namespace
}  // namespace orlop::aio
