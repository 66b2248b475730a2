#include "base/config.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <random>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/bytes.hpp"
#include "base/config_keys.hpp"
#include "base/config_reader.hpp"
#include "base/config_value.hpp"
#include "config_fuzz.hpp"

namespace orlop {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;
using ::testing::StrEq;

Config resolved(const std::string& text, int world_size = 1) {
  auto config = resolve_config(text, world_size);
  EXPECT_TRUE(config) << text << ": " << config.error().message;
  return config ? *std::move(config) : Config{};
}

std::string refusal(const std::string& text, int world_size = 1) {
  const auto config = resolve_config(text, world_size);
  EXPECT_FALSE(config) << "accepted: " << text;
  if (config) return "";
  EXPECT_EQ(config.error().status, ORLOP_INVALID_CONFIG);
  EXPECT_TRUE(is_one_line(config.error().message)) << config.error().message;
  return config.error().message;
}

ConfigEntry entry_of(const Config& config, std::string_view key) {
  const auto found = std::find_if(config.entries.begin(), config.entries.end(),
                                  [&](const ConfigEntry& entry) { return entry.key == key; });
  EXPECT_NE(found, config.entries.end()) << key;
  return found == config.entries.end() ? ConfigEntry{} : *found;
}

// {"a": {"b": value}} for "a.b".
std::string document_with(std::string_view path, const json& value) {
  std::string pointer = "/" + std::string(path);
  std::replace(pointer.begin(), pointer.end(), '.', '/');
  json document = json::object();
  document[json::json_pointer(pointer)] = value;
  if (path.starts_with("optimizer.") && path != "optimizer.type") document["optimizer"]["type"] = "AdamW";
  return document.dump();
}

// A valid value that differs from the default.
json asking_value(const ConfigKey& key) {
  const json fallback = default_value(key);
  switch (key.type) {
    case KeyType::block:
      return json::object();
    case KeyType::object:
      if (key.switch_key.empty()) return {{"x", 1}};
      return {{key.switch_key, key.switch_key.ends_with("_size") ? json(2) : json(true)}};
    case KeyType::boolean:
      return fallback.is_null() ? json(true) : json(!fallback.get<bool>());
    case KeyType::integer:
    case KeyType::steps:
      if (!fallback.is_null() && fallback.get<std::int64_t>() < 1'000'000'000'000)
        return fallback.get<std::int64_t>() + 1;
      return 7;
    case KeyType::number:
      return 0.25;
    case KeyType::number_pair:
      return {0.5, 0.75};
    case KeyType::bytes:
      return 1 << 20;
    case KeyType::text:
      return "some.text";
    case KeyType::paths:
      return {"/a", "/b"};
    case KeyType::texts:
      return {"A", "B"};
    case KeyType::choice:
      for (const auto choice : split_list(key.choices)) {
        if (fallback != choice) return choice;
      }
  }
  return nullptr;
}

json wrong_value(const ConfigKey& key) {
  switch (key.type) {
    case KeyType::text:
    case KeyType::paths:
    case KeyType::texts:
    case KeyType::block:
    case KeyType::object:
      return 7;
    default:
      return "twelve parsecs";
  }
}

// ---- Every row of the table ----

struct HonouredCase {
  std::string_view key;
  const char* text;
  std::function<bool(const Config&)> holds;
};

// What the Python package reads of the resolved configuration.
nlohmann::json checkpoint_value(const Config& config, const char* key) {
  return config.to_json()["values"]["orlop"]["checkpoint"][key];
}

HonouredCase has(std::string_view key, const char* text, const json& value) {
  return {key, text, [=](const Config& c) { return entry_of(c, key).value == value; }};
}

const std::vector<HonouredCase>& honoured_cases() {
  static const std::vector<HonouredCase> cases = {
      {"train_batch_size", R"({"train_batch_size": 8})",
       [](const Config& c) { return c.train_batch_size == 8u; }},
      {"train_micro_batch_size_per_gpu", R"({"train_micro_batch_size_per_gpu": 4})",
       [](const Config& c) { return c.micro_batch_size == 4u && c.train_batch_size == 4u; }},
      {"gradient_accumulation_steps", R"({"gradient_accumulation_steps": 5})",
       [](const Config& c) { return c.gradient_accumulation_steps == 5; }},
      {"gradient_clipping", R"({"gradient_clipping": 0.5})",
       [](const Config& c) { return c.gradient_clipping == 0.5; }},
      {"gradient_clipping", R"({"gradient_clipping": 0})",
       [](const Config& c) { return c.gradient_clipping == 0; }},
      {"gradient_clipping", R"({})", [](const Config& c) { return c.gradient_clipping == 1.0; }},
      {"steps_per_print", R"({"steps_per_print": 10})",
       [](const Config& c) { return c.steps_per_print == 10u; }},
      {"steps_per_print", R"({"steps_per_print": Infinity})",
       [](const Config& c) { return !c.steps_per_print; }},
      {"dataloader_drop_last", R"({"dataloader_drop_last": true})",
       [](const Config& c) { return entry_of(c, "dataloader_drop_last").value == true; }},
      {"bf16.enabled", R"({"bf16": {"enabled": true}})",
       [](const Config& c) { return c.dtype == ORLOP_BF16; }},
      {"bf16.enabled", R"({"bfloat16": {"enabled": "true"}})",
       [](const Config& c) { return c.dtype == ORLOP_BF16; }},
      {"bf16.enabled", R"({"bf16": {"enabled": false}})",
       [](const Config& c) { return c.dtype == ORLOP_F32; }},
      {"fp16.enabled", R"({"fp16": {"enabled": true}})",
       [](const Config& c) { return c.dtype == ORLOP_F16 && c.fp16 && c.fp16->loss_scale == 0; }},
      {"fp16.enabled", R"({"fp16": {"enabled": false, "loss_scale": 8}})", [](const Config& c) { return !c.fp16; }},
      {"fp16.auto_cast", R"({"fp16": {"enabled": true, "auto_cast": true}})",
       [](const Config& c) { return c.fp16->auto_cast; }},
      {"fp16.loss_scale", R"({"fp16": {"enabled": true, "loss_scale": 128}})",
       [](const Config& c) { return c.fp16->loss_scale == 128; }},
      {"fp16.initial_scale_power", R"({"fp16": {"enabled": true, "initial_scale_power": 8}})",
       [](const Config& c) { return c.fp16->initial_scale_power == 8; }},
      {"fp16.loss_scale_window", R"({"fp16": {"enabled": true, "loss_scale_window": 50}})",
       [](const Config& c) { return c.fp16->loss_scale_window == 50; }},
      {"fp16.hysteresis", R"({"fp16": {"enabled": true, "hysteresis": 3}})",
       [](const Config& c) { return c.fp16->hysteresis == 3; }},
      {"fp16.consecutive_hysteresis", R"({"fp16": {"enabled": true, "consecutive_hysteresis": true}})",
       [](const Config& c) { return c.fp16->consecutive_hysteresis; }},
      {"fp16.min_loss_scale", R"({"fp16": {"enabled": true, "min_loss_scale": 0.5}})",
       [](const Config& c) { return c.fp16->min_loss_scale == 0.5; }},
      {"data_types.param_dtype", R"({"data_types": {"param_dtype": "half"}, "fp16": {"enabled": true}})",
       [](const Config& c) { return c.dtype == ORLOP_F16; }},
      {"data_types.param_dtype", R"({"data_types": {"param_dtype": "bf16"}, "bf16": {"enabled": true}})",
       [](const Config& c) { return c.dtype == ORLOP_BF16; }},
      {"optimizer.type", R"({"optimizer": {"type": "AdamW"}})",
       [](const Config& c) { return c.optimizer && c.optimizer->decoupled_decay; }},
      {"optimizer.type", R"({"optimizer": {"type": "adam"}})",
       [](const Config& c) { return c.optimizer && c.optimizer->decoupled_decay; }},
      {"optimizer.type", R"({})", [](const Config& c) { return !c.optimizer; }},
      {"optimizer.params.lr", R"({"optimizer": {"type": "Adam", "params": {"lr": "3e-5"}}})",
       [](const Config& c) { return c.optimizer->lr == 3e-5; }},
      {"optimizer.params.betas", R"({"optimizer": {"type": "Adam", "params": {"betas": [0.8, 0.95]}}})",
       [](const Config& c) { return c.optimizer->beta1 == 0.8 && c.optimizer->beta2 == 0.95; }},
      {"optimizer.params.eps", R"({"optimizer": {"type": "Adam", "params": {"eps": 1e-5}}})",
       [](const Config& c) { return c.optimizer->eps == 1e-5; }},
      {"optimizer.params.weight_decay", R"({"optimizer": {"type": "Adam", "params": {"weight_decay": 0.1}}})",
       [](const Config& c) { return c.optimizer->weight_decay == 0.1; }},
      {"optimizer.params.adam_w_mode", R"({"optimizer": {"type": "Adam", "params": {"adam_w_mode": false}}})",
       [](const Config& c) { return !c.optimizer->decoupled_decay; }},
      {"optimizer.params.adam_w_mode", R"({"optimizer": {"type": "AdamW", "params": {"adamw_mode": false}}})",
       [](const Config& c) { return c.optimizer->decoupled_decay; }},
      {"optimizer.type", R"({"optimizer": {"type": "Adagrad"}})",
       [](const Config& c) {
         return c.optimizer->type == OptimizerType::adagrad && c.optimizer->lr == 0.01 && c.optimizer->eps == 1e-10 &&
                !c.optimizer->decoupled_decay;
       }},
      {"optimizer.type", R"({"optimizer": {"type": "lion"}})",
       [](const Config& c) {
         return c.optimizer->type == OptimizerType::lion && c.optimizer->beta2 == 0.99 && c.optimizer->decoupled_decay;
       }},
      {"optimizer.type", R"({"optimizer": {"type": "External"}})",
       [](const Config& c) { return c.optimizer->type == OptimizerType::external; }},
      {"optimizer.params.lr_decay", R"({"optimizer": {"type": "Adagrad", "params": {"lr_decay": 0.1}}})",
       [](const Config& c) { return c.optimizer->lr_decay == 0.1; }},
      {"optimizer.params.initial_accumulator_value",
       R"({"optimizer": {"type": "Adagrad", "params": {"initial_accumulator_value": 0.5}}})",
       [](const Config& c) { return c.optimizer->initial_accumulator == 0.5; }},
      {"optimizer.params.bias_correction",
       R"({"optimizer": {"type": "Adam", "params": {"bias_correction": false}}})",
       [](const Config& c) { return !c.optimizer->bias_correction; }},
      {"zero_optimization.stage", R"({"zero_optimization": {"stage": 2}})",
       [](const Config& c) { return c.zero_stage == 2; }},
      {"zero_optimization.stage", R"({"zero_optimization": true})",
       [](const Config& c) { return c.zero_stage == 1; }},
      {"zero_optimization.stage", R"({"zero_optimization": false})",
       [](const Config& c) { return c.zero_stage == 0; }},
      {"zero_optimization.cpu_offload", R"({"zero_optimization": {"stage": 2, "cpu_offload": true}})",
       [](const Config& c) { return c.offload_optimizer == OffloadDevice::cpu; }},
      {"zero_optimization.cpu_offload_param", R"({"zero_optimization": {"stage": 3, "cpu_offload_params": true}})",
       [](const Config& c) { return c.offload_param == OffloadDevice::cpu; }},
      {"zero_optimization.offload_optimizer.device",
       R"({"zero_optimization": {"offload_optimizer": {"device": "cpu"}}})",
       [](const Config& c) { return c.offload_optimizer == OffloadDevice::cpu; }},
      {"zero_optimization.offload_optimizer.device",
       R"({"zero_optimization": {"offload_optimizer": {"device": "none"}}})",
       [](const Config& c) { return c.offload_optimizer == OffloadDevice::none; }},
      {"zero_optimization.offload_optimizer.nvme_path",
       R"({"zero_optimization": {"stage": 3, "offload_optimizer": {"device": "nvme", "nvme_path": "/mnt/a"}}})",
       [](const Config& c) { return c.offload_optimizer == OffloadDevice::nvme && c.nvme_paths == std::vector<std::string>{"/mnt/a"}; }},
      {"zero_optimization.offload_param.device",
       R"({"zero_optimization": {"offload_optimizer": {"device": "nvme", "nvme_path": "/a"},
                                 "offload_param": {"device": "nvme"}}})",
       [](const Config& c) { return c.offload_param == OffloadDevice::nvme; }},
      {"zero_optimization.offload_param.device", R"({"zero_optimization": {"offload_param": {"device": "cpu"}}})",
       [](const Config& c) { return c.offload_param == OffloadDevice::cpu; }},
      {"zero_optimization.offload_param.nvme_path",
       R"({"zero_optimization": {"offload_optimizer": {"device": "nvme", "nvme_path": "/a"},
                                 "offload_param": {"device": "nvme", "nvme_path": "/a"}}})",
       [](const Config& c) { return c.nvme_paths == std::vector<std::string>{"/a"} && c.offload_param == OffloadDevice::nvme; }},
      {"zero_optimization.offload_param.nvme_path",
       R"({"zero_optimization": {"offload_optimizer": {"device": "cpu"},
                                 "offload_param": {"device": "nvme", "nvme_path": "/p"}}})",
       [](const Config& c) {
         return c.nvme_paths == std::vector<std::string>{"/p"} && c.offload_optimizer == OffloadDevice::cpu;
       }},
      {"zero_optimization.offload_param.buffer_count",
       R"({"zero_optimization": {"offload_optimizer": {"device": "nvme", "nvme_path": "/a"},
                                 "offload_param": {"device": "nvme", "buffer_count": 1}}})",
       [](const Config& c) { return c.param_slab_count == 2; }},
      {"zero_optimization.offload_param.buffer_size",
       R"({"zero_optimization": {"sub_group_size": 300000, "offload_param": {"buffer_size": 200000}}})",
       [](const Config& c) { return c.block_elements == 200'000; }},
      {"zero_optimization.offload_optimizer.buffer_size",
       R"({"zero_optimization": {"offload_optimizer": {"buffer_size": 200000}}})",
       [](const Config& c) { return c.block_elements == 200'000; }},
      {"zero_optimization.sub_group_size", R"({"zero_optimization": {"sub_group_size": 7}})",
       [](const Config& c) { return c.block_elements == 65536 && c.notes.size() == 1; }},
      {"zero_optimization.stage3_max_live_parameters",
       R"({"zero_optimization": {"stage3_max_live_parameters": 0}})",
       [](const Config& c) { return c.max_live_elements == 0 && !c.max_in_cpu_elements; }},
      {"zero_optimization.stage3_max_reuse_distance", R"({"zero_optimization": {"max_reuse_distance": 1e9}})",
       [](const Config& c) { return c.max_reuse_distance_elements == 1'000'000'000 && !c.max_live_elements; }},
      {"zero_optimization.offload_param.max_in_cpu",
       R"({"zero_optimization": {"offload_param": {"max_in_cpu": 5}}})",
       [](const Config& c) { return c.max_in_cpu_elements == 5 && !c.max_reuse_distance_elements; }},
      {"zero_optimization.stage3_prefetch_bucket_size", R"({"zero_optimization": {"stage3_prefetch_bucket_size": 7}})",
       [](const Config& c) { return c.prefetch_elements == 7; }},
      {"zero_optimization.stage3_param_persistence_threshold",
       R"({"zero_optimization": {"stage3_param_persistence_threshold": 7}})",
       [](const Config& c) { return c.param_persistence_elements == 7; }},
      {"zero_optimization.stage3_model_persistence_threshold",
       R"({"zero_optimization": {"stage3_model_persistence_threshold": 7}})",
       [](const Config& c) { return c.model_persistence_elements == 7; }},
      {"zero_optimization.offload_optimizer.buffer_count",
       R"({"zero_optimization": {"offload_optimizer": {"buffer_count": 9}}})",
       [](const Config& c) { return c.slab_count == 9; }},
      {"aio.block_size", R"({"aio": {"block_size": 262144}})",
       [](const Config& c) { return c.aio.request_bytes == 262144u; }},
      {"aio.queue_depth", R"({"aio": {"queue_depth": 16}})",
       [](const Config& c) { return c.aio.queue_depth == 16u; }},
      {"aio.intra_op_parallelism", R"({"aio": {"intra_op_parallelism": 4}})",
       [](const Config& c) { return c.aio.thread_count == 4u; }},
      {"aio.intra_op_parallelism", R"({"aio": {"thread_count": 3}})",
       [](const Config& c) { return c.aio.thread_count == 3u; }},
      {"aio.intra_op_parallelism", R"({"aio": {"num_threads": 2}})",
       [](const Config& c) { return c.aio.thread_count == 2u; }},
      {"orlop.strict_config", R"({"orlop": {"strict_config": true}})",
       [](const Config& c) { return c.notes.empty(); }},
      {"orlop.queue", R"({"orlop": {"queue": "threads"}})",
       [](const Config& c) { return c.queue == "threads"; }},
      {"orlop.queue", R"({"orlop": {"queue": "io_uring"}})",
       [](const Config& c) { return c.queue == "uring"; }},
      {"orlop.non_finite", R"({"orlop": {"non_finite": "stop"}})",
       [](const Config& c) { return c.non_finite == NonFinite::stop; }},
      {"orlop.trace", R"({"orlop": {"trace": true}})", [](const Config& c) { return c.trace; }},
      {"orlop.unit_elements", R"({"orlop": {"unit_elements": 1000}})",
       [](const Config& c) { return c.unit_elements == 1000; }},
      {"orlop.threads", R"({"orlop": {"threads": 6}})", [](const Config& c) { return c.thread_count == 6; }},
      {"orlop.run_id", R"({"orlop": {"run_id": "run-7.b"}})",
       [](const Config& c) { return c.run_id == "run-7.b"; }},
      {"steps_per_print", R"({"steps_per_print": 7})", [](const Config& c) { return c.steps_per_print == 7u; }},
      {"wall_clock_breakdown", R"({"wall_clock_breakdown": true})",
       [](const Config& c) { return c.to_json()["values"]["wall_clock_breakdown"] == true; }},
      {"dump_state", R"({"dump_state": true})",
       [](const Config& c) { return c.to_json()["values"]["dump_state"] == true; }},
      has("memory_breakdown", R"({"memory_breakdown": true})", true),
      has("log_level", R"({"log_level": "WARN"})", "warning"),
      has("data_types.buffer_dtype", R"({"data_types": {"buffer_dtype": "torch.float16"}})", "fp16"),
      has("scheduler.type", R"({"scheduler": {"type": "WarmupLR"}})", "WarmupLR"),
      has("scheduler.params", R"({"scheduler": {"type": "WarmupLR", "params": {"warmup_num_steps": 5}}})",
          {{"warmup_num_steps", 5}}),
      has("torch_autocast.enabled", R"({"torch_autocast": {"enabled": true}})", true),
      has("torch_autocast.dtype", R"({"torch_autocast": {"dtype": "bfloat16"}})", "bf16"),
      has("torch_autocast.lower_precision_safe_modules",
          R"({"torch_autocast": {"lower_precision_safe_modules": ["torch.nn.Linear"]}})", json::array({"torch.nn.Linear"})),
      has("activation_checkpointing.partition_activations", R"({"activation_checkpointing": {"partition_activations": 1}})",
          true),
      has("activation_checkpointing.number_checkpoints", R"({"activation_checkpointing": {"number_checkpoints": 4}})", 4),
      has("activation_checkpointing.contiguous_memory_optimization",
          R"({"activation_checkpointing": {"contiguous_memory_optimization": true}})", true),
      has("activation_checkpointing.synchronize_checkpoint_boundary",
          R"({"activation_checkpointing": {"synchronize_checkpoint_boundary": true}})", true),
      has("activation_checkpointing.profile", R"({"activation_checkpointing": {"profile": true}})", true),
      has("activation_checkpointing.cpu_checkpointing", R"({"activation_checkpointing": {"cpu_checkpointing": true}})", true),
      has("flops_profiler.enabled", R"({"flops_profiler": {"enabled": true}})", true),
      has("flops_profiler.profile_step", R"({"flops_profiler": {"profile_step": 3}})", 3),
      has("flops_profiler.module_depth", R"({"flops_profiler": {"module_depth": 2}})", 2),
      has("flops_profiler.top_modules", R"({"flops_profiler": {"top_modules": 4}})", 4),
      has("flops_profiler.detailed", R"({"flops_profiler": {"detailed": false}})", false),
      has("flops_profiler.output_file", R"({"flops_profiler": {"output_file": "f.txt"}})", "f.txt"),
      has("managed_gradient_accumulation", R"({"managed_gradient_accumulation": false})", false),
      {"bf16.check_grad_overflow", R"({"bf16": {"enabled": true, "check_grad_overflow": false}})",
       [](const Config& c) { return c.non_finite == NonFinite::apply; }},
      has("zero_optimization.enable_sanity_checks", R"({"zero_optimization": {"enable_sanity_checks": true}})", true),
      has("zero_optimization.leaf_module.classes", R"({"zero_optimization": {"leaf_module": {"classes": ["Moe"]}}})",
          json::array({"Moe"})),
      has("zero_optimization.leaf_module.names", R"({"zero_optimization": {"leaf_module": {"names": ["a.b"]}}})",
          json::array({"a.b"})),
      has("zero_optimization.leaf_module.name_suffixes",
          R"({"zero_optimization": {"leaf_module": {"name_suffixes": [".mlp"]}}})", json::array({".mlp"})),
      {"orlop.memory.activations", R"({"orlop": {"memory": {"activations": "64M"}}})",
       [](const Config& c) { return c.memory.activations == 64_MiB; }},
      {"tensorboard", R"({"tensorboard": {"enabled": true, "output_path": "a"}})",
       [](const Config& c) { return c.to_json()["values"]["tensorboard"]["output_path"] == "a"; }},
      {"wandb", R"({"wandb": {"enabled": true, "project": "p"}})",
       [](const Config& c) { return c.to_json()["values"]["wandb"]["project"] == "p"; }},
      {"csv_monitor", R"({"csv_monitor": {"enabled": true, "job_name": "j"}})",
       [](const Config& c) { return c.to_json()["values"]["csv_monitor"]["job_name"] == "j"; }},
      {"orlop.profile", R"({"orlop": {"profile": "p.json"}})",
       [](const Config& c) { return c.to_json()["values"]["orlop"]["profile"] == "p.json"; }},
      {"orlop.checkpoint.keep", R"({"orlop": {"checkpoint": {"keep": 3}}})",
       [](const Config& c) { return checkpoint_value(c, "keep") == 3; }},
      {"orlop.checkpoint.background", R"({"orlop": {"checkpoint": {"background": true}}})",
       [](const Config& c) { return checkpoint_value(c, "background") == true; }},
      {"orlop.checkpoint.rate", R"({"orlop": {"checkpoint": {"rate": "100M"}}})",
       [](const Config& c) { return checkpoint_value(c, "rate") == 100_MiB; }},
      {"orlop.checkpoint.on_failure", R"({"orlop": {"checkpoint": {"on_failure": "continue"}}})",
       [](const Config& c) { return checkpoint_value(c, "on_failure") == "continue"; }},
      {"orlop.memory.host", R"({"orlop": {"memory": {"host": "48G"}}})",
       [](const Config& c) { return c.memory.host == 48_GiB; }},
      {"orlop.memory.device", R"({"orlop": {"memory": {"device": 1e9}}})",
       [](const Config& c) { return c.memory.device == 1'000'000'000u; }},
      {"orlop.memory.pinned", R"({"orlop": {"memory": {"pinned": 0.25}}})",
       [](const Config& c) { return c.memory.pinned == 0.25; }},
      {"orlop.memory.nvme", R"({"orlop": {"memory": {"nvme": "1T"}}})",
       [](const Config& c) { return c.memory.nvme == 1024_GiB; }},
  };
  return cases;
}

TEST(Config, HonouredKeysReachTheEngine) {
  for (const HonouredCase& c : honoured_cases()) EXPECT_TRUE(c.holds(resolved(c.text))) << c.text;
}

TEST(Config, EveryHonouredKeyHasACaseAbove) {
  std::set<std::string_view> covered;
  for (const HonouredCase& c : honoured_cases()) covered.insert(c.key);
  for (const ConfigKey& key : config_keys()) {
    if (key.status != KeyStatus::honoured || key.type == KeyType::block) continue;
    EXPECT_TRUE(covered.contains(key.path)) << key.path;
  }
}

TEST(Config, EveryNotedKeySaysWhyItHasNoEffect) {
  for (const ConfigKey& key : config_keys()) {
    if (key.status != KeyStatus::noted) continue;
    const Config config = resolved(document_with(key.path, asking_value(key)));
    EXPECT_THAT(config.notes,
                Contains(AllOf(HasSubstr(std::string(key.path)), HasSubstr(std::string(key.remark)))));
    EXPECT_THAT(entry_of(config, key.path).why, HasSubstr(std::string(key.remark)));
    EXPECT_EQ(entry_of(config, key.path).origin, ConfigOrigin::file);
  }
}

TEST(Config, EveryRefusedKeySaysWhyAndWhatInstead) {
  for (const ConfigKey& key : config_keys()) {
    if (key.status != KeyStatus::refused) continue;
    EXPECT_THAT(refusal(document_with(key.path, asking_value(key))),
                AllOf(StartsWith("config: on \"" + std::string(key.path) + "\" ("),
                      HasSubstr(std::string(key.remark))));
  }
}

TEST(Config, EveryKeyTakesItsDefaultInSilence) {
  for (const ConfigKey& key : config_keys()) {
    if (key.type == KeyType::block || key.default_json == "null") continue;
    EXPECT_THAT(resolved(document_with(key.path, default_value(key))).notes, IsEmpty()) << key.path;
  }
}

TEST(Config, WithoutAKeyUnitsAreOfTheSizeThatTheHeaderSays) {
  EXPECT_EQ(resolved("{}").unit_elements, kUnitElements);
}

TEST(Config, EveryKeyRefusesAWrongType) {
  for (const ConfigKey& key : config_keys()) {
    EXPECT_THAT(
        refusal(document_with(key.path, wrong_value(key))),
        AllOf(StartsWith("config: on \"" + std::string(key.path) + "\" ("), HasSubstr(describe_type(key))));
  }
}

TEST(Config, EveryKeyTakesNullForNotGiven) {
  const json values = resolved("{}").to_json()["values"];
  for (const ConfigKey& key : config_keys()) {
    if (key.path.starts_with("optimizer.")) continue;  // needs a type, which changes values
    const Config config = resolved(document_with(key.path, nullptr));
    EXPECT_EQ(config.to_json()["values"], values) << key.path;
    EXPECT_THAT(config.notes, IsEmpty()) << key.path;
  }
}

TEST(Config, EveryKeyTakesAutoAndSaysWhatItBecame) {
  for (const ConfigKey& key : config_keys()) {
    const Config config = resolved(document_with(key.path, "auto"));
    if (key.type == KeyType::block || key.path == "optimizer.type") continue;
    EXPECT_EQ(entry_of(config, key.path).origin, ConfigOrigin::derived) << key.path;
    EXPECT_FALSE(entry_of(config, key.path).why.empty()) << key.path;
  }
}

TEST(Config, EveryAliasMeansItsKey) {
  for (const ConfigKey& key : config_keys()) {
    for (const auto alias : split_list(key.aliases)) {
      const auto as_alias = resolve_config(document_with(alias, asking_value(key)), 1);
      const auto as_key = resolve_config(document_with(key.path, asking_value(key)), 1);
      ASSERT_EQ(as_alias.has_value(), as_key.has_value()) << alias;
      if (!as_alias) continue;
      EXPECT_EQ(as_alias->to_json()["values"], as_key->to_json()["values"]) << alias;
      if (key.type == KeyType::block) continue;
      EXPECT_THAT(as_alias->notes, Contains(HasSubstr("another spelling of"))) << alias;
    }
  }
}

// ---- Batch sizes ----

struct BatchCase {
  const char* text;
  int world_size;
  std::optional<std::uint64_t> train, micro;
  std::uint32_t steps;
};

TEST(Config, TwoBatchKeysGiveTheThird) {
  const std::vector<BatchCase> cases = {
      {R"({"train_batch_size": 24, "train_micro_batch_size_per_gpu": 4, "gradient_accumulation_steps": 3})",
       2, 24, 4, 3},
      {R"({"train_batch_size": 24, "train_micro_batch_size_per_gpu": 4})", 2, 24, 4, 3},
      {R"({"train_batch_size": 24, "gradient_accumulation_steps": 3})", 2, 24, 4, 3},
      {R"({"train_micro_batch_size_per_gpu": 4, "gradient_accumulation_steps": 3})", 2, 24, 4, 3},
      {R"({"train_batch_size": 24})", 2, 24, 12, 1},
      {R"({"train_micro_batch_size_per_gpu": 4})", 2, 8, 4, 1},
      {R"({"gradient_accumulation_steps": 3})", 2, std::nullopt, std::nullopt, 3},
      {R"({})", 2, std::nullopt, std::nullopt, 1},
      {R"({"train_batch_size": 24})", 0, 24, 24, 1},
      {R"({"train_batch_size": "auto", "train_micro_batch_size_per_gpu": "4", "gradient_accumulation_steps": "auto"})",
       1, 4, 4, 1},
      {R"({"train_batch_size": 24, "train_micro_batch_size_per_gpu": "auto", "gradient_accumulation_steps": "auto"})",
       1, 24, 24, 1},
  };
  for (const BatchCase& c : cases) {
    const Config config = resolved(c.text, c.world_size);
    EXPECT_EQ(config.train_batch_size, c.train) << c.text;
    EXPECT_EQ(config.micro_batch_size, c.micro) << c.text;
    EXPECT_EQ(config.gradient_accumulation_steps, c.steps) << c.text;
  }
}

TEST(Config, AnInferredBatchKeySaysFromWhat) {
  const ConfigEntry steps =
      entry_of(resolved(R"({"train_batch_size": 24, "train_micro_batch_size_per_gpu": 4})", 2),
               "gradient_accumulation_steps");
  EXPECT_EQ(steps.origin, ConfigOrigin::derived);
  EXPECT_EQ(steps.why, "train_batch_size / (train_micro_batch_size_per_gpu x ranks) = 24 / (4 x 2)");
}

TEST(Config, BatchSizesThatDoNotMultiplyAreRefusedWithTheNumbers) {
  EXPECT_EQ(
      refusal(
          R"({"train_batch_size": 32, "train_micro_batch_size_per_gpu": 4, "gradient_accumulation_steps": 3})",
          2),
      "config: on \"train_batch_size\" (32): is not train_micro_batch_size_per_gpu x "
      "gradient_accumulation_steps x "
      "ranks = 4 x 3 x 2 = 24; make them agree or leave one of the three out");
  EXPECT_EQ(refusal(R"({"train_batch_size": 10, "train_micro_batch_size_per_gpu": 4})"),
            "config: on \"train_batch_size\" (10): is not a multiple of train_micro_batch_size_per_gpu x "
            "ranks = 4 x 1 = "
            "4; write 8 or 12");
  EXPECT_THAT(refusal(R"({"train_batch_size": 3, "gradient_accumulation_steps": 4})"), HasSubstr("write 4"));
  EXPECT_THAT(refusal(R"({"train_batch_size": 5})", 2),
              HasSubstr("gradient_accumulation_steps x ranks = 1 x 2 = 2; write 4 or 6"));
}

TEST(Config, BatchSizesThatOverflowAreRefused) {
  EXPECT_THAT(
      refusal(R"({"train_micro_batch_size_per_gpu": 2147483647, "gradient_accumulation_steps": 2147483647})",
              1024),
      HasSubstr("too large for a batch"));
  EXPECT_THAT(
      refusal(R"({"train_micro_batch_size_per_gpu": 2147483647, "gradient_accumulation_steps": 2147483647,
                          "train_batch_size": 1})",
              1024),
      HasSubstr("2147483647 x 2147483647 x 1024;"));
  EXPECT_THAT(refusal(R"({"train_batch_size": 4294967296})"),
              HasSubstr("makes train_micro_batch_size_per_gpu 4294967296, more than 2147483647"));
  EXPECT_THAT(refusal(R"({"train_batch_size": 4294967297, "train_micro_batch_size_per_gpu": 1})"),
              HasSubstr("makes gradient_accumulation_steps 4294967297"));
}

TEST(Config, ANegativeWorldSizeIsRefused) {
  const auto config = resolve_config("{}", -1);
  ASSERT_FALSE(config);
  EXPECT_EQ(config.error().status, ORLOP_INVALID_ARGUMENT);
}

// ---- Contradictions ----

TEST(Config, ContradictionsAreRefusedWithTheWayOut) {
  EXPECT_THAT(refusal(R"({"fp16": {"enabled": true}, "bf16": {"enabled": true}})"),
              StartsWith("config: on \"fp16.enabled\" (true): bf16.enabled is true as well"));
  EXPECT_THAT(refusal(R"({"fp16": {"enabled": true, "min_loss_scale": 0}})"),
              HasSubstr("a dynamic loss scale cannot fall to 0"));
  EXPECT_THAT(refusal(R"({"fp16": {"enabled": true, "loss_scale_window": 0}})"),
              HasSubstr("a dynamic loss scale cannot double after 0 steps"));
  EXPECT_EQ(resolved(R"({"fp16": {"enabled": true, "loss_scale": 8, "loss_scale_window": 0}})").fp16->loss_scale, 8);
  EXPECT_THAT(refusal(R"({"zero_optimization": {"offload_optimizer": {"device": "nvme"}}})"),
              AllOf(HasSubstr("offload_optimizer.device\" (\"nvme\"): nvme_path is missing"),
                    HasSubstr("write \"nvme_path\"")));
  EXPECT_THAT(
      refusal(R"({"zero_optimization": {"offload_optimizer": {"device": "nvme", "nvme_path": "auto"}}})"),
      HasSubstr("nvme_path is missing"));
  EXPECT_THAT(refusal(R"({"optimizer": {"type": "AdamW", "params": {"max_grad_norm": 1.0}}})"),
              HasSubstr("write it as \"gradient_clipping\" beside \"optimizer\""));
  EXPECT_THAT(refusal(R"({"optimizer": {"params": {"lr": 1}}})"), HasSubstr("optimizer.type is missing"));
  EXPECT_THAT(refusal(R"({"optimizer": {"type": "Adagrad", "params": {"betas": [0.9, 0.99]}}})"),
              HasSubstr("Adagrad has no such parameter"));
  EXPECT_THAT(refusal(R"({"optimizer": {"type": "Lion", "params": {"eps": 1e-6}}})"),
              HasSubstr("Lion has no such parameter"));
  EXPECT_THAT(refusal(R"({"optimizer": {"type": "AdamW", "params": {"lr_decay": 0.1}}})"),
              HasSubstr("AdamW has no such parameter"));
  EXPECT_THAT(refusal(R"({"optimizer": {"type": "External", "params": {"lr": 0.1}}})"),
              HasSubstr("External has no such parameter"));
  EXPECT_THAT(refusal(R"({"optimizer": {"type": "Lamb"}})"), HasSubstr("must be \"Adam\" or \"AdamW\" or \"Adagrad\" or \"Lion\""));
  EXPECT_THAT(
      refusal(
          R"({"zero_optimization": {"cpu_offload": true, "offload_optimizer": {"device": "nvme", "nvme_path": "/x"}}})"),
      HasSubstr("cpu_offload\" (true): contradicts"));
  EXPECT_THAT(refusal(R"({"zero_optimization": {"cpu_offload_param": true, "offload_param": {"device": "none"}}})"),
              HasSubstr("cpu_offload_param\" (true): contradicts"));
  EXPECT_THAT(refusal(R"({"data_types": {"param_dtype": "bf16"}})"),
              HasSubstr("fp16.enabled and bf16.enabled make parameters fp32"));
  EXPECT_THAT(refusal(R"({"zero_optimization": {"offload_param": {"device": "nvme"}}})"),
              HasSubstr("offload_param.device\" (\"nvme\"): nvme_path is missing"));
  EXPECT_THAT(refusal(R"({"zero_optimization": {"offload_optimizer": {"device": "nvme", "nvme_path": "/a"},
                                                "offload_param": {"device": "nvme", "nvme_path": "/x"}}})"),
              HasSubstr("a run has one store; write the same"));
  EXPECT_THAT(refusal(R"({"bf16": [true]})"), StrEq("config: on \"bf16\" ([true]): must be an object"));
}

TEST(Config, TwoSpellingsOfOneKeyMustAgree) {
  EXPECT_THAT(refusal(R"({"aio": {"thread_count": 2, "intra_op_parallelism": 3}})"),
              HasSubstr("two spellings of one key"));
  EXPECT_THAT(refusal(R"({"bf16": {"enabled": true}, "bfloat16": {"enabled": false}})"),
              HasSubstr("two spellings"));
  EXPECT_EQ(resolved(R"({"aio": {"thread_count": 2, "intra_op_parallelism": 2}})").aio.thread_count, 2u);
}

TEST(Config, TheOldSpellingOfOffloadIsNoted) {
  const Config config = resolved(R"({"zero_optimization": {"stage": 2, "cpu_offload": true}})");
  EXPECT_THAT(config.notes, ElementsAre("config: on \"zero_optimization.cpu_offload\": old spelling of "
                                        "\"zero_optimization.offload_optimizer.device\" \"cpu\""));
  const ConfigEntry device = entry_of(config, "zero_optimization.offload_optimizer.device");
  EXPECT_EQ(device.value, "cpu");
  EXPECT_EQ(device.origin, ConfigOrigin::derived);
}

TEST(Config, ARunIdIsAPlainDirectoryName) {
  for (const std::string& id :
       std::vector<std::string>{"..", ".", "a/b", "a b", "\u00e9", std::string(129, 'a')}) {
    EXPECT_THAT(refusal(document_with("orlop.run_id", id)), HasSubstr("orlop.run_id")) << id;
  }
}

TEST(Config, TheOtherProblemsAreNamedAfterTheFirst) {
  EXPECT_EQ(
      refusal(
          R"({"bf16": {"enabled": "perhaps"}, "gradient_clipping": -1, "zero_optimization": {"stage": 7}})"),
      "config: on \"bf16.enabled\" (\"perhaps\"): must be true or false (parameters are bf16 with an exact "
      "fp32 master; "
      "off: fp32); write for example \"enabled\": false (and 2 more: on \"gradient_clipping\", "
      "\"zero_optimization.stage\")");
}

// ---- Notes ----

TEST(Config, UnknownKeysAreWarningsWithTheNearestName) {
  EXPECT_THAT(
      resolved(R"({"gradient_cliping": 1, "zero_optimization": {"stge": 3}, "aio": {"wombat": 1}})").warnings,
      ElementsAre(
          "config: on \"aio.wombat\": unknown key, ignored",
          "config: on \"gradient_cliping\": unknown key, ignored; did you mean \"gradient_clipping\"?",
          "config: on \"zero_optimization.stge\": unknown key, ignored; did you mean "
          "\"zero_optimization.stage\"?"));
}

TEST(Config, UnknownKeysAreErrorsWhenStrict) {
  EXPECT_EQ(refusal(R"({"gradient_cliping": 1, "orlop": {"strict_config": true}})"),
            "config: on \"gradient_cliping\": unknown key; did you mean \"gradient_clipping\"?");
}

TEST(Config, ANameWithADotIsNoPath) {
  const Config config = resolved(R"({"zero_optimization.stage": 3})");
  EXPECT_EQ(config.zero_stage, 0);
  EXPECT_THAT(config.warnings, ElementsAre(HasSubstr("unknown key")));
}

TEST(Config, ManyUnknownKeysDoNotFloodTheWarnings) {
  json document;
  for (int i = 0; i < 1000; ++i) document["wombat" + std::to_string(i)] = i;
  const Config config = resolved(document.dump());
  EXPECT_EQ(config.warnings.size(), 33u);
  EXPECT_EQ(config.warnings.back(), "config: 968 more unknown keys, ignored");
}

TEST(Config, KeysWithoutEffectForOneReasonShareANote) {
  EXPECT_THAT(
      resolved(
          R"({"zero_optimization": {"overlap_comm": true, "reduce_bucket_size": 2e8, "reduce_scatter": true}})")
          .notes,
      ElementsAre(
          "config: on \"zero_optimization.reduce_bucket_size\", \"zero_optimization.overlap_comm\": without "
          "effect: an engine has one rank in this version, and one rank exchanges nothing"));
}

TEST(Config, AShortRingIsRaisedToThreeSlabs) {
  const Config config = resolved(R"({"zero_optimization": {"offload_optimizer": {"buffer_count": 1}}})");
  EXPECT_EQ(config.slab_count, 3u);
  EXPECT_EQ(entry_of(config, "zero_optimization.offload_optimizer.buffer_count").origin,
            ConfigOrigin::derived);
  EXPECT_THAT(config.notes, ElementsAre(HasSubstr("raised to 3")));
}

TEST(Config, AStageThatDeepSpeedWouldNotOffloadIsNoted) {
  EXPECT_THAT(resolved(R"({"zero_optimization": {"offload_optimizer": {"device": "cpu"}}})").notes,
              ElementsAre(HasSubstr("DeepSpeed wants at least 1")));
  EXPECT_THAT(
      resolved(R"({"zero_optimization": {"stage": 1, "offload_optimizer": {"device": "cpu"}}})").notes,
      IsEmpty());
  EXPECT_THAT(
      resolved(
          R"({"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "nvme", "nvme_path": "/x"}}})")
          .notes,
      ElementsAre(HasSubstr("DeepSpeed wants at least 3")));
}

