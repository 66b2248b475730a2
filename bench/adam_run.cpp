#include "bench/adam_run.hpp"

#include <cstdio>
#include <utility>
#include <vector>

#include "base/bytes.hpp"
#include "bench/adam_case.hpp"
#include "bench/machine.hpp"
#include "bench/progress.hpp"
#include "bench/quantities.hpp"
#include "bench/report.hpp"

namespace orlop::bench {
namespace {

using nlohmann::json;

const char* name_of(AdamLayout layout) { return layout == AdamLayout::fp32 ? "fp32" : "bf16"; }

const char* name_of(Sums sums) {
  switch (sums) {
    case Sums::none:
      return "";
    case Sums::after:
      return ", sums of what is written";
    case Sums::before_and_after:
      return ", sums of read and written";
  }
  return "";
}

std::string name_of(const AdamCase& c) {
  return fmt::format("{}, {} thread{}{}", name_of(c.layout), c.threads, c.threads == 1 ? "" : "s", name_of(c.sums));
}

Case shown(const AdamCase& c, std::uint64_t elements) {
  const double gb_s = c.gparam_s.median * traffic_bytes_per_param(c.layout);
  return {name_of(c), format_count(elements), Unit::gparam_per_s, c.gparam_s, gb_s, c.roof_fraction.median};
}

Case roof_shown(const AdamCase& c, std::uint64_t elements) {
  const double gb_s = c.roof_gparam_s.median * traffic_bytes_per_param(c.layout);
  return {fmt::format("{}, {} thread{}, no arithmetic", name_of(c.layout), c.threads, c.threads == 1 ? "" : "s"),
          format_count(elements), Unit::gparam_per_s, c.roof_gparam_s, gb_s, 1.0};
}

std::vector<Case> table_cases(const AdamReport& report) {
  std::vector<Case> cases;
  for (const AdamCase& c : report.cases) {
    if (c.sums == Sums::none) cases.push_back(roof_shown(c, report.elements));
    cases.push_back(shown(c, report.elements));
  }
  return cases;
}

json json_of(const AdamReport& report) {
  json out = json::array();
  for (const AdamCase& c : report.cases) {
    out.push_back({{"layout", name_of(c.layout)},
                   {"threads", c.threads},
                   {"sums", c.sums == Sums::none ? 0 : c.sums == Sums::after ? 1 : 2},
                   {"isa", cpu_adam::name_of(report.isa)},
                   {"elements", report.elements},
                   {"gparam_s", json_of(c.gparam_s)},
                   {"roof_gparam_s", json_of(c.roof_gparam_s)},
                   {"roof_fraction", json_of(c.roof_fraction)},
                   {"hash_cpu_seconds_per_gb", c.hash_cpu_seconds_per_gb}});
  }
  return out;
}

std::vector<AdamLayout> wanted_layouts(const AdamArguments& options) {
  if (!options.dtype) return {AdamLayout::split_bf16, AdamLayout::fp32};
  return {*options.dtype == "fp32" ? AdamLayout::fp32 : AdamLayout::split_bf16};
}

}  // namespace

Result<> run_adam(const AdamArguments& options) {
  TRY(check_writable("--json", options.json_file));
  AdamCaseOptions adam;
  TRY_ASSIGN(adam.isa, cpu_adam::select_isa());
  adam.elements = options.elements;
  adam.threads = options.threads;
  adam.rounds = options.rounds;

  Progress progress;
  std::vector<Case> cases;
  json measured = json::array();
  for (const AdamLayout layout : wanted_layouts(options)) {
    adam.layout = layout;
    adam.on_round = [&](int round) {
      progress.show(static_cast<double>(round) / options.rounds,
                    fmt::format("{}, round {} of {}", name_of(layout), round + 1, options.rounds));
      return true;
    };
    TRY_ASSIGN(const AdamReport report, measure_adam(adam));
    for (Case& c : table_cases(report)) cases.push_back(std::move(c));
    for (json& c : json_of(report)) measured.push_back(std::move(c));
  }
  progress.clear();
  const json machine = describe_machine({});
  fmt::print("{}; kernels {}\n\n{}", machine_line(machine), cpu_adam::name_of(adam.isa), table_of(cases));
  if (options.json_file.empty()) return {};
  return write_json(options.json_file, {{"adam", measured},
                                        {"cases", json_of(cases)},
                                        {"machine", machine},
                                        {"versions", describe_versions()}});
}

}  // namespace orlop::bench
