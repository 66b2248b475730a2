#include "base/bytes.hpp"

#include <gtest/gtest.h>

namespace orlop {
namespace {

TEST(Bytes, AreFormattedWithThreeDigits) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(1023), "1023 B");
  EXPECT_EQ(format_bytes(1024), "1.00 KiB");
  EXPECT_EQ(format_bytes(1_GiB - 1), "1.00 GiB");
  EXPECT_EQ(format_bytes(150_MiB), "150 MiB");
  EXPECT_EQ(format_bytes(UINT64_MAX), "16.0 EiB");
}

TEST(Bytes, AreParsedInBinaryAndDecimalUnits) {
  EXPECT_EQ(parse_bytes("4096").value(), 4096u);
  EXPECT_EQ(parse_bytes("48G").value(), 48_GiB);
  EXPECT_EQ(parse_bytes("1.5 GiB").value(), 1536_MiB);
  EXPECT_EQ(parse_bytes("500MB").value(), 500'000'000u);
  EXPECT_EQ(parse_bytes("1e9").value(), 1'000'000'000u);
}

TEST(Bytes, RefusesWhatIsNoSize) {
  for (const char* text : {"", "G", "-1", "12 parsecs", "1e40", "nan", "4KBB"}) {
    EXPECT_FALSE(parse_bytes(text)) << text;
  }
}

TEST(Bytes, ArithmeticThatOverflowsIsAnError) {
  EXPECT_EQ(checked_add(1, 2).value(), 3u);
  EXPECT_FALSE(checked_add(UINT64_MAX, 1));
  EXPECT_EQ(checked_multiply(1u << 20, 1u << 20).value(), 1ull << 40);
  EXPECT_FALSE(checked_multiply(1ull << 40, 1ull << 40));
}

TEST(Bytes, AlignmentRoundsBothWays) {
  EXPECT_EQ(align_up(1, 4096), 4096u);
  EXPECT_EQ(align_up(4096, 4096), 4096u);
  EXPECT_EQ(align_down(4097, 4096), 4096u);
}

}  // namespace
}  // namespace orlop
