// The engine's units and planes.
#include <utility>

#include "base/clock.hpp"
#include "base/log.hpp"
#include "zero3/committed.hpp"

namespace orlop::zero3 {

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

// Between a backward pass and the step; after the last micro-batch also of a parameter that took no part in it.
Result<> Engine::write_grad(std::uint32_t id, Range range, Dtype dtype, const void* source) {
  GradFlow& grads = *committed_->grads;
  if (!grads.has_gradient(id) && !grads.may_update()) {
    return fail(ORLOP_OUT_OF_ORDER, "write parameter: on the gradient of \"{}\": none was taken since the last step",
                params_[id].name);
  }
  grads.replace(id, range, source, dtype);
  return {};
}

Result<> Engine::write_plane(std::uint32_t id, Plane plane, Range range, Dtype dtype, const void* source) {
  const std::lock_guard lock(mutex_);
  constexpr const char* kWhat = "write parameter";
  TRY(expect_ready(kWhat));
  TRY(expect_param(kWhat, id));
  TRY(expect_range(kWhat, id, plane, range));
  if (plane == Plane::grad) return write_grad(id, range, dtype, source);
  make_way_for_changes();
  if (committed_->snapshot) committed_->snapshot->await_all_copied();
  const std::uint32_t unit = committed_->units.placements[id].unit;
  if (committed_->units.units[unit].home == Home::store) committed_->flow->forget_values(unit);
  return stop_if_failed(committed_->planes->write(id, plane, range, dtype, source));
}

}  // namespace orlop::zero3
