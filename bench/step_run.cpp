#include "bench/step_run.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <utility>
#include <vector>

#include <unistd.h>

#include "aio/file.hpp"
#include "base/bytes.hpp"
#include "base/clock.hpp"
#include "bench/comparison.hpp"
#include "bench/drive_roof.hpp"
#include "bench/machine.hpp"
#include "bench/quantities.hpp"
#include "bench/report.hpp"
#include "bench/step_config.hpp"
#include "bench/step_report.hpp"
#include "bench/step_size.hpp"
#include "bench/warnings.hpp"
#include "numa/host_memory.hpp"
#include "swap/drive_room.hpp"
#include "swap/space.hpp"

namespace orlop::bench {
namespace {

using nlohmann::json;

constexpr unsigned kDefaultSteps = 5;
constexpr double kTimeLimit = 56;  // of a run that chose its own size; a minute is promised
constexpr std::uint64_t kLargestRoofFile = 8_GiB;
constexpr std::uint64_t kSmallestRoofFile = 16_MiB;
constexpr unsigned kFewestSteps = 2;
constexpr unsigned kPairs = 4;
constexpr unsigned kQuickPairs = 2;
constexpr double kLongestAutomaticComparison = 120;

zero3::Dtype dtype_of(const Config& config) { return static_cast<zero3::Dtype>(config.dtype); }

Result<Model> named_model(const StepArguments& o, zero3::Dtype dtype) {
  if (o.model) return model_by_name(*o.model, dtype);
  if (o.params) return model_of_size(*o.params, {o.layers, o.hidden}, dtype);
  return model_of_layers(*o.layers, *o.hidden, dtype);
}

bool has_size(const StepArguments& o) { return o.model || o.params || o.layers || o.hidden; }

class StepRun {
 public:
  StepRun(const StepArguments& options, Config config) : options_(options), config_(std::move(config)) {}

  Result<> run() {
    TRY(timed("size", &StepRun::choose_model));
    TRY(timed("set_up", &StepRun::open));
    TRY(timed("steps", &StepRun::measure_steps));
    TRY(timed("digest", &StepRun::look_at_results));
    TRY(timed("comparison", &StepRun::compare_if_possible));
    TRY(timed("close", &StepRun::close));
    TRY(timed("memory_roof", &StepRun::measure_adam_roof));
    return report();
  }

 private:
  [[nodiscard]] bool may_be_on_nvme() const { return !config_.nvme_paths.empty(); }
  // Not where there was room for everything in memory.
  [[nodiscard]] bool on_nvme() const { return trainer_->engine().stats().nvme_bytes > 0; }
  [[nodiscard]] double elapsed() const { return seconds_of_ns(now_ns() - begin_ns_); }
  // Of a run with a size of its own there is no limit.
  [[nodiscard]] bool has_time_for(double seconds) const {
    return has_size(options_) || elapsed() + seconds < kTimeLimit;
  }
  // One part of the run; how long each took goes into the report.
  Result<> timed(const char* name, Result<> (StepRun::*part)()) {
    const std::int64_t begin_ns = now_ns();
    const Result<> result = (this->*part)();
    results_.phase_seconds[name] = seconds_of_ns(now_ns() - begin_ns);
    return result;
  }
  void show_warnings() {
    progress_.clear();
    print_warnings();
  }
  // The digest reads what setting up wrote, and is most of what comes after the steps.
  [[nodiscard]] double time_for_the_end() const { return 2 + 0.6 * set_up_seconds_; }
  template <typename... Args>
  void say(fmt::format_string<Args...> format, Args&&... args) {
    progress_.clear();
    fmt::print(format, std::forward<Args>(args)...);
    std::fputc('\n', stdout);
    std::fflush(stdout);
  }

