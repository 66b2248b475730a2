#include "io_case.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <fcntl.h>
#include <memory>
#include <unistd.h>
#include <utility>

#include "aio/file.hpp"
#include "aio/transfers.hpp"
#include "base/bytes.hpp"
#include "base/clock.hpp"
#include "raw_io.hpp"

namespace orlop::bench {
namespace {

constexpr std::uint64_t kCalibrationBytes = 64_MiB;
constexpr std::uint64_t kFileUnit = 16_MiB;

struct Case {
  const char* name;
  double read_fraction;
};
constexpr Case kCases[] = {{"read", 1}, {"write", 0}, {"mix", 0.5}};

// A file without a name: gone with the process, however that ends.
class BenchFile {
 public:
  static Result<BenchFile> create(const std::string& directory, std::uint64_t bytes) {
    std::string path = directory + "/orlop-bench-XXXXXX";
    const unique_fd fd(::mkostemp(path.data(), O_CLOEXEC));
    if (!fd.is_open())
      return fail(status_of_errno(errno), "bench file: in {}: {}", directory, describe_errno(errno));
    auto file = aio::File::open(path, aio::Existing::open);
    ::unlink(path.c_str());
    if (!file) return tl::unexpected<Error>(std::move(file).error());
    TRY(file->preallocate(bytes));
    return BenchFile(std::make_unique<aio::File>(std::move(*file)));
  }

  // By which others open it.
  [[nodiscard]] std::string path() const { return fmt::format("/proc/self/fd/{}", file_->fd()); }
  [[nodiscard]] const aio::File& get() const { return *file_; }

 private:
  explicit BenchFile(std::unique_ptr<aio::File> file) : file_(std::move(file)) {}

  std::unique_ptr<aio::File> file_;
};

struct Settings {
  std::uint64_t read_bytes;
  std::uint64_t write_bytes;
  unsigned depth;
  aio::Mixing mixing;
  std::uint64_t memory_bytes;

  [[nodiscard]] std::uint64_t slot_bytes() const { return std::max(read_bytes, write_bytes); }
};

Settings settings_of(const aio::Calibration& calibration, std::uint64_t memory_bytes) {
  Settings settings{calibration.read_request_bytes, calibration.write_request_bytes, calibration.depth,
                    calibration.mixing, 0};
  const auto slots = std::max(memory_bytes / settings.slot_bytes(), std::uint64_t{settings.depth});
  settings.memory_bytes = slots * settings.slot_bytes();
  return settings;
}

// Ours: a move per slot of memory, and as soon as one is done the next with that slot.
class OurIo {
 public:
  static Result<OurIo> open(const aio::File& file, std::uint64_t file_bytes, aio::QueueKind kind,
                            const Settings& settings) {
    TRY_ASSIGN(auto memory, HugeMemory::create(settings.memory_bytes));
    TRY_ASSIGN(auto queue, aio::make_queue(kind, {.depth = settings.depth}));
    return OurIo(file, file_bytes, std::move(memory), std::move(queue), settings);
  }

  Result<IoRate> run(double read_fraction, std::uint64_t bytes) {
    read_ = written_ = 0;
    moved_ = 0;
    const double cpu_before = process_cpu_seconds();
    const auto begin_ns = now_ns();
    for (std::uint64_t slot = 0; slot < slots_ && is_wanting(bytes); ++slot) start(slot, read_fraction);
    while (!transfers_.idle()) {
      TRY(transfers_.run(done_));
      for (auto& move : done_) {
        TRY(std::move(move.result));
        if (is_wanting(bytes)) start(move.id, read_fraction);
      }
      done_.clear();
    }
    return IoRate{moved_, seconds_of_ns(now_ns() - begin_ns), process_cpu_seconds() - cpu_before};
  }

 private:
  OurIo(const aio::File& file, std::uint64_t file_bytes, HugeMemory memory, std::unique_ptr<aio::Queue> queue,
        const Settings& settings)
      : file_(&file),
        file_bytes_(file_bytes),
        settings_(settings),
        slots_(settings.memory_bytes / settings.slot_bytes()),
        memory_(std::move(memory)),
        transfers_(std::move(queue), {settings.read_bytes, settings.write_bytes, settings.mixing}),
        write_place_(file_bytes / 2 / settings.write_bytes * settings.write_bytes) {
    const auto span = memory_.span();
    transfers_.queue().register_memory({&span, 1});
    const int fd = file.fd();
    transfers_.queue().register_files({&fd, 1});
  }

  [[nodiscard]] bool is_wanting(std::uint64_t bytes) const { return moved_ < bytes; }

  // Counts bytes as they start: run() returns when all have arrived.
  void start(std::uint64_t slot, double read_fraction) {
    const bool is_read = read_fraction > 0 && read_ * (1 - read_fraction) <= written_ * read_fraction;
    const auto bytes = is_read ? settings_.read_bytes : settings_.write_bytes;
    (is_read ? read_ : written_) += static_cast<double>(bytes);
    moved_ += bytes;
    auto& next = is_read ? read_place_ : write_place_;
    const auto place = next + bytes <= file_bytes_ ? next : 0;
    next = place + bytes;
    transfers_.start({is_read ? aio::Direction::read : aio::Direction::write,
                      is_read ? aio::Priority::prefetch : aio::Priority::write_back,
                      {{file_, memory_.span().data() + slot * settings_.slot_bytes(), place, bytes}},
                      slot});
  }

