#include "base/config.hpp"

#include <algorithm>
#include <array>
#include <iterator>
#include <map>
#include <string>
#include <utility>

#include "base/bytes.hpp"
#include "base/config_keys.hpp"
#include "base/config_reader.hpp"
#include "base/config_value.hpp"

namespace orlop {
namespace {

using nlohmann::json;

constexpr std::size_t kMaxUnknownKeys = 32;  // reported one by one
constexpr std::int64_t kLeastSlabs = 3;      // one read, one updated, one written
constexpr std::int64_t kLeastParamSlabs = 2;  // one read, one copied from
constexpr std::int64_t kLeastBlock = 65536;    // elements

// What is known about one row of the table.
struct Setting {
  json value;
  ConfigOrigin origin = ConfigOrigin::defaulted;
  std::string why;
  std::string written;  // the spelling in the file; "" when it is not there
};

struct Problem {
  std::string key;
  std::string sentence;
};

class Resolver {
 public:
  explicit Resolver(int world_size) : world_size_(static_cast<std::uint64_t>(world_size)) {
    for (const ConfigKey& key : config_keys()) {
      const auto why = key.remark.empty() || key.status != KeyStatus::honoured ? "" : std::string(key.remark);
      settings_.push_back({default_value(key), ConfigOrigin::defaulted, why, ""});
    }
  }

  Result<Config> run(const json& document) && {
    read_block("", "", document);
    if (problems_.empty()) check_statuses();
    if (problems_.empty()) derive();
    report_unknown_keys();
    if (!problems_.empty()) return first_problem();
    note_what_has_no_effect();
    return config();
  }

 private:
  // ---- The rows by path; every path used here is in the table ----

  Setting& setting(std::string_view path) {
    return settings_[static_cast<std::size_t>(find_config_key(path) - config_keys().data())];
  }
  const json& value(std::string_view path) { return setting(path).value; }
  bool is_given(std::string_view path) { return !setting(path).written.empty(); }
  bool is_true(std::string_view path) { return value(path) == true; }

  template <typename T>
  T get(std::string_view path) {
    return value(path).get<T>();
  }
  template <typename T>
  std::optional<T> get_optional(std::string_view path) {
    const json& found = value(path);
    return found.is_null() ? std::nullopt : std::optional<T>(found.get<T>());
  }

  void set_derived(std::string_view path, json derived, std::string why) {
    Setting& row = setting(path);
    row.value = std::move(derived);
    row.origin = ConfigOrigin::derived;
    row.why = std::move(why);
  }

  // `config: on "key" (value): why; what to do instead`
  template <typename... Args>
  void refuse(std::string_view path, fmt::format_string<Args...> format, Args&&... args) {
    Setting& row = setting(path);
    const std::string key = row.written.empty() ? std::string(path) : row.written;
    problems_.push_back({key, fmt::format("config: on {} ({}): {}", shown(key), shown(row.value),
                                          fmt::format(format, std::forward<Args>(args)...))});
  }

  // ---- Reading ----

  // `path` in the table's spelling, `written` in the file's.
  void read_block(const std::string& path, const std::string& written, const json& object) {
    for (const auto& [name, member] : object.items()) {
      const std::string member_written = written.empty() ? name : written + "." + name;
      const bool is_path = name.find('.') == std::string::npos;  // {"a.b": 1} is not {"a": {"b": 1}}
      const ConfigKey* key = is_path ? find_config_key(path.empty() ? name : path + "." + name) : nullptr;
      if (key == nullptr) {
        unknown_.push_back(member_written);
      } else {
        read_member(*key, member_written, member);
      }
    }
  }

  void read_member(const ConfigKey& key, const std::string& written, const json& member) {
    if (key.type != KeyType::block) {
      read_value(key, written, member);
    } else if (member.is_object()) {
      read_block(std::string(key.path), written, member);
    } else if (key.path == "zero_optimization" && member.is_boolean()) {
      read_value(*find_config_key("zero_optimization.stage"), written, member == true ? 1 : 0);
    } else if (!member.is_null() && member != "auto") {
      refuse_value(canonical_value(key, written, member).error(), written);
    }
  }

  void read_value(const ConfigKey& key, const std::string& written, const json& member) {
    if (member == "auto") return read_auto(key, written);
    auto canonical = canonical_value(key, written, member);
    if (!canonical) return refuse_value(canonical.error(), written);
    if (canonical->is_null() && key.type != KeyType::steps) return;  // null: not given
    store(key, written, *std::move(canonical));
  }

