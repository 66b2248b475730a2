#include "swap/drive_settings.hpp"

#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>

#include "base/bytes.hpp"
#include "base/log.hpp"

namespace orlop::swap {
namespace {

namespace fs = std::filesystem;

std::optional<fs::path> cache_home() {
  if (const char* xdg = std::getenv("XDG_CACHE_HOME"); xdg != nullptr && *xdg == '/') return fs::path(xdg);
  if (const char* home = std::getenv("HOME"); home != nullptr && *home == '/') return fs::path(home) / ".cache";
  return std::nullopt;
}

// A drive as this machine numbers it; homes may be shared between machines.
std::optional<std::string> drive_name(const std::string& path) {
  struct stat status = {};
  struct statfs filesystem = {};
  std::array<char, 256> host = {};
  if (::stat(path.c_str(), &status) != 0 || ::statfs(path.c_str(), &filesystem) != 0) return std::nullopt;
  if (::gethostname(host.data(), host.size() - 1) != 0) return std::nullopt;
  return fmt::format("{}-{}-{}-{:x}", host.data(), major(status.st_dev), minor(status.st_dev),
                     static_cast<unsigned long>(filesystem.f_type));
}

aio::Calibration with_overrides(aio::Calibration settings, const aio::CalibrationOverrides& overrides) {
  if (overrides.request_bytes) settings.read_request_bytes = settings.write_request_bytes = *overrides.request_bytes;
  if (overrides.depth) settings.depth = *overrides.depth;
  return settings;
}

aio::Calibration unmeasured(std::string origin, const aio::CalibrationOverrides& overrides) {
  aio::Calibration settings;
  settings.origin = std::move(origin);
  return with_overrides(std::move(settings), overrides);
}

Result<> check_overrides(const aio::CalibrationOverrides& overrides) {
  if (overrides.request_bytes && (*overrides.request_bytes == 0 || !is_aligned(*overrides.request_bytes, 4096))) {
    return fail(ORLOP_INVALID_CONFIG, "aio.block_size: {} bytes: must be a positive multiple of 4096",
                *overrides.request_bytes);
  }
  if (overrides.depth && *overrides.depth == 0) {
    return fail(ORLOP_INVALID_CONFIG, "aio.queue_depth: 0: must be at least 1");
  }
  return {};
}

void keep(const std::string& directory, aio::QueueKind kind, const aio::Calibration& measured) {
  if (const auto kept = aio::keep_calibration(directory, kind, measured); !kept) {
    log_info("calibration: will be measured again next time: {}", kept.error().message);
  }
}

}  // namespace

std::optional<std::string> calibration_directory(const std::string& path) {
  const auto home = cache_home();
  const auto drive = drive_name(path);
  if (!home || !drive) return std::nullopt;
  const fs::path directory = *home / "orlop" / *drive;
  std::error_code error;
  fs::create_directories(directory, error);
  if (error || ::access(directory.c_str(), W_OK | X_OK) != 0) return std::nullopt;
  return directory.string();
}

Result<aio::Calibration> drive_settings(const aio::File& file, std::uint64_t file_bytes, aio::QueueKind kind,
                                        std::span<std::byte> buffer, const aio::CalibrationOverrides& overrides) {
  TRY(check_overrides(overrides));
  if (overrides.request_bytes && overrides.depth) return unmeasured("configured", overrides);
  if (file_bytes < kSmallestMeasuredStore) return unmeasured("default: the store is too small to measure", overrides);
  const auto directory = calibration_directory(file.path());
  if (directory) {
    if (auto kept = aio::load_calibration(*directory, kind)) return with_overrides(std::move(*kept), overrides);
  }
  TRY_ASSIGN(auto measured, aio::calibrate(file, file_bytes, kind, buffer, overrides));
  // What was measured under an override is not the drive's best.
  if (directory && !overrides.request_bytes && !overrides.depth) keep(*directory, kind, measured);
  return measured;
}

}  // namespace orlop::swap
