#include "bench/quantities.hpp"

#include <gtest/gtest.h>

namespace orlop::bench {
namespace {

TEST(Quantities, CountsAreReadInThePowersOfTen) {
  EXPECT_EQ(*parse_count("500M"), 500'000'000u);
  EXPECT_EQ(*parse_count("1e9"), 1'000'000'000u);
  EXPECT_EQ(*parse_count("7B"), 7'000'000'000u);
  EXPECT_EQ(*parse_count("1.3b"), 1'300'000'000u);
  EXPECT_EQ(*parse_count("2k"), 2'000u);
  EXPECT_EQ(*parse_count("124439808"), 124'439'808u);
}

TEST(Quantities, WhatIsNoCountIsRefused) {
  for (const char* const text : {"", "M", "-5", "0", "0.2", "nan", "inf", "1e30", "5MB", "5 M", "five"}) {
    EXPECT_FALSE(parse_count(text)) << text;
  }
}

TEST(Quantities, AreShownWithThreeDigits) {
  EXPECT_EQ(format_count(500'000'000), "500 M");
  EXPECT_EQ(format_count(1'235'814'400), "1.24 B");
  EXPECT_EQ(format_count(999'999'999), "1 B");
  EXPECT_EQ(format_count(12), "12");
  EXPECT_EQ(format_decimal(10'000'000'000), "10 GB");
  EXPECT_EQ(format_decimal(20), "20 B");
  EXPECT_EQ(format_seconds(3.951), "3.95 s");
  EXPECT_EQ(format_seconds(0.01234), "12.3 ms");
  EXPECT_EQ(format_seconds(0.9999), "1 s");
  EXPECT_EQ(format_seconds(12e-6), "12 us");
  EXPECT_EQ(format_whole_bytes(1536), "1536 bytes (1.50 KiB)");
}

}  // namespace
}  // namespace orlop::bench
