// The configuration: DeepSpeed's JSON, checked, with every default and derived value filled in and its origin
// kept.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/result.hpp"

namespace orlop {

enum class OptimizerType : std::uint8_t { adam, adagrad, lion, external };

// The optimizer block. Types use what of it they have.
struct OptimizerSettings {
  OptimizerType type = OptimizerType::adam;
  double lr = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0;
  bool decoupled_decay = true;  // AdamW, Lion; false: Adam, Adagrad
  bool bias_correction = true;
  double lr_decay = 0;
  double initial_accumulator = 0;
};

enum class OffloadDevice : std::uint8_t { none, cpu, nvme };
enum class NonFinite : std::uint8_t { skip, stop, apply };

// What the aio block fixes; the rest is calibrated or the queue's own choice.
struct AioSettings {
  std::optional<std::uint64_t> request_bytes;
  std::optional<unsigned> queue_depth;
  std::optional<unsigned> thread_count;  // of queue "threads"
};

// Hard limits; none: no limit.
struct MemoryBudgets {
  std::optional<std::uint64_t> host;
  std::optional<std::uint64_t> device;
  std::optional<std::uint64_t> nvme;
  std::optional<double> pinned;  // share of what is offloaded to NVMe that stays in memory; none: what fits the budget
  std::uint64_t activations = 0;  // of the host's, set aside for activations
};

// The fp16 block.
struct Fp16Settings {
  double loss_scale = 0;  // 0: dynamic, as the rest says
  std::uint32_t initial_scale_power = 16;
  std::uint64_t loss_scale_window = 1000;
  std::uint64_t hysteresis = 2;
  bool consecutive_hysteresis = false;
  double min_loss_scale = 1;
  bool auto_cast = false;  // floating-point inputs of the model become fp16
};

// Small modules that follow each other are merged until a unit has this many elements.
inline constexpr std::uint64_t kUnitElements = 2u << 20;

enum class ConfigOrigin : std::uint8_t { file, defaulted, derived };

struct ConfigEntry {
  std::string key;
  nlohmann::json value;
  ConfigOrigin origin;
  std::string why;
};

struct Config {
  std::optional<std::uint64_t> train_batch_size;  // none: nothing in the file tells it
  std::optional<std::uint64_t> micro_batch_size;
  std::uint32_t gradient_accumulation_steps = 1;
  bool counts_micro_batches = true;              // false: the program says when to update
  double gradient_clipping = 1.0;                // 0: off
  std::optional<std::uint64_t> steps_per_print;  // none: never
  orlop_dtype dtype = ORLOP_F32;
  std::optional<Fp16Settings> fp16;  // set when dtype is ORLOP_F16
  std::optional<OptimizerSettings> optimizer;  // none: the file names no optimizer
  int zero_stage = 0;

  OffloadDevice offload_optimizer = OffloadDevice::none;
  OffloadDevice offload_param = OffloadDevice::none;
  std::vector<std::string> nvme_paths;  // one per drive, not empty when either is nvme
  unsigned slab_count = 0;  // 0: the engine's own choice; else at least 3
  std::uint64_t block_elements = UINT64_MAX;      // the most that may be moved and updated at once
  std::uint64_t prefetch_elements = 0;            // of parameters read ahead
  std::optional<std::uint64_t> max_live_elements;            // of stored parameters in memory; none: what budgets leave
  std::optional<std::uint64_t> max_reuse_distance_elements;  // none: any
  std::optional<std::uint64_t> max_in_cpu_elements;          // of stored parameters in host memory; none: what budgets leave
  std::uint64_t param_persistence_elements = 0;   // parameters up to this size stay in memory,
  std::uint64_t model_persistence_elements = 0;   // up to this many elements in all
  unsigned param_slab_count = 0;                  // 0: the engine's own choice
  AioSettings aio;
  std::optional<std::string> queue;  // "uring", "aio", "threads"; none: the best that works
  MemoryBudgets memory;

  NonFinite non_finite = NonFinite::skip;
  bool trace = false;
  std::uint64_t unit_elements = kUnitElements;
  unsigned thread_count = 0;          // 0: every processor the process may use
  std::optional<std::string> run_id;  // none: from host, process and time

  std::vector<ConfigEntry> entries;   // one for every key, in the table's order
  std::vector<std::string> notes;     // one sentence each: what is harmless here
  std::vector<std::string> warnings;  // one sentence each: names that mean nothing

  // Makes `block`, a JSON object, the optimizer block. Error: ORLOP_INVALID_CONFIG.
  Result<> replace_optimizer(std::string_view block);

  // {"values": ..., "entries": [...], "notes": [...], "warnings": [...]} as orlop_config_resolve writes it.
  // Resolving `values` again gives the same values.
  [[nodiscard]] nlohmann::json to_json() const;
};

// `world_size` checks the batch sizes; 0 means 1. Errors: ORLOP_INVALID_CONFIG with the first problem's
// sentence and the names of the others; ORLOP_INVALID_ARGUMENT for a negative world size.
Result<Config> resolve_config(std::string_view text, int world_size);

}  // namespace orlop
