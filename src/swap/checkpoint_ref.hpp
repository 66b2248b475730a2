// CheckpointRef: which checkpoint a store keeps blocks for, and whether that is still there.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.hpp"

namespace orlop::swap {

// A manifest begins with this; what follows is the business of who writes it.
struct CheckpointHeader {
  std::array<char, 8> magic = {};
  std::uint32_t format = 0;
  std::uint32_t reserved = 0;
  std::array<char, 40> id = {};

  static CheckpointHeader of(std::string_view id, std::uint32_t format);
  [[nodiscard]] bool has_magic() const;
  [[nodiscard]] std::string_view id_text() const;
};

struct CheckpointRef {
  std::string id;
  std::string manifest;      // its absolute path
  std::uint64_t device = 0;  // st_dev of the directory it was written to
  std::string link;          // the manifest's second name, beside the store; empty where that is on another filesystem
  bool is_complete = false;  // the manifest has been seen where it was written to
  unsigned link_count = 1;   // such names, one beside each file of the store on that filesystem
};

enum class Presence : std::uint8_t {
  there,
  gone,    // its directory was deleted
  unknown  // the filesystem it was on cannot be seen
};

// On the store's filesystem the second name tells, wherever the checkpoint was moved. Else the manifest is looked for where
// it was written and, in case a directory was renamed, below the one two levels above its own; what cannot be read there
// makes the answer unknown.
Presence presence_of(const CheckpointRef& checkpoint);

// The filesystem that a path is on (st_dev); none when it cannot be told.
std::optional<std::uint64_t> device_of(const std::string& path);

// The id that the manifest at `path` begins with; none when there is no manifest.
std::optional<std::string> checkpoint_id_at(const std::string& path);

}  // namespace orlop::swap
