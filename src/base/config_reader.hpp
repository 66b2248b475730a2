// From the text of a configuration to a JSON tree: JSON plus what people's DeepSpeed files hold.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "base/result.hpp"

namespace orlop {

inline constexpr std::size_t kMaxConfigBytes = 1u << 20;
inline constexpr int kMaxConfigDepth = 32;

// Accepts comments (//, /* */, #), trailing commas and Python's Infinity (which becomes the string "inf").
// Refuses a key given twice in one object, nesting deeper than kMaxConfigDepth, texts longer than
// kMaxConfigBytes and anything but an object. Errors: ORLOP_INVALID_CONFIG with line and column.
Result<nlohmann::json> read_config_text(std::string_view text);

// A value or name as it stands in messages: JSON on one line, valid UTF-8, cut when it is long.
std::string shown(const nlohmann::json& value, std::size_t longest = 120);

}  // namespace orlop