TEST(Config, ParametersOffloadedBelowStageThreeAreNoted) {
  const Config config = resolved(R"({"zero_optimization": {"stage": 2, "offload_param": {"device": "cpu"}}})");
  EXPECT_THAT(config.notes, ElementsAre(AllOf(HasSubstr("stage\" (2)"), HasSubstr("DeepSpeed does it at 3 only"))));
}

TEST(Config, ReadingAheadMoreThanMayBeLiveIsNotedWithBothNumbers) {
  const auto notes = [](const std::string& prefetch) {
    return resolved(R"({"zero_optimization": {"stage3_max_live_parameters": 100)" + prefetch + "}}").notes;
  };
  EXPECT_THAT(notes(R"(, "stage3_prefetch_bucket_size": 101)"),
              ElementsAre(AllOf(HasSubstr("stage3_prefetch_bucket_size\" (101)"),
                                HasSubstr("stage3_max_live_parameters\" (100)"), HasSubstr("write at most 100"))));
  EXPECT_THAT(notes(R"(, "stage3_prefetch_bucket_size": 100)"), IsEmpty());
  EXPECT_THAT(notes(""), IsEmpty()) << "a default contradicts nothing";
}

TEST(Config, APinnedShareOfNothingIsNoted) {
  EXPECT_THAT(resolved(R"({"orlop": {"memory": {"pinned": 0.5}}})").notes,
              ElementsAre(AllOf(HasSubstr("orlop.memory.pinned\" (0.5)"), HasSubstr("write \"device\": \"nvme\""))));
  EXPECT_THAT(resolved(R"({"orlop": {"memory": {"pinned": 0}}})").notes, IsEmpty());
}

