// The configuration's keys: one table from which the reader, the printed configuration and docs/config.md
// come.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace orlop {

enum class KeyType : std::uint8_t {
  block,        // an object whose keys are in the table
  object,       // an object that is not looked into, but for its switch
  boolean,      // also "true", "False", 0, 1
  integer,      // also 5e8 and "5e8"
  steps,        // an integer, or Infinity; 0 and Infinity mean never and become null
  number,       // also "1e-5"
  number_pair,  // [0.9, 0.999]
  bytes,        // 4096, 1e9, "48G"
  text,
  texts,  // ["a", "b"] or "a"
  paths,  // "a" or ["a", "b"]; a list of one is that one
  choice,
};

enum class KeyStatus : std::uint8_t {
  honoured,  // does what it says
  noted,     // accepted and checked, without effect here
  refused,   // accepted only with its default, which asks for nothing
};

struct ConfigKey {
  static constexpr double kUnbounded = std::numeric_limits<double>::infinity();

  std::string_view path;  // "zero_optimization.stage"
  KeyType type = KeyType::block;
  KeyStatus status = KeyStatus::honoured;
  std::string_view default_json = "null";  // null: none, or derived
  double minimum = -kUnbounded;
  double maximum = kUnbounded;
  bool below_maximum = false;        // the maximum itself is excluded
  std::uint64_t multiple_of = 1;     // bytes
  std::string_view choices = {};     // "none|cpu|nvme"
  std::string_view synonyms = {};    // of choices: "io_uring=uring|libaio=aio"
  std::string_view aliases = {};     // other spellings, whole paths: "aio.thread_count|aio.num_threads"
  std::string_view switch_key = {};  // object: asks for nothing unless this key of it is true (or above 1)
  std::string_view meaning = {};     // one line
  std::string_view remark = {};      // noted: why it has no effect; refused: why, and what to write instead;
                                     // honoured: what the default null stands for
};

std::span<const ConfigKey> config_keys();

// By its path or an alias of it; nullptr when there is none.
const ConfigKey* find_config_key(std::string_view path);

// The known path that an unknown one was most likely meant to be; "" when none is near.
std::string nearest_config_key(std::string_view path);

// "an integer from 0 to 3": for messages and the documentation.
std::string describe_type(const ConfigKey& key);

std::string_view name_of(KeyStatus status);

// The parts of "a|b|c".
std::vector<std::string_view> split_list(std::string_view list, char separator = '|');

}  // namespace orlop
