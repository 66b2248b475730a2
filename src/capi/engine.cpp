// The calls on an engine: argument checks and conversions, nothing else.
#include <algorithm>
#include <string_view>
#include <tuple>

#include "capi/groups.hpp"
#include "capi/handle.hpp"

using namespace orlop;
using capi::dtype_of;
using capi::not_null;
using capi::plane_of;
using capi::with_engine;

namespace {

Result<> check_run_id(std::string_view id) {
  constexpr std::string_view kAllowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
  const bool valid = !id.empty() && id.size() <= 200 && id.front() != '.' &&
                     id.find_first_not_of(kAllowed) == std::string_view::npos;
  if (valid) return {};
  return fail(ORLOP_INVALID_ARGUMENT, "open engine: on run id \"{}\": must be 1 to 200 letters, digits, '.', '_' or '-', "
              "not beginning with '.'", id);
}

Result<zero3::EngineOptions> options_of(const orlop_engine_params& given) {
  constexpr const char* kCall = "open engine";
  zero3::EngineOptions options;
  options.rank = given.rank;
  options.world_size = given.world_size == 0 ? 1 : given.world_size;
  TRY_ASSIGN(options.device, capi::device_kind_of(kCall, given.device_kind));
  options.device_index = given.device_index;
  TRY_ASSIGN(options.config, resolve_config(given.config_json == nullptr ? "{}" : given.config_json,
                                          options.world_size));
  if (given.optimizer_json != nullptr) TRY(options.config.replace_optimizer(given.optimizer_json));
  if (given.run_id != nullptr) options.run_id = given.run_id;
  const std::string& run_id = options.run_id.empty() ? options.config.run_id.value_or("") : options.run_id;
  if (!run_id.empty() || given.run_id != nullptr) TRY(check_run_id(run_id));
  return options;
}

Result<zero3::ParamSpec> spec_of(const orlop_param_desc& given) {
  constexpr const char* kCall = "register parameter";
  TRY(not_null(kCall, "its name", given.name));
  TRY_ASSIGN(const zero3::Dtype dtype, dtype_of(kCall, given.dtype));
  if ((given.flags & ~static_cast<uint32_t>(ORLOP_PARAM_FROZEN | ORLOP_PARAM_HELD)) != 0) {
    return fail(ORLOP_INVALID_ARGUMENT, "{}: on \"{}\" (flags {:#x}): only ORLOP_PARAM_FROZEN and _HELD are known", kCall,
                given.name, given.flags);
  }
  const auto training =
      (given.flags & ORLOP_PARAM_FROZEN) != 0 ? zero3::Training::frozen : zero3::Training::trainable;
  zero3::ParamSpec spec{given.name, dtype, given.numel, given.group, given.module, training};
  spec.is_held = (given.flags & ORLOP_PARAM_HELD) != 0;
  return spec;
}

orlop_step_report report_of(const zero3::StepReport& r) {
  orlop_step_report out{};
  out.skipped = r.skipped ? 1 : 0;
  out.step = r.step;
  out.skipped_steps = r.skipped_steps;
  out.grad_norm = r.grad_norm;
  out.clip_factor = r.clip_factor;
  out.seconds = r.seconds;
  out.exposed_io_seconds = r.exposed_io_seconds;
  out.hidden_io_seconds = r.hidden_io_seconds;
  out.adam_seconds = r.adam_seconds;
  out.nvme_read_bytes = r.nvme_read_bytes;
  out.nvme_write_bytes = r.nvme_write_bytes;
  out.loss_scale = r.loss_scale;
  out.unit_wait_seconds = r.unit_wait_seconds;
  out.unit_copy_seconds = r.unit_copy_seconds;
  return out;
}

orlop_stats stats_of(const zero3::EngineStats& s) {
  orlop_stats out{};
  out.params = s.params;
  out.steps = s.steps;
  out.skipped_steps = s.skipped_steps;
  out.host_budget_bytes = s.host_budget_bytes;
  out.host_bytes = s.host_bytes;
  out.model_bytes = s.model_bytes;
  out.staging_bytes = s.staging_bytes;
  out.nvme_bytes = s.nvme_bytes;
  out.nvme_read_bytes = s.nvme_read_bytes;
  out.nvme_write_bytes = s.nvme_write_bytes;
  out.exposed_io_seconds = s.exposed_io_seconds;
  out.hidden_io_seconds = s.hidden_io_seconds;
  out.adam_seconds = s.adam_seconds;
  out.step_seconds = s.step_seconds;
  out.live_limit_bytes = s.live_limit_bytes;
  out.live_bytes = s.live_bytes;
  out.unit_hits = s.unit_hits;
  out.unit_fetches = s.unit_fetches;
  out.unexpected_uses = s.unexpected_uses;
  out.loss_scale_good_steps = s.loss_scale_good_steps;
  out.loss_scale_overflows_left = s.loss_scale_overflows_left;
  out.unit_wait_seconds = s.unit_wait_seconds;
  out.unit_copy_seconds = s.unit_copy_seconds;
  out.activation_bytes = s.activation_bytes;
  return out;
}

// What can be refused is refused before the step is begun or its result taken.
Result<> check_report(const orlop_step_report* report) {
  return report == nullptr ? Result<>{} : capi::check_struct_size("step", report->struct_size);
}

Result<> wait_for_step(zero3::Engine& engine, int32_t timeout_ms, orlop_step_report* report) {
  TRY(check_report(report));
  TRY_ASSIGN(const zero3::StepReport done, engine.step_wait(timeout_ms));
  return report == nullptr ? Result<>{} : capi::fill_struct("wait for step", report, report_of(done));
}

}  // namespace

