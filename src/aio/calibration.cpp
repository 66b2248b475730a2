#include "aio/calibration.hpp"

#include <algorithm>
#include <array>

#include "aio/drive_trial.hpp"
#include "base/bytes.hpp"
#include "base/clock.hpp"
#include "base/log.hpp"

namespace orlop::aio {
namespace {

constexpr std::array<std::uint64_t, 5> kRequestBytes = {256_KiB, 512_KiB, 1_MiB, 2_MiB, 4_MiB};
constexpr std::array<unsigned, 5> kDepths = {8, 16, 32, 64, 128};
constexpr std::uint64_t kBytesInFlight =
    16_MiB;                       // while sizes are compared, as far as depths of 8 to 64 allow
constexpr double kAsGood = 0.97;  // of the best: then smaller is better
constexpr unsigned kMostRounds = 5;
constexpr std::uint64_t kTrialPhaseBytes = 32_MiB;

// Shares of the limits, used up in this order.
constexpr double kFillShare = 0.15;
constexpr double kSizesShare = 0.35;
constexpr double kDepthsShare = 0.25;
constexpr double kMixingShare = 0.25;

// What may still be spent, in time and in traffic.
class Budget {
 public:
  explicit Budget(const CalibrationLimits& limits) : limits_(limits), begin_ns_(now_ns()) {}

  void begin_stage(double share) { spent_share_ += share; }
  void spend(std::uint64_t bytes) { bytes_ += bytes; }

  // The larger of both shares that are used up.
  [[nodiscard]] double used() const {
    return std::max(seconds_of_ns(now_ns() - begin_ns_) / limits_.seconds,
                    static_cast<double>(bytes_) / static_cast<double>(limits_.bytes));
  }
  [[nodiscard]] bool is_exhausted() const { return used() >= 1; }
  [[nodiscard]] bool stage_has(double share) const { return used() + share <= spent_share_; }

  // A part of the traffic and of the time, for one trial.
  [[nodiscard]] TrialLimits part(double share) const {
    return {static_cast<std::uint64_t>(static_cast<double>(limits_.bytes) * share),
            now_ns() + static_cast<std::int64_t>(limits_.seconds * share * 1e9)};
  }

 private:
  CalibrationLimits limits_;
  std::int64_t begin_ns_;
  std::uint64_t bytes_ = 0;
  double spent_share_ = 0;
};

struct Candidate {
  Load load;
  TrialSetting setting;
  std::vector<double> rates = {};

  [[nodiscard]] double median() const {
    if (rates.empty()) return 0;
    auto sorted = rates;
    std::sort(sorted.begin(), sorted.end());
    const auto middle = sorted.size() / 2;
    return sorted.size() % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
  }
};

std::uint64_t bytes_in_flight(const Candidate& candidate) {
  const auto& [read_bytes, write_bytes, depth, mixing, phase_bytes] = candidate.setting;
  const auto request_bytes = candidate.load == Load::read    ? read_bytes
                             : candidate.load == Load::write ? write_bytes
                                                             : std::max(read_bytes, write_bytes);
  return depth * request_bytes;
}

class Calibrator {
 public:
  Calibrator(const File& file, std::uint64_t region_bytes, QueueKind kind, std::span<std::byte> buffer,
             const CalibrationOverrides& overrides, const CalibrationLimits& limits)
      : unit_(std::max(file.alignment().memory, file.alignment().offset)),
        buffer_bytes_(buffer.size()),
        overrides_(overrides),
        budget_(limits),
        trial_(file, align_down(std::min(region_bytes, limits.bytes / 8), unit_), kind, buffer) {}

  Result<Calibration> run() {
    TRY(check());
    TRY(fill());
    TRY(choose_sizes());
    TRY(choose_depth());
    TRY(choose_mixing());
    chosen_.origin = origin();
    log_info(
        "calibration: requests of {} read, {} written, depth {}, {}: {:.2f} GB/s read, {:.2f} written, "
        "{:.2f} half and half",
        format_bytes(chosen_.read_request_bytes), format_bytes(chosen_.write_request_bytes), chosen_.depth,
        chosen_.mixing == Mixing::mixed ? "mixed" : "in phases", chosen_.read_gb_s, chosen_.write_gb_s,
        chosen_.mixed_gb_s);
    return chosen_;
  }

