// One value of a configuration against its row in the table of keys.
#pragma once

#include <string_view>

#include <nlohmann/json.hpp>

#include "base/config_keys.hpp"
#include "base/result.hpp"

namespace orlop {

// The value in its canonical form: a bool, an integer, a double, an array, a string in the table's spelling,
// or null for "not given". Leniencies of DeepSpeed files end here: "5e8", 1e9, "true", "48G". Errors:
// ORLOP_INVALID_CONFIG naming the key as `written` in the file.
Result<nlohmann::json> canonical_value(const ConfigKey& key, std::string_view written,
                                       const nlohmann::json& value);

// The table's default in canonical form.
nlohmann::json default_value(const ConfigKey& key);

// An object that is empty or whose switch is off.
bool asks_for_nothing(const ConfigKey& key, const nlohmann::json& object);

}  // namespace orlop
