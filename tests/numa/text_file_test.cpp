#include "numa/text_file.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fixture_root.hpp"

namespace orlop::numa {
namespace {

using testing::HasSubstr;
using TextFile = FixtureRoot;

TEST_F(TextFile, IsReadWhole) {
  const std::string text(10'000, 'x');
  write("/long", text);
  write("/empty", "");
  EXPECT_EQ(read_text_file(root() + "/long").value(), text);
  EXPECT_EQ(read_text_file(root() + "/empty").value(), "");
}

TEST_F(TextFile, ThatIsMissingIsNamed) {
  const auto text = read_text_file(root() + "/none");
  ASSERT_FALSE(text);
  EXPECT_EQ(text.error().status, ORLOP_NOT_FOUND);
  EXPECT_THAT(text.error().message, HasSubstr("/none"));
  EXPECT_FALSE(read_optional_text(root() + "/none"));
}

TEST_F(TextFile, ThatIsADirectoryCannotBeRead) {
  write("/a/b", "");
  EXPECT_FALSE(read_text_file(root() + "/a"));
}

TEST(Text, IntegersMayHaveBlanksAroundThem) {
  EXPECT_EQ(parse_integer(" 42\n"), 42);
  EXPECT_EQ(parse_integer("-1"), -1);
  for (const char* text : {"", "max", "1 2", "12x", "99999999999999999999"})
    EXPECT_FALSE(parse_integer(text)) << text;
}

TEST(Text, FieldsAreFoundByTheirWholeName) {
  constexpr const char* kText = "total_inactive_file 7\ninactive_file 5\nMemTotal:   3 kB\nbad x\n";
  EXPECT_EQ(find_field(kText, "inactive_file"), 5u);
  EXPECT_EQ(find_field(kText, "MemTotal"), 3072u);
  EXPECT_FALSE(find_field(kText, "inactive"));
  EXPECT_FALSE(find_field(kText, "bad"));
}

}  // namespace
}  // namespace orlop::numa
