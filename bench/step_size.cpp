#include "bench/step_size.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <set>

#include "aio/file.hpp"
#include "base/bytes.hpp"
#include "base/clock.hpp"
#include "bench/drive_roof.hpp"
#include "bench/quantities.hpp"
#include "numa/arena.hpp"
#include "numa/host_memory.hpp"
#include "swap/drive_room.hpp"
#include "swap/nvme_paths.hpp"
#include "swap/space.hpp"

namespace orlop::bench {
namespace {

constexpr std::uint64_t kMostMemory = 12'000'000'000;
constexpr std::uint64_t kMostDisk = 40'000'000'000;
constexpr double kShareOfMemory = 0.5;  // of what is available
constexpr double kShareOfDisk = 0.6;
constexpr double kTargetSeconds = 40;  // by estimate; the promise is 60
constexpr std::uint64_t kMostParams = 4'000'000'000;
constexpr std::uint64_t kLeastParams = 1'000'000;

// What the estimate assumes of any machine that trains: conservative, since a wrong guess costs only size.
constexpr double kFixedSeconds = 5;          // calibration, roofs, starting up
constexpr double kGenerateParamsPerS = 1e9;  // making and handing over gradients
constexpr double kHashParamsPerS = 0.25e9;   // the digest, one thread
constexpr double kAdamParamsPerS = 0.5e9;    // states in memory
constexpr double kSliceShare = 1.15;         // the raw loop between steps

// States besides the parameter itself: lo or nothing, exp_avg, exp_avg_sq.
std::uint32_t state_bytes(std::uint32_t param_bytes) { return param_bytes == 2 ? 10 : 8; }
// On disk with the spares of the ring.
constexpr double kStoreSlack = 1.05;

bool is_on_disk(const SizeLimits& limits) { return limits.disk_bytes > 0; }

// Two engines are there at the end, one of them without arithmetic.
double engines(const SizeLimits& limits) { return is_on_disk(limits) ? 2 : 1; }

double memory_per_param(const SizeLimits& limits) {
  const double states = is_on_disk(limits) ? 0 : state_bytes(limits.param_bytes);
  return engines(limits) * (2.0 * limits.param_bytes + states);
}

std::uint32_t stored_param_bytes(const SizeLimits& limits) { return limits.stores_params ? limits.param_bytes : 0; }

// And the raw loop's file is as large as a store.
double disk_per_param(const SizeLimits& limits) {
  return (engines(limits) + 1) * kStoreSlack * (state_bytes(limits.param_bytes) + stored_param_bytes(limits));
}

// Parameters in the store are fetched twice besides.
double step_seconds_per_param(const SizeLimits& limits) {
  if (!is_on_disk(limits)) return 1 / kAdamParamsPerS;
  return (2.0 * state_bytes(limits.param_bytes) + 4.0 * stored_param_bytes(limits)) / (limits.mixed_gb_s * 1e9);
}

double set_up_seconds_per_param(const SizeLimits& limits) {
  const double populate = memory_per_param(limits) / (limits.populate_gb_s * 1e9);
  return is_on_disk(limits) ? populate + disk_per_param(limits) / (limits.first_write_gb_s * 1e9) : populate;
}

// Warm-up, the steps, the digest, and two pairs of steps with the second engine after its own warm-up.
double seconds_per_param(const SizeLimits& limits, unsigned steps) {
  const double compared = is_on_disk(limits) ? 5 : 0;
  const double step = step_seconds_per_param(limits) + 1 / kGenerateParamsPerS;
  return set_up_seconds_per_param(limits) + step * (kSliceShare * (steps + 1) + compared) + 1 / kHashParamsPerS;
}

// "316227766" -> 310000000: a number that one can remember.
std::uint64_t two_digits(double params) {
  const double power = std::pow(10.0, std::floor(std::log10(params)) - 1);
  return static_cast<std::uint64_t>(std::floor(params / power) * power);
}

struct Bound {
  double params;
  std::string reason;
};

constexpr std::uint64_t kTrialBytes = 512_MiB;
constexpr double kTrialSeconds = 0.7;

constexpr std::uint64_t kTrialMemory = 128_MiB;

// Machines differ by a factor of twenty, the virtual ones that have to ask their host for each page being the slow ones.
Result<> try_memory(SizeLimits& limits) {
  TRY_ASSIGN(const numa::Topology topology, numa::Topology::detect());
  const std::int64_t begin_ns = now_ns();
  TRY(numa::Arena::create(topology, kTrialMemory));
  limits.populate_gb_s = static_cast<double>(kTrialMemory) / static_cast<double>(now_ns() - begin_ns);
  return {};
}

// Several are tried one after the other, and do together what each does alone.
Result<> try_drive(const std::string& directory, SizeLimits& limits) {
  TRY_ASSIGN(const std::uint64_t free_bytes, aio::free_bytes(directory));
  const std::uint64_t bytes = std::min(kTrialBytes, align_down(free_bytes / 8, 8_MiB));
  if (bytes < 16_MiB) {
    return fail(ORLOP_NO_SPACE, "nvme_path: on {}: only {} are free; free some, or choose another drive", directory,
                format_whole_bytes(free_bytes));
  }
  TRY_ASSIGN(DriveRoof roof, DriveRoof::open(directory, bytes, {}));
  TRY_ASSIGN(const IoRate mixed, roof.half_and_half(kTrialSeconds));
  limits.mixed_gb_s += std::max(mixed.gb_per_s(), 1e-3);
  limits.first_write_gb_s += std::max(roof.first_write().gb_per_s(), 1e-3);
  return {};
}

std::uint64_t share(std::uint64_t available, double of, std::uint64_t most) {
  return std::min(most, static_cast<std::uint64_t>(static_cast<double>(available) * of));
}

// Directories on one filesystem are one drive.
Result<> try_drives(const std::vector<std::string>& directories, SizeLimits& limits) {
  TRY_ASSIGN(const auto rooms, swap::rooms_for_files(directories));
  limits.disk_bytes = share(swap::grains_in(rooms) * swap::kGrainBytes, kShareOfDisk, kMostDisk);
  std::set<std::uint64_t> tried;
  for (std::size_t i = 0; i < directories.size(); ++i) {
    if (tried.insert(rooms[i].filesystem).second) TRY(try_drive(directories[i], limits));
  }
  return {};
}

std::string time_reason(const SizeLimits& limits) {
  if (!is_on_disk(limits)) return "the run is to end within a minute";
  return fmt::format("the drive does {:.2f} GB/s, new memory comes at {:.2f} GB/s, and the run is to end within a minute",
                     limits.mixed_gb_s, limits.populate_gb_s);
}

}  // namespace

StepSize fit_size(const SizeLimits& limits, unsigned steps) {
  const double by_time = (kTargetSeconds - kFixedSeconds) / seconds_per_param(limits, steps);
  const double ring = is_on_disk(limits) ? engines(limits) * 0.3e9 : 0;
  const double memory = std::max(0.0, static_cast<double>(limits.memory_bytes) - ring);
  std::array<Bound, 4> bounds = {
      Bound{by_time, time_reason(limits)},
      Bound{memory / memory_per_param(limits), fmt::format("{} of memory may be used", format_bytes(limits.memory_bytes))},
      Bound{is_on_disk(limits) ? static_cast<double>(limits.disk_bytes) / disk_per_param(limits) : kMostParams,
            fmt::format("{} of disk may be used", format_bytes(limits.disk_bytes))},
      Bound{kMostParams, "more would show nothing new"}};
  const Bound& least = *std::ranges::min_element(bounds, {}, &Bound::params);
  const std::uint64_t params = two_digits(std::max<double>(kLeastParams, least.params));
  return {params, steps, fmt::format("Chose {} parameters because {}.", format_count(params), least.reason)};
}

Result<StepSize> choose_size(const Config& config, const StepArguments& options) {
  constexpr unsigned kDefaultSteps = 4;
  SizeLimits limits{};
  limits.param_bytes = config.dtype == ORLOP_F32 ? 4 : 2;
  TRY_ASSIGN(const numa::HostMemory memory, numa::host_memory());
  limits.memory_bytes = share(memory.available_bytes, kShareOfMemory, kMostMemory);
  TRY(try_memory(limits));
  if (config.memory.host) limits.memory_bytes = std::min(limits.memory_bytes, *config.memory.host);
  limits.stores_params = config.offload_param == OffloadDevice::nvme;
  if (!config.nvme_paths.empty()) {
    TRY(swap::check_drives(config.nvme_paths));
    TRY(try_drives(config.nvme_paths, limits));
  }
  return fit_size(limits, options.steps.value_or(kDefaultSteps));
}

}  // namespace orlop::bench
