#include "base/trace.hpp"

#include <algorithm>
#include <cerrno>
#include <fstream>

#include <nlohmann/json.hpp>

namespace orlop {
namespace {

const char* name_of(TraceLane lane) {
  switch (lane) {
    case TraceLane::step:
      return "step";
    case TraceLane::read:
      return "read";
    case TraceLane::work:
      return "work";
    case TraceLane::write:
      return "write";
    case TraceLane::fetch:
      return "unshard";
    case TraceLane::gradient:
      return "gradient";
  }
  return "?";
}

nlohmann::json lane_name_event(TraceLane lane) {
  return {{"ph", "M"}, {"pid", 1}, {"tid", static_cast<int>(lane)}, {"name", "thread_name"},
          {"args", {{"name", name_of(lane)}}}};
}

nlohmann::json complete_event(const TraceEvent& event, std::int64_t origin_ns) {
  return {{"ph", "X"},
          {"pid", 1},
          {"tid", static_cast<int>(event.lane)},
          {"name", event.name},
          {"cat", name_of(event.lane)},
          {"ts", static_cast<double>(event.begin_ns - origin_ns) * 1e-3},
          {"dur", static_cast<double>(event.end_ns - event.begin_ns) * 1e-3},
          {"args", {{"index", event.index}, {"bytes", event.bytes}}}};
}

}  // namespace

void Trace::start() {
  if (events_ == nullptr) events_ = std::make_unique<TraceEvent[]>(kCapacity);
}

void Trace::record(const TraceEvent& event) {
  if (events_ == nullptr) return;
  events_[next_.fetch_add(1, std::memory_order_relaxed) % kCapacity] = event;
}

Result<> Trace::write(const std::string& path) const {
  auto events = nlohmann::json::array();
  for (const auto lane : {TraceLane::step, TraceLane::read, TraceLane::work, TraceLane::write, TraceLane::gradient,
                          TraceLane::fetch}) {
    events.push_back(lane_name_event(lane));
  }
  const std::uint64_t end = recorded();
  const std::uint64_t begin = end > kCapacity ? end - kCapacity : 0;
  std::int64_t origin_ns = INT64_MAX;
  for (auto i = begin; i < end; ++i) origin_ns = std::min(origin_ns, events_[i % kCapacity].begin_ns);
  for (auto i = begin; i < end; ++i) events.push_back(complete_event(events_[i % kCapacity], origin_ns));

  std::ofstream file(path);
  file << nlohmann::json{{"displayTimeUnit", "ms"}, {"traceEvents", std::move(events)}} << '\n';
  file.flush();
  if (!file) return fail(status_of_errno(errno), "write trace: on {}: {}", path, describe_errno(errno));
  return {};
}

}  // namespace orlop
