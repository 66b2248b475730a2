#include "bench/step_report.hpp"

#include <algorithm>
#include <utility>

#include "base/bytes.hpp"
#include "base/clock.hpp"
#include "bench/quantities.hpp"

namespace orlop::bench {
namespace {

using nlohmann::json;

template <typename Value>
std::vector<double> each(const std::vector<StepSample>& samples, const Value& value) {
  std::vector<double> values;
  for (const StepSample& sample : samples) values.push_back(value(sample));
  return values;
}

Quantiles seconds_of(const std::vector<StepSample>& samples) {
  return quantiles_of(each(samples, [](const StepSample& s) { return s.seconds; }));
}

double gb_s_of(const std::vector<StepSample>& samples) {
  return median_of(each(samples, [](const StepSample& s) { return static_cast<double>(s.timed.sum()) * 1e-9 / s.seconds; }));
}

// The raw loop's rate around a step: of the slices before and after it.
double roof_around(const StepResults& r, std::size_t step) {
  return (r.slices[step].gb_per_s() + r.slices[step + 1].gb_per_s()) / 2;
}

bool has_drive_roof(const StepResults& r) { return r.slices.size() > r.samples.size(); }

// The least that each step could have taken: its bytes at the raw loop's rate, and its parameters at memory's.
std::vector<double> bounds_of(const StepResults& r) {
  std::vector<double> bounds;
  for (std::size_t i = 0; i < r.samples.size(); ++i) {
    const double arithmetic = static_cast<double>(r.params) * 1e-9 / r.adam_roof_gparam_s;
    if (!r.on_nvme) {
      bounds.push_back(arithmetic);
    } else if (has_drive_roof(r)) {
      bounds.push_back(std::max(arithmetic, static_cast<double>(r.samples[i].timed.sum()) * 1e-9 / roof_around(r, i)));
    }
  }
  return bounds;
}

std::optional<double> bound_fraction(const StepResults& r) {
  std::vector<double> fractions = bounds_of(r);
  if (fractions.empty()) return std::nullopt;
  for (std::size_t i = 0; i < fractions.size(); ++i) fractions[i] /= r.samples[i].seconds;
  return median_of(std::move(fractions));
}

std::optional<double> roof_gb_s(const StepResults& r) {
  if (!has_drive_roof(r)) return std::nullopt;
  std::vector<double> rates;
  for (const IoRate& slice : r.slices) rates.push_back(slice.gb_per_s());
  return median_of(std::move(rates));
}

std::uint64_t bytes_per_step(const std::vector<StepSample>& samples) {
  return static_cast<std::uint64_t>(median_of(each(samples, [](const StepSample& s) {
    return static_cast<double>(s.whole.sum());
  })));
}

double adam_gparam_s(const StepResults& r) {
  const double seconds = median_of(each(r.samples, [](const StepSample& s) { return s.adam_seconds; }));
  return seconds > 0 ? static_cast<double>(r.params) * 1e-9 / seconds : 0;
}

DiskTraffic whole_traffic(const StepResults& r) {
  DiskTraffic sum;
  for (const StepSample& sample : r.samples) sum = sum + sample.whole;
  return sum;
}

double per_param(const StepResults& r, std::uint64_t bytes) {
  return static_cast<double>(bytes) / static_cast<double>(r.params) / static_cast<double>(r.samples.size());
}

template <typename T>
json or_null(const std::optional<T>& value) {
  return value ? json(*value) : json();
}

// What must be there (parameters, gradients, in-memory states), the ring, and tables.
std::uint64_t planned_bytes(const StepResults& r) { return r.stats.host_bytes; }

json by_drive_json(const StepResults& r) {
  json drives = json::array();
  for (const swap::DriveUse& drive : r.drives) {
    const swap::Traffic& traffic = drive.traffic;
    drives.push_back({{"path", drive.path},
                      {"read_bytes", traffic.read_bytes},
                      {"write_bytes", traffic.write_bytes},
                      {"busy_seconds", seconds_of_ns(traffic.busy_ns)},
                      {"read_gb_s", gb_s_while_busy(traffic.read_bytes, drive)},
                      {"write_gb_s", gb_s_while_busy(traffic.write_bytes, drive)},
                      {"gb_s", gb_s_while_busy(traffic.read_bytes + traffic.write_bytes, drive)},
                      {"share", drive.share}});
  }
  return drives;
}

json nvme_json(const StepResults& r) {
  const DiskTraffic traffic = whole_traffic(r);
  const auto rate = [&](auto bytes) {
    return median_of(each(r.samples, [&](const StepSample& s) { return static_cast<double>(bytes(s.timed)) * 1e-9 / s.seconds; }));
  };
  return {{"read_bytes_per_param", per_param(r, traffic.read_bytes)},
          {"write_bytes_per_param", per_param(r, traffic.write_bytes)},
          {"read_gb_s", rate([](DiskTraffic t) { return t.read_bytes; })},
          {"write_gb_s", rate([](DiskTraffic t) { return t.write_bytes; })},
          {"roof_gb_s", or_null(roof_gb_s(r))},
          {"roof_fraction", r.on_nvme ? or_null(bound_fraction(r)) : json()},
          {"engine_read_bytes", r.engine_traffic.read_bytes},
          {"engine_write_bytes", r.engine_traffic.write_bytes},
          {"kernel_read_bytes", traffic.read_bytes},
          {"kernel_write_bytes", traffic.write_bytes},
          {"store_bytes", r.stats.nvme_bytes},
          {"by_drive", by_drive_json(r)}};
}

// As the raw loop used them, on the first drive; on all where there are several.
json roof_json(const StepResults& r) {
  json drives = json::array();
  for (const RoofRequests& requests : r.requests) {
    drives.push_back({{"read_request_bytes", requests.read_bytes},
                      {"write_request_bytes", requests.write_bytes},
                      {"depth", requests.depth},
                      {"memory_bytes", requests.memory_bytes},
                      {"mixing", requests.mixing == aio::Mixing::phased ? "phased" : "mixed"}});
  }
  if (drives.empty()) return nullptr;
  json roof = drives.front();
  if (drives.size() > 1) roof["by_drive"] = std::move(drives);
  return roof;
}

json host_json(const StepResults& r) {
  return {{"budget_bytes", r.stats.host_budget_bytes == 0 ? json() : json(r.stats.host_budget_bytes)},
          {"peak_bytes", r.peak_bytes},
          {"pinned_fraction", pinned_fraction(r)},
          {"model_bytes", r.stats.model_bytes},
          {"staging_bytes", r.stats.staging_bytes},
          {"engine_bytes", planned_bytes(r)},
          {"gradient_source_bytes", r.gradient_bytes}};
}

json comparison_json(const StepResults& r) {
  if (!r.comparison) return r.comparison_note.empty() ? json() : json(r.comparison_note);
  const Comparison& c = *r.comparison;
  return {{"left_out", c.left_out},
          {"pairs", c.whole.size()},
          {"step_seconds", json_of(seconds_of(c.whole))},
          {"step_seconds_without", json_of(seconds_of(c.without))},
          {"speed_fraction", c.speed_fraction()},
          {"cpu_seconds_per_gb", c.cpu_seconds_per_gb()}};
}

json samples_json(const StepResults& r) {
  json out = json::array();
  for (std::size_t i = 0; i < r.samples.size(); ++i) {
    const StepSample& s = r.samples[i];
    out.push_back({{"seconds", s.seconds},
                   {"tail_seconds", s.tail_seconds},
                   {"exposed_io_seconds", s.exposed_io_seconds},
                   {"adam_seconds", s.adam_seconds},
                   {"unit_wait_seconds", s.unit_wait_seconds},
                   {"unit_copy_seconds", s.unit_copy_seconds},
                   {"cpu_seconds", s.cpu_seconds},
                   {"read_bytes", s.whole.read_bytes},
                   {"write_bytes", s.whole.write_bytes},
                   {"timed_bytes", s.timed.sum()},
                   {"roof_gb_s", has_drive_roof(r) ? json(roof_around(r, i)) : json()}});
  }
  return out;
}

std::string memory_sentence(const StepResults& r) {
  const std::uint64_t planned = planned_bytes(r);
  const std::uint64_t beside = r.peak_bytes > planned ? r.peak_bytes - planned : 0;
  return fmt::format("Host memory: {} at most: {} for parameters and gradients, {} for the ring and tables, {} for all else.",
                     format_bytes(r.peak_bytes), format_bytes(r.stats.model_bytes),
                     format_bytes(planned - std::min(planned, r.stats.model_bytes)), format_bytes(beside));
}

std::string drive_sentence(const swap::DriveUse& drive) {
  const std::uint64_t bytes = drive.traffic.read_bytes + drive.traffic.write_bytes;
  return fmt::format("{}: {} moved at {:.2f} GB/s while busy; {:.0f} % of what is written goes there.", drive.path,
                     format_decimal(bytes), gb_s_while_busy(bytes, drive), drive.share * 100);
}

std::string limit_sentence(const StepResults& r) {
  const auto fraction = bound_fraction(r);
  if (!fraction) return "";
  const double adam = adam_gparam_s(r);
  const std::string what = r.drives.size() > 1 ? "the drives" : r.on_nvme ? "the drive" : "memory";
  if (*fraction >= 0.9) return fmt::format("What limits the step is {}: {:.0f} % of the roof.", what, *fraction * 100);
  return fmt::format("The step reaches {:.0f} % of the roof of {}; the arithmetic alone takes {} of it.", *fraction * 100, what,
                     format_seconds(static_cast<double>(r.params) * 1e-9 / adam));
}

}  // namespace

double gb_s_while_busy(std::uint64_t bytes, const swap::DriveUse& drive) {
  return drive.traffic.busy_ns > 0 ? static_cast<double>(bytes) / static_cast<double>(drive.traffic.busy_ns) : 0;
}

double pinned_fraction(const StepResults& results) {
  return results.engine.value("memory", json::object()).value("pinned_fraction", 0.0);
}

std::vector<RoofRequests> roof_requests(const json& engine) {
  std::vector<RoofRequests> all;
  const json states = engine.value("states", json::object());
  const json drives = states.value("drives", json::array());
  const std::uint64_t ring = states.value("slabs", std::uint64_t{0}) * states.value("slab_bytes", std::uint64_t{0});
  for (const json& drive : drives) {
    RoofRequests requests;
    requests.read_bytes = drive.value("read_request_bytes", requests.read_bytes);
    requests.write_bytes = drive.value("write_request_bytes", requests.write_bytes);
    requests.depth = drive.value("depth", requests.depth);
    if (drive.value("mixing", "mixed") == "phased") requests.mixing = aio::Mixing::phased;
    requests.memory_bytes = ring / drives.size();
    all.push_back(requests);
  }
  return all;
}

std::vector<Case> step_cases(const StepResults& r) {
  std::vector<Case> cases;
  const std::string size = r.on_nvme ? format_decimal(bytes_per_step(r.samples)) : format_count(r.params);
  const std::optional<double> rate = r.on_nvme ? std::optional(gb_s_of(r.samples)) : std::nullopt;
  cases.push_back({"step", size, Unit::seconds, seconds_of(r.samples), rate, bound_fraction(r)});
  if (has_drive_roof(r)) {
    std::vector<double> rates;
    std::uint64_t bytes = 0;
    for (const IoRate& slice : r.slices) {
      rates.push_back(slice.gb_per_s());
      bytes += slice.bytes;
    }
    const Quantiles q = quantiles_of(std::move(rates));
    cases.push_back({"raw loop, half and half", format_decimal(bytes / r.slices.size()), Unit::gb_per_s, q, q.median, 1.0});
  }
  const Quantiles adam = quantiles_of(each(r.samples, [&](const StepSample& s) {
    return static_cast<double>(r.params) * 1e-9 / s.adam_seconds;
  }));
  cases.push_back({"adam, inside the step", format_count(r.params), Unit::gparam_per_s, adam, std::nullopt,
                   adam.median / r.adam_roof_gparam_s});
  if (r.comparison) {
    const Comparison& c = *r.comparison;
    cases.push_back({"step, in turn with", size, Unit::seconds, seconds_of(c.whole), gb_s_of(c.whole), std::nullopt});
    cases.push_back({"  one without " + c.left_out, size, Unit::seconds, seconds_of(c.without), gb_s_of(c.without),
                     std::nullopt});
  }
  return cases;
}

std::string step_summary_text(const StepResults& r) {
  std::string text;
  const auto line = [&](const std::string& sentence) {
    if (!sentence.empty()) text += sentence + '\n';
  };
  line(limit_sentence(r));
  if (r.on_nvme) {
    const DiskTraffic traffic = whole_traffic(r);
    line(fmt::format("NVMe traffic by the kernel's accounting: {:.2f} bytes read and {:.2f} written per parameter and step, "
                     "{:.4f} CPU seconds per GB.",
                     per_param(r, traffic.read_bytes), per_param(r, traffic.write_bytes), cpu_seconds_per_gb(r.samples)));
  }
  if (r.drives.size() > 1) {
    for (const swap::DriveUse& drive : r.drives) line(drive_sentence(drive));
  }
  if (r.comparison) {
    line(fmt::format("The step runs at {:.1f} % of the speed of the same pipeline without {}, which cost {:.4f} CPU seconds per GB.",
                     r.comparison->speed_fraction() * 100, r.comparison->left_out, r.comparison->cpu_seconds_per_gb()));
  } else if (!r.comparison_note.empty()) {
    line(fmt::format("The comparison with the pipeline without arithmetic was {}.", r.comparison_note));
  }
  line(memory_sentence(r));
  line(fmt::format("Digest {:016x} after {} steps.", r.digest, r.stats.steps));
  return text;
}

json step_json(const StepResults& r, const std::vector<Case>& cases) {
  const Quantiles seconds = seconds_of(r.samples);
  const auto fraction = bound_fraction(r);
  const auto bounds = bounds_of(r);
  const json kernels = r.engine.value("kernels", json::object());
  const double gparam_s = adam_gparam_s(r);
  json summary = {
      {"params", r.params},
      {"steps", r.samples.size()},
      {"step_seconds", json_of(seconds)},
      {"nvme", nvme_json(r)},
      {"adam",
       {{"gparam_s", gparam_s},
        {"roof_gparam_s", r.adam_roof_gparam_s},
        {"roof_fraction", gparam_s / r.adam_roof_gparam_s},
        {"isa", kernels.value("isa", "")},
        {"threads", kernels.value("threads", 0)}}},
      {"host", host_json(r)},
      {"exposed_io_seconds", median_of(each(r.samples, [](const StepSample& s) { return s.exposed_io_seconds; }))},
      {"bound_seconds", bounds.empty() ? json() : json(median_of(bounds))},
      {"bound_fraction", or_null(fraction)},
      {"cpu_seconds_per_gb", r.on_nvme ? json(cpu_seconds_per_gb(r.samples)) : json()},
      {"digest", fmt::format("{:016x}", r.digest)}};
  return {{"summary", std::move(summary)},
          {"model", r.model},
          {"why", r.why},
          {"cases", json_of(cases)},
          {"steps", samples_json(r)},
          {"roof", roof_json(r)},
          {"comparison", comparison_json(r)},
          {"phase_seconds", r.phase_seconds},
          {"engine", r.engine}};
}

}  // namespace orlop::bench
