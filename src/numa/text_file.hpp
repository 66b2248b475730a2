// Small text files of /proc, /sys and cgroups.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace orlop::numa {

// ORLOP_NOT_FOUND when there is no such file.
Result<std::string> read_text_file(const std::string& path);

// As above, but nothing when the file is missing, and a warning when it is there and cannot be read: what the
// system does not tell does not limit us.
std::optional<std::string> read_optional_text(const std::string& path);

std::optional<std::int64_t> parse_integer(std::string_view text);  // white space around it is fine
std::vector<std::string_view> split_words(std::string_view text);
std::vector<std::string_view> split_lines(std::string_view text);

// The number after `key` in lines of "key value" or "key: value kB"; kB are turned into bytes.
std::optional<std::uint64_t> find_field(std::string_view text, std::string_view key);

}  // namespace orlop::numa
