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
#include "numa/arena.hpp"
#include "numa/host_memory.hpp"
#include "swap/tiered_states.hpp"
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

constexpr std::uint64_t kMostPlaneSlabs = 256;
constexpr std::uint64_t kLiveElements = 1'000'000'000;  // at most, where neither a budget nor a limit says it: DeepSpeed's

std::uint64_t block_elements(const Config& config) { return std::min(kBlockElements, config.block_elements); }

Accumulation accumulation_of(const Config& config) {
  return config.gradient_accumulation_steps == 1 ? Accumulation::single : Accumulation::several;
}

int group_count_of(const std::vector<ParamSpec>& params) {
  int count = 1;
  for (const ParamSpec& param : params) count = std::max(count, param.group + 1);
  return count;
}

std::uint64_t trainable_elements(const std::vector<ParamSpec>& params) {
  std::uint64_t elements = 0;
  for (const ParamSpec& param : params) elements += param.training == Training::trainable ? param.numel : 0;
  return elements;
}

// What saving or loading a checkpoint takes: buffers, and a copy of the sums of all chunks.
std::uint64_t checkpoint_bytes(const std::vector<BlockUse>& blocks) {
  std::uint64_t chunks = 0;
  for (const auto& block : blocks) chunks += swap::chunk_count(block.spec);
  return std::max(DataFileWriter::buffer_bytes(), SavedPlanes::buffer_bytes()) + chunks * kSavedPlanes * sizeof(std::uint64_t);
}

// Enough to hold what may be read ahead and one that is copied from; not more than there are blocks to read.
SlabRange plane_slabs(const Config& config, std::span<const BlockUse> blocks) {
  const std::uint64_t stored = fetched_blocks(blocks, least_residence(blocks));
  if (stored == 0) return {0, 0};
  if (config.param_slab_count != 0) return {config.param_slab_count, config.param_slab_count};
  const std::uint64_t ahead = divide_up(config.prefetch_elements, block_elements(config)) + 1;
  const std::uint64_t most = std::clamp<std::uint64_t>(std::min(ahead, stored), swap::kMinimumPlaneSlabs, kMostPlaneSlabs);
  return {swap::kMinimumPlaneSlabs, static_cast<unsigned>(most)};
}

std::uint64_t stored_units(const UnitPlan& plan) {
  return static_cast<std::uint64_t>(std::ranges::count(plan.units, Home::store, &Unit::home));
}

std::uint64_t stored_bytes(const Unit& unit) { return unit.home == Home::store ? unit.content * bytes_of(unit.dtype) : 0; }

// The most elements of the store that may be in memory, as far as the configuration says it.
std::uint64_t live_limit(const Config& config, bool on_host) {
  const std::uint64_t in_cpu = on_host ? config.max_in_cpu_elements.value_or(PlanLimits::kNone) : PlanLimits::kNone;
  const bool has_budget = on_host ? config.memory.host.has_value() : config.memory.device.has_value();
  const std::uint64_t by_default = has_budget || in_cpu != PlanLimits::kNone ? PlanLimits::kNone : kLiveElements;
  return std::min(in_cpu, config.max_live_elements.value_or(by_default));
}

// The elements of the store that may be in memory, in bytes.
std::uint64_t most_live_bytes(const UnitPlan& plan, std::uint64_t limit) {
  std::uint64_t bytes = 0;
  for (const Unit& unit : plan.units) {
    if (unit.home == Home::memory) continue;
    const std::uint64_t within = std::min(unit.content, limit);
    limit -= within;
    bytes += within * bytes_of(unit.dtype);
  }
  return bytes;
}

// What is in use at once has to fit: units that are held while others are used, and the largest of the others. All units,
// or what the limits say, may.
LiveDemand live_demand(const Config& config, const UnitPlan& plan, std::span<const ParamSpec> params, bool on_host) {
  LiveDemand live;
  live.is_on_host = on_host;
  std::uint64_t largest = 0;
  for (const Unit& unit : plan.units) {
    const bool is_held = std::ranges::any_of(unit.params, [&](auto id) { return params[id].is_held; });
    if (is_held) live.held_bytes += stored_bytes(unit);
    if (is_held || stored_bytes(unit) <= largest) continue;
    largest = stored_bytes(unit);
    live.largest = params[*std::ranges::max_element(unit.params, {}, [&](auto id) { return params[id].numel; })].name;
  }
  live.least_bytes = live.held_bytes + largest;
  live.most_bytes = std::max(live.least_bytes, most_live_bytes(plan, live_limit(config, on_host)));
  return live;
}

