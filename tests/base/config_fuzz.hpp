// The body that the mutation test and a libFuzzer target share: whatever the bytes are, they give a
// configuration or a sentence.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "base/config.hpp"

namespace orlop {

inline void require(bool holds, const char* what, std::string_view text) {
  if (holds) return;
  std::fprintf(stderr, "fuzz_config: %s, for the text:\n%.*s\n", what, static_cast<int>(text.size()),
               text.data());
  std::abort();
}

inline bool is_one_line(const std::string& sentence) {
  return !sentence.empty() && sentence.find_first_of(std::string_view("\0\n\r", 3)) == std::string::npos;
}

// json::dump() throws on text that is not UTF-8.
inline bool is_utf8(const std::string& sentence) {
  const std::string quoted =
      "\"" + nlohmann::json(sentence).dump(-1, ' ', true, nlohmann::json::error_handler_t::ignore);
  return quoted ==
         "\"" + nlohmann::json(sentence).dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
}

inline void require_sound(const Config& config, std::string_view text) {
  require(config.gradient_accumulation_steps >= 1, "no micro-batches", text);
  require(config.slab_count == 0 || config.slab_count >= 3, "a ring that is too short", text);
  require(config.offload_optimizer != OffloadDevice::nvme || !config.nvme_paths.empty(), "nvme without a path",
          text);
  require(config.gradient_clipping >= 0, "negative clipping", text);
  for (const std::string& note : config.notes)
    require(is_one_line(note) && is_utf8(note), "an unfit note", text);
}

inline void require_fixed_point(const Config& config, int world_size, std::string_view text) {
  const auto values = config.to_json()["values"];
  const auto again = resolve_config(values.dump(), world_size);
  require(again.has_value(), "its own values are refused", text);
  require(again->to_json()["values"] == values, "its own values resolve to others", text);
}

inline void fuzz_config(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const int world_size = size % 3 == 0 ? 2 : 1;
  const auto config = resolve_config(text, world_size);
  if (!config) {
    require(config.error().status == ORLOP_INVALID_CONFIG, "an unexpected status", text);
    require(is_one_line(config.error().message), "a message that is not one line", text);
    require(is_utf8(config.error().message), "a message that is not UTF-8", text);
    require(config.error().message.starts_with("config: "), "a message that does not say config", text);
    return;
  }
  require_sound(*config, text);
  require_fixed_point(*config, world_size, text);
}

}  // namespace orlop
