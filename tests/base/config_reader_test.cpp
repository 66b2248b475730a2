#include "base/config_reader.hpp"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace orlop {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

json read(std::string_view text) {
  const auto document = read_config_text(text);
  EXPECT_TRUE(document) << document.error().message;
  return document.value_or(json());
}

std::string refusal(std::string_view text) {
  const auto document = read_config_text(text);
  EXPECT_FALSE(document) << "accepted: " << text.substr(0, 80);
  if (document) return "";
  EXPECT_EQ(document.error().status, ORLOP_INVALID_CONFIG);
  return document.error().message;
}

TEST(ConfigReader, ReadsPlainJson) {
  const json expected = {{"a", {1, -2, 2.5e3, true, nullptr}}, {"b", {{"c", "d\n\u00e9"}}}};
  EXPECT_EQ(read(expected.dump()), expected);
}

TEST(ConfigReader, AllowsCommentsAnywhere) {
  const json expected = {{"a", 1}, {"b", 2}};
  EXPECT_EQ(read("// first\n{\"a\": 1, # why\n /* many\n lines */ \"b\": 2}\n// last"), expected);
}

TEST(ConfigReader, AllowsTrailingCommas) {
  const json expected = {{"a", {1, 2}}, {"b", json::object()}};
  EXPECT_EQ(read(R"({"a": [1, 2,], "b": {},})"), expected);
  EXPECT_EQ(read("{\"a\": [1, 2 , // why\n ], \"b\": {} /* , */ , }"), expected);
}

TEST(ConfigReader, LeavesStringsAsTheyAre) {
  const json expected = {{"a", "//x, ]"}, {"b", "/* \",} # Infinity */"}, {"c", "\\"}};
  EXPECT_EQ(read(expected.dump()), expected);
}

TEST(ConfigReader, ReadsInfinityAsPythonWritesIt) {
  const json expected = {{"a", "inf"}, {"b", {"-inf", "inf"}}};
  EXPECT_EQ(read(R"({"a": Infinity, "b": [-Infinity, Infinity,]})"), expected);
}

TEST(ConfigReader, RefusesCommasThatSeparateNothing) {
  for (const char* text :
       {R"({,})", R"({"a": [,]})", R"({"a": [1,,]})", R"({"a": ,})", R"({"a",})", R"({"a": 1,,})"}) {
    EXPECT_THAT(refusal(text), HasSubstr("line 1")) << text;
  }
}

TEST(ConfigReader, SaysWhereTheTextIsWrong) {
  EXPECT_THAT(refusal("{\n  \"a\": 1 // one\n  \"b\": 2\n}"), HasSubstr("config: on line 3, column 5: "));
  EXPECT_THAT(refusal("{\"a\": Infinity, /* x\n*/ \"b\": nope}"), HasSubstr("config: on line 2, column "));
  EXPECT_THAT(refusal("{\n/* never closed"),
              HasSubstr("config: on line 2: the comment that begins with /* has no end"));
}

TEST(ConfigReader, RefusesWhatIsNoJson) {
  for (const char* text : {"{", "{\"a\": 1}}", "{'a': 1}", "{\"a\": True}", "{\"a\": NaN}", "{\"a\": 1e999}",
                           "{\"a\": \"x}", "{\"a\": \"\xff\"}", "{\"a\": Infinityx}", "{\"a\": 01}"}) {
    EXPECT_THAT(refusal(text), HasSubstr("config: on ")) << text;
  }
}

TEST(ConfigReader, RefusesWhatIsNoObject) {
  EXPECT_EQ(refusal("[1]"), "config: on the whole text (array): must be a JSON object");
  EXPECT_THAT(refusal("3"), HasSubstr("must be a JSON object"));
  EXPECT_THAT(refusal(" \n"), HasSubstr("the text is empty; write {}"));
}

TEST(ConfigReader, RefusesAKeyGivenTwice) {
  EXPECT_EQ(refusal(R"({"a": {"b": [{"c": 1}, {"c": 2, "c": 2}]}})"),
            "config: on \"a.b.c\": given twice; keep one");
  EXPECT_EQ(read(R"({"a": {"c": 1}, "b": {"c": 2}})").size(), 2u);
}

TEST(ConfigReader, RefusesWhatIsTooDeepOrTooLong) {
  const auto nested = [](int depth) {
    std::string text;
    for (int i = 1; i < depth; ++i) text += "{\"a\":";
    text += "{}";
    return text + std::string(static_cast<std::size_t>(depth - 1), '}');
  };
  EXPECT_TRUE(read_config_text(nested(kMaxConfigDepth)));
  EXPECT_THAT(refusal(nested(kMaxConfigDepth + 1)), HasSubstr("nested deeper than 32 levels"));
  EXPECT_THAT(refusal("{\"a\": " + std::string(500'000, '[')), HasSubstr("nested deeper"));
  EXPECT_THAT(refusal("{}" + std::string(kMaxConfigBytes, ' ')), HasSubstr("longer than 1.00 MiB"));
}

TEST(ConfigReader, ShowsValuesOnOneShortLineOfUtf8) {
  EXPECT_EQ(shown("a\nb"), R"("a\nb")");
  EXPECT_EQ(shown(json{{"enabled", true}}), R"({"enabled":true})");
  EXPECT_EQ(shown("\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9", 8), "\"\xc3\xa9\xc3\xa9...");
  EXPECT_EQ(shown(std::string("\xff")), "\"\xef\xbf\xbd\"");
}

}  // namespace
}  // namespace orlop