  void read_auto(const ConfigKey& key, const std::string& written) {
    if (is_given(key.path)) return;
    Setting& row = setting(key.path);
    row.origin = ConfigOrigin::derived;
    row.why = fmt::format("{} is \"auto\" and nothing filled it in{}{}", shown(written),
                          row.why.empty() ? "" : ": ", row.why);
  }

  void store(const ConfigKey& key, const std::string& written, json canonical) {
    Setting& row = setting(key.path);
    if (!row.written.empty() && row.value != canonical) {
      problems_.push_back(
          {written, fmt::format("config: on {} ({}) and {} ({}): two spellings of one key that differ; "
                                "keep {}",
                                shown(row.written), shown(row.value), shown(written), shown(canonical),
                                shown(key.path))});
      return;
    }
    const bool old_spelling = written != key.path;
    row = {std::move(canonical), ConfigOrigin::file,
           old_spelling ? fmt::format("written as {}", shown(written)) : "", written};
    if (old_spelling) {
      notes_.push_back(fmt::format("config: on {}: another spelling of {}", shown(written), shown(key.path)));
    }
  }

  void refuse_value(const Error& error, const std::string& written) {
    problems_.push_back({written, error.message});
  }

  // ---- Checking and deriving ----

  void check_statuses() {
    if (is_true("fp16.enabled") && is_true("bf16.enabled")) {
      refuse("fp16.enabled", "bf16.enabled is true as well and a model has one type; switch one of them off");
      return;
    }
    for (const ConfigKey& key : config_keys()) {
      if (key.status == KeyStatus::refused && asks_for_something(key)) refuse(key.path, "{}", key.remark);
    }
  }

  bool asks_for_something(const ConfigKey& key) {
    if (key.type == KeyType::object) return !asks_for_nothing(key, value(key.path));
    return value(key.path) != default_value(key);
  }

  void derive() {
    derive_batch_sizes();
    derive_offload();
    check_offload();
    check_offload_param();
    check_limits();
    check_types();
    check_loss_scale();
    derive_non_finite();
    check_optimizer();
    check_run_id();
  }

  static constexpr std::string_view kTrain = "train_batch_size";
  static constexpr std::string_view kMicro = "train_micro_batch_size_per_gpu";
  static constexpr std::string_view kSteps = "gradient_accumulation_steps";

  // train_batch_size = train_micro_batch_size_per_gpu x gradient_accumulation_steps x ranks.
  void derive_batch_sizes() {
    const bool train = is_given(kTrain);
    const bool micro = is_given(kMicro);
    const bool steps = is_given(kSteps);
    if (train && micro && !steps) return derive_quotient(kSteps, kMicro);
    if (!steps) set_derived(kSteps, 1, train || micro ? "nothing asks for more" : "no batch size is given");
    if (train && !micro) return derive_quotient(kMicro, kSteps);
    if (train) return check_product();
    if (micro) derive_train_batch_size();
  }

  void derive_quotient(std::string_view missing, std::string_view known) {
    const auto train = get<std::uint64_t>(kTrain);
    const auto divisor = get<std::uint64_t>(known) * world_size_;  // below 2^31 each
    if (train % divisor != 0) {
      const auto below = train / divisor * divisor;
      return refuse(kTrain, "is not a multiple of {} x ranks = {} x {} = {}; write {}{}", known,
                    get<std::uint64_t>(known), world_size_, divisor,
                    below > 0 ? fmt::format("{} or ", below) : std::string(), below + divisor);
    }
    const auto quotient = train / divisor;
    if (quotient > INT32_MAX)
      return refuse(kTrain, "makes {} {}, more than {}", missing, quotient, INT32_MAX);
    set_derived(missing, quotient,
                fmt::format("{} / ({} x ranks) = {} / ({} x {})", kTrain, known, train,
                            get<std::uint64_t>(known), world_size_));
  }

  void check_product() {
    const auto product = batch_product();
    if (product && *product == get<std::uint64_t>(kTrain)) return;
    refuse(kTrain, "is not {} x {} x ranks = {} x {} x {}{}; make them agree or leave one of the three out",
           kMicro, kSteps, get<std::uint64_t>(kMicro), get<std::uint64_t>(kSteps), world_size_,
           product ? fmt::format(" = {}", *product) : std::string());
  }