TEST(Config, APathWithoutADeviceIsAWarning) {
  for (const std::string block : {"offload_param", "offload_optimizer"}) {
    const std::string text = R"({"zero_optimization": {"stage": 3, ")" + block + R"(": {"nvme_path": "/d"DEVICE}}})";
    const auto warnings = [&](const std::string& device) {
      return resolved(std::string(text).replace(text.find("DEVICE"), 6, device)).warnings;
    };
    EXPECT_THAT(warnings(""), ElementsAre(AllOf(HasSubstr(block + ".nvme_path"), HasSubstr(block + ".device\" is not given"))));
    EXPECT_THAT(warnings(R"(, "device": "cpu")"), IsEmpty()) << "as in many guides";
  }
}

// ---- The result as JSON ----

TEST(Config, IsWrittenAsTheHeaderSays) {
  const json result =
      resolved(R"({"zero_optimization": {"stage": 3}, "aio": {"thread_count": 2}})").to_json();
  EXPECT_EQ(result["values"]["zero_optimization"]["stage"], 3);
  EXPECT_EQ(result["values"]["gradient_clipping"], 1.0);
  EXPECT_EQ(result["values"]["aio"]["intra_op_parallelism"], 2);
  EXPECT_THAT(
      result["entries"],
      Contains(json{{"key", "zero_optimization.stage"}, {"value", 3}, {"origin", "file"}, {"why", ""}}));
  EXPECT_THAT(
      result["entries"],
      Contains(json{{"key", "gradient_clipping"}, {"value", 1.0}, {"origin", "default"}, {"why", ""}}));
  EXPECT_THAT(result["entries"], Contains(json{{"key", "aio.intra_op_parallelism"},
                                               {"value", 2},
                                               {"origin", "file"},
                                               {"why", "written as \"aio.thread_count\""}}));
  EXPECT_EQ(
      result["notes"],
      json::array({"config: on \"aio.thread_count\": another spelling of \"aio.intra_op_parallelism\""}));
  EXPECT_EQ(result["warnings"], json::array());
}

