#include "aio/calibration.hpp"

#include <algorithm>
#include <array>

#include "aio/drive_trial.hpp"
#include "base/bytes.hpp"
#include "base/clock.hpp"
#include "base/log.hpp"

namespace orlop::aio {
namespace {

constexpr std::array<std::uint64_t, 4> kRequestBytes = {256_KiB, 512_KiB, 1_MiB, 2_MiB};
constexpr std::array<unsigned, 4> kDepths = {8, 16, 32, 64};
constexpr std::uint64_t kMostInFlight = 32_MiB;  // of what is tried; drives slow down where they are given too much
constexpr double kAsGood = 0.96;  // of the best
// Up to here, larger requests that are as good are better: each doubling halves the calls and interrupts. From here on
// smaller ones are: what is left to save is less than a hundredth of a processor.
constexpr std::uint64_t kLargeEnough = 512_KiB;
constexpr unsigned kMostRounds = 5;
constexpr std::uint64_t kTrialPhaseBytes = 32_MiB;

constexpr std::uint64_t kWindowPart = 16;  // of the limit on traffic is what is measured on

// A stage of the calibration: what it may spend, and how its candidates are visited.
struct Stage {
  double share;        // of the limits; stages use them up one after the other
  double trial_share;  // of the limits, for one trial
  std::size_t group;   // candidates that belong together, and of which at least one group is measured
};
constexpr double kFillShare = 0.15;
constexpr Stage kGridStage = {0.65, 1.0 / 128, 2};
constexpr Stage kMixingStage = {0.2, 1.0 / 32, 1};

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
        trial_(file, align_down(std::min(region_bytes, limits.bytes / kWindowPart), unit_), kind, buffer) {}

