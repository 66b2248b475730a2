#include "bench/trainer.hpp"

#include <algorithm>
#include <chrono>
#include <unordered_set>
#include <utility>

#include "base/clock.hpp"
#include "bench/device_load.hpp"

namespace orlop::bench {
namespace {

constexpr int kSliceMs = 50;  // between two looks for an interrupt
constexpr double kForwardShare = 1.0 / 3;
constexpr double kLeastPause = 5e-3;  // shorter ones are saved up

void pass_seconds(DeviceLoad load, double seconds) {
  pass_time(load, std::chrono::nanoseconds(static_cast<std::int64_t>(seconds * 1e9)));
}

// Time, CPU time and traffic of a stretch.
class Stretch {
 public:
  static Result<Stretch> begin() {
    TRY_ASSIGN(const DiskTraffic traffic, disk_traffic());
    return Stretch(traffic);
  }
  // Adds what happened since begin().
  Result<> add_to(StepSample& sample) const {
    sample.seconds += seconds_of_ns(now_ns() - begin_ns_);
    sample.cpu_seconds += cpu_seconds() - cpu_;
    TRY_ASSIGN(const DiskTraffic traffic, disk_traffic());
    sample.timed = sample.timed + (traffic - traffic_);
    return {};
  }

 private:
  explicit Stretch(DiskTraffic traffic) : traffic_(traffic), cpu_(cpu_seconds()), begin_ns_(now_ns()) {}
  DiskTraffic traffic_;
  double cpu_;
  std::int64_t begin_ns_;
};

}  // namespace

Trainer::Trainer(const Model& model, GradientSource& gradients, DeviceTime device_time, std::uint64_t micro_batches,
                 std::unique_ptr<zero3::Engine> engine)
    : model_(&model),
      gradients_(&gradients),
      device_time_(device_time),
      micro_batches_(micro_batches),
      engine_(std::move(engine)),
      cancel_on_interrupt_(*engine_) {}

Result<std::unique_ptr<Trainer>> Trainer::open(const Model& model, GradientSource& gradients,
                                               zero3::EngineOptions options, DeviceTime device_time) {
  const std::uint64_t micro_batches = options.config.gradient_accumulation_steps;
  TRY_ASSIGN(auto engine, zero3::Engine::open(std::move(options)));
  auto trainer = std::unique_ptr<Trainer>(new Trainer(model, gradients, device_time, micro_batches, std::move(engine)));
  for (const zero3::ParamSpec& param : model.params) TRY(trainer->engine_->register_param(param));
  TRY(trainer->engine_->commit());
  TRY(trainer->find_stored_units());
  TRY(trainer->load_params());
  return trainer;
}

// In order of first use.
Result<> Trainer::find_stored_units() {
  std::unordered_set<std::uint32_t> seen;
  std::uint64_t largest = 0;
  for (std::uint32_t id = 0; id < model_->params.size(); ++id) {
    TRY_ASSIGN(const auto place, engine_->place(id));
    TRY_ASSIGN(const zero3::Unit unit, engine_->unit(place.first));
    if (unit.home != zero3::Home::store || !seen.insert(place.first).second) continue;
    stored_units_.push_back({place.first, unit.content});
    largest = std::max(largest, unit.content * zero3::bytes_of(unit.dtype));
  }
  unit_memory_.resize(largest);
  return {};
}

Result<> Trainer::load_params() {
  std::vector<std::byte> values;
  for (std::uint32_t id = 0; id < model_->params.size(); ++id) {
    TRY(go_on_unless_interrupted());
    const zero3::ParamSpec& param = model_->params[id];
    TRY_ASSIGN(const auto place, engine_->place(id));
    TRY_ASSIGN(const zero3::Unit unit, engine_->unit(place.first));
    if (unit.home == zero3::Home::memory) {
      TRY_ASSIGN(void* const address, engine_->address(id));
      gradients_->initial_values(id, address);
      continue;
    }
    values.resize(param.numel * zero3::bytes_of(param.dtype));
    gradients_->initial_values(id, values.data());
    TRY(engine_->write_plane(id, zero3::Plane::param, {0, param.numel}, param.dtype, values.data()));
  }
  return {};
}

// With parameters in memory, forward is spent behind the update.
double Trainer::seconds_of(Pass pass) const {
  if (pass == Pass::forward) return device_time_.seconds * kForwardShare / static_cast<double>(micro_batches_);
  return device_time_.seconds * (1 - kForwardShare) / static_cast<double>(micro_batches_);
}

Result<> Trainer::fetch_units(Pass pass, StepSample& sample) {
  if (stored_units_.empty()) return {};
  std::vector<StoredUnit> units = stored_units_;
  if (pass == Pass::backward) std::ranges::reverse(units);
  TRY_ASSIGN(const Stretch stretch, Stretch::begin());
  double owed = 0;
  for (const auto& [unit, elements] : units) {
    TRY(go_on_unless_interrupted());
    const zero3::Use use = pass == Pass::forward ? zero3::Use::forward : zero3::Use::backward;
    TRY(engine_->unshard(unit, use, unit_memory_.data(), {}));
    TRY(engine_->reshard(unit, zero3::AfterUse::given_up));
    owed += seconds_of(pass) * static_cast<double>(elements) / static_cast<double>(model_->elements());
    if (owed < kLeastPause) continue;
    const double cpu = cpu_seconds();
    sample.seconds -= owed;
    pass_seconds(device_time_.load, std::exchange(owed, 0));
    sample.cpu_seconds -= cpu_seconds() - cpu;
  }
  return stretch.add_to(sample);
}

Result<> Trainer::backward() {
  const double backward_seconds = stored_units_.empty() ? seconds_of(Pass::backward) : 0;  // else they were spent fetching
  const auto elements = static_cast<double>(model_->elements());
  double owed = 0;
  for (std::uint32_t id = 0; id < model_->params.size(); ++id) {
    TRY(go_on_unless_interrupted());
    const zero3::ParamSpec& param = model_->params[id];
    TRY(engine_->grad_ready(id, gradients_->gradient(micro_batch_, id), param.dtype, {}));
    owed += backward_seconds * static_cast<double>(param.numel) / elements;
    if (owed >= kLeastPause) pass_seconds(device_time_.load, std::exchange(owed, 0));
  }
  ++micro_batch_;
  return {};
}

Result<StepSample> Trainer::step() {
  StepSample sample;
  TRY_ASSIGN(const DiskTraffic before, disk_traffic());
  for (std::uint64_t i = 0; i < micro_batches_; ++i) {
    TRY(fetch_units(Pass::forward, sample));
    TRY(fetch_units(Pass::backward, sample));
    TRY(backward());
    TRY(engine_->backward_end());
  }
  const double fetch_seconds = sample.seconds;
  TRY_ASSIGN(const Stretch update, Stretch::begin());
  TRY(engine_->step_begin(1));
  TRY_ASSIGN(const zero3::StepReport report, wait_for_step());
  TRY(update.add_to(sample));

  if (stored_units_.empty()) pass_seconds(device_time_.load, device_time_.seconds * kForwardShare);
  const double seconds = sample.seconds;
  TRY_ASSIGN(const Stretch tail, Stretch::begin());
  TRY(drain());
  TRY(tail.add_to(sample));
  TRY_ASSIGN(const DiskTraffic after, disk_traffic());
  sample.tail_seconds = sample.seconds - seconds;
  sample.exposed_io_seconds = report.exposed_io_seconds + fetch_seconds + sample.tail_seconds;
  sample.adam_seconds = report.adam_seconds;
  sample.unit_wait_seconds = report.unit_wait_seconds;
  sample.unit_copy_seconds = report.unit_copy_seconds;
  sample.whole = after - before;
  return sample;
}

Result<zero3::StepReport> Trainer::wait_for_step() {
  while (true) {
    auto report = engine_->step_wait(kSliceMs);
    if (report || report.error().status != ORLOP_TIMEOUT) return report;
  }
}

Result<> Trainer::drain() {
  while (true) {
    auto drained = engine_->drain(kSliceMs);
    if (drained || drained.error().status != ORLOP_TIMEOUT) return drained;
    TRY(go_on_unless_interrupted());
  }
}

Result<> Trainer::close() { return engine_->finish(); }

}  // namespace orlop::bench
