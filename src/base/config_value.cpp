#include "base/config_value.hpp"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <optional>
#include <string>

#include "base/bytes.hpp"
#include "base/config_reader.hpp"

namespace orlop {
namespace {

using nlohmann::json;

std::string lower_case(std::string_view text) {
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return lower;
}

// ---- From JSON to C++: nullopt when it is no such thing ----

std::optional<bool> to_boolean(const json& value) {
  if (value.is_boolean()) return value.get<bool>();
  if (value.is_number_integer() && (value == 0 || value == 1)) return value == 1;
  if (!value.is_string()) return std::nullopt;
  const std::string text = lower_case(value.get_ref<const std::string&>());
  if (text == "true") return true;
  if (text == "false") return false;
  return std::nullopt;
}

// Also infinite ones; never NaN.
std::optional<double> to_number(const json& value) {
  if (value.is_number()) return value.get<double>();
  if (!value.is_string()) return std::nullopt;
  const auto& text = value.get_ref<const std::string&>();
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size() || std::isnan(number)) return std::nullopt;
  return number;
}

std::int64_t saturated(double number) {
  if (number >= 0x1p63) return INT64_MAX;  // sys.maxsize as a float
  if (number < -0x1p63) return INT64_MIN;
  return static_cast<std::int64_t>(number);
}

std::optional<std::int64_t> to_integer(const json& value) {
  if (value.is_number_unsigned()) {
    return static_cast<std::int64_t>(std::min<std::uint64_t>(value.get<std::uint64_t>(), INT64_MAX));
  }
  if (value.is_number_integer()) return value.get<std::int64_t>();
  if (value.is_string()) {  // digits exactly, before they become a double
    const auto& text = value.get_ref<const std::string&>();
    std::int64_t integer = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), integer);
    if (error == std::errc{} && end == text.data() + text.size()) return integer;
  }
  const auto number = to_number(value);
  if (!number || !std::isfinite(*number) || std::trunc(*number) != *number) return std::nullopt;
  return saturated(*number);
}

std::optional<std::uint64_t> to_bytes(const json& value) {
  if (value.is_string()) {
    const auto bytes = parse_bytes(value.get_ref<const std::string&>());
    return bytes ? std::optional(*bytes) : std::nullopt;
  }
  const auto integer = to_integer(value);
  if (!integer || *integer < 0) return std::nullopt;
  return static_cast<std::uint64_t>(*integer);
}

bool in_range(const ConfigKey& key, double number) {
  if (!std::isfinite(number) || number < key.minimum || number > key.maximum) return false;
  return !(key.below_maximum && number == key.maximum);
}

// ---- To the canonical form: nullopt when the value does not fit the row ----

std::optional<json> canonical_integer(const ConfigKey& key, const json& value) {
  const auto integer = to_integer(value);
  if (!integer || !in_range(key, static_cast<double>(*integer))) return std::nullopt;
  return *integer;
}

std::optional<json> canonical_steps(const json& value) {
  const auto number = to_number(value);
  if (!number || *number < 0) return std::nullopt;
  if (*number == 0 || *number >= 0x1p63) return json(nullptr);
  const auto integer = to_integer(value);
  return integer ? std::optional<json>(*integer) : std::nullopt;
}

std::optional<json> canonical_number(const ConfigKey& key, const json& value) {
  const auto number = to_number(value);
  if (!number || !in_range(key, *number)) return std::nullopt;
  return *number;
}

std::optional<json> canonical_pair(const ConfigKey& key, const json& value) {
  if (!value.is_array() || value.size() != 2) return std::nullopt;
  const auto first = canonical_number(key, value[0]);
  const auto second = canonical_number(key, value[1]);
  if (!first || !second) return std::nullopt;
  return json::array({*first, *second});
}

std::optional<json> canonical_bytes(const ConfigKey& key, const json& value) {
  const auto bytes = to_bytes(value);
  if (!bytes || !in_range(key, static_cast<double>(*bytes)) || *bytes % key.multiple_of != 0)
    return std::nullopt;
  return *bytes;
}

std::optional<json> canonical_text(const json& value) {
  if (!value.is_string()) return std::nullopt;
  const auto& text = value.get_ref<const std::string&>();
  if (text.empty() || text.find('\0') != std::string::npos) return std::nullopt;  // paths end at a NUL
  return value;
}

