#include "zero3/engine.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <filesystem>
#include <utility>

#include "base/bytes.hpp"
#include "base/clock.hpp"
#include "base/log.hpp"
#include "zero3/committed.hpp"
#include "zero3/digest.hpp"

namespace orlop::zero3 {
namespace {

Result<std::unique_ptr<device::Device>> make_device(const EngineOptions& options) {
  return options.device == device::DeviceKind::cuda ? device::make_cuda_device(options.device_index)
                                                    : device::make_host_device();
}

// "host-4711-20261121T140501": unique on this machine, and says where it came from.
std::string derived_run_id() {
  std::array<char, 64> host{};
  if (::gethostname(host.data(), host.size() - 1) != 0) host[0] = 'h';
  std::string id(host.data());
  std::erase_if(id, [](char c) { return !std::isalnum(static_cast<unsigned char>(c)) && c != '-'; });
  return fmt::format("{}-{}-{:x}", id, ::getpid(), now_ns());
}

kernels::Optimizer optimizer_of(OptimizerType type) {
  switch (type) {
    case OptimizerType::adam: return kernels::Optimizer::adam;
    case OptimizerType::adagrad: return kernels::Optimizer::adagrad;
    case OptimizerType::lion: return kernels::Optimizer::lion;
    case OptimizerType::external: break;
  }
  return kernels::Optimizer::external;
}

kernels::HyperParams hyper_of(const OptimizerSettings& settings) {
  return {.lr = settings.lr,
          .beta1 = settings.beta1,
          .beta2 = settings.beta2,
          .eps = settings.eps,
          .weight_decay = settings.weight_decay,
          .decoupled = settings.decoupled_decay,
          .bias_correction = settings.bias_correction,
          .optimizer = optimizer_of(settings.type),
          .lr_decay = settings.lr_decay};
}

// The program may change its working directory later.
Result<> make_absolute(std::string& path) {
  if (path.empty()) return {};
  std::error_code error;
  const auto absolute = std::filesystem::absolute(path, error).lexically_normal();
  if (error) return fail(status_of_errno(error.value()), "nvme_path: on {}: {}", path, error.message());
  path = absolute.string();
  return {};
}

}  // namespace

Engine::Engine(EngineOptions options, numa::Topology topology, std::unique_ptr<device::Device> device,
               cpu_adam::Isa isa)
    : options_(std::move(options)),
      topology_(std::move(topology)),
      device_(std::move(device)),
      isa_(isa),
      workers_(static_cast<int>(options_.config.thread_count)),
      communicator_(comm::make_self_communicator()),
      groups_(hyper_of(options_.config.optimizer.value_or(OptimizerSettings{}))),
      scaler_(options_.config.fp16),
      background_(std::make_unique<Background>("orlop-step")) {}

Result<std::unique_ptr<Engine>> Engine::open(EngineOptions options) {
  if (options.world_size != 1 || options.rank != 0) {
    return fail(ORLOP_UNSUPPORTED, "open engine: on rank {} of {}: this version runs one rank; use world_size 1",
                options.rank, options.world_size);
  }
  TRY_ASSIGN(numa::Topology topology, numa::Topology::detect());
  TRY_ASSIGN(auto device, make_device(options));
  TRY_ASSIGN(const cpu_adam::Isa isa, cpu_adam::select_isa());
  if (options.run_id.empty()) options.run_id = options.config.run_id.value_or(derived_run_id());
  for (std::string& path : options.config.nvme_paths) TRY(make_absolute(path));
  for (const std::string& note : options.config.notes) log_info("{}", note);
  for (const std::string& warning : options.config.warnings) log_warning("{}", warning);
  return std::unique_ptr<Engine>(new Engine(std::move(options), std::move(topology), std::move(device), isa));
}

Engine::~Engine() {
  cancel();
  background_.reset();  // waits for the step under way
}

// ---- Checks ----

Result<> Engine::expect_ready(const char* what) const {
  switch (phase_) {
    case Phase::ready:
      return {};
    case Phase::registering:
      return fail(ORLOP_OUT_OF_ORDER, "{}: on an engine that is not committed: call orlop_engine_commit first", what);
    case Phase::stepping:
      return fail(ORLOP_OUT_OF_ORDER, "{}: on a step under way: call orlop_step_wait until it is finished first", what);
    case Phase::loading:
      return fail(ORLOP_OUT_OF_ORDER, "{}: on a checkpoint being loaded: call orlop_checkpoint_wait until it is finished "
                  "first", what);
    case Phase::stopped:
      return tl::unexpected<Error>(*stop_error_);
  }
  return {};
}

Result<> Engine::expect_param(const char* what, std::uint32_t id) const {
  if (id < params_.size()) return {};
  return fail(ORLOP_INVALID_ARGUMENT, "{}: on parameter {}: only {} are registered", what, id, params_.size());
}

Result<> Engine::expect_range(const char* what, std::uint32_t id, Plane plane, Range range) const {
  const ParamSpec& param = params_[id];
  if (range.begin > range.end || range.end > param.numel) {
    return fail(ORLOP_INVALID_ARGUMENT, "{}: on \"{}\" (elements {} to {}): it has {}", what, param.name, range.begin,
                range.end, param.numel);
  }
  if (param.training == Training::frozen && plane != Plane::param) {
    return fail(ORLOP_INVALID_ARGUMENT, "{}: on \"{}\": it is frozen and has only the PARAM plane", what, param.name);
  }
  if (!has_plane(groups_.optimizer(), plane)) {
    return fail(ORLOP_INVALID_ARGUMENT, "{}: on \"{}\": the optimizer {} has no {} plane", what, param.name,
                name_of(groups_.optimizer()), plane == Plane::exp_avg ? "EXP_AVG" : "EXP_AVG_SQ");
  }
  return {};
}

// ---- Registering and committing ----

Result<std::uint32_t> Engine::register_param(ParamSpec spec) {
  const std::lock_guard lock(mutex_);
  constexpr const char* kWhat = "register parameter";
  if (phase_ != Phase::registering) {
    return fail(ORLOP_OUT_OF_ORDER, "{}: on \"{}\": the engine is committed already", kWhat, spec.name);
  }
  if (spec.name.empty()) return fail(ORLOP_INVALID_ARGUMENT, "{}: on parameter {}: it has no name", kWhat, params_.size());
  if (spec.numel == 0) return fail(ORLOP_INVALID_ARGUMENT, "{}: on \"{}\": it has 0 elements", kWhat, spec.name);
  TRY(groups_.get(spec.group));
  if (!names_.insert(spec.name).second) {
    return fail(ORLOP_INVALID_ARGUMENT, "{}: on \"{}\": that name is registered already; register a tied parameter once",
                kWhat, spec.name);
  }
  params_.push_back(std::move(spec));
  return static_cast<std::uint32_t>(params_.size() - 1);
}

// ---- Groups ----

Result<kernels::HyperParams> Engine::group(int group) {
  const std::lock_guard lock(mutex_);
  return groups_.get(group);
}

Result<> Engine::set_group(int group, const kernels::HyperParams& hyper) {
  const std::lock_guard lock(mutex_);
  if (phase_ == Phase::stepping) return expect_ready("set optimizer group");
  return groups_.set(group, hyper);
}

// ---- Seeing ----

EngineStats Engine::stats() {
  const std::lock_guard lock(mutex_);
  EngineStats stats = stats_;
  stats.params = trainable_elements(params_);
  stats.host_budget_bytes = options_.config.memory.host.value_or(0);
  stats.loss_scale_good_steps = scaler_.state().good_steps;
  stats.loss_scale_overflows_left = scaler_.state().overflows_left;
  if (committed_ == nullptr) return stats;
  stats.host_bytes = committed_->memory.host_bytes;
  stats.model_bytes = committed_->model_bytes;
  stats.staging_bytes = committed_->memory.states.staging_bytes;
  stats.live_limit_bytes = committed_->memory.live_bytes;
  stats.activation_bytes = committed_->memory.activation_bytes;
  stats.live_bytes = committed_->live->bytes();
  if (committed_->flow) {
    stats.unit_hits = committed_->flow->total().hits;
    stats.unit_fetches = committed_->flow->total().fetches;
    stats.unexpected_uses = committed_->flow->differing();
  }
  stats.nvme_bytes = committed_->states->use().nvme_bytes;  // grows with checkpoints that are kept
  if (phase_ != Phase::stepping) {  // what was written back since the last step's report
    const swap::Traffic traffic = committed_->states->traffic();
    stats.nvme_read_bytes += traffic.read_bytes - committed_->reported.read_bytes;
    stats.nvme_write_bytes += traffic.write_bytes - committed_->reported.write_bytes;
  }
  return stats;
}

std::vector<swap::DriveUse> Engine::drives() {
  const std::lock_guard lock(mutex_);
  return committed_ == nullptr ? std::vector<swap::DriveUse>{} : committed_->states->by_drive();
}

Result<std::uint64_t> Engine::digest() {
  const std::lock_guard lock(mutex_);
  TRY(expect_ready("digest"));
  return zero3::digest(*committed_->parts, *committed_->update, *committed_->states, cancelled_);
}

Result<> Engine::write_trace(const std::string& path) {
  const std::lock_guard lock(mutex_);
  TRY(expect_ready("write trace"));
  if (!trace_.is_recording()) {
    return fail(ORLOP_OUT_OF_ORDER, "write trace: on {}: nothing was recorded; set \"orlop\": {{\"trace\": true}}", path);
  }
  TRY(committed_->states->drain(-1));
  return trace_.write(path);
}

Result<> Engine::drain(int timeout_ms) {
  const std::lock_guard lock(mutex_);
  TRY(expect_ready("drain"));
  return stop_if_failed(committed_->states->drain(timeout_ms));
}

Result<> Engine::finish() {
  cancel_step();
  const Result<> saved = finish_save();  // a checkpoint that was begun is worth waiting for
  const std::lock_guard lock(mutex_);
  if (committed_ == nullptr || phase_ == Phase::stopped) return saved;
  const Result<> drained = committed_->states->drain(-1);
  return drained ? saved : drained;
}

}  // namespace orlop::zero3
