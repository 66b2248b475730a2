#include "bench/trace_run.hpp"

#include <algorithm>
#include <cstdio>
#include <numeric>
#include <utility>

#include "base/clock.hpp"
#include "bench/machine.hpp"
#include "bench/quantities.hpp"
#include "bench/report.hpp"
#include "bench/statistics.hpp"
#include "bench/trace_file.hpp"
#include "bench/trace_policies.hpp"
#include "zero3/planner/course.hpp"
#include "zero3/planner/planned_policy.hpp"

namespace orlop::bench {
namespace {

using nlohmann::json;

constexpr std::uint64_t kDeepSpeedPrefetch = 50'000'000;  // its default
constexpr std::uint64_t kParameterBytes = 2;              // bf16
constexpr std::uint64_t kStateBytes = 10;                 // of a split master with two moments
constexpr std::size_t kRounds = 3;                        // of the file's steps; the first does not count

struct PolicyOutcome {
  std::string name;
  zero3::StepOutcome first;
  zero3::StepOutcome mean;  // of the steps of all rounds but the first
};

struct Comparison {
  TraceFile trace;
  std::uint64_t elements;  // of the model
  zero3::PlanLimits limits;
  double read_bytes_per_s;
  std::vector<PolicyOutcome> policies;
  std::vector<std::uint64_t> differing;  // by unit, all rounds
  double planning_seconds;
  double hit_seconds;  // of one use
};

std::vector<zero3::UnitSize> sizes_of(const TraceFile& trace) {
  std::vector<zero3::UnitSize> sizes;
  for (const std::uint64_t n : trace.elements) {
    sizes.push_back({n, n * kParameterBytes, n * kStateBytes, n * kStateBytes});
  }
  return sizes;
}

zero3::StepOutcome mean_of(std::span<const zero3::StepOutcome> steps) {
  zero3::StepOutcome mean;
  const auto count = static_cast<double>(steps.size());
  for (const zero3::StepOutcome& step : steps) {
    mean.bytes_fetched += step.bytes_fetched / count;
    mean.stall_seconds += step.stall_seconds / count;
    mean.compute_seconds += step.compute_seconds / count;
    mean.peak_live_elements = std::max(mean.peak_live_elements, step.peak_live_elements);
  }
  return mean;
}

PolicyOutcome outcome_of(const char* name, const Comparison& c, zero3::Policy& policy) {
  std::vector<std::vector<zero3::UnitUse>> steps;
  for (std::size_t round = 0; round < kRounds; ++round) {
    steps.insert(steps.end(), c.trace.steps.begin(), c.trace.steps.end());
  }
  const auto outcomes = zero3::simulate(steps, sizes_of(c.trace), c.read_bytes_per_s, policy);
  return {name, outcomes.front(), mean_of(std::span(outcomes).subspan(c.trace.steps.size()))};
}

double planning_seconds(const Comparison& c, const zero3::DriveRates& rates) {
  const auto sizes = sizes_of(c.trace);
  const zero3::UseTrace trace(c.trace.steps.front(), sizes.size());
  std::vector<double> seconds;
  for (int i = 0; i < 5; ++i) {
    const std::int64_t begin = now_ns();
    const zero3::Plan plan({trace, sizes, c.limits, rates}, {});
    seconds.push_back(seconds_of_ns(now_ns() - begin));
  }
  return median_of(std::move(seconds));
}

// What following a use costs that finds its unit in memory: the position in the trace, what to read ahead, what stays.
double hit_seconds(const Comparison& c) {
  const auto& uses = c.trace.steps.front();
  const auto sizes = sizes_of(c.trace);
  const std::vector<bool> is_resident(sizes.size(), true);
  zero3::Course course(sizes, c.limits);
  std::vector<double> seconds;
  for (int i = 0; i < 5; ++i) {
    const std::int64_t begin = now_ns();
    for (const zero3::UnitUse& use : uses) {
      const std::size_t position = course.use(use.unit, use.kind, 0);
      static_cast<void>(course.upcoming(is_resident));
      static_cast<void>(course.may_stay(use.unit, position, 0));
    }
    seconds.push_back(seconds_of_ns(now_ns() - begin) / static_cast<double>(uses.size()));
    course.end_pass(0, is_resident, {});
  }
  return median_of(std::move(seconds));
}

void compare(const TraceArguments& o, Comparison& c) {
  const auto sizes = sizes_of(c.trace);
  const zero3::DriveRates rates{c.read_bytes_per_s, c.read_bytes_per_s};
  zero3::PlannedPolicy planned(sizes, c.limits, rates);
  c.policies.push_back(outcome_of("plan", c, planned));
  c.differing = planned.recorder().differing();
  LruPolicy lru(c.limits.max_live_elements);
  c.policies.push_back(outcome_of("LRU, on demand", c, lru));
  zero3::PlanLimits limits = c.limits;
  limits.prefetch_elements = o.prefetch.value_or(kDeepSpeedPrefetch);
  limits.max_reuse_distance_elements = o.reuse.value_or(limits.max_live_elements);
  DeepSpeedPolicy deepspeed(sizes.size(), limits);
  c.policies.push_back(outcome_of("DeepSpeed's rule", c, deepspeed));
  c.planning_seconds = planning_seconds(c, rates);
  c.hit_seconds = hit_seconds(c);
}

zero3::PlanLimits limits_of(const TraceArguments& o, std::uint64_t elements) {
  zero3::PlanLimits limits;
  limits.max_live_elements = o.live.value_or(elements / 4);
  limits.max_reuse_distance_elements = o.reuse.value_or(zero3::PlanLimits::kNone);
  limits.prefetch_elements = o.prefetch.value_or(zero3::PlanLimits::kNone);
  limits.persistence_elements = o.persistence.value_or(0);
  limits.budget_bytes = o.pin_bytes.value_or(0);
  return limits;
}

double step_seconds(const zero3::StepOutcome& step) {
  return step.compute_seconds + step.stall_seconds;
}
double roof_fraction(const zero3::StepOutcome& step) {
  const double seconds = step_seconds(step);
  return seconds > 0 ? step.compute_seconds / seconds : 1;
}

std::string shown_bytes(double bytes) {
  return format_decimal(static_cast<std::uint64_t>(bytes));
}

std::string table_of(const Comparison& c) {
  constexpr const char* kLine = "{:<16}  {:>10}  {:>10}  {:>10}  {:>9}  {:>10}  {:>10}  {:>10}\n";
  std::string table = fmt::format(fmt::runtime(kLine), "policy", "fetched", "stall", "step", "% of roof",
                                  "peak live", "first step", "its stall");
  for (const PolicyOutcome& p : c.policies) {
    table += fmt::format(fmt::runtime(kLine), p.name, shown_bytes(p.mean.bytes_fetched),
                         format_seconds(p.mean.stall_seconds), format_seconds(step_seconds(p.mean)),
                         fmt::format("{:.1f}", 100 * roof_fraction(p.mean)),
                         format_count(p.mean.peak_live_elements), shown_bytes(p.first.bytes_fetched),
                         format_seconds(p.first.stall_seconds));
  }
  return table;
}

json json_of(const zero3::StepOutcome& step) {
  return {{"bytes_fetched", step.bytes_fetched},
          {"stall_seconds", step.stall_seconds},
          {"compute_seconds", step.compute_seconds},
          {"roof_fraction", roof_fraction(step)},
          {"peak_live_elements", step.peak_live_elements}};
}

json json_of(const Comparison& c) {
  json policies = json::array();
  for (const PolicyOutcome& p : c.policies) {
    policies.push_back({{"name", p.name}, {"first_step", json_of(p.first)}, {"step", json_of(p.mean)}});
  }
  json differing = json::object();
  for (std::size_t unit = 0; unit < c.differing.size(); ++unit) {
    if (c.differing[unit] > 0) differing[c.trace.names[unit]] = c.differing[unit];
  }
  return {{"model", c.trace.model},
          {"elements", c.elements},
          {"units", c.trace.names.size()},
          {"max_live_elements", c.limits.max_live_elements},
          {"read_bytes_per_s", c.read_bytes_per_s},
          {"planning_seconds", c.planning_seconds},
          {"hit_seconds", c.hit_seconds},
          {"differing_uses", differing},
          {"policies", policies}};
}

std::string differing_sentence(const Comparison& c) {
  const std::uint64_t all = std::accumulate(c.differing.begin(), c.differing.end(), std::uint64_t{0});
  if (all == 0) return "";
  const auto most = static_cast<std::size_t>(std::ranges::max_element(c.differing) - c.differing.begin());
  return fmt::format("{} uses differed from the step before, most of them of {} ({}).\n", all,
                     c.trace.names[most], c.differing[most]);
}

void print(const Comparison& c) {
  fmt::print("{}: {} parameters in {} units, {} uses a step; {} live, read at {}/s\n\n{}\n", c.trace.model,
             format_count(c.elements), c.trace.names.size(), c.trace.steps.front().size(),
             format_count(c.limits.max_live_elements), shown_bytes(c.read_bytes_per_s), table_of(c));
  fmt::print("Planning a step took {}, {:.2f} % of it; a use of what is in memory {}.\n{}",
             format_seconds(c.planning_seconds), 100 * c.planning_seconds / step_seconds(c.policies.front().mean),
             format_seconds(c.hit_seconds), differing_sentence(c));
}

}  // namespace

Result<> run_trace(const TraceArguments& arguments) {
  TRY(check_writable("--json", arguments.json_file));
  Comparison comparison;
  TRY_ASSIGN(comparison.trace, read_trace_file(arguments.file));
  const auto& elements = comparison.trace.elements;
  comparison.elements = std::accumulate(elements.begin(), elements.end(), std::uint64_t{0});
  comparison.limits = limits_of(arguments, comparison.elements);
  comparison.read_bytes_per_s = static_cast<double>(arguments.read_bytes_per_s);
  compare(arguments, comparison);
  print(comparison);
  if (arguments.json_file.empty()) return {};
  return write_json(arguments.json_file, {{"trace", json_of(comparison)}, {"versions", describe_versions()}});
}

}  // namespace orlop::bench