TEST(Config, HasOneEntryForEveryValue) {
  const json result = resolved(R"({"optimizer": {"type": "AdamW"}})").to_json();
  std::size_t leaves = 0;
  for (const ConfigKey& key : config_keys()) leaves += key.type == KeyType::block ? 0 : 1;
  EXPECT_EQ(result["entries"].size(), leaves);
  for (const json& entry : result["entries"]) {
    std::string pointer = "/" + entry["key"].get<std::string>();
    std::replace(pointer.begin(), pointer.end(), '.', '/');
    EXPECT_EQ(result["values"].at(json::json_pointer(pointer)), entry["value"]) << pointer;
  }
}

// ---- Whole files ----

std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path);
  EXPECT_TRUE(file) << path;
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

const std::filesystem::path kConfigs = std::filesystem::path(ORLOP_SOURCE_ROOT) / "configs";

// What a file is for says how many.
int ranks_of(const std::string& file) { return file == "70b_8_gpus.json" ? 8 : file == "1t_64_nodes.json" ? 64 * 8 : 1; }

TEST(Config, TheReadyFilesAreValidDescribedAndHonoured) {
  std::size_t files = 0;
  for (const auto& file : std::filesystem::directory_iterator(kConfigs)) {
    const std::string text = read_file(file.path());
    const auto config = resolve_config(text, ranks_of(file.path().filename()));
    ASSERT_TRUE(config) << file.path() << ": " << config.error().message;
    EXPECT_THAT(config->notes, IsEmpty()) << file.path();
    EXPECT_THAT(config->warnings, IsEmpty()) << file.path();
    EXPECT_TRUE(text.starts_with("// ")) << file.path() << " must begin with its description";
    ++files;
  }
  EXPECT_EQ(files, 11u);
}