  [[nodiscard]] std::string_view offloaded() const {
    if (config_.offload_param != OffloadDevice::nvme) return "states";
    return config_.offload_optimizer == OffloadDevice::nvme ? "states and parameters" : "parameters";
  }
  Result<> choose_model();
  Result<> open();
  Result<> open_roof();
  Result<> measure_steps();
  Result<> note_peak();
  [[nodiscard]] std::vector<swap::DriveUse> drives_since(const std::vector<swap::DriveUse>& before);
  [[nodiscard]] std::vector<std::string> drive_lines();
  Result<> slice();
  Result<StepSample> timed_step(unsigned index, unsigned steps);
  Result<> look_at_results();
  [[nodiscard]] zero3::EngineOptions engine_options(const std::string& run_id) const;
  Result<bool> has_room_for_another();
  Result<> compare_if_possible();
  Result<> close();
  Result<> measure_adam_roof();
  Result<> report();

  const StepArguments& options_;
  Config config_;
  std::int64_t begin_ns_ = now_ns();
  Progress progress_;
  Model model_;
  DeviceTime device_time_{options_.device_ms * 1e-3, options_.device_load};
  std::string run_id_;
  unsigned steps_ = kDefaultSteps;
  std::optional<GradientSource> gradients_;
  std::optional<DriveRoofs> roof_;
  std::unique_ptr<Trainer> trainer_;
  double set_up_seconds_ = 0;
  StepResults results_;
  std::vector<swap::DriveUse> drives_shown_;
};

Result<> StepRun::choose_model() {
  steps_ = options_.steps.value_or(kDefaultSteps);
  if (has_size(options_)) {
    TRY_ASSIGN(model_, named_model(options_, dtype_of(config_)));
    return {};
  }
  progress_.show(0, "trying the drive");
  TRY_ASSIGN(const StepSize size, choose_size(config_, options_));
  TRY_ASSIGN(model_, model_of_size(size.params, {}, dtype_of(config_)));
  steps_ = size.steps;
  results_.why = size.why;
  say("{}", size.why);
  return {};
}

zero3::EngineOptions StepRun::engine_options(const std::string& run_id) const {
  zero3::EngineOptions options;
  options.config = config_;
  options.run_id = run_id;
  if (may_be_on_nvme()) remove_when_out_of_patience(config_.nvme_paths, run_id);
  return options;
}

Result<> StepRun::open() {
  run_id_ = config_.run_id.value_or(fmt::format("offload-bench-{}-{:x}", ::getpid(), now_ns()));
  say("{}: {} parameters, {}{}", model_.name, format_count(model_.elements()), zero3::name_of(dtype_of(config_)),
      may_be_on_nvme() ? fmt::format(", {} on NVMe in {}", offloaded(), fmt::join(config_.nvme_paths, " and "))
                       : ", states in memory");
  progress_.show(0.02, "setting up");
  const std::int64_t begin_ns = now_ns();
  TRY_ASSIGN(GradientSource gradients, GradientSource::create(model_, options_.seed, static_cast<int>(config_.thread_count)));
  gradients_.emplace(std::move(gradients));
  TRY_ASSIGN(trainer_, Trainer::open(model_, *gradients_, engine_options(run_id_), device_time_));
  set_up_seconds_ = seconds_of_ns(now_ns() - begin_ns);
  show_warnings();
  results_.engine = json::parse(trainer_->engine().describe());
  if (const double pinned = pinned_fraction(results_); pinned > 0) {
    say("There is room in memory for {:.1f} % of what a step would move.", pinned * 100);
  }
  return on_nvme() ? open_roof() : Result<>{};
}

// Files as large as the store's where there is room, so that they are no easier to cache.
Result<> StepRun::open_roof() {
  TRY(note_peak());
  results_.requests = roof_requests(results_.engine);
  std::vector<DriveRoofs::Place> places;
  for (const swap::DriveUse& drive : trainer_->engine().drives()) {
    TRY_ASSIGN(std::uint64_t free_bytes, aio::free_bytes(drive.path));
    free_bytes /= config_.nvme_paths.size();  // they may be on one filesystem
    const std::uint64_t wanted = std::max(drive.store_bytes, kSmallestRoofFile);
    const std::uint64_t bytes = align_down(std::min({kLargestRoofFile, wanted, free_bytes / 2}), 1_MiB);
    if (bytes < kSmallestRoofFile) {
      say("The roof is not measured: only {} of disk are left beside the store.", format_bytes(free_bytes));
      return {};
    }
    places.push_back({drive.path, bytes, results_.requests[places.size()]});
  }
  TRY_ASSIGN(DriveRoofs roof, DriveRoofs::open(places));
  roof_.emplace(std::move(roof));
  forget_peak_memory();
  return {};
}

// What drives have moved since.
std::vector<swap::DriveUse> StepRun::drives_since(const std::vector<swap::DriveUse>& before) {
  std::vector<swap::DriveUse> drives = trainer_->engine().drives();
  for (std::size_t i = 0; i < before.size(); ++i) {
    swap::Traffic& traffic = drives[i].traffic;
    traffic.read_bytes -= before[i].traffic.read_bytes;
    traffic.write_bytes -= before[i].traffic.write_bytes;
    traffic.busy_ns -= before[i].traffic.busy_ns;
  }
  return drives;
}

// One for each drive: the step before.
std::vector<std::string> StepRun::drive_lines() {
  std::vector<std::string> lines;
  for (const swap::DriveUse& drive : drives_since(std::exchange(drives_shown_, trainer_->engine().drives()))) {
    lines.push_back(fmt::format("  {}: {:.2f} GB/s read, {:.2f} written while busy ({}), {:.0f} % of what is written", drive.path,
                                gb_s_while_busy(drive.traffic.read_bytes, drive),
                                gb_s_while_busy(drive.traffic.write_bytes, drive),
                                format_seconds(seconds_of_ns(drive.traffic.busy_ns)), drive.share * 100));
  }
  return lines;
}

Result<StepSample> StepRun::timed_step(unsigned index, unsigned steps) {
  const auto label = index == 0 ? std::string("warming up") : fmt::format("step {} of {}", index, steps);
  const double done = 0.05 + 0.75 * index / (steps + 1);
  const auto& samples = results_.samples;
  progress_.show(done, samples.empty() ? label
                                       : fmt::format("{}   {} each   {:.2f} GB/s", label, format_seconds(samples.back().seconds),
                                                     static_cast<double>(samples.back().timed.sum()) * 1e-9 /
                                                         samples.back().seconds),
                 drive_lines());
  return trainer_->step();
}

// The peak up to now; what the raw loop takes does not count.
Result<> StepRun::note_peak() {
  TRY_ASSIGN(const std::uint64_t peak, peak_memory_bytes());
  results_.peak_bytes = std::max(results_.peak_bytes, peak);
  return {};
}

// Long enough to mean something, short beside the steps.
Result<> StepRun::slice() {
  TRY(note_peak());
  if (!roof_) return {};
  TRY(go_on_unless_interrupted());
  const double step = results_.samples.empty() ? 0 : results_.samples.back().seconds;
  TRY_ASSIGN(results_.slices.emplace_back(), roof_->half_and_half(std::clamp(step * 0.1, 0.1, 0.5)));
  forget_peak_memory();
  return {};
}

Result<> StepRun::measure_steps() {
  TRY(timed_step(0, steps_));
  TRY(slice());
  const zero3::EngineStats before = trainer_->engine().stats();
  const std::vector<swap::DriveUse> drives_before = trainer_->engine().drives();
  for (unsigned i = 1; i <= steps_; ++i) {
    const double begin = elapsed();
    TRY_ASSIGN(results_.samples.emplace_back(), timed_step(i, steps_));
    show_warnings();
    TRY(slice());
    const bool is_enough = i >= kFewestSteps && !options_.steps;
    if (i < steps_ && is_enough && !has_time_for(elapsed() - begin + time_for_the_end())) {
      say("Stopped after {} steps, so that the run ends within a minute.", i);
      break;
    }
  }
  const zero3::EngineStats after = trainer_->engine().stats();
  results_.engine_traffic = {after.nvme_read_bytes - before.nvme_read_bytes,
                             after.nvme_write_bytes - before.nvme_write_bytes};
  results_.drives = drives_since(drives_before);
  return {};
}

Result<> StepRun::look_at_results() {
  progress_.show(0.82, "digest");
  results_.stats = trainer_->engine().stats();
  results_.gradient_bytes = gradients_->buffer_bytes();
  TRY_ASSIGN(results_.digest, trainer_->engine().digest());
  results_.engine = json::parse(trainer_->engine().describe());
  results_.params = model_.elements();
  results_.model = model_.name;
  results_.on_nvme = on_nvme();
  if (!options_.trace_file.empty()) TRY(trainer_->engine().write_trace(options_.trace_file));
  return {};
}

Result<bool> StepRun::has_room_for_another() {
  TRY_ASSIGN(const numa::HostMemory memory, numa::host_memory());
  TRY_ASSIGN(const auto rooms, swap::rooms_for_files(config_.nvme_paths));
  const std::uint64_t disk = swap::grains_in(rooms) * swap::kGrainBytes;
  const auto& stats = results_.stats;
  return stats.host_bytes < memory.available_bytes / 2 && stats.nvme_bytes < disk / 2;
}

Result<> StepRun::compare_if_possible() {
  const bool automatic = options_.compare == Compare::automatic;
  if (options_.compare == Compare::none || !on_nvme()) return {};
  const unsigned pairs = has_size(options_) ? kPairs : kQuickPairs;
  if (automatic) {
    std::vector<double> seconds;
    for (const StepSample& sample : results_.samples) seconds.push_back(sample.seconds + device_time_.seconds);
    const double estimate = set_up_seconds_ + median_of(std::move(seconds)) * (2 * pairs + 1) * 1.25;
    TRY_ASSIGN(const bool has_room, has_room_for_another());
    if (!has_room || estimate > kLongestAutomaticComparison || !has_time_for(estimate + 4)) {
      results_.comparison_note = fmt::format("not run: {}", has_room ? "it would have taken too long"
                                                                     : "no room for a second engine");
      return {};
    }
  }
  zero3::EngineOptions options = engine_options(run_id_ + "-without");
  if (options_.compare == Compare::checksums) {
    options.checksums = swap::Checksums::left_out;
  } else {
    options.arithmetic = zero3::Arithmetic::left_out;
  }
  progress_.show(0.85, "setting up the comparison");
  const auto show = [&](unsigned done, unsigned all) {
    progress_.show(0.85 + 0.1 * done / all, fmt::format("comparing, step {} of {}", done, all));
  };
  TRY_ASSIGN(results_.comparison, compare(*trainer_, model_, *gradients_, std::move(options), device_time_, pairs, show));
  return {};
}

Result<> StepRun::close() {
  TRY(trainer_->close());
  trainer_.reset();
  roof_.reset();
  return {};
}

Result<> StepRun::measure_adam_roof() {
  progress_.show(0.96, "memory");
  AdamCaseOptions adam;
  TRY_ASSIGN(adam.isa, cpu_adam::select_isa());
  adam.elements = std::min<std::uint64_t>(16u << 20, results_.params);
  adam.layout = dtype_of(config_) == zero3::Dtype::f32 ? AdamLayout::fp32 : AdamLayout::split_bf16;
  adam.threads = static_cast<int>(config_.thread_count);
  adam.rounds = 3;
  adam.on_round = [](int) { return interrupted_by() == 0; };
  TRY_ASSIGN(const AdamReport report, measure_adam(adam));
  results_.adam_roof_gparam_s = report.cases.back().roof_gparam_s.median;
  return {};
}

Result<> StepRun::report() {
  progress_.clear();
  const auto cases = step_cases(results_);
  say("\n{}\n{}", table_of(cases), step_summary_text(results_));
  if (options_.json_file.empty()) return {};
  json report = step_json(results_, cases);
  report["machine"] = describe_machine(config_.nvme_paths);
  report["versions"] = describe_versions();
  report["seed"] = options_.seed;
  report["seconds"] = elapsed();
  return write_json(options_.json_file, report);
}

}  // namespace

Result<> run_step(const StepArguments& options) {
  TRY(catch_interrupts());
  TRY_ASSIGN(Config config, step_config(options));
  TRY(check_writable("--json", options.json_file));
  TRY(check_writable("--trace", options.trace_file));
  return StepRun(options, std::move(config)).run();
}

}  // namespace orlop::bench
