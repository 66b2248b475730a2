// docs/config.md comes from the table of keys. ORLOP_REGENERATE=1 writes it; without it the committed page
// must agree.
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

#include <gtest/gtest.h>

#include "base/config_keys.hpp"
#include "base/result.hpp"

namespace orlop {
namespace {

const std::string kPage = std::string(ORLOP_SOURCE_ROOT) + "/docs/config.md";

constexpr std::string_view kIntroduction = R"(# Configuration

<!-- Written by tests/base/config_document_test.cpp from src/base/config_keys.cpp (ORLOP_REGENERATE=1); do not edit. -->

The configuration is DeepSpeed's JSON; a file that works there works here, or is refused in one sentence that says what
to write instead. Our own keys live in the block `orlop`, which DeepSpeed ignores. Ready files are in `configs/`.
`orlop_config_resolve` (in Python `orlop.Config`) says what a file comes to: every value, where it came from and why.

Every key is one of

- **honoured**: it does what it says;
- **noted**: it is checked and has no effect here, for the reason given; said once when it asks for something;
- **refused**: only its default is accepted; anything else stops with the reason and what to write instead.

A key that is not on this page is ignored with a warning that names the nearest known one, or is an error with
`"orlop": {"strict_config": true}`.

How values are read:

- Comments (`//`, `/* */`, `#`) and trailing commas are allowed. A key given twice in one object is an error.
- Integers may be written `5e8` or `"5e8"`, booleans `"true"` or `0` and `1`, sizes in bytes as a number or as `"48G"`,
  `"1.5GiB"` (binary) or `"500MB"` (decimal). `Infinity`, as Python writes it, stands for never in `steps_per_print`.
- `null` means not given. `"auto"` means the value that is derived, else the default.
- Of `train_batch_size` = `train_micro_batch_size_per_gpu` x `gradient_accumulation_steps` x ranks any two give the
  third. The engine itself only needs the accumulation steps, so none has to be given.
- `zero_optimization` may be `true` (stage 1) or `false`.
)";

// The '|' that separates cells must not appear in one.
std::string cell(std::string_view text) {
  std::string escaped;
  for (const char c : text) escaped += c == '|' ? std::string("\\|") : std::string(1, c);
  return escaped;
}

std::string_view parent_of(std::string_view path) {
  const auto dot = path.rfind('.');
  return dot == std::string_view::npos ? std::string_view() : path.substr(0, dot);
}

std::string_view leaf_of(std::string_view path) {
  return path.substr(path.rfind('.') + 1);
}

std::string spellings_of(const ConfigKey& key) {
  std::string text;
  for (const auto alias : split_list(key.aliases)) {
    text += fmt::format("{}`{}`", text.empty() ? " Also " : ", ", leaf_of(alias));
  }
  return text.empty() ? text : text + ".";
}

std::string remark_of(const ConfigKey& key) {
  if (key.remark.empty()) return "";
  return key.status == KeyStatus::honoured ? "" : fmt::format(" *{}*", key.remark);
}

std::string default_of(const ConfigKey& key) {
  if (key.default_json != "null") return fmt::format("`{}`", key.default_json);
  return key.status == KeyStatus::honoured ? std::string(key.remark) : "";
}

std::string row_of(const ConfigKey& key) {
  return fmt::format("| `{}` | {} | {} | {} | {}.{}{} |\n", leaf_of(key.path), cell(describe_type(key)),
                     cell(default_of(key)), name_of(key.status), cell(key.meaning), spellings_of(key),
                     cell(remark_of(key)));
}

std::string table_of(std::string_view block) {
  std::string rows;
  for (const ConfigKey& key : config_keys()) {
    if (key.type != KeyType::block && parent_of(key.path) == block) rows += row_of(key);
  }
  return "\n| key | value | default | here | meaning |\n|---|---|---|---|---|\n" + rows;
}

std::string page() {
  std::string text = std::string(kIntroduction) + "\n## Top level\n" + table_of("");
  for (const ConfigKey& key : config_keys()) {
    if (key.type != KeyType::block) continue;
    text += fmt::format("\n## {}\n\n{}{}\n", key.path, key.meaning, spellings_of(key));
    text += table_of(key.path);
  }
  return text;
}

TEST(ConfigDocument, AgreesWithTheTableOfKeys) {
  if (std::getenv("ORLOP_REGENERATE") != nullptr) {
    std::ofstream file(kPage);
    file << page();
    ASSERT_TRUE(file.flush()) << kPage;
  }
  std::ifstream file(kPage);
  ASSERT_TRUE(file) << kPage << " is missing; ORLOP_REGENERATE=1 writes it";
  std::stringstream committed;
  committed << file.rdbuf();
  EXPECT_TRUE(committed.str() == page()) << kPage << " is stale; ORLOP_REGENERATE=1 writes it";
}

TEST(ConfigDocument, ListsEveryKeyOnceUnderItsBlock) {
  const std::string text = page();
  for (const ConfigKey& key : config_keys()) {
    const bool is_block = key.type == KeyType::block;
    const std::string_view block = is_block ? key.path : parent_of(key.path);
    const std::string heading = fmt::format("\n## {}\n", block.empty() ? "Top level" : block);
    const auto begin = text.find(heading);
    ASSERT_NE(begin, std::string::npos) << heading;
    if (is_block) continue;
    const std::string section = text.substr(begin, text.find("\n## ", begin + 1) - begin);
    const std::string row = fmt::format("\n| `{}` |", leaf_of(key.path));
    ASSERT_NE(section.find(row), std::string::npos) << key.path;
    EXPECT_EQ(section.find(row, section.find(row) + 1), std::string::npos) << key.path;
  }
}

}  // namespace
}  // namespace orlop
