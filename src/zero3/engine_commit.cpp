// The engine's plan of memory, and what it allocates by it.
#include <algorithm>
#include <numeric>
#include <utility>

#include "base/bytes.hpp"
#include "base/log.hpp"
#include "numa/host_memory.hpp"
#include "swap/nvme_paths.hpp"
#include "swap/tiered_states.hpp"
#include "zero3/committed.hpp"
#include "zero3/contradictions.hpp"
#include "zero3/live_demand.hpp"

namespace orlop::zero3 {
namespace {

constexpr std::uint64_t kMostPlaneSlabs = 256;

std::uint64_t block_elements(const Config& config) { return std::min(kBlockElements, config.block_elements); }

Accumulation accumulation_of(const Config& config) {
  const bool is_single = config.counts_micro_batches && config.gradient_accumulation_steps == 1;
  return is_single ? Accumulation::single : Accumulation::several;
}

int group_count_of(const std::vector<ParamSpec>& params) {
  int count = 1;
  for (const ParamSpec& param : params) count = std::max(count, param.group + 1);
  return count;
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

// A budget that the machine does not have would let everything be planned that kills the program.
std::optional<std::uint64_t> budget_within(const numa::HostMemory& host, std::optional<std::uint64_t> budget) {
  if (!budget || *budget <= host.total_bytes) return budget;
  log_warning("config: on \"orlop.memory.host\" ({} bytes): this machine or its cgroup has {} in all, of which {} are free now "
              "and planned with; write at most that", *budget, host.total_bytes, host.available_bytes);
  return host.available_bytes;
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

}  // namespace

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
      .activation_bytes = config.memory.activations,
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
    limits.host_budget = budget_within(host, limits.host_budget);
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
  say_contradictions(c);
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
  log_info("memory: host {} bytes{}: parameters and gradients {}, units of the store {}, activations {}, states {}, staging {}, "
           "engine {}; device {}; NVMe {}; {:.1f} % of what is offloaded has room in memory",
           plan.host_bytes, budget ? fmt::format(" of {}", *budget) : "", c.model_bytes, live, plan.activation_bytes, states, staging,
           plan.host_bytes - c.model_bytes - live - plan.activation_bytes - states - staging, plan.device_bytes, plan.states.nvme_bytes,
           plan.pinned_fraction * 100);
}

void Engine::say_contradictions(const Committed& c) const {
  const LiveDemand live = live_demand(options_.config, c.units, params_, device_->is_host_addressable());
  const auto to_fetch = bytes_to_fetch(c.units, c.blocks, c.memory.residence);
  const std::uint64_t fetched = std::accumulate(to_fetch.begin(), to_fetch.end(), std::uint64_t{0});
  const std::uint64_t stored = std::max(fetched, live_bytes_within(c.units, PlanLimits::kNone));
  for (const auto& sentence : contradictions(options_.config, c.units, params_, live, stored - fetched + c.memory.live_bytes)) {
    log_warning("{}", sentence);
  }
}

Result<> Engine::allocate(Committed& c) {
  const Accumulation accumulation = accumulation_of(options_.config);
  TRY_ASSIGN(FlatBuffers buffers, FlatBuffers::create(topology_, *device_, c.units, accumulation));
  c.buffers.emplace(std::move(buffers));
  c.grads.emplace(params_, c.units, *c.buffers, workers_, isa_, options_.config.gradient_accumulation_steps);
  if (!options_.config.counts_micro_batches) c.grads->set_boundary(Boundary::not_yet);
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

}  // namespace orlop::zero3
