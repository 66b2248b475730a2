// Options: the command line of offload_bench.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/result.hpp"

namespace orlop::bench {

enum class DeviceLoad : std::uint8_t { sleep, busy };

// What a step is compared with, turn by turn, in the same run.
enum class Compare : std::uint8_t { automatic, none, arithmetic, checksums };

// As given; none: not given.
struct StepArguments {
  std::optional<std::string> model;
  std::optional<std::uint64_t> params;
  std::optional<std::uint64_t> layers;
  std::optional<std::uint64_t> hidden;
  std::optional<std::string> dtype;

  std::optional<std::string> device;
  std::optional<std::string> param_device;
  std::vector<std::string> nvme_paths;  // one per drive
  std::optional<std::uint64_t> ram_bytes;
  std::optional<double> pinned;
  std::optional<std::string> queue;
  std::optional<unsigned> threads;
  std::optional<std::string> config_file;
  std::optional<std::string> run_id;

  std::optional<unsigned> steps;
  std::uint64_t seed = 1;
  std::optional<double> clip;
  double device_ms = 0;
  DeviceLoad device_load = DeviceLoad::sleep;
  Compare compare = Compare::automatic;

  std::string json_file;
  std::string trace_file;
};

struct IoArguments {
  std::string nvme_path;
  std::uint64_t size_bytes = 1u << 30;
  std::optional<std::string> queue;
  std::optional<std::uint64_t> request_bytes;
  std::optional<unsigned> depth;
  int rounds = 5;
  std::string json_file;
};

struct AdamArguments {
  std::optional<std::string> dtype;
  std::uint64_t elements = 0;
  int threads = 0;
  int rounds = 15;
  std::string json_file;
};

struct TraceArguments {
  std::string file;
  std::optional<std::uint64_t> live;
  std::optional<std::uint64_t> reuse;
  std::optional<std::uint64_t> prefetch;
  std::optional<std::uint64_t> persistence;
  std::optional<std::uint64_t> pin_bytes;
  std::uint64_t read_bytes_per_s = 5'000'000'000;
  std::string json_file;
};

// Help was asked for: what to print.
struct HelpText {
  std::string text;
};

using Command = std::variant<StepArguments, IoArguments, AdamArguments, TraceArguments, HelpText>;

// Error: ORLOP_INVALID_ARGUMENT with a sentence about the first argument that is wrong.
Result<Command> parse_command_line(int argc, const char* const* argv);

}  // namespace orlop::bench