TEST(Config, TheReadyFilesDoWhatTheyAreNamedFor) {
  const Config memory = resolved(read_file(kConfigs / "memory.json"));
  EXPECT_EQ(memory.offload_optimizer, OffloadDevice::none);
  EXPECT_EQ(memory.dtype, ORLOP_BF16);
  EXPECT_EQ(resolved(read_file(kConfigs / "cpu_offload.json")).offload_optimizer, OffloadDevice::cpu);
  const Config nvme = resolved(read_file(kConfigs / "nvme_optimizer.json"));
  EXPECT_EQ(nvme.offload_optimizer, OffloadDevice::nvme);
  EXPECT_EQ(nvme.nvme_paths, std::vector<std::string>{"/local_nvme"});
  EXPECT_EQ(resolved(read_file(kConfigs / "nvme_two_drives.json")).nvme_paths.size(), 2u);
  const Config fp16 = resolved(read_file(kConfigs / "fp16.json"));
  EXPECT_EQ(fp16.dtype, ORLOP_F16);
  EXPECT_EQ(fp16.fp16->hysteresis, 2u);
  const Config fp32 = resolved(read_file(kConfigs / "fp32_nvme.json"));
  EXPECT_EQ(fp32.dtype, ORLOP_F32);
  EXPECT_EQ(fp32.offload_optimizer, OffloadDevice::nvme);
}