  const aio::File* file_;
  std::uint64_t file_bytes_;
  Settings settings_;
  std::uint64_t slots_;
  HugeMemory memory_;
  aio::Transfers transfers_;  // after the memory: what is in flight ends first
  std::vector<aio::MoveDone> done_;
  std::uint64_t read_place_ = 0;
  std::uint64_t write_place_;
  std::uint64_t moved_ = 0;  // bytes in this run
  double read_ = 0;
  double written_ = 0;
};

IoSummary summarise(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const auto at = [&](double quantile) {
    const double place = quantile * static_cast<double>(values.size() - 1);
    const auto below = static_cast<std::size_t>(place);
    const auto above = std::min(below + 1, values.size() - 1);
    return values[below] + (place - static_cast<double>(below)) * (values[above] - values[below]);
  };
  return {at(0.5), at(0.1), at(0.9)};
}

// The rates of one case, a round after the other.
struct Rounds {
  std::vector<double> ours, ours_cpu, roof, roof_cpu, ratio;

  void add(const IoRate& our_rate, const IoRate& roof_rate) {
    ours.push_back(our_rate.gb_per_s());
    ours_cpu.push_back(our_rate.cpu_seconds_per_gb());
    roof.push_back(roof_rate.gb_per_s());
    roof_cpu.push_back(roof_rate.cpu_seconds_per_gb());
    ratio.push_back(our_rate.gb_per_s() / roof_rate.gb_per_s());
  }
};

// Ours and the roof in turns, the first of them changing from round to round.
Result<> add_round(Rounds& rounds, OurIo& ours, RawIo& raw, double read_fraction, std::uint64_t bytes,
                   bool ours_first) {
  IoRate our_rate;
  IoRate roof_rate;
  for (const bool is_ours : {ours_first, !ours_first}) {
    if (is_ours) {
      TRY_ASSIGN(our_rate, ours.run(read_fraction, bytes));
    } else {
      TRY_ASSIGN(roof_rate, raw.run(read_fraction, bytes));
    }
  }
  rounds.add(our_rate, roof_rate);
  return {};
}

Result<std::pair<aio::QueueKind, std::string>> kind_of(const IoOptions& options) {
  if (options.queue) return std::pair(*options.queue, std::string(aio::name_of(*options.queue)));
  TRY_ASSIGN(const auto best, aio::make_best_queue({}));
  TRY_ASSIGN(const auto kind, aio::queue_kind_of(best->name()));
  return std::pair(kind, std::string(best->name()));
}

Result<aio::Calibration> calibrate_on(const aio::File& file, std::uint64_t file_bytes, aio::QueueKind kind,
                                      const IoOptions& options) {
  TRY_ASSIGN(const auto memory, HugeMemory::create(std::max(kCalibrationBytes, options.memory_bytes)));
  return aio::calibrate(file, file_bytes, kind, memory.span(), {options.request_bytes, options.depth});
}

}  // namespace

Result<IoReport> measure_io(const IoOptions& options) {
  IoReport report;
  TRY_ASSIGN(const auto kind, kind_of(options));
  report.queue = kind.second;
  const auto file_bytes = align_up(std::max(options.file_bytes, kFileUnit), kFileUnit);
  TRY_ASSIGN(const auto file, BenchFile::create(options.directory, file_bytes));
  TRY_ASSIGN(report.calibration, calibrate_on(file.get(), file_bytes, kind.first, options));
  const auto settings = settings_of(report.calibration, options.memory_bytes);
  TRY_ASSIGN(auto ours, OurIo::open(file.get(), file_bytes, kind.first, settings));
  TRY_ASSIGN(auto raw, RawIo::open({file.path(), file_bytes, settings.read_bytes, settings.depth,
                                    settings.write_bytes, settings.memory_bytes}));
  report.roof_engine = raw.engine();
  report.is_direct = raw.is_direct();
  TRY(ours.run(0, file_bytes));  // written once: what follows are rewrites, as in a store

  const auto round_bytes = options.round_bytes == 0 ? file_bytes : options.round_bytes;
  for (const auto& [name, read_fraction] : kCases) {
    Rounds rounds;
    for (unsigned round = 0; round < std::max(1u, options.rounds); ++round) {
      TRY(add_round(rounds, ours, raw, read_fraction, round_bytes, round % 2 == 0));
    }
    report.cases.push_back({name, round_bytes,
                            read_fraction == 0 ? settings.write_bytes : settings.read_bytes, settings.depth,
                            summarise(rounds.ours), summarise(rounds.ours_cpu).median, summarise(rounds.roof),
                            summarise(rounds.roof_cpu).median, summarise(rounds.ratio).median});
  }
  return report;
}

}  // namespace orlop::bench