  Result<Calibration> run() {
    TRY(check());
    TRY(fill());
    TRY(choose_sizes_and_depth());
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
    const auto request_bytes = request_sizes().back();
    auto limits = budget_.part(kFillShare);
    limits.bytes = trial_.window_bytes();
    TRY_ASSIGN(const auto filled,
               trial_.run(Load::write, {request_bytes, request_bytes, depths().back()}, limits));
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

  static auto as_good_as_best(const std::vector<double>& rates) {
    const double best = *std::max_element(rates.begin(), rates.end());
    return [best](double rate) { return rate >= kAsGood * best; };
  }
  // The index of the first that is as good as the best; they come in ascending order of their setting.
  static std::size_t first_as_good(const std::vector<double>& rates) {
    return static_cast<std::size_t>(std::find_if(rates.begin(), rates.end(), as_good_as_best(rates)) - rates.begin());
  }

  // Sizes and depths are tried together: the same size may be the best at one depth and the worst at another.
  Result<> choose_sizes_and_depth() {
    auto measured = candidates();
    TRY(measure(measured, kGridStage));
    std::vector<TrialSetting> best;  // of each depth
    std::vector<double> reads, writes, both;
    for (const unsigned depth : depths()) {
      const auto [read_bytes, read_gb_s] = best_size(measured, Load::read, depth);
      const auto [write_bytes, write_gb_s] = best_size(measured, Load::write, depth);
      best.push_back({read_bytes, write_bytes, depth});
      reads.push_back(read_gb_s);
      writes.push_back(write_gb_s);
      both.push_back(read_gb_s > 0 && write_gb_s > 0 ? 2 / (1 / read_gb_s + 1 / write_gb_s) : 0);
    }
    const auto chosen = first_as_good(both);
    chosen_.read_request_bytes = best[chosen].read_request_bytes;
    chosen_.write_request_bytes = best[chosen].write_request_bytes;
    chosen_.depth = best[chosen].depth;
    chosen_.read_gb_s = reads[chosen];
    chosen_.write_gb_s = writes[chosen];
    return {};
  }

  // In pairs of a read and a write; every depth has at least one.
  [[nodiscard]] std::vector<Candidate> candidates() const {
    const auto sizes = request_sizes();
    std::vector<Candidate> all;
    for (const auto depth : depths()) {
      for (const auto bytes : sizes) {
        if (bytes != sizes.front() && depth * bytes > most_in_flight()) continue;
        for (const auto load : {Load::read, Load::write}) all.push_back({load, {bytes, bytes, depth}});
      }
    }
    return all;
  }

  [[nodiscard]] std::vector<unsigned> depths() const {
    if (overrides_.depth) return {*overrides_.depth};
    const auto smallest_bytes = request_sizes().front();
    std::vector<unsigned> depths;
    for (const auto depth : kDepths) {
      if (depths.empty() || depth * smallest_bytes <= most_in_flight()) depths.push_back(depth);
    }
    return depths;
  }

  [[nodiscard]] std::uint64_t most_in_flight() const { return std::min(kMostInFlight, buffer_bytes_); }

  // The request size to use at a depth, and its rate.
  static std::pair<std::uint64_t, double> best_size(const std::vector<Candidate>& measured, Load load, unsigned depth) {
    std::vector<std::uint64_t> sizes;
    std::vector<double> rates;
    for (const auto& candidate : measured) {
      if (candidate.load != load || candidate.setting.depth != depth) continue;
      sizes.push_back(candidate.setting.read_request_bytes);
      rates.push_back(candidate.median());
    }
    const auto is_as_good = as_good_as_best(rates);
    std::size_t best = first_as_good(rates);
    for (std::size_t i = best; i < sizes.size() && sizes[i] <= kLargeEnough; ++i) {
      if (is_as_good(rates[i])) best = i;
    }
    return {sizes[best], rates[best]};
  }

  Result<> choose_mixing() {
    const TrialSetting mixed{chosen_.read_request_bytes, chosen_.write_request_bytes, chosen_.depth};
    TrialSetting phased = mixed;
    phased.mixing = Mixing::phased;
    phased.phase_bytes = kTrialPhaseBytes;
    std::vector<Candidate> candidates = {{Load::half_and_half, mixed}, {Load::half_and_half, phased}};
    TRY(measure(candidates, kMixingStage));
    const auto& chosen = candidates[first_as_good(rates_of(candidates, Load::half_and_half))];
    chosen_.mixing = chosen.setting.mixing;
    chosen_.mixed_gb_s = chosen.median();
    return {};
  }

  // Rounds over all candidates, each round beginning with another group, so that what disturbs the machine
  // for a moment does not always meet the same one. Begins in the middle: if there is time for one only, it
  // is no extreme.
  Result<> measure(std::vector<Candidate>& candidates, const Stage& stage) {
    budget_.begin_stage(stage.share);
    const auto groups = candidates.size() / stage.group;
    double round_share = 0;
    for (std::size_t round = 0; round < kMostRounds; ++round) {
      if (round > 0 && !budget_.stage_has(round_share)) break;
      const double used_before = budget_.used();
      const auto first = ((groups - 1) / 2 + round) * stage.group;
      for (std::size_t i = 0; i < candidates.size(); ++i) {
        const bool is_needed = round == 0 && i < stage.group;
        if (!is_needed && budget_.is_exhausted()) break;
        TRY(measure_one(candidates[(first + i) % candidates.size()], stage.trial_share));
      }
      round_share = budget_.used() - used_before;
    }
    for (const auto& candidate : candidates) keep_sample(candidate);
    return {};
  }

  Result<> measure_one(Candidate& candidate, double share) {
    auto limits = budget_.part(share);
    limits.bytes = std::max(limits.bytes, bytes_in_flight(candidate));
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

  static std::vector<double> rates_of(const std::vector<Candidate>& candidates, Load load) {
    std::vector<double> rates;
    for (const auto& candidate : candidates) {
      if (candidate.load == load) rates.push_back(candidate.median());
    }
    return rates;
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