// As the Hugging Face Trainer hands it over, with what it fills in and what it leaves.
constexpr const char* kTrainerConfig = R"({
  "fp16": {"enabled": false, "loss_scale": 0, "loss_scale_window": 1000, "initial_scale_power": 16, "hysteresis": 2,
           "min_loss_scale": 1, "auto_cast": true},
  "bf16": {"enabled": true},
  "optimizer": {"type": "AdamW", "params": {"lr": 5e-05, "betas": [0.9, 0.999], "eps": 1e-08, "weight_decay": "auto"}},
  "zero_optimization": {"stage": 3, "offload_optimizer": {"device": "cpu", "pin_memory": true},
    "offload_param": {"device": "none", "pin_memory": true}, "overlap_comm": true, "contiguous_gradients": true,
    "sub_group_size": 1e9, "reduce_bucket_size": 16777216, "stage3_prefetch_bucket_size": 15099494,
    "stage3_param_persistence_threshold": 40960, "stage3_max_live_parameters": 1e9, "stage3_max_reuse_distance": 1e9,
    "stage3_gather_16bit_weights_on_model_save": true},
  "gradient_accumulation_steps": 4, "gradient_clipping": 1.0, "steps_per_print": Infinity, "train_batch_size": 32,
  "train_micro_batch_size_per_gpu": 8, "wall_clock_breakdown": false, "zero_allow_untested_optimizer": true,
})";