 private:
  Result<> check() const {
    if (overrides_.depth == 0u)
      return fail(ORLOP_INVALID_ARGUMENT, "calibration: queue depth 0: must be at least 1");
    const auto bytes = overrides_.request_bytes.value_or(kRequestBytes.front());
    if (bytes > 0 && is_aligned(bytes, unit_) && bytes <= trial_.window_bytes() && bytes <= buffer_bytes_)
      return {};
    return fail(ORLOP_INVALID_ARGUMENT,
                "calibration: requests of {} bytes: must be multiples of {} bytes and fit in {} of file "
                "and {} of memory",
                bytes, unit_, format_bytes(trial_.window_bytes()), format_bytes(buffer_bytes_));
  }

  // First writes are slower than later ones: each byte that is measured on has been written before. On a slow
  // drive the window ends where time was up.
  Result<> fill() {
    budget_.begin_stage(kFillShare);
    const auto request_bytes = request_sizes().front();
    auto limits = budget_.part(kFillShare);
    limits.bytes = trial_.window_bytes();
    TRY_ASSIGN(const auto filled,
               trial_.run(Load::write, {request_bytes, request_bytes, depth_for(request_bytes)}, limits));
    budget_.spend(filled.bytes);
    if (filled.bytes < trial_.window_bytes())
      trial_.set_window(std::max(request_sizes().back(), filled.bytes));
    return {};
  }

  [[nodiscard]] std::vector<std::uint64_t> request_sizes() const {
    if (overrides_.request_bytes) return {*overrides_.request_bytes};
    std::vector<std::uint64_t> sizes;
    for (const auto bytes : kRequestBytes) {
      if (bytes <= trial_.window_bytes() && bytes <= buffer_bytes_ && is_aligned(bytes, unit_))
        sizes.push_back(bytes);
    }
    return sizes;
  }

  [[nodiscard]] unsigned depth_for(std::uint64_t request_bytes) const {
    const auto wanted =
        static_cast<unsigned>(std::clamp<std::uint64_t>(kBytesInFlight / request_bytes, 8, 64));
    return overrides_.depth.value_or(wanted);
  }

  Result<> choose_sizes() {
    budget_.begin_stage(kSizesShare);
    const auto sizes = request_sizes();
    std::vector<Candidate> candidates;
    for (const auto load : {Load::read, Load::write}) {
      for (const auto bytes : sizes) candidates.push_back({load, {bytes, bytes, depth_for(bytes)}});
    }
    if (sizes.size() > 1) TRY(measure(candidates, 1.0 / 64));
    const auto all = std::span(candidates);
    chosen_.read_request_bytes = smallest_as_good(all.first(sizes.size())).setting.read_request_bytes;
    chosen_.write_request_bytes = smallest_as_good(all.last(sizes.size())).setting.write_request_bytes;
    return {};
  }

  Result<> choose_depth() {
    budget_.begin_stage(kDepthsShare);
    std::vector<Candidate> candidates;
    for (const auto depth : depths()) {
      for (const auto load : {Load::read, Load::write}) {
        candidates.push_back({load, {chosen_.read_request_bytes, chosen_.write_request_bytes, depth}});
      }
    }
    TRY(measure(candidates, 1.0 / 64));
    std::vector<Candidate> both;  // reading and writing a byte, per depth
    for (std::size_t i = 0; i < candidates.size(); i += 2) {
      const double read = candidates[i].median();
      const double write = candidates[i + 1].median();
      both.push_back({Load::half_and_half, candidates[i].setting, {}});
      if (read > 0 && write > 0) both.back().rates = {2 / (1 / read + 1 / write)};
    }
    const auto chosen = static_cast<std::size_t>(&smallest_as_good(both) - both.data());
    chosen_.depth = both[chosen].setting.depth;
    chosen_.read_gb_s = candidates[2 * chosen].median();
    chosen_.write_gb_s = candidates[2 * chosen + 1].median();
    return {};
  }