extern "C" {

orlop_status orlop_engine_open(const orlop_engine_params* params, orlop_engine** engine) {
  return capi::guarded([&]() -> Result<> {
    TRY(not_null("open engine", "where to put the handle", engine));
    *engine = nullptr;
    TRY_ASSIGN(const orlop_engine_params given, capi::read_struct("open engine", params));
    TRY_ASSIGN(zero3::EngineOptions options, options_of(given));
    TRY_ASSIGN(auto opened, zero3::Engine::open(std::move(options)));
    *engine = new orlop_engine{std::move(opened), ::getpid()};
    return {};
  });
}

orlop_status orlop_engine_close(orlop_engine** engine) {
  if (engine == nullptr || *engine == nullptr) return ORLOP_OK;
  return capi::guarded([&]() -> Result<> {
    orlop_engine* const handle = std::exchange(*engine, nullptr);
    if (handle->owner != ::getpid()) {  // threads, ring and store are the parent's: only the handle is ours
      static_cast<void>(handle->engine.release());
      delete handle;
      return {};
    }
    const Result<> finished = handle->engine->finish();
    delete handle;
    return finished;
  });
}

void orlop_engine_cancel(orlop_engine* engine) {
  if (engine != nullptr) engine->engine->cancel();
}

orlop_status orlop_param_register(orlop_engine* engine, const orlop_param_desc* desc, uint32_t* id) {
  return with_engine("register parameter", engine, [&](zero3::Engine& e) -> Result<> {
    TRY_ASSIGN(const orlop_param_desc given, capi::read_struct("register parameter", desc));
    TRY_ASSIGN(zero3::ParamSpec spec, spec_of(given));
    TRY_ASSIGN(const std::uint32_t registered, e.register_param(std::move(spec)));
    if (id != nullptr) *id = registered;
    return {};
  });
}

orlop_status orlop_engine_commit(orlop_engine* engine) {
  return with_engine("commit", engine, [](zero3::Engine& e) { return e.commit(); });
}

orlop_status orlop_engine_plan(orlop_engine* engine, char* buffer, size_t capacity_bytes, size_t* needed_bytes) {
  return with_engine("plan", engine, [&](zero3::Engine& e) -> Result<> {
    TRY_ASSIGN(const std::string plan, e.plan());
    return capi::fill_text("plan", plan, buffer, capacity_bytes, needed_bytes);
  });
}

orlop_status orlop_param_address(orlop_engine* engine, uint32_t id, void** address) {
  return with_engine("parameter address", engine, [&](zero3::Engine& e) -> Result<> {
    TRY(not_null("parameter address", "where to put it", address));
    TRY_ASSIGN(*address, e.address(id));
    return {};
  });
}

orlop_status orlop_unit_get(orlop_engine* engine, uint32_t unit, orlop_unit* info) {
  return with_engine("unit", engine, [&](zero3::Engine& e) -> Result<> {
    TRY_ASSIGN(const zero3::Unit found, e.unit(unit));
    orlop_unit out{};
    out.dtype = static_cast<std::int32_t>(found.dtype);
    out.elements = found.content;
    if (found.training == zero3::Training::frozen) out.flags |= ORLOP_UNIT_FROZEN;
    if (found.home == zero3::Home::store) out.flags |= ORLOP_UNIT_STORED;
    out.param_count = static_cast<std::uint32_t>(found.params.size());
    return capi::fill_struct("unit", info, out);
  });
}

orlop_status orlop_param_unit(orlop_engine* engine, uint32_t id, uint32_t* unit, uint64_t* first) {
  constexpr const char* kCall = "parameter place";
  return with_engine(kCall, engine, [&](zero3::Engine& e) -> Result<> {
    TRY(not_null(kCall, "where to put the unit", unit));
    TRY(not_null(kCall, "where to put the first element", first));
    TRY_ASSIGN(const auto place, e.place(id));
    std::tie(*unit, *first) = place;
    return {};
  });
}

orlop_status orlop_unit_room(orlop_engine* engine, uint32_t unit, uint32_t* evicted, uint32_t capacity,
                             uint32_t* count) {
  constexpr const char* kCall = "make room";
  return with_engine(kCall, engine, [&](zero3::Engine& e) -> Result<> {
    TRY(not_null(kCall, "where to put units", evicted));
    TRY(not_null(kCall, "where to put their number", count));
    TRY_ASSIGN(const auto units, e.make_room(unit, capacity));
    std::copy(units.begin(), units.end(), evicted);
    *count = static_cast<std::uint32_t>(units.size());
    return {};
  });
}

orlop_status orlop_unit_unshard(orlop_engine* engine, uint32_t unit, int32_t use, void* destination, void* stream,
                                orlop_ticket* ticket) {
  return with_engine("unshard", engine, [&](zero3::Engine& e) -> Result<> {
    TRY(not_null("unshard", "its destination", destination));
    if (use < ORLOP_USE_FORWARD || use > ORLOP_USE_ACCESS) {
      return fail(ORLOP_INVALID_ARGUMENT, "unshard: on use {}: must be an orlop_use, 0 to {}", use,
                  static_cast<int>(ORLOP_USE_ACCESS));
    }
    TRY(e.unshard(unit, static_cast<zero3::Use>(use), destination, device::Stream{stream}));
    if (ticket != nullptr) *ticket = 0;
    return {};
  });
}

orlop_status orlop_unit_reshard(orlop_engine* engine, uint32_t unit, int32_t* stays) {
  return with_engine("reshard", engine, [&](zero3::Engine& e) -> Result<> {
    const auto after = stays == nullptr ? zero3::AfterUse::given_up : zero3::AfterUse::as_planned;
    TRY_ASSIGN(const bool is_kept, e.reshard(unit, after));
    if (stays != nullptr) *stays = is_kept ? 1 : 0;
    return {};
  });
}

orlop_status orlop_param_read(orlop_engine* engine, uint32_t id, int32_t plane, uint64_t first, uint64_t count,
                              int32_t dtype, void* destination) {
  constexpr const char* kCall = "read parameter";
  return with_engine(kCall, engine, [&](zero3::Engine& e) -> Result<> {
    TRY(not_null(kCall, "its destination", destination));
    TRY_ASSIGN(const zero3::Plane from, plane_of(kCall, plane));
    TRY_ASSIGN(const zero3::Dtype as, dtype_of(kCall, dtype));
    TRY_ASSIGN(const std::uint64_t end, checked_add(first, count));
    return e.read_plane(id, from, {first, end}, as, destination);
  });
}

orlop_status orlop_param_write(orlop_engine* engine, uint32_t id, int32_t plane, uint64_t first, uint64_t count,
                               int32_t dtype, const void* source) {
  constexpr const char* kCall = "write parameter";
  return with_engine(kCall, engine, [&](zero3::Engine& e) -> Result<> {
    TRY(not_null(kCall, "its source", source));
    TRY_ASSIGN(const zero3::Plane to, plane_of(kCall, plane));
    TRY_ASSIGN(const zero3::Dtype as, dtype_of(kCall, dtype));
    TRY_ASSIGN(const std::uint64_t end, checked_add(first, count));
    return e.write_plane(id, to, {first, end}, as, source);
  });
}

orlop_status orlop_group_get(orlop_engine* engine, int32_t group, orlop_group_params* params) {
  return with_engine("get optimizer group", engine, [&](zero3::Engine& e) -> Result<> {
    TRY_ASSIGN(const kernels::HyperParams hyper, e.group(group));
    orlop_group_params out{};
    out.decoupled_weight_decay = hyper.decoupled ? 1 : 0;
    out.lr = hyper.lr;
    out.beta1 = hyper.beta1;
    out.beta2 = hyper.beta2;
    out.eps = hyper.eps;
    out.weight_decay = hyper.weight_decay;
    out.bias_correction = hyper.bias_correction ? 1 : 0;
    out.optimizer = static_cast<std::int32_t>(hyper.optimizer);
    out.lr_decay = hyper.lr_decay;
    return capi::fill_struct("get optimizer group", params, out);
  });
}

orlop_status orlop_group_set(orlop_engine* engine, int32_t group, const orlop_group_params* params) {
  return with_engine("set optimizer group", engine, [&](zero3::Engine& e) -> Result<> {
    TRY_ASSIGN(const kernels::HyperParams hyper, capi::hyper_params_of("set optimizer group", params));
    return e.set_group(group, hyper);
  });
}

orlop_status orlop_grad_ready(orlop_engine* engine, uint32_t id, const void* gradient, int32_t dtype, void* stream,
                              orlop_ticket* ticket) {
  constexpr const char* kCall = "gradient ready";
  return with_engine(kCall, engine, [&](zero3::Engine& e) -> Result<> {
    TRY(not_null(kCall, "the gradient", gradient));
    TRY_ASSIGN(const zero3::Dtype as, dtype_of(kCall, dtype));
    TRY(e.grad_ready(id, gradient, as, device::Stream{stream}));
    if (ticket != nullptr) *ticket = 0;
    return {};
  });
}

orlop_status orlop_ticket_wait(orlop_engine* engine, orlop_ticket ticket, int32_t) {
  return with_engine("wait for ticket", engine, [&](zero3::Engine&) -> Result<> {
    if (ticket == 0) return {};
    return fail(ORLOP_INVALID_ARGUMENT, "wait for ticket: on ticket {}: this engine gave no such ticket", ticket);
  });
}

orlop_status orlop_boundary_set(orlop_engine* engine, int32_t boundary) {
  return with_engine("boundary", engine, [&](zero3::Engine& e) -> Result<> {
    if (boundary < ORLOP_BOUNDARY_COUNTED || boundary > ORLOP_BOUNDARY_NOW) {
      return fail(ORLOP_INVALID_ARGUMENT, "boundary: on {}: there is none of that number", boundary);
    }
    return e.set_boundary(static_cast<zero3::Boundary>(boundary));
  });
}

orlop_status orlop_backward_end(orlop_engine* engine, int32_t* is_boundary) {
  return with_engine("backward end", engine, [&](zero3::Engine& e) -> Result<> {
    TRY_ASSIGN(const bool boundary, e.backward_end());
    if (is_boundary != nullptr) *is_boundary = boundary ? 1 : 0;
    return {};
  });
}

orlop_status orlop_grad_discard(orlop_engine* engine) {
  return with_engine("discard gradients", engine, [](zero3::Engine& e) { return e.grad_discard(); });
}

orlop_status orlop_loss_scale(orlop_engine* engine, double* loss_scale) {
  return with_engine("loss scale", engine, [&](zero3::Engine& e) -> Result<> {
    if (loss_scale == nullptr) return fail(ORLOP_INVALID_ARGUMENT, "loss scale: on NULL: there is nowhere to write it");
    *loss_scale = e.loss_scale();
    return {};
  });
}

orlop_status orlop_step_begin(orlop_engine* engine, const orlop_step_params* params) {
  return with_engine("step", engine, [&](zero3::Engine& e) -> Result<> {
    std::optional<double> loss_scale;
    if (params != nullptr) {
      TRY_ASSIGN(const orlop_step_params given, capi::read_struct("step", params));
      if (given.loss_scale != 0) loss_scale = given.loss_scale;
    }
    return e.step_begin(loss_scale);
  });
}

orlop_status orlop_step_wait(orlop_engine* engine, int32_t timeout_ms, orlop_step_report* report) {
  return with_engine("wait for step", engine, [&](zero3::Engine& e) { return wait_for_step(e, timeout_ms, report); });
}

orlop_status orlop_step(orlop_engine* engine, orlop_step_report* report) {
  return with_engine("step", engine, [&](zero3::Engine& e) -> Result<> {
    TRY(check_report(report));
    TRY(e.step_begin(std::nullopt));
    return wait_for_step(e, -1, report);
  });
}

orlop_status orlop_drain(orlop_engine* engine, int32_t timeout_ms) {
  return with_engine("drain", engine, [&](zero3::Engine& e) { return e.drain(timeout_ms); });
}

orlop_status orlop_engine_stats(orlop_engine* engine, orlop_stats* stats) {
  return with_engine("engine stats", engine,
                     [&](zero3::Engine& e) { return capi::fill_struct("engine stats", stats, stats_of(e.stats())); });
}

orlop_status orlop_engine_describe(orlop_engine* engine, char* buffer, size_t capacity_bytes, size_t* needed_bytes) {
  return with_engine("describe engine", engine, [&](zero3::Engine& e) {
    return capi::fill_text("describe engine", e.describe(), buffer, capacity_bytes, needed_bytes);
  });
}

orlop_status orlop_engine_digest(orlop_engine* engine, uint64_t* digest) {
  return with_engine("digest", engine, [&](zero3::Engine& e) -> Result<> {
    TRY(not_null("digest", "where to put it", digest));
    TRY_ASSIGN(*digest, e.digest());
    return {};
  });
}

orlop_status orlop_trace_write(orlop_engine* engine, const char* path) {
  return with_engine("write trace", engine, [&](zero3::Engine& e) -> Result<> {
    TRY(not_null("write trace", "its path", path));
    return e.write_trace(path);
  });
}

}  // extern "C"