  void derive_train_batch_size() {
    const auto product = batch_product();
    if (!product)
      return refuse(kMicro, "x {} x ranks = {} x {}: too large for a batch", kSteps,
                    get<std::uint64_t>(kSteps), world_size_);
    set_derived(kTrain, *product, fmt::format("{} x {} x ranks", kMicro, kSteps));
  }

  // nullopt when it does not fit the integers of JSON readers.
  std::optional<std::uint64_t> batch_product() {
    const auto per_rank = checked_multiply(get<std::uint64_t>(kMicro), get<std::uint64_t>(kSteps));
    const auto product = per_rank ? checked_multiply(*per_rank, world_size_) : per_rank;
    return product && *product <= INT64_MAX ? std::optional(*product) : std::nullopt;
  }

  static constexpr std::string_view kDevice = "zero_optimization.offload_optimizer.device";
  static constexpr std::string_view kOldDevice = "zero_optimization.cpu_offload";
  static constexpr std::string_view kPath = "zero_optimization.offload_optimizer.nvme_path";
  static constexpr std::string_view kSlabs = "zero_optimization.offload_optimizer.buffer_count";

  void derive_offload() {
    derive_device(kOldDevice, kDevice);
    derive_device(kOldParamDevice, kParamDevice);
    raise_to(kSlabs, kLeastSlabs, "one slab is read, one updated, one written");
    for (const std::string_view path : kBlockKeys) {
      raise_to(path, kLeastBlock, "smaller pieces cost more requests than they save memory");
    }
  }

  void raise_to(std::string_view path, std::int64_t least, std::string_view why) {
    if (!is_given(path) || get<std::int64_t>(path) >= least) return;
    notes_.push_back(fmt::format("config: on {} ({}): raised to {}: {}", shown(path), shown(value(path)), least, why));
    set_derived(path, least, fmt::format("{} in the file, raised: {}", get<std::int64_t>(path), why));
  }

  // `old`: true means device "cpu".
  void derive_device(std::string_view old, std::string_view device) {
    if (!is_true(old)) return;
    if (is_given(device) && value(device) != "cpu") {
      return refuse(old, "contradicts {} ({}); leave it out", shown(device), shown(value(device)));
    }
    notes_.push_back(fmt::format("config: on {}: old spelling of {} \"cpu\"", shown(old), shown(device)));
    if (!is_given(device)) set_derived(device, "cpu", fmt::format("{} is true", shown(old)));
  }

  static constexpr std::string_view kOldParamDevice = "zero_optimization.cpu_offload_param";
  static constexpr std::string_view kParamDevice = "zero_optimization.offload_param.device";
  static constexpr std::string_view kParamPath = "zero_optimization.offload_param.nvme_path";
  static constexpr std::string_view kParamSlabs = "zero_optimization.offload_param.buffer_count";
  // Each an upper bound of what is moved and updated at once.
  static constexpr std::array<std::string_view, 3> kBlockKeys = {
      "zero_optimization.sub_group_size", "zero_optimization.offload_optimizer.buffer_size",
      "zero_optimization.offload_param.buffer_size"};

  void check_offload_param() {
    if (value(kParamDevice) != "nvme") return;
    if (value(kParamPath).is_null() && value(kPath).is_null()) {
      refuse(kParamDevice, "nvme_path is missing; write \"nvme_path\": \"/directory/on/the/drive\" beside it");
    }
    if (value(kDevice) == "nvme" && !value(kParamPath).is_null() && value(kParamPath) != value(kPath)) {
      return refuse(kParamPath, "is not {} ({}), and a run has one store; write the same", shown(kPath),
                    shown(value(kPath)));
    }
    raise_to(kParamSlabs, kLeastParamSlabs, "one is read, one copied from");
  }

  void check_offload() {
    if (value(kDevice) == "nvme" && value(kPath).is_null()) {
      refuse(kDevice, "nvme_path is missing; write \"nvme_path\": \"/directory/on/the/drive\" beside it");
    }
    const auto stage = get<int>("zero_optimization.stage");
    const int least = value(kDevice) == "nvme" ? 3 : value(kDevice) == "cpu" ? 1 : 0;
    if (stage < least) {
      notes_.push_back(
          fmt::format("config: on \"zero_optimization.stage\" ({}): the states are offloaded here at any "
                      "stage; DeepSpeed wants at least {} for device {}",
                      stage, least, shown(value(kDevice))));
    }
    if (stage < 3 && value(kParamDevice) != "none") {
      notes_.push_back(fmt::format("config: on \"zero_optimization.stage\" ({}): parameters are offloaded here at any stage, to "
                                   "{}; DeepSpeed does it at 3 only", stage, shown(value(kParamDevice))));
    }
  }