// What is wrong with a list of paths.
std::optional<std::string> why_no_paths(const json& list) {
  if (list.empty()) return "the list is empty; name a directory on each drive";
  for (std::size_t i = 0; i < list.size(); ++i) {
    if (!canonical_text(list[i])) return fmt::format("entry [{}] is {}, which is no path", i, shown(list[i]));
    const auto same = std::find(list.begin(), list.begin() + static_cast<std::ptrdiff_t>(i), list[i]);
    const auto first = same - list.begin();
    if (first < static_cast<std::ptrdiff_t>(i)) {
      return fmt::format("entry [{}] is {}, as entry [{}] is; name each drive once", i, shown(list[i]), first);
    }
  }
  return std::nullopt;
}

std::optional<json> canonical_texts(const json& value) {
  if (value.is_string()) return json::array({value});
  if (!value.is_array()) return std::nullopt;
  if (!std::all_of(value.begin(), value.end(), [](const json& item) { return item.is_string(); }))
    return std::nullopt;
  return value;
}

// A list says more than one path.
std::optional<json> canonical_paths(const json& value) {
  if (!value.is_array()) return canonical_text(value);
  if (why_no_paths(value)) return std::nullopt;
  return value.size() == 1 ? value.front() : value;
}

std::optional<json> canonical_choice(const ConfigKey& key, const json& value) {
  if (!value.is_string()) return std::nullopt;
  const std::string wanted = lower_case(value.get_ref<const std::string&>());
  for (const auto choice : split_list(key.choices)) {
    if (lower_case(choice) == wanted) return json(choice);
  }
  for (const auto synonym : split_list(key.synonyms)) {
    const auto equals = synonym.find('=');
    if (synonym.substr(0, equals) == wanted) return json(synonym.substr(equals + 1));
  }
  return std::nullopt;
}

std::optional<json> canonical(const ConfigKey& key, const json& value) {
  switch (key.type) {
    case KeyType::block:
    case KeyType::object:
      return value.is_object() ? std::optional(value) : std::nullopt;
    case KeyType::boolean: {
      const auto boolean = to_boolean(value);
      return boolean ? std::optional<json>(*boolean) : std::nullopt;
    }
    case KeyType::integer:
      return canonical_integer(key, value);
    case KeyType::steps:
      return canonical_steps(value);
    case KeyType::number:
      return canonical_number(key, value);
    case KeyType::number_pair:
      return canonical_pair(key, value);
    case KeyType::bytes:
      return canonical_bytes(key, value);
    case KeyType::text:
      return canonical_text(value);
    case KeyType::texts:
      return canonical_texts(value);
    case KeyType::paths:
      return canonical_paths(value);
    case KeyType::choice:
      return canonical_choice(key, value);
  }
  return std::nullopt;
}

// `; write for example "stage": 0`, or what leaving the key out means.
std::string example(const ConfigKey& key) {
  const auto leaf = key.path.substr(key.path.rfind('.') + 1);  // npos + 1 is 0
  if (key.default_json != "null")
    return fmt::format("; write for example \"{}\": {}", leaf, key.default_json);
  if (key.status == KeyStatus::honoured && !key.remark.empty())
    return fmt::format("; left out: {}", key.remark);
  return "";
}

}  // namespace

Result<json> canonical_value(const ConfigKey& key, std::string_view written, const json& value) {
  if (value.is_null()) return json(nullptr);
  auto canonical_form = canonical(key, value);
  if (canonical_form) return *std::move(canonical_form);
  if (key.type == KeyType::paths && value.is_array()) {
    return fail(ORLOP_INVALID_CONFIG, "config: on {} ({}): {}", shown(written), shown(value), *why_no_paths(value));
  }
  const std::string meaning = key.type == KeyType::block ? "" : fmt::format(" ({})", key.meaning);
  return fail(ORLOP_INVALID_CONFIG, "config: on {} ({}): must be {}{}{}", shown(written), shown(value),
              describe_type(key), meaning, example(key));
}

json default_value(const ConfigKey& key) {
  const auto value = json::parse(key.default_json, nullptr, false);
  return value.is_null() ? value : canonical(key, value).value_or(nullptr);
}

bool asks_for_nothing(const ConfigKey& key, const json& object) {
  if (object.is_null() || object.empty()) return true;
  if (key.switch_key.empty()) return false;
  const auto on = object.find(key.switch_key);
  if (on == object.end()) return true;
  if (on->is_null() || *on == "auto") return true;
  if (key.switch_key.ends_with("_size")) return to_number(*on).value_or(2) <= 1;  // one is alone
  return !to_boolean(*on).value_or(true);
}

}  // namespace orlop
