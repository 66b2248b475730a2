#include "bench/step_config.hpp"

#include <cerrno>
#include <fstream>
#include <sstream>

#include "base/config_reader.hpp"

namespace orlop::bench {
namespace {

using nlohmann::json;

Result<json> read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  if (file) text << file.rdbuf();
  if (!file || text.fail()) {
    const int error = errno == 0 ? EIO : errno;
    return fail(status_of_errno(error), "--config: on {}: cannot be read: {}", path, describe_errno(error));
  }
  auto tree = read_config_text(text.str());
  if (!tree) return fail(tree.error().status, "{}: {}", path, tree.error().message);
  return tree;
}

// The object under `key`, in place of whatever else was there (`"zero_optimization": true` is DeepSpeed's old spelling).
json& object_at(json& parent, const char* key) {
  json& child = parent[key];
  if (!child.is_object()) child = json::object();
  return child;
}

void set_optimizer(json& config) {
  if (config.contains("optimizer")) return;
  config["optimizer"] = {{"type", "AdamW"}, {"params", {{"lr", 1e-4}, {"weight_decay", 0.01}}}};
}

void set_dtype(json& config, const StepArguments& o) {
  if (!o.dtype && o.config_file) return;
  config.erase("fp16");
  if (config.contains("data_types") && config["data_types"].is_object()) config["data_types"].erase("param_dtype");
  object_at(config, "bf16")["enabled"] = o.dtype.value_or("bf16") == "bf16";
}

void set_device(json& zero, const char* what, const std::string& device,
                const std::vector<std::string>& nvme_paths) {
  json& offload = object_at(zero, what);
  offload["device"] = device;
  if (!nvme_paths.empty()) offload["nvme_path"] = nvme_paths;
}

void set_placement(json& config, const StepArguments& o) {
  if (!o.device && !o.param_device && o.nvme_paths.empty()) return;
  json& zero = object_at(config, "zero_optimization");
  zero.erase("cpu_offload");
  if (!zero.contains("stage")) zero["stage"] = 3;
  if (o.device || !o.nvme_paths.empty()) set_device(zero, "offload_optimizer", o.device.value_or("nvme"), o.nvme_paths);
  if (o.param_device) set_device(zero, "offload_param", *o.param_device, o.nvme_paths);
  zero.erase("max_live_parameters");
  zero["stage3_max_live_parameters"] = 0;  // the trainer keeps no unit of the store from one use to the next
}

void set_engine(json& config, const StepArguments& o) {
  json& orlop = object_at(config, "orlop");
  if (!orlop.contains("strict_config")) orlop["strict_config"] = true;  // a typing error would measure something else
  if (o.queue) orlop["queue"] = *o.queue;
  if (o.threads) orlop["threads"] = *o.threads;
  if (o.run_id) orlop["run_id"] = *o.run_id;
  if (o.ram_bytes) object_at(orlop, "memory")["host"] = *o.ram_bytes;
  if (o.pinned) object_at(orlop, "memory")["pinned"] = *o.pinned;
  if (!o.trace_file.empty()) orlop["trace"] = true;
  if (o.clip) config["gradient_clipping"] = *o.clip;
}

}  // namespace

Result<Config> step_config(const StepArguments& options) {
  json config = json::object();
  if (options.config_file) {
    TRY_ASSIGN(config, read_file(*options.config_file));
  }
  set_optimizer(config);
  set_dtype(config, options);
  set_placement(config, options);
  set_engine(config, options);
  auto resolved = resolve_config(config.dump(), 1);
  if (!resolved && options.config_file) {
    return fail(resolved.error().status, "{}: {}", *options.config_file, resolved.error().message);
  }
  if (resolved && resolved->dtype == ORLOP_F16) {
    return fail(ORLOP_UNSUPPORTED, "{}: on \"fp16.enabled\": offload_bench measures bf16 and fp32; add --dtype bf16",
                *options.config_file);
  }
  return resolved;
}

}  // namespace orlop::bench