  static constexpr std::string_view kPrefetch = "zero_optimization.stage3_prefetch_bucket_size";
  static constexpr std::string_view kMaxLive = "zero_optimization.stage3_max_live_parameters";
  static constexpr std::string_view kPinned = "orlop.memory.pinned";

  // What works, though not as its keys say together. What depends on the model's sizes is looked at once they are known.
  void check_limits() {
    const bool reads_ahead = is_given(kPrefetch) && is_given(kMaxLive);
    if (reads_ahead && get<std::uint64_t>(kPrefetch) > get<std::uint64_t>(kMaxLive)) {
      notes_.push_back(fmt::format("config: on {} ({}): more than {} ({}): what is read ahead waits in staging memory of its "
                                   "own, beside what is live; write at most {} to have less there",
                                   shown(kPrefetch), shown(value(kPrefetch)), shown(kMaxLive), shown(value(kMaxLive)),
                                   shown(value(kMaxLive))));
    }
    const bool has_store = value(kDevice) == "nvme" || value(kParamDevice) == "nvme";
    if (!has_store && get_optional<double>(kPinned).value_or(0) > 0) {
      notes_.push_back(fmt::format("config: on {} ({}): without effect: nothing is offloaded to NVMe, of which a part could "
                                   "stay in memory; write \"device\": \"nvme\" in \"offload_optimizer\", or leave it out",
                                   shown(kPinned), shown(value(kPinned))));
    }
    check_path_without_device(kPath, kDevice);
    check_path_without_device(kParamPath, kParamDevice);
  }

  void check_path_without_device(std::string_view path, std::string_view device) {
    if (value(path).is_null() || is_given(device) || value(device) != "none") return;
    warnings_.push_back(fmt::format("config: on {} ({}): without effect: {} is not given, which means \"none\"; write "
                                    "\"device\": \"nvme\" beside it", shown(path), shown(value(path)), shown(device)));
  }

  void check_types() {
    const json& wanted = value("data_types.param_dtype");
    const std::string_view type = is_true("fp16.enabled") ? "fp16" : is_true("bf16.enabled") ? "bf16" : "fp32";
    if (wanted.is_null() || wanted == type) return;
    refuse("data_types.param_dtype",
           "fp16.enabled and bf16.enabled make parameters {}; switch one of them or leave param_dtype out", type);
  }

  static constexpr std::string_view kOptimizer = "optimizer.type";
  static constexpr std::string_view kOptimizerParams = "optimizer.params.";

  // DeepSpeed drops parameters without a type in silence.
  void check_optimizer() {
    for (const ConfigKey& key : config_keys()) {
      if (!key.path.starts_with(kOptimizerParams) || !is_given(key.path)) continue;
      if (value(kOptimizer).is_null()) {
        return refuse(key.path, "optimizer.type is missing; write \"type\": \"AdamW\" beside \"params\"");
      }
      if (applies(key)) continue;
      setting(key.path).why = fmt::format("without effect: {} has no such parameter", get<std::string>(kOptimizer));
      if (asks_for_something(key)) {
        refuse(key.path, "{} has no such parameter; leave it out", get<std::string>(kOptimizer));
      }
    }
    derive_optimizer_params();
  }

  // Whether the optimizer has such a parameter; true for keys that are none.
  bool applies(const ConfigKey& key) {
    if (!key.path.starts_with(kOptimizerParams) || key.status != KeyStatus::honoured) return true;
    const json& type = value(kOptimizer);
    const std::string_view name = key.path.substr(kOptimizerParams.size());
    const auto is_one_of = [&](std::initializer_list<std::string_view> names) {
      return std::find(names.begin(), names.end(), name) != names.end();
    };
    if (type == "External") return false;
    if (is_one_of({"lr", "weight_decay"})) return true;
    if (type == "Lion") return name == "betas";
    if (type == "Adagrad") return is_one_of({"eps", "lr_decay", "initial_accumulator_value"});
    return is_one_of({"betas", "eps", "adam_w_mode", "bias_correction"});
  }

