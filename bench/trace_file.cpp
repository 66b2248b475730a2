#include "bench/trace_file.hpp"

#include <cerrno>
#include <fstream>
#include <sstream>

#include <nlohmann/json.hpp>

namespace orlop::bench {
namespace {

using nlohmann::json;

constexpr std::uint64_t kMaximumElements = 1ull << 48;  // so that sums cannot overflow

Result<std::string> read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  if (file) text << file.rdbuf();
  if (!file || text.fail()) {
    const int error = errno == 0 ? EIO : errno;
    return fail(status_of_errno(error), "trace: on {}: cannot be read: {}", path, describe_errno(error));
  }
  return text.str();
}

// What is wrong with the tree, and where.
tl::unexpected<Error> wrong(const std::string& where, const char* what) {
  return fail(ORLOP_INVALID_ARGUMENT, "trace: on {}: {}; `offload_bench trace --help` shows the format",
              where, what);
}

Result<> take_unit(const json& entry, std::size_t index, TraceFile& trace) {
  const bool is_pair =
      entry.is_array() && entry.size() == 2 && entry[0].is_string() && entry[1].is_number_unsigned();
  if (!is_pair || entry[1] > kMaximumElements || entry[1] == 0) {
    return wrong(fmt::format("units[{}]", index), "is not [MODULE, ELEMENTS]");
  }
  trace.names.push_back(entry[0]);
  trace.elements.push_back(entry[1]);
  return {};
}

Result<zero3::UseKind> kind_of(const json& word, const std::string& where) {
  if (word == "f") return zero3::UseKind::forward;
  if (word == "r") return zero3::UseKind::recompute;
  if (word == "b") return zero3::UseKind::backward;
  return wrong(where, "its kind is not \"f\", \"r\" or \"b\"");
}

Result<zero3::UnitUse> use_of(const json& entry, const std::string& where, std::size_t unit_count) {
  const bool is_use =
      entry.is_array() && entry.size() == 3 && entry[0].is_number_unsigned() && entry[2].is_number();
  if (!is_use) return wrong(where, "is not [UNIT, KIND, SECONDS]");
  if (entry[0] >= unit_count) return wrong(where, "there is no such unit");
  TRY_ASSIGN(const zero3::UseKind kind, kind_of(entry[1], where));
  const double seconds = entry[2];
  if (!(seconds >= 0 && seconds < 1e9)) return wrong(where, "its seconds are less than 0 or endless");
  return zero3::UnitUse{entry[0], kind, seconds};
}

Result<> take_step(const json& entry, std::size_t index, TraceFile& trace) {
  const std::string where = fmt::format("steps[{}]", index);
  if (!entry.is_array() || entry.empty()) return wrong(where, "is not a list of uses");
  auto& uses = trace.steps.emplace_back();
  for (std::size_t i = 0; i < entry.size(); ++i) {
    TRY_ASSIGN(const zero3::UnitUse use,
               use_of(entry[i], fmt::format("{}[{}]", where, i), trace.names.size()));
    uses.push_back(use);
  }
  return {};
}

bool has_list(const json& tree, const char* key) {
  return tree.contains(key) && tree[key].is_array() && !tree[key].empty();
}

Result<TraceFile> trace_of(const json& tree) {
  if (!tree.is_object() || tree.value("format", json()) != "orlop-trace-1")
    return wrong("format", "is not \"orlop-trace-1\"");
  if (!tree.contains("model") || !tree["model"].is_string()) return wrong("model", "is not a string");
  if (!has_list(tree, "units")) return wrong("units", "is not a list of units");
  if (!has_list(tree, "steps")) return wrong("steps", "is not a list of steps");
  TraceFile trace;
  trace.model = tree["model"];
  for (std::size_t i = 0; i < tree["units"].size(); ++i) TRY(take_unit(tree["units"][i], i, trace));
  for (std::size_t i = 0; i < tree["steps"].size(); ++i) TRY(take_step(tree["steps"][i], i, trace));
  return trace;
}

}  // namespace

Result<TraceFile> read_trace_file(const std::string& path) {
  TRY_ASSIGN(const std::string text, read_text(path));
  const json tree = json::parse(text, nullptr, false);
  if (tree.is_discarded()) return fail(ORLOP_INVALID_ARGUMENT, "trace: on {}: is not JSON", path);
  auto trace = trace_of(tree);
  if (!trace) return fail(trace.error().status, "{}: {}", path, trace.error().message);
  return trace;
}

}  // namespace orlop::bench
