#include "swap/pin.hpp"

#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>

#include <nlohmann/json.hpp>

#include "base/durable_file.hpp"
#include "base/log.hpp"

namespace orlop::swap {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

json runs_of(const Pin& pin) {
  json runs = json::array();
  for (const GrainRun& run : pin.runs) runs.push_back({run.first_grain, run.grain_count});
  return runs;
}

std::optional<Pin> read_pin(const std::string& path) {
  std::ifstream file(path);
  const json text = json::parse(file, nullptr, false);
  if (!text.is_object()) return std::nullopt;
  try {
    Pin pin{path, text.at("opening").get<std::string>(),
            {text.at("checkpoint"), text.at("manifest"), text.at("device"), text.at("link"), text.at("is_complete"),
             text.value("links", 1u)}, {}};
    for (const json& run : text.at("grains")) pin.runs.push_back({run.at(0), run.at(1)});
    return pin;
  } catch (const json::exception&) {
    return std::nullopt;
  }
}

}  // namespace

std::string pin_path(const std::string& directory, int rank, const std::string& checkpoint_id) {
  return fmt::format("{}/rank{}-{}.pin", directory, rank, checkpoint_id);
}

std::string link_path(const std::string& directory, int rank, const std::string& checkpoint_id) {
  return fmt::format("{}/rank{}-{}.manifest", directory, rank, checkpoint_id);
}

void remove_pin(const Pin& pin) {
  for (const std::string& path : {pin.path, pin.checkpoint.link}) {
    if (path.empty() || ::unlink(path.c_str()) == 0 || errno == ENOENT) continue;
    log_warning("remove: on {}: {}", path, describe_errno(errno));
  }
}

Result<> write_pin(const Pin& pin) {
  const json text = {{"checkpoint", pin.checkpoint.id},
                     {"manifest", pin.checkpoint.manifest},
                     {"device", pin.checkpoint.device},
                     {"link", pin.checkpoint.link},
                     {"is_complete", pin.checkpoint.is_complete},
                     {"links", pin.checkpoint.link_count},
                     {"opening", pin.opening},
                     {"grains", runs_of(pin)}};
  return write_durably(pin.path, text.dump() + "\n");
}

Pins pins_in(const std::string& directory) {
  Pins pins;
  std::error_code error;
  for (fs::directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
    if (it->path().extension() != ".pin") continue;
    auto pin = read_pin(it->path().string());
    if (!pin) {
      pins.unreadable.push_back(it->path().string());
    } else if (presence_of(pin->checkpoint) == Presence::gone) {
      pins.dead.push_back(std::move(*pin));
    } else {
      pins.held.push_back(std::move(*pin));
    }
  }
  if (error && error != std::errc::no_such_file_or_directory) pins.unreadable.push_back(directory);
  return pins;
}

}  // namespace orlop::swap
