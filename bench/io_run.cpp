#include "bench/io_run.hpp"

#include <cstdio>

#include "bench/io_case.hpp"
#include "bench/machine.hpp"
#include "bench/progress.hpp"
#include "bench/quantities.hpp"
#include "bench/report.hpp"
#include "swap/run_directory.hpp"

namespace orlop::bench {
namespace {

using nlohmann::json;

Quantiles quantiles_of(const IoSummary& s) { return {s.median, s.p10, s.p90}; }

std::vector<Case> table_cases(const IoReport& report) {
  std::vector<Case> cases;
  for (const IoCase& c : report.cases) {
    const std::string size = format_decimal(c.bytes);
    const std::string shape = fmt::format("{} KiB x {}", c.request_bytes / 1024, c.depth);
    cases.push_back({fmt::format("{}, {}", c.name, shape), size, Unit::gb_per_s, quantiles_of(c.gb_s), c.gb_s.median,
                     c.ratio});
    cases.push_back({fmt::format("  raw loop"), size, Unit::gb_per_s, quantiles_of(c.roof_gb_s), c.roof_gb_s.median, 1.0});
  }
  return cases;
}

json json_of(const IoCase& c) {
  return {{"name", c.name},
          {"bytes", c.bytes},
          {"request_bytes", c.request_bytes},
          {"depth", c.depth},
          {"gb_s", bench::json_of(quantiles_of(c.gb_s))},
          {"cpu_seconds_per_gb", c.cpu_seconds_per_gb},
          {"roof_gb_s", bench::json_of(quantiles_of(c.roof_gb_s))},
          {"roof_cpu_seconds_per_gb", c.roof_cpu_seconds_per_gb},
          {"roof_fraction", c.ratio}};
}

json json_of(const IoReport& report) {
  json cases = json::array();
  for (const IoCase& c : report.cases) cases.push_back(json_of(c));
  const aio::Calibration& found = report.calibration;
  return {{"queue", report.queue},
          {"roof_engine", report.roof_engine},
          {"direct", report.is_direct},
          {"calibration",
           {{"read_request_bytes", found.read_request_bytes},
            {"write_request_bytes", found.write_request_bytes},
            {"depth", found.depth},
            {"mixing", found.mixing == aio::Mixing::phased ? "phased" : "mixed"},
            {"origin", found.origin}}},
          {"io", cases}};
}

std::string cpu_sentence(const IoReport& report) {
  std::string text = "CPU seconds per GB (raw loop):";
  for (const IoCase& c : report.cases) {
    text += fmt::format(" {} {:.4f} ({:.4f}){}", c.name, c.cpu_seconds_per_gb, c.roof_cpu_seconds_per_gb,
                        &c == &report.cases.back() ? "." : ",");
  }
  return text;
}

}  // namespace

Result<> run_io(const IoArguments& arguments) {
  TRY(check_writable("--json", arguments.json_file));
  TRY(swap::check_directory(arguments.nvme_path));
  IoOptions options{.directory = arguments.nvme_path,
                    .file_bytes = arguments.size_bytes,
                    .rounds = static_cast<unsigned>(arguments.rounds),
                    .request_bytes = arguments.request_bytes,
                    .depth = arguments.depth};
  if (arguments.queue) {
    TRY_ASSIGN(options.queue, aio::queue_kind_of(*arguments.queue));
  }
  Progress progress;
  progress.show(0, fmt::format("reading and writing {} in {}", format_decimal(arguments.size_bytes), arguments.nvme_path));
  TRY_ASSIGN(const IoReport report, measure_io(options));
  progress.clear();

  const json machine = describe_machine({&arguments.nvme_path, 1});
  const auto cases = table_cases(report);
  fmt::print("{}\nqueue {} beside a raw loop over {}{}\n\n{}\n{}\n", machine_line(machine), report.queue, report.roof_engine,
             report.is_direct ? ", direct" : ", buffered: the filesystem takes no direct I/O", table_of(cases),
             cpu_sentence(report));
  if (arguments.json_file.empty()) return {};
  json out = json_of(report);
  out["cases"] = bench::json_of(cases);
  out["machine"] = machine;
  out["versions"] = describe_versions();
  return write_json(arguments.json_file, out);
}

}  // namespace orlop::bench