  // The table's defaults are Adam's.
  void derive_optimizer_params() {
    const auto derive = [&](std::string_view path, json fallback) {
      if (!is_given(path)) set_derived(path, std::move(fallback), fmt::format("{}'s default", get<std::string>(kOptimizer)));
    };
    if (value(kOptimizer) == "Lion") derive("optimizer.params.betas", {0.9, 0.99});
    if (value(kOptimizer) != "Adagrad") return;
    derive("optimizer.params.lr", 0.01);
    derive("optimizer.params.eps", 1e-10);
  }

  void check_run_id() {
    const auto run_id = get_optional<std::string>("orlop.run_id");
    if (!run_id) return;
    static constexpr std::string_view kAllowed =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    const bool valid = run_id->find_first_not_of(kAllowed) == std::string::npos && run_id->size() <= 128 &&
                       *run_id != "." && *run_id != "..";
    if (!valid) {
      refuse("orlop.run_id",
             "names a directory; use at most 128 letters, digits, '.', '_', '-', and not only dots");
    }
  }

  void check_loss_scale() {
    if (!is_true("fp16.enabled") || get<double>("fp16.loss_scale") != 0) return;
    if (get<double>("fp16.min_loss_scale") == 0) {
      refuse("fp16.min_loss_scale", "a dynamic loss scale cannot fall to 0; write a number above 0, usually 1");
    }
    if (get<std::uint64_t>("fp16.loss_scale_window") == 0) {
      refuse("fp16.loss_scale_window", "a dynamic loss scale cannot double after 0 steps; write at least 1, usually 1000");
    }
  }

  static constexpr std::string_view kNonFinite = "orlop.non_finite";

  void derive_non_finite() {
    if (is_given(kNonFinite) || !is_true("bf16.enabled") || is_true("bf16.check_grad_overflow")) return;
    set_derived(kNonFinite, "apply", "bf16.check_grad_overflow is false");
  }

  // ---- Reporting ----

  void report_unknown_keys() {
    const bool strict = is_true("orlop.strict_config");
    for (std::size_t i = 0; i < std::min(unknown_.size(), kMaxUnknownKeys); ++i) {
      const std::string nearest = nearest_config_key(unknown_[i]);
      std::string sentence =
          fmt::format("config: on {}: unknown key{}{}", shown(unknown_[i]), strict ? "" : ", ignored",
                      nearest.empty() ? "" : fmt::format("; did you mean {}?", shown(nearest)));
      if (strict) {
        problems_.push_back({unknown_[i], std::move(sentence)});
      } else {
        warnings_.push_back(std::move(sentence));
      }
    }
    if (!strict && unknown_.size() > kMaxUnknownKeys) {
      warnings_.push_back(
          fmt::format("config: {} more unknown keys, ignored", unknown_.size() - kMaxUnknownKeys));
    }
  }

  [[nodiscard]] tl::unexpected<Error> first_problem() const {
    static constexpr std::size_t kMaxNamed = 8;
    std::string others;
    for (std::size_t i = 1; i < std::min(problems_.size(), kMaxNamed); ++i) {
      others += fmt::format("{}{}", i == 1 ? "" : ", ", shown(problems_[i].key));
    }
    if (problems_.size() > kMaxNamed) others += ", ...";
    const std::string tail =
        others.empty() ? "" : fmt::format(" (and {} more: on {})", problems_.size() - 1, others);
    return fail(ORLOP_INVALID_CONFIG, "{}{}", problems_.front().sentence, tail);
  }

  // Keys without effect for the same reason share a note.
  void note_what_has_no_effect() {
    std::vector<std::pair<std::string_view, std::string>> keys_of_reason;
    for (const ConfigKey& key : config_keys()) {
      if (key.status != KeyStatus::noted || !is_given(key.path) || !asks_for_something(key)) continue;
      setting(key.path).why = fmt::format("without effect: {}", key.remark);
      const auto same = std::find_if(keys_of_reason.begin(), keys_of_reason.end(),
                                     [&](const auto& entry) { return entry.first == key.remark; });
      if (same == keys_of_reason.end()) {
        keys_of_reason.emplace_back(key.remark, shown(key.path));
      } else {
        same->second += fmt::format(", {}", shown(key.path));
      }
    }
    for (const auto& [reason, keys] : keys_of_reason) {
      notes_.push_back(fmt::format("config: on {}: without effect: {}", keys, reason));
    }
  }