// By unit: what of its parameters is not in host memory for good.
std::vector<std::uint64_t> bytes_to_fetch(const UnitPlan& plan, std::span<const Block> blocks, const Residence& residence) {
  std::vector<std::uint64_t> bytes(plan.units.size());
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    const Unit& unit = plan.units[blocks[i].unit];
    const bool is_read = unit.home == Home::store && !residence[i].contains(param_plane(unit.dtype));
    if (is_read) bytes[blocks[i].unit] += blocks[i].range.size() * bytes_of(unit.dtype);
  }
  return bytes;
}

// Bytes become elements of the widest type there is.
PlanLimits plan_limits(const Config& config, const UnitPlan& plan, std::uint64_t live_bytes, bool on_host) {
  std::uint64_t widest = 1;
  for (const Unit& unit : plan.units) {
    if (unit.home == Home::store) widest = std::max(widest, bytes_of(unit.dtype));
  }
  return {.max_live_elements = std::min(live_limit(config, on_host), live_bytes / widest),
          .max_reuse_distance_elements = config.max_reuse_distance_elements.value_or(PlanLimits::kNone),
          .prefetch_elements = config.prefetch_elements};
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

// Small parameters stay where they are: fetching them costs more than the room they take.
void Engine::choose_homes() {
  const Config& config = options_.config;
  const bool is_away = config.offload_param == OffloadDevice::nvme ||
                       (config.offload_param == OffloadDevice::cpu && !device_->is_host_addressable());
  if (!is_away) return;
  std::uint64_t kept = 0;
  for (ParamSpec& param : params_) {
    const bool is_small = param.numel <= config.param_persistence_elements &&
                          param.numel <= config.model_persistence_elements - kept;
    if (is_small) kept += param.numel;
    param.home = is_small ? Home::memory : Home::store;
  }
}

std::uint64_t Engine::model_bytes(const UnitPlan& units) const {
  return FlatBuffers::bytes_needed(units, accumulation_of(options_.config), device_->is_host_addressable()).host;
}

std::vector<Block> Engine::cut(const UnitPlan& units) const {
  return cut_blocks(units, communicator_->rank(), communicator_->world_size(), block_elements(options_.config));
}

Result<MemoryPlan> Engine::plan_memory(const UnitPlan& units, const std::vector<Block>& blocks, Against against) const {
  const Config& config = options_.config;
  const bool on_host = device_->is_host_addressable();
  const auto uses = block_uses(config, units, blocks, groups_.optimizer());
  const MemoryDemand demand{
      .flat = FlatBuffers::bytes_needed(units, accumulation_of(config), on_host),
      .table_bytes = GradFlow::bytes_needed(params_.size()) + checkpoint_bytes(uses) +
                     UnitFlow::table_bytes(stored_units(units)),
      .blocks = uses,
      .slab_count = config.slab_count,
      .plane_slabs = plane_slabs(config, uses),
      .pinned = config.memory.pinned,
      .drive_count = config.nvme_paths.size(),
      .live = live_demand(config, units, params_, on_host),
  };
  MemoryLimits limits{
      .host_budget = config.memory.host,
      .nvme_budget = config.memory.nvme,
      .device_budget = config.memory.device,
      .host_available = UINT64_MAX,
      .device_available = UINT64_MAX,
  };
  if (against == Against::this_machine) {
    TRY_ASSIGN(const numa::HostMemory host, numa::host_memory());
    limits.host_available = host.available_bytes;
    limits.device_available = on_host ? 0 : device_->free_bytes().value_or(0);
  }
  return zero3::plan_memory(demand, limits);
}

Result<std::unique_ptr<swap::States>> Engine::make_states(const MemoryPlan& memory,
                                                          const std::vector<swap::BlockSpec>& specs) {
  const Config& config = options_.config;
  swap::NvmeOptions nvme;
  nvme.nvme_paths = config.nvme_paths;
  nvme.run_id = options_.run_id;
  nvme.rank = communicator_->rank();
  if (config.queue) {
    TRY_ASSIGN(nvme.queue, aio::queue_kind_of(*config.queue));
  }
  nvme.overrides = {config.aio.request_bytes, config.aio.queue_depth};
  nvme.slab_count = memory.slab_count;
  nvme.plane_slab_count = memory.plane_slab_count;
  nvme.thread_count = config.aio.thread_count.value_or(0);
  nvme.checksums =
      options_.arithmetic == Arithmetic::left_out ? swap::Checksums::left_out : options_.checksums;
  nvme.limit_bytes = config.memory.nvme.value_or(UINT64_MAX);
  nvme.trace = &trace_;
  nvme.cancel = &cancelled_;
  return swap::make_tiered_states(topology_, specs, memory.residence, nvme);
}

Result<> Engine::commit() {
  const std::lock_guard lock(mutex_);
  if (phase_ != Phase::registering) {
    return fail(ORLOP_OUT_OF_ORDER, "commit: on an engine that is committed already: open another");
  }
  if (params_.empty()) return fail(ORLOP_OUT_OF_ORDER, "commit: on 0 parameters: register at least one first");
  auto committed = std::make_unique<Committed>();
  Committed& c = *committed;
  choose_homes();
  TRY_ASSIGN(c.units, plan_units(params_, options_.config.unit_elements));
  c.blocks = cut(c.units);
  c.group_count = group_count_of(params_);
  TRY_ASSIGN(c.memory, plan_memory(c.units, c.blocks, Against::this_machine));
  if (const auto& paths = options_.config.nvme_paths; !paths.empty()) {  // to be told of even if there is room in memory
    TRY(swap::check_nvme_paths(paths, c.memory.states.nvme_bytes));
  }
  c.model_bytes = model_bytes(c.units);
  say_plan(c);
  if (options_.config.trace) trace_.start();
  TRY(allocate(c));
  committed_ = std::move(committed);
  phase_ = Phase::ready;
  return {};
}

// Every tier's bytes, before any is taken.
void Engine::say_plan(const Committed& c) const {
  const MemoryPlan& plan = c.memory;
  const auto& budget = options_.config.memory.host;
  const std::uint64_t staging = plan.states.staging_bytes;
  const std::uint64_t live = device_->is_host_addressable() ? plan.live_bytes : 0;
  const std::uint64_t states = plan.states.host_bytes - staging;
  log_info("engine: {} parameters in {} units and {} blocks", trainable_elements(params_), c.units.units.size(), c.blocks.size());
  log_info("memory: host {} bytes{}: parameters and gradients {}, units of the store {}, states {}, staging {}, engine {}; "
           "device {}; NVMe {}; {:.1f} % of what is offloaded has room in memory",
           plan.host_bytes, budget ? fmt::format(" of {}", *budget) : "", c.model_bytes, live, states, staging,
           plan.host_bytes - c.model_bytes - live - states - staging, plan.device_bytes, plan.states.nvme_bytes,
           plan.pinned_fraction * 100);
}

Result<> Engine::allocate(Committed& c) {
  const Accumulation accumulation = accumulation_of(options_.config);
  TRY_ASSIGN(FlatBuffers buffers, FlatBuffers::create(topology_, *device_, c.units, accumulation));
  c.buffers.emplace(std::move(buffers));
  c.grads.emplace(params_, c.units, *c.buffers, workers_, isa_, options_.config.gradient_accumulation_steps);
  c.live.emplace(c.units, groups_.optimizer(), bytes_to_fetch(c.units, c.blocks, c.memory.residence));
  c.parts.emplace(UpdateParts{c.units, c.blocks, params_, *c.buffers, *c.live, workers_, *device_, isa_,
                              groups_.optimizer(), options_.arithmetic});
  TRY_ASSIGN(Update update, Update::create(*c.parts));
  c.update.emplace(std::move(update));
  TRY_ASSIGN(c.states, make_states(c.memory, block_specs(c.units, c.blocks, groups_.optimizer())));
  c.planes.emplace(*c.parts, *c.states, *c.update);
  if (!c.live->sizes().empty()) {
    c.flow.emplace(*c.parts, *c.states, *c.live, plan_limits(options_.config, c.units, c.memory.live_bytes,
                                                             device_->is_host_addressable()));
  }
  const double initial = options_.config.optimizer.value_or(OptimizerSettings{}).initial_accumulator;
  return initial == 0 ? Result<>{} : c.planes->fill(Plane::exp_avg_sq, static_cast<float>(initial));
}

Result<void*> Engine::address(std::uint32_t id) {
  const std::lock_guard lock(mutex_);
  TRY(expect_ready("parameter address"));
  TRY(expect_param("parameter address", id));
  const Placement& place = committed_->units.placements[id];
  if (committed_->units.units[place.unit].home == Home::store) {
    return fail(ORLOP_OUT_OF_ORDER, "parameter address: on \"{}\": it lives in the store: call orlop_unit_unshard with "
                "memory for its unit {}", params_[id].name, place.unit);
  }
  return static_cast<void*>(committed_->buffers->device_params(place.unit) +
                            place.offset * bytes_of(params_[id].dtype));
}

// ---- Units ----

Result<std::pair<std::uint32_t, std::uint64_t>> Engine::place(std::uint32_t id) {
  const std::lock_guard lock(mutex_);
  TRY(expect_ready("parameter place"));
  TRY(expect_param("parameter place", id));
  const Placement& place = committed_->units.placements[id];
  return std::pair(place.unit, place.offset);
}

Result<Unit> Engine::unit(std::uint32_t unit) {
  const std::lock_guard lock(mutex_);
  TRY(expect_unit("unit", unit));
  return committed_->units.units[unit];
}

Result<> Engine::expect_unit(const char* what, std::uint32_t unit) const {
  TRY(expect_ready(what));
  const std::size_t count = committed_->units.units.size();
  if (unit < count) return {};
  return fail(ORLOP_INVALID_ARGUMENT, "{}: on unit {}: there are {}", what, unit, count);
}

Result<> Engine::expect_stored_unit(const char* what, std::uint32_t unit) const {
  TRY(expect_unit(what, unit));
  const Unit& found = committed_->units.units[unit];
  if (found.home == Home::store) return {};
  return fail(ORLOP_INVALID_ARGUMENT, "{}: on unit {} (\"{}\" and {} more): it is in memory: use orlop_param_address",
              what, unit, params_[found.params.front()].name, found.params.size() - 1);
}

Result<std::vector<std::uint32_t>> Engine::make_room(std::uint32_t unit, std::size_t most) {
  const std::lock_guard lock(mutex_);
  TRY(expect_stored_unit("make room", unit));
  auto evicted = committed_->flow->make_room(unit, most);
  for (const std::uint32_t other : evicted) record_unit("evict", other, now_ns());
  return evicted;
}

Result<> Engine::unshard(std::uint32_t unit, Use use, void* destination, device::Stream stream) {
  const std::lock_guard lock(mutex_);
  TRY(expect_stored_unit("unshard", unit));
  const std::int64_t begin_ns = now_ns();
  auto is_hit = committed_->flow->unshard(unit, use, static_cast<std::byte*>(destination), stream);
  if (!is_hit) return stop_if_failed(tl::unexpected(std::move(is_hit.error())));
  record_unit(*is_hit ? "reuse" : "unshard", unit, begin_ns);
  if (use == Use::access) warn_beyond_limit(unit);
  return {};
}

Result<bool> Engine::reshard(std::uint32_t unit, AfterUse after) {
  const std::lock_guard lock(mutex_);
  TRY(expect_stored_unit("reshard", unit));
  const bool stays = committed_->flow->reshard(unit, after);
  record_unit(stays ? "keep" : "release", unit, now_ns());
  return stays;
}

void Engine::record_unit(const char* what, std::uint32_t unit, std::int64_t begin_ns) {
  trace_.record({what, TraceLane::fetch, unit, stored_bytes(committed_->units.units[unit]), begin_ns, now_ns()});
}

// Limits do not hold for what a program asks for itself; it is told once.
void Engine::warn_beyond_limit(std::uint32_t unit) {
  Committed& c = *committed_;
  const std::uint64_t live = c.live->bytes();
  if (live <= c.memory.live_bytes || std::exchange(c.has_warned_of_live, true)) return;
  log_warning("unshard: on \"{}\", which the program asks for outside a pass: {} bytes of parameters are in memory then, and "
              "{} were planned; gather fewer at once (said once)",
              params_[c.units.units[unit].params.front()].name, live, c.memory.live_bytes);
}

Result<> Engine::read_plane(std::uint32_t id, Plane plane, Range range, Dtype dtype, void* destination) {
  const std::lock_guard lock(mutex_);
  constexpr const char* kWhat = "read parameter";
  TRY(expect_ready(kWhat));
  TRY(expect_param(kWhat, id));
  TRY(expect_range(kWhat, id, plane, range));
  if (plane == Plane::grad && !committed_->grads->has_gradient(id)) {
    return fail(ORLOP_OUT_OF_ORDER, "{}: on the gradient of \"{}\": none was taken since the last step", kWhat,
                params_[id].name);
  }
  return stop_if_failed(committed_->planes->read(id, plane, range, dtype, destination));
}

Result<> Engine::write_plane(std::uint32_t id, Plane plane, Range range, Dtype dtype, const void* source) {
  const std::lock_guard lock(mutex_);
  constexpr const char* kWhat = "write parameter";
  TRY(expect_ready(kWhat));
  TRY(expect_param(kWhat, id));
  TRY(expect_range(kWhat, id, plane, range));
  if (plane == Plane::grad) {
    return fail(ORLOP_INVALID_ARGUMENT, "{}: on the gradient of \"{}\": gradients come through orlop_grad_ready",
                kWhat, params_[id].name);
  }
  make_way_for_changes();
  if (committed_->snapshot) committed_->snapshot->await_all_copied();
  const std::uint32_t unit = committed_->units.placements[id].unit;
  if (committed_->units.units[unit].home == Home::store) committed_->flow->forget_values(unit);
  return stop_if_failed(committed_->planes->write(id, plane, range, dtype, source));
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
  if (committed_ == nullptr) return stats;
  stats.host_bytes = committed_->memory.host_bytes;
  stats.model_bytes = committed_->model_bytes;
  stats.staging_bytes = committed_->memory.states.staging_bytes;
  stats.live_limit_bytes = committed_->memory.live_bytes;
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
