#include "bench/report.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <fstream>
#include <iterator>

#include "base/unique_fd.hpp"
#include "bench/quantities.hpp"

namespace orlop::bench {
namespace {

using nlohmann::json;

std::string shown(double value, Unit unit) {
  switch (unit) {
    case Unit::seconds:
      return format_seconds(value);
    case Unit::gb_per_s:
      return fmt::format("{:.2f} GB/s", value);
    case Unit::gparam_per_s:
      return fmt::format("{:.2f} Gp/s", value);
  }
  return "";
}

const char* name_of(Unit unit) {
  switch (unit) {
    case Unit::seconds:
      return "s";
    case Unit::gb_per_s:
      return "GB/s";
    case Unit::gparam_per_s:
      return "Gparam/s";
  }
  return "";
}

std::string shown_or_dash(const std::optional<double>& value, double factor, int decimals) {
  return value ? fmt::format("{:.{}f}", *value * factor, decimals) : "-";
}

}  // namespace

std::string table_of(const std::vector<Case>& cases) {
  std::size_t name_width = 4;
  std::size_t size_width = 4;
  for (const Case& c : cases) {
    name_width = std::max(name_width, c.name.size());
    size_width = std::max(size_width, c.size.size());
  }
  const auto line = [&](const auto&... cells) {
    return fmt::format("{:<{}}  {:>{}}  {:>10}  {:>10}  {:>10}  {:>6}  {:>9}\n", std::get<0>(std::tie(cells...)), name_width,
                       std::get<1>(std::tie(cells...)), size_width, std::get<2>(std::tie(cells...)),
                       std::get<3>(std::tie(cells...)), std::get<4>(std::tie(cells...)),
                       std::get<5>(std::tie(cells...)), std::get<6>(std::tie(cells...)));
  };
  std::string table = line("case", "size", "median", "p10", "p90", "GB/s", "% of roof");
  for (const Case& c : cases) {
    table += line(c.name, c.size, shown(c.value.median, c.unit), shown(c.value.p10, c.unit), shown(c.value.p90, c.unit),
                  shown_or_dash(c.gb_s, 1, 2), shown_or_dash(c.roof_fraction, 100, 1));
  }
  return table;
}

json json_of(const Quantiles& q) { return {{"median", q.median}, {"p10", q.p10}, {"p90", q.p90}}; }

json json_of(const std::vector<Case>& cases) {
  json out = json::array();
  for (const Case& c : cases) {
    json entry = {{"name", c.name}, {"size", c.size}, {"unit", name_of(c.unit)}, {"value", json_of(c.value)}};
    entry["gb_s"] = c.gb_s ? json(*c.gb_s) : json();
    entry["roof_fraction"] = c.roof_fraction ? json(*c.roof_fraction) : json();
    out.push_back(std::move(entry));
  }
  return out;
}

Result<> write_json(const std::string& path, const json& report) {
  const std::string partial = path + ".part";
  std::ofstream file(partial, std::ios::binary | std::ios::trunc);
  file << report.dump(2) << '\n';
  file.close();
  if (!file || std::rename(partial.c_str(), path.c_str()) != 0) {
    const int error = errno;
    std::remove(partial.c_str());
    return fail(status_of_errno(error), "--json: on {}: cannot be written: {}", path, describe_errno(error));
  }
  return {};
}

Result<> check_writable(const std::string& option, const std::string& path) {
  if (path.empty()) return {};
  const bool existed = ::access(path.c_str(), F_OK) == 0;
  const unique_fd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666));
  if (!fd.is_open()) {
    const int error = errno;
    return fail(status_of_errno(error), "{}: on {}: cannot be written: {}", option, path, describe_errno(error));
  }
  if (!existed) ::unlink(path.c_str());
  return {};
}

}  // namespace orlop::bench
