// calibration.json: {"entries": [{"device", "filesystem", "queue", "version", "time", ...the calibration}]}
#include <cerrno>
#include <cstdlib>
#include <ctime>
#include <fcntl.h>
#include <fstream>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "aio/calibration.hpp"
#include "base/bytes.hpp"
#include "base/log.hpp"

namespace orlop::aio {
namespace {

using nlohmann::json;

constexpr const char* kKeyNames[] = {"device", "filesystem", "queue", "version"};

std::string path_in(const std::string& directory) {
  return directory + "/calibration.json";
}

// What a calibration holds for.
Result<json> key_of(const std::string& directory, QueueKind kind) {
  struct stat info {};
  struct statfs filesystem {};
  if (::stat(directory.c_str(), &info) != 0 || ::statfs(directory.c_str(), &filesystem) != 0) {
    return fail(status_of_errno(errno), "calibration: {}: {}", directory, describe_errno(errno));
  }
  return json{
      {"device", fmt::format("{}:{}", major(info.st_dev), minor(info.st_dev))},
      {"filesystem", fmt::format("{:#x}", static_cast<unsigned long>(filesystem.f_type))},
      {"queue", std::string(name_of(kind))},
      {"version", fmt::format("{}.{}.{}", ORLOP_VERSION_MAJOR, ORLOP_VERSION_MINOR, ORLOP_VERSION_PATCH)}};
}

bool has_key(const json& entry, const json& key) {
  for (const char* name : kKeyNames) {
    if (!entry.is_object() || !entry.contains(name) || entry[name] != key[name]) return false;
  }
  return true;
}

std::string time_text() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  ::gmtime_r(&now, &parts);
  char text[32];
  return {text, std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts)};
}

json to_json(const Calibration& calibration) {
  auto samples = json::array();
  for (const auto& sample : calibration.samples) {
    samples.push_back({{"direction", sample.direction == Direction::read ? "read" : "write"},
                       {"request_bytes", sample.request_bytes},
                       {"depth", sample.depth},
                       {"gb_per_s", sample.gb_per_s}});
  }
  return {{"read_request_bytes", calibration.read_request_bytes},
          {"write_request_bytes", calibration.write_request_bytes},
          {"depth", calibration.depth},
          {"mixing", calibration.mixing == Mixing::mixed ? "mixed" : "phased"},
          {"read_gb_s", calibration.read_gb_s},
          {"write_gb_s", calibration.write_gb_s},
          {"mixed_gb_s", calibration.mixed_gb_s},
          {"samples", std::move(samples)}};
}

bool is_plausible(const Calibration& calibration) {
  const auto is_request = [](std::uint64_t bytes) {
    return bytes >= 512 && bytes <= 1_GiB && bytes % 512 == 0;
  };
  return is_request(calibration.read_request_bytes) && is_request(calibration.write_request_bytes) &&
         calibration.depth >= 1 && calibration.depth <= 65536 && calibration.read_gb_s >= 0 &&
         calibration.write_gb_s >= 0 && calibration.mixed_gb_s >= 0;
}

// Throws json::exception where the entry is not what to_json writes.
Calibration from_json(const json& entry) {
  Calibration calibration;
  entry.at("read_request_bytes").get_to(calibration.read_request_bytes);
  entry.at("write_request_bytes").get_to(calibration.write_request_bytes);
  entry.at("depth").get_to(calibration.depth);
  calibration.mixing = entry.at("mixing").get<std::string>() == "phased" ? Mixing::phased : Mixing::mixed;
  entry.at("read_gb_s").get_to(calibration.read_gb_s);
  entry.at("write_gb_s").get_to(calibration.write_gb_s);
  entry.at("mixed_gb_s").get_to(calibration.mixed_gb_s);
  for (const auto& sample : entry.at("samples")) {
    calibration.samples.push_back({sample.at("direction") == "read" ? Direction::read : Direction::write,
                                   sample.at("request_bytes"), sample.at("depth"), sample.at("gb_per_s")});
  }
  calibration.origin = "kept from " + entry.at("time").get<std::string>();
  return calibration;
}

// The file's entries; an empty array when there is no file or it is damaged.
json read_entries(const std::string& path) {
  std::ifstream file(path);
  if (!file) return json::array();
  auto document = json::parse(file, nullptr, false);
  if (document.is_object() && document.contains("entries") && document["entries"].is_array())
    return document["entries"];
  log_warning("calibration: {}: damaged; it is measured anew and the file replaced", path);
  return json::array();
}

Result<> write_all(int fd, std::string_view text, const std::string& path) {
  while (!text.empty()) {
    const auto written = ::write(fd, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0)
      return fail(status_of_errno(errno), "calibration: write {}: {}", path, describe_errno(errno));
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  if (::fsync(fd) == 0) return {};
  return fail(status_of_errno(errno), "calibration: sync {}: {}", path, describe_errno(errno));
}

// Complete under its name or not there at all, also when two processes write at once.
Result<> replace_file(const std::string& path, std::string_view text) {
  std::string temporary = path + ".XXXXXX";
  const unique_fd fd(::mkostemp(temporary.data(), O_CLOEXEC));
  if (!fd.is_open())
    return fail(status_of_errno(errno), "calibration: create {}: {}", temporary, describe_errno(errno));
  auto result = write_all(fd.get(), text, temporary);
  if (result && ::rename(temporary.c_str(), path.c_str()) != 0) {
    result = fail(status_of_errno(errno), "calibration: rename {} to {}: {}", temporary, path,
                  describe_errno(errno));
  }
  if (!result) ::unlink(temporary.c_str());
  return result;
}

}  // namespace

std::optional<Calibration> load_calibration(const std::string& directory, QueueKind kind) {
  const auto key = key_of(directory, kind);
  if (!key) return std::nullopt;
  for (const auto& entry : read_entries(path_in(directory))) {
    if (!has_key(entry, *key)) continue;
    try {
      auto calibration = from_json(entry);
      if (is_plausible(calibration)) return calibration;
      log_warning("calibration: {}: values out of range; it is measured anew", path_in(directory));
    } catch (const json::exception& error) {
      log_warning("calibration: {}: damaged ({}); it is measured anew", path_in(directory), error.what());
    }
  }
  return std::nullopt;
}

Result<> keep_calibration(const std::string& directory, QueueKind kind, const Calibration& calibration) {
  TRY_ASSIGN(const auto key, key_of(directory, kind));
  auto entry = to_json(calibration);
  entry.update(key);
  entry["time"] = time_text();
  auto entries = json::array({std::move(entry)});
  for (auto& other : read_entries(path_in(directory))) {
    const bool is_current =
        other.is_object() && other.contains("version") && other["version"] == key["version"];
    if (is_current && !has_key(other, key)) entries.push_back(std::move(other));
  }
  return replace_file(path_in(directory), json{{"entries", std::move(entries)}}.dump(1) + '\n');
}

}  // namespace orlop::aio