TEST(Config, ATrainersConfigurationIsTakenAsItIs) {
  const Config config = resolved(kTrainerConfig);
  EXPECT_EQ(config.dtype, ORLOP_BF16);
  EXPECT_EQ(config.offload_optimizer, OffloadDevice::cpu);
  EXPECT_EQ(config.gradient_accumulation_steps, 4u);
  EXPECT_EQ(config.optimizer->lr, 5e-5);
  EXPECT_THAT(config.warnings, IsEmpty());
}

// ---- Whatever the bytes are ----

class Mutator {
 public:
  explicit Mutator(std::uint32_t seed) : random_(seed) {}

  std::string mutated(std::string text) {
    for (std::size_t rounds = 1 + below(4); rounds > 0; --rounds) mutate(text);
    return text;
  }
  std::size_t below(std::size_t limit) { return limit == 0 ? 0 : random_() % limit; }

 private:
  void mutate(std::string& text) {
    static const std::vector<std::string> kTokens = {"{",         "}",
                                                     "[",         "]",
                                                     ",",         ":",
                                                     "\"",        "//",
                                                     "/*",        "*/",
                                                     "#",         "\\",
                                                     "Infinity",  "-",
                                                     "null",      "true",
                                                     "\"auto\"",  "1e999",
                                                     "-1",        "0",
                                                     "\"nvme\"",  "18446744073709551616",
                                                     "\"1e300\"", "\n",
                                                     "\xff",      "\xc3\xa9",
                                                     "\\u0000",   "2.5",
                                                     "\"48G\"",   "{}"};
    const std::size_t at = below(text.size() + 1);
    const std::size_t length = below(12);
    switch (below(6)) {
      case 0:
        text.insert(at, kTokens[below(kTokens.size())]);
        break;
      case 1:
        text.erase(at, length);
        break;
      case 2:
        if (at < text.size()) text[at] = static_cast<char>(random_());
        break;
      case 3:
        text.insert(at, text.substr(below(text.size()), length * 4));
        break;
      case 4:
        text.replace(at, length, kTokens[below(kTokens.size())]);
        break;
      default:
        replace_a_number(text);
    }
  }

