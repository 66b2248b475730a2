// The engine's gradients and steps.
#include <algorithm>
#include <cmath>
#include <utility>

#include "base/clock.hpp"
#include "base/log.hpp"
#include "zero3/committed.hpp"

namespace orlop::zero3 {
namespace {

// torch.nn.utils.clip_grad_norm_: max_norm / (norm + 1e-6), at most 1; 0 switches clipping off.
double clip_factor(double norm, double maximum) {
  return maximum > 0 ? std::min(1.0, maximum / (norm + 1e-6)) : 1.0;
}

bool stops_engine(orlop_status status) {
  return status == ORLOP_IO_ERROR || status == ORLOP_CORRUPT || status == ORLOP_NO_SPACE ||
         status == ORLOP_DEVICE_ERROR || status == ORLOP_CANCELLED || status == ORLOP_INTERNAL;
}

}  // namespace

Result<> Engine::stop_if_failed(Result<> result) {
  return result || !stops_engine(result.error().status) ? result : stop_after(std::move(result));
}

// A step that failed for whatever reason may have been half done.
Result<> Engine::stop_after(Result<> result) {
  if (result) return result;
  log_error("{}", result.error().message);
  phase_ = Phase::stopped;
  stop_error_ = result.error();
  return result;
}

// ---- Gradients ----

Result<> Engine::grad_ready(std::uint32_t id, const void* gradient, Dtype dtype, device::Stream stream) {
  const std::lock_guard lock(mutex_);
  constexpr const char* kWhat = "gradient ready";
  TRY(expect_ready(kWhat));
  TRY(expect_param(kWhat, id));
  if (params_[id].training == Training::frozen) {
    return fail(ORLOP_INVALID_ARGUMENT, "{}: on \"{}\": it is frozen and takes no gradient", kWhat, params_[id].name);
  }
  GradFlow& grads = *committed_->grads;
  if (!grads.takes_more()) {
    return fail(ORLOP_OUT_OF_ORDER,
                "{}: on \"{}\": all {} micro-batches have ended; call orlop_step or orlop_grad_discard first", kWhat,
                params_[id].name, grads.micro_batches());
  }
  const std::int64_t begin_ns = now_ns();
  if (device_->is_host_addressable()) {
    grads.take(id, gradient, dtype);
  } else {
    TRY(stop_if_failed(take_from_device(id, gradient, dtype, stream)));
  }
  trace_.record({"gradient", TraceLane::gradient, id, params_[id].numel * bytes_of(dtype), begin_ns, now_ns()});
  return prefetch_states();
}

// Copied to the host in the order of the stream that made it, then taken like any other.
Result<> Engine::take_from_device(std::uint32_t id, const void* gradient, Dtype dtype, device::Stream stream) {
  landing_.resize(params_[id].numel * bytes_of(dtype));
  TRY(device::copy_and_wait(*device_, landing_.data(), gradient, landing_.size(), device::CopyKind::device_to_host,
                            stream));
  committed_->grads->take(id, landing_.data(), dtype);
  return {};
}

// The update's first reads are issued while the backward pass still runs, once they do not stand in the way of parameters
// that the pass still wants.
Result<> Engine::prefetch_states() {
  if (is_external() || committed_->prefetched || !committed_->grads->is_last_micro_batch()) return {};
  if (committed_->flow && committed_->flow->reads_more()) return {};
  committed_->prefetched = true;
  return stop_if_failed(committed_->states->prefetch(committed_->update->order()));
}

Result<bool> Engine::backward_end() {
  const std::lock_guard lock(mutex_);
  TRY(expect_ready("backward end"));
  GradFlow& grads = *committed_->grads;
  if (!grads.takes_more()) {
    return fail(ORLOP_OUT_OF_ORDER,
                "backward end: on micro-batch {} of {}: call orlop_step or orlop_grad_discard first",
                grads.micro_batches() + 1, grads.micro_batches());
  }
  const bool is_boundary = grads.end_micro_batch();
  if (committed_->flow) {
    committed_->flow->end_pass();
    if (!is_boundary) TRY(stop_if_failed(committed_->flow->read_ahead()));
  }
  return is_boundary;
}

Result<> Engine::set_boundary(Boundary boundary) {
  const std::lock_guard lock(mutex_);
  TRY(expect_ready("boundary"));
  committed_->grads->set_boundary(boundary);
  return {};
}

Result<> Engine::grad_discard() {
  const std::lock_guard lock(mutex_);
  TRY(expect_ready("discard gradients"));
  committed_->grads->clear();
  return {};
}

// ---- Steps ----

double Engine::loss_scale() {
  const std::lock_guard lock(mutex_);
  return scaler_.scale();
}

Result<> Engine::step_begin(std::optional<double> given_scale) {
  const std::lock_guard lock(mutex_);
  TRY(expect_ready("step"));
  const GradFlow& grads = *committed_->grads;
  if (!grads.may_update()) {
    return fail(ORLOP_OUT_OF_ORDER, "step: on micro-batch {} of {}: call orlop_backward_end after each of them first",
                grads.ended_micro_batches(), grads.micro_batches());
  }
  const double loss_scale = given_scale.value_or(scaler_.scale());
  if (!(loss_scale > 0) || std::isinf(loss_scale)) {
    return fail(ORLOP_INVALID_ARGUMENT, "step: on loss scale {}: must be above 0 and finite", loss_scale);
  }
  phase_ = Phase::stepping;
  background_->start([this, loss_scale, is_own = !given_scale] { return step(loss_scale, is_own); });
  return {};
}

Result<StepReport> Engine::step_wait(int timeout_ms) {
  const std::lock_guard waiting(wait_mutex_);
  {
    const std::lock_guard lock(mutex_);
    if (phase_ == Phase::stopped) return tl::unexpected<Error>(*stop_error_);
    if (phase_ != Phase::stepping) return fail(ORLOP_OUT_OF_ORDER, "wait for step: on no step: call orlop_step_begin first");
  }
  auto finished = background_->wait(timeout_ms);
  if (!finished) return fail(ORLOP_TIMEOUT, "wait for step: not finished after {} ms: call again", timeout_ms);
  const std::lock_guard lock(mutex_);
  phase_ = Phase::ready;
  TRY(stop_after(std::move(*finished)));
  count_step();
  return report_;
}

// The program applies the update itself, with gradients that stay until it discards them.
bool Engine::is_external() const { return groups_.optimizer() == kernels::Optimizer::external; }

// Gradients that are not finite, too, unless a smaller loss scale is the answer to them.
bool Engine::applies_anything(bool is_own_scale) const {
  return options_.config.non_finite == NonFinite::apply && !(is_own_scale && scaler_.is_dynamic());
}

// On the background thread; phase_ is stepping, so nothing else touches what it uses.
Result<> Engine::step(double loss_scale, bool is_own_scale) {
  const std::int64_t begin_ns = now_ns();
  Committed& c = *committed_;
  const GradTotal total = c.grads->total();
  report_ = {};
  report_.grad_norm = total.norm / loss_scale;
  report_.loss_scale = loss_scale;
  swap::SweepReport sweep;
  if (total.first_not_finite && !applies_anything(is_own_scale)) {
    TRY(skip(*total.first_not_finite, is_own_scale));
    if (is_own_scale) scaler_.note_overflow();
  } else {
    report_.clip_factor = clip_factor(report_.grad_norm, options_.config.gradient_clipping);
    const auto constants = groups_.constants(c.group_count, stats_.steps + 1, report_.clip_factor / loss_scale);
    c.prefetched = false;
    make_way_for_changes();
    if (!is_external()) {
      const auto before = [&](std::uint32_t block) { c.snapshot->await_copied(block); };
      TRY_ASSIGN(sweep, c.update->run(*c.states, constants, c.snapshot ? before : std::function<void(std::uint32_t)>(),
                                      cancelled_));
    }
    if (is_own_scale) scaler_.note_good_step();
  }
  if (!is_external() || report_.skipped) c.grads->clear();
  if (c.flow) TRY(c.flow->read_ahead());
  account(begin_ns, sweep);
  return {};
}

// A gradient that is not finite never reaches the states. Under a dynamic loss scale it is the way a scale that is too
// large shows: then it is an error only where the scale cannot fall any more.
Result<> Engine::skip(std::uint32_t id, bool is_own_scale) {
  const std::string& name = params_[id].name;
  const bool is_expected = is_own_scale && scaler_.is_dynamic();
  if (is_expected && scaler_.is_exhausted()) {
    return fail(ORLOP_INVALID_ARGUMENT,
                "step {}: on the gradient of \"{}\": it is not finite at the least loss scale ({}); lower the learning "
                "rate or fp16.min_loss_scale", stats_.steps + 1, name, scaler_.scale());
  }
  if (!is_expected && options_.config.non_finite == NonFinite::stop) {
    return fail(ORLOP_INVALID_ARGUMENT,
                "step {}: on the gradient of \"{}\": it is not finite; \"orlop.non_finite\" says stop", stats_.steps + 1,
                name);
  }
  if (is_expected) {
    log_info("step {}: on the gradient of \"{}\": it is not finite at loss scale {}; the step is skipped",
             stats_.steps + 1, name, scaler_.scale());
  } else if (stats_.skipped_steps == 0) {
    log_warning("step {}: on the gradient of \"{}\": it is not finite; the step is skipped, nothing was changed (said "
                "once; skipped steps are counted)", stats_.steps + 1, name);
  }
  report_.skipped = true;
  return {};
}

void Engine::account(std::int64_t begin_ns, const swap::SweepReport& sweep) {
  Committed& c = *committed_;
  const std::int64_t end_ns = now_ns();
  const swap::Traffic traffic = c.states->traffic();
  report_.step = stats_.steps + (report_.skipped ? 0 : 1);
  report_.skipped_steps = stats_.skipped_steps + (report_.skipped ? 1 : 0);
  report_.seconds = seconds_of_ns(end_ns - begin_ns);
  report_.exposed_io_seconds = seconds_of_ns(sweep.exposed_io_ns);
  const FetchTime fetches = c.flow ? c.flow->take_fetch_time() : FetchTime{};
  const std::int64_t exposed_ns = sweep.exposed_io_ns + fetches.waited_ns;
  report_.hidden_io_seconds = seconds_of_ns(std::max<std::int64_t>(0, traffic.busy_ns - c.reported.busy_ns - exposed_ns));
  report_.unit_wait_seconds = seconds_of_ns(fetches.waited_ns);
  report_.unit_copy_seconds = seconds_of_ns(fetches.copied_ns);
  report_.adam_seconds = seconds_of_ns(sweep.work_ns);
  report_.nvme_read_bytes = traffic.read_bytes - c.reported.read_bytes;
  report_.nvme_write_bytes = traffic.write_bytes - c.reported.write_bytes;
  c.reported = traffic;
  trace_.record({"step", TraceLane::step, static_cast<std::uint32_t>(report_.step), 0, begin_ns, end_ns});
}

void Engine::count_step() {
  stats_.steps = report_.step;
  stats_.skipped_steps = report_.skipped_steps;
  stats_.nvme_read_bytes += report_.nvme_read_bytes;
  stats_.nvme_write_bytes += report_.nvme_write_bytes;
  stats_.exposed_io_seconds += report_.exposed_io_seconds;
  stats_.hidden_io_seconds += report_.hidden_io_seconds;
  stats_.adam_seconds += report_.adam_seconds;
  stats_.step_seconds += report_.seconds;
  stats_.unit_wait_seconds += report_.unit_wait_seconds;
  stats_.unit_copy_seconds += report_.unit_copy_seconds;
}

// Also a load. Nothing is cancelled where there is neither.
void Engine::cancel_step() {
  const auto is_busy = [this] { return phase_ == Phase::stepping || phase_ == Phase::loading; };
  {
    const std::lock_guard lock(mutex_);
    if (!is_busy()) return;
  }
  cancel();
  const std::lock_guard waiting(wait_mutex_);
  const std::lock_guard lock(mutex_);
  if (!is_busy()) return;
  const auto result = background_->wait(-1);
  phase_ = Phase::ready;
  static_cast<void>(stop_after(*result));
}

}  // namespace orlop::zero3