  // ---- The result ----

  Config config() {
    Config config;
    config.train_batch_size = get_optional<std::uint64_t>(kTrain);
    config.micro_batch_size = get_optional<std::uint64_t>(kMicro);
    config.gradient_accumulation_steps = get<std::uint32_t>(kSteps);
    config.counts_micro_batches = is_true("managed_gradient_accumulation");
    config.gradient_clipping = get<double>("gradient_clipping");
    config.steps_per_print = get_optional<std::uint64_t>("steps_per_print");
    config.dtype = is_true("fp16.enabled") ? ORLOP_F16 : is_true("bf16.enabled") ? ORLOP_BF16 : ORLOP_F32;
    if (config.dtype == ORLOP_F16) config.fp16 = fp16_settings();
    config.zero_stage = get<int>("zero_optimization.stage");
    if (!value(kOptimizer).is_null()) config.optimizer = optimizer_settings();
    fill_offload(config);
    fill_own(config);
    config.entries = entries();
    config.notes = std::move(notes_);
    config.warnings = std::move(warnings_);
    return config;
  }

  Fp16Settings fp16_settings() {
    return {.loss_scale = get<double>("fp16.loss_scale"),
            .initial_scale_power = get<std::uint32_t>("fp16.initial_scale_power"),
            .loss_scale_window = get<std::uint64_t>("fp16.loss_scale_window"),
            .hysteresis = get<std::uint64_t>("fp16.hysteresis"),
            .consecutive_hysteresis = is_true("fp16.consecutive_hysteresis"),
            .min_loss_scale = get<double>("fp16.min_loss_scale"),
            .auto_cast = is_true("fp16.auto_cast")};
  }

  OptimizerType optimizer_type() {
    const json& type = value(kOptimizer);
    return type == "Adagrad"    ? OptimizerType::adagrad
           : type == "Lion"     ? OptimizerType::lion
           : type == "External" ? OptimizerType::external
                                : OptimizerType::adam;
  }

  OptimizerSettings optimizer_settings() {
    const json& betas = value("optimizer.params.betas");
    const bool as_adam_w = value(kOptimizer) == "AdamW" || is_true("optimizer.params.adam_w_mode");
    const OptimizerType type = optimizer_type();
    return {.type = type,
            .lr = get<double>("optimizer.params.lr"),
            .beta1 = betas[0].get<double>(),
            .beta2 = betas[1].get<double>(),
            .eps = get<double>("optimizer.params.eps"),
            .weight_decay = get<double>("optimizer.params.weight_decay"),
            .decoupled_decay = type == OptimizerType::lion || (type == OptimizerType::adam && as_adam_w),
            .bias_correction = is_true("optimizer.params.bias_correction"),
            .lr_decay = get<double>("optimizer.params.lr_decay"),
            .initial_accumulator = get<double>("optimizer.params.initial_accumulator_value")};
  }

  OffloadDevice offload_device(std::string_view path) {
    const json& device = value(path);
    return device == "nvme" ? OffloadDevice::nvme : device == "cpu" ? OffloadDevice::cpu : OffloadDevice::none;
  }

  void fill_offload(Config& config) {
    config.offload_optimizer = offload_device(kDevice);
    if (value(kDevice) == "nvme" || value(kParamDevice) == "nvme") {
      const json& paths = value(kPath).is_null() ? value(kParamPath) : value(kPath);
      if (paths.is_string()) config.nvme_paths = {paths.get<std::string>()};
      if (paths.is_array()) config.nvme_paths = paths.get<std::vector<std::string>>();
    }
    config.slab_count = get_optional<unsigned>(kSlabs).value_or(0);
    config.offload_param = offload_device(kParamDevice);
    config.param_slab_count = get_optional<unsigned>(kParamSlabs).value_or(0);
    for (const std::string_view path : kBlockKeys) {
      config.block_elements = std::min(config.block_elements, get_optional<std::uint64_t>(path).value_or(UINT64_MAX));
    }
    config.prefetch_elements = get<std::uint64_t>("zero_optimization.stage3_prefetch_bucket_size");
    config.max_live_elements = get_optional<std::uint64_t>("zero_optimization.stage3_max_live_parameters");
    config.max_reuse_distance_elements = get_optional<std::uint64_t>("zero_optimization.stage3_max_reuse_distance");
    config.max_in_cpu_elements = get_optional<std::uint64_t>("zero_optimization.offload_param.max_in_cpu");
    config.param_persistence_elements = get<std::uint64_t>("zero_optimization.stage3_param_persistence_threshold");
    config.model_persistence_elements = get<std::uint64_t>("zero_optimization.stage3_model_persistence_threshold");
    config.aio = {.request_bytes = get_optional<std::uint64_t>("aio.block_size"),
                  .queue_depth = get_optional<unsigned>("aio.queue_depth"),
                  .thread_count = get_optional<unsigned>("aio.intra_op_parallelism")};
  }

