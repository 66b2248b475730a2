#include "bench/machine.hpp"

#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>

#include <fstream>
#include <sstream>
#include <thread>

#include <nlohmann/json.hpp>
#include <spdlog/version.h>

#include "base/bytes.hpp"
#include "numa/host_memory.hpp"
#include "orlop/orlop.h"

namespace orlop::bench {
namespace {

using nlohmann::json;

// The value of the first line "name : value" of /proc/cpuinfo; "unknown" where there is none (not every
// architecture names its model).
std::string cpu_model() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const auto colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown";
}

std::string kernel_release() {
  utsname names = {};
  return ::uname(&names) == 0 ? fmt::format("{} {}", names.sysname, names.release) : "unknown";
}

struct Mount {
  std::string filesystem = "unknown";
  std::string source = "unknown";
};

// From /proc/self/mountinfo: "36 35 98:0 /root /point options... - type source options", by device number.
Mount mount_of(const std::string& directory) {
  struct stat status = {};
  if (::stat(directory.c_str(), &status) != 0) return {};
  const std::string device = fmt::format("{}:{}", major(status.st_dev), minor(status.st_dev));
  std::ifstream file("/proc/self/mountinfo");
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string id, parent, number, word;
    words >> id >> parent >> number;
    if (number != device) continue;
    while (words >> word && word != "-") continue;
    Mount mount;
    words >> mount.filesystem >> mount.source;
    return mount;
  }
  return {};
}

}  // namespace

json describe_machine(std::span<const std::string> directories) {
  json machine = {{"cpu", cpu_model()},
                  {"processors", std::thread::hardware_concurrency()},
                  {"kernel", kernel_release()}};
  if (const auto memory = numa::host_memory()) {
    machine["memory_bytes"] = memory->total_bytes;
    machine["memory_available_bytes"] = memory->available_bytes;
    machine["memory_limited_by"] = memory->limited_by;
  }
  for (const std::string& directory : directories) {
    const Mount mount = mount_of(directory);
    if (&directory == &directories.front()) {
      machine["filesystem"] = mount.filesystem;
      machine["drive"] = mount.source;
    }
    if (directories.size() > 1) machine["drives"].push_back({{"filesystem", mount.filesystem}, {"drive", mount.source}});
  }
  return machine;
}

json describe_versions() {
  return {{"orlop", fmt::format("{}.{}.{}", ORLOP_VERSION_MAJOR, ORLOP_VERSION_MINOR, ORLOP_VERSION_PATCH)},
#ifdef __clang__
          {"compiler", fmt::format("clang {}", __clang_version__)},
#else
          {"compiler", fmt::format("gcc {}", __VERSION__)},
#endif
          {"fmt", FMT_VERSION},
          {"spdlog", SPDLOG_VERSION},
          {"nlohmann_json", fmt::format("{}.{}.{}", NLOHMANN_JSON_VERSION_MAJOR, NLOHMANN_JSON_VERSION_MINOR,
                                        NLOHMANN_JSON_VERSION_PATCH)}};
}

std::string machine_line(const json& machine) {
  std::string line = fmt::format("{}, {} processors", machine["cpu"].get<std::string>(),
                                 machine["processors"].get<unsigned>());
  if (machine.contains("memory_bytes")) line += ", " + format_bytes(machine["memory_bytes"].get<std::uint64_t>());
  line += ", " + machine["kernel"].get<std::string>();
  if (machine.contains("filesystem")) {
    line += fmt::format(", {} on {}", machine["filesystem"].get<std::string>(), machine["drive"].get<std::string>());
  }
  return line;
}

}  // namespace orlop::bench