  [[nodiscard]] std::vector<unsigned> depths() const {
    if (overrides_.depth) return {*overrides_.depth};
    std::vector<unsigned> depths;
    const auto largest = std::max(chosen_.read_request_bytes, chosen_.write_request_bytes);
    for (const auto depth : kDepths) {
      if (depths.empty() || depth * largest <= buffer_bytes_) depths.push_back(depth);
    }
    return depths;
  }

  Result<> choose_mixing() {
    budget_.begin_stage(kMixingShare);
    const TrialSetting mixed{chosen_.read_request_bytes, chosen_.write_request_bytes, chosen_.depth};
    TrialSetting phased = mixed;
    phased.mixing = Mixing::phased;
    phased.phase_bytes = kTrialPhaseBytes;
    std::vector<Candidate> candidates = {{Load::half_and_half, mixed}, {Load::half_and_half, phased}};
    TRY(measure(candidates, 1.0 / 16));
    const auto& chosen = smallest_as_good(candidates);
    chosen_.mixing = chosen.setting.mixing;
    chosen_.mixed_gb_s = chosen.median();
    return {};
  }

  // Rounds over all candidates, each round beginning with another, so that what disturbs the machine for a
  // moment does not always meet the same one. At least one trial each while there is anything to spend at
  // all.
  Result<> measure(std::vector<Candidate>& candidates, double trial_share) {
    double round_share = 0;
    for (unsigned round = 0; round < kMostRounds; ++round) {
      if (round > 0 && !budget_.stage_has(round_share)) break;
      const double used_before = budget_.used();
      for (std::size_t i = 0; i < candidates.size(); ++i) {
        if (budget_.is_exhausted() && i + round > 0) break;
        TRY(measure_one(candidates[(i + round) % candidates.size()], trial_share));
      }
      round_share = budget_.used() - used_before;
    }
    for (const auto& candidate : candidates) keep_sample(candidate);
    return {};
  }

  Result<> measure_one(Candidate& candidate, double share) {
    auto limits = budget_.part(share);
    limits.bytes = std::max(limits.bytes, bytes_in_flight(candidate) * 3 / 2);
    TRY_ASSIGN(const auto result, trial_.run(candidate.load, candidate.setting, limits));
    budget_.spend(result.bytes);
    candidate.rates.push_back(result.gb_per_s());
    return {};
  }

  void keep_sample(const Candidate& candidate) {
    const auto& setting = candidate.setting;
    if (candidate.load == Load::half_and_half || candidate.rates.empty()) return;
    const bool reads = candidate.load == Load::read;
    chosen_.samples.push_back({reads ? Direction::read : Direction::write,
                               reads ? setting.read_request_bytes : setting.write_request_bytes,
                               setting.depth, candidate.median()});
  }

  // Candidates come in ascending order.
  static const Candidate& smallest_as_good(std::span<const Candidate> candidates) {
    double best = 0;
    for (const auto& candidate : candidates) best = std::max(best, candidate.median());
    for (const auto& candidate : candidates) {
      if (candidate.median() >= kAsGood * best) return candidate;
    }
    return candidates.front();
  }

  [[nodiscard]] std::string origin() const {
    if (overrides_.request_bytes && overrides_.depth) return "configured";
    if (overrides_.request_bytes) return "measured (request size configured)";
    if (overrides_.depth) return "measured (depth configured)";
    return "measured";
  }

  std::uint64_t unit_;
  std::uint64_t buffer_bytes_;
  CalibrationOverrides overrides_;
  Budget budget_;
  DriveTrial trial_;
  Calibration chosen_;
};

}  // namespace

Result<Calibration> calibrate(const File& file, std::uint64_t region_bytes, QueueKind kind,
                              std::span<std::byte> buffer, const CalibrationOverrides& overrides,
                              const CalibrationLimits& limits) {
  return Calibrator(file, region_bytes, kind, buffer, overrides, limits).run();
}

}  // namespace orlop::aio