  NonFinite non_finite() {
    const json& given = value(kNonFinite);
    return given == "stop" ? NonFinite::stop : given == "apply" ? NonFinite::apply : NonFinite::skip;
  }

  void fill_own(Config& config) {
    config.queue = get_optional<std::string>("orlop.queue");
    config.memory = {.host = get_optional<std::uint64_t>("orlop.memory.host"),
                     .device = get_optional<std::uint64_t>("orlop.memory.device"),
                     .nvme = get_optional<std::uint64_t>("orlop.memory.nvme"),
                     .pinned = get_optional<double>("orlop.memory.pinned"),
                     .activations = get_optional<std::uint64_t>("orlop.memory.activations").value_or(0)};
    config.non_finite = non_finite();
    config.trace = is_true("orlop.trace");
    config.unit_elements = get<std::uint64_t>("orlop.unit_elements");
    config.thread_count = get<unsigned>("orlop.threads");
    config.run_id = get_optional<std::string>("orlop.run_id");
  }

  // Without an optimizer its parameters say nothing.
  std::vector<ConfigEntry> entries() {
    std::vector<ConfigEntry> entries;
    const bool with_optimizer = !value("optimizer.type").is_null();
    for (const ConfigKey& key : config_keys()) {
      if (key.type == KeyType::block || (!with_optimizer && key.path.starts_with("optimizer."))) continue;
      const Setting& row = setting(key.path);
      entries.push_back({std::string(key.path), row.value, row.origin, row.why});
    }
    return entries;
  }

  std::uint64_t world_size_;
  std::vector<Setting> settings_;  // parallel to config_keys()
  std::vector<std::string> unknown_;
  std::vector<Problem> problems_;
  std::vector<std::string> notes_;
  std::vector<std::string> warnings_;
};

std::string_view name_of(ConfigOrigin origin) {
  switch (origin) {
    case ConfigOrigin::file:
      return "file";
    case ConfigOrigin::defaulted:
      return "default";
    case ConfigOrigin::derived:
      return "derived";
  }
  return "";
}

json::json_pointer pointer_of(std::string path) {
  std::replace(path.begin(), path.end(), '.', '/');
  return json::json_pointer("/" + path);
}

}  // namespace

Result<> Config::replace_optimizer(std::string_view block) {
  TRY_ASSIGN(Config other, resolve_config(fmt::format(R"({{"optimizer": {}}})", block), 1));
  const auto is_optimizers = [](const ConfigEntry& entry) { return entry.key.starts_with("optimizer."); };
  optimizer = other.optimizer;
  const auto at = entries.erase(std::remove_if(entries.begin(), entries.end(), is_optimizers), entries.end());
  std::copy_if(other.entries.begin(), other.entries.end(), std::inserter(entries, at), is_optimizers);
  return {};
}

json Config::to_json() const {
  json values = json::object();
  json listed = json::array();
  for (const ConfigEntry& entry : entries) {
    values[pointer_of(entry.key)] = entry.value;
    listed.push_back(
        {{"key", entry.key}, {"value", entry.value}, {"origin", name_of(entry.origin)}, {"why", entry.why}});
  }
  return {{"values", std::move(values)}, {"entries", std::move(listed)}, {"notes", notes}, {"warnings", warnings}};
}

Result<Config> resolve_config(std::string_view text, int world_size) {
  if (world_size < 0) {
    return fail(ORLOP_INVALID_ARGUMENT, "world_size: {}: must be at least 1 (0 means 1)", world_size);
  }
  TRY_ASSIGN(const json document, read_config_text(text));
  return Resolver(std::max(world_size, 1)).run(document);
}

}  // namespace orlop
