#include "bench/warnings.hpp"

#include <cstdio>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/log.hpp"

namespace orlop::bench {
namespace {

std::mutex mutex;
std::vector<std::string> held;
std::set<std::string> seen;

void hold(void*, int32_t level, const char* line) {
  if (level != ORLOP_LOG_WARNING) return;
  const std::lock_guard lock(mutex);
  if (seen.insert(line).second) held.emplace_back(line);
}

}  // namespace

Result<> collect_warnings() { return set_log_callback(hold, nullptr, ORLOP_LOG_WARNING); }

void print_warnings() {
  std::vector<std::string> lines;
  {
    const std::lock_guard lock(mutex);
    lines = std::exchange(held, {});
  }
  for (const std::string& line : lines) fmt::print(stderr, "offload_bench: warning: {}\n", line);
}

}  // namespace orlop::bench