  void replace_a_number(std::string& text) {
    const auto digit = text.find_first_of("0123456789", below(text.size()));
    if (digit == std::string::npos) return;
    static const std::vector<std::string> kValues = {"\"x\"",    "1e30", "-5",   "[]",  "{\"enabled\": true}",
                                                     "\"auto\"", "3",    "null", "true"};
    text.replace(digit, 1, kValues[below(kValues.size())]);
  }

  std::mt19937 random_;
};

TEST(Config, MutatedTextsGiveAConfigurationOrASentence) {
  std::vector<std::string> corpus = {kTrainerConfig, resolved(kTrainerConfig).to_json()["values"].dump(),
                                     "{}"};
  for (const auto& file : std::filesystem::directory_iterator(kConfigs))
    corpus.push_back(read_file(file.path()));
  for (const HonouredCase& c : honoured_cases()) corpus.emplace_back(c.text);
  const std::uint32_t seed = std::random_device{}();
  SCOPED_TRACE(seed);
  Mutator mutator(seed);
  std::size_t accepted = 0;
  constexpr std::size_t kRounds = 1500;
  for (std::size_t i = 0; i < kRounds; ++i) {
    const std::string text = mutator.mutated(corpus[mutator.below(corpus.size())]);
    fuzz_config(reinterpret_cast<const std::uint8_t*>(text.data()), text.size());
    accepted += resolve_config(text, 1).has_value() ? 1 : 0;
  }
  EXPECT_GT(accepted, kRounds / 50) << "too few survive to test anything";
  EXPECT_LT(accepted, kRounds) << "nothing was refused";
}

// Every key with every odd value, two at a time: the checks that follow parsing meet values that parsing let
// through.
TEST(Config, OddValuesInPairsGiveAConfigurationOrASentence) {
  const std::uint32_t seed = std::random_device{}();
  SCOPED_TRACE(seed);
  Mutator mutator(seed);
  const json odd = {0,
                    -1,
                    1,
                    3,
                    1e30,
                    0.5,
                    "x",
                    "",
                    "auto",
                    "none",
                    "nvme",
                    "1e308",
                    true,
                    false,
                    nullptr,
                    json::array(),
                    json::object(),
                    {0.1, 0.2},
                    {{"enabled", true}},
                    UINT64_MAX,
                    INT64_MIN,
                    "18446744073709551616",
                    "7E"};
  const auto keys = config_keys();
  for (int i = 0; i < 1500; ++i) {
    json document = json::object();
    for (int j = 0; j < 2; ++j) {
      const ConfigKey& key = keys[mutator.below(keys.size())];
      const json value = mutator.below(2) == 0 ? asking_value(key) : odd[mutator.below(odd.size())];
      document.merge_patch(json::parse(document_with(key.path, value)));
    }
    const std::string text = document.dump();
    fuzz_config(reinterpret_cast<const std::uint8_t*>(text.data()), text.size());
  }
}

}  // namespace
}  // namespace orlop
