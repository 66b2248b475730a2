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

constexpr std::uint64_t kBufferBytes = 64_MiB;
constexpr std::uint64_t kMoveBytes = 16_MiB;  // as blocks of the engine are

struct Case {
  const char* name;
  double read_fraction;
};
constexpr Case kCases[] = {{"read", 1}, {"write", 0}, {"mix", 0.5}};

// A file that is gone with it.
class BenchFile {
 public:
  static Result<BenchFile> create(const std::string& directory, std::uint64_t bytes) {
    std::string path = directory + "/orlop-bench-XXXXXX";
    const unique_fd fd(::mkostemp(path.data(), O_CLOEXEC));
    if (!fd.is_open())
      return fail(status_of_errno(errno), "bench file: in {}: {}", directory, describe_errno(errno));
    TRY_ASSIGN(auto file, open_or_remove(path, bytes));
    return BenchFile(std::move(file));
  }

  BenchFile(BenchFile&&) = default;
  BenchFile& operator=(BenchFile&&) = delete;
  ~BenchFile() {
    if (file_ != nullptr) ::unlink(file_->path().c_str());
  }

  [[nodiscard]] const aio::File& get() const { return *file_; }

 private:
  explicit BenchFile(std::unique_ptr<aio::File> file) : file_(std::move(file)) {}

  static Result<std::unique_ptr<aio::File>> open_or_remove(const std::string& path, std::uint64_t bytes) {
    auto file = aio::File::open(path, aio::Existing::open);
    auto ready = file ? file->preallocate(bytes) : Result<>(tl::unexpect, file.error());
    if (ready) return std::make_unique<aio::File>(std::move(*file));
    ::unlink(path.c_str());
    return tl::unexpected<Error>(std::move(ready).error());
  }

  std::unique_ptr<aio::File> file_;
};

// Ours: moves of 16 MiB through the file, a few waiting at any time, as the engine's pipeline keeps them.
class OurIo {
 public:
  OurIo(const aio::File& file, std::uint64_t file_bytes, std::span<std::byte> buffer,
        std::unique_ptr<aio::Queue> queue, const aio::Calibration& settings)
      : file_(file),
        move_bytes_(std::min(kMoveBytes, file_bytes)),
        moves_in_file_(file_bytes / move_bytes_),
        buffer_(buffer),
        in_flight_bytes_(settings.depth *
                         std::max(settings.read_request_bytes, settings.write_request_bytes)),
        transfers_(std::move(queue),
                   {settings.read_request_bytes, settings.write_request_bytes, settings.mixing}) {
    transfers_.queue().register_memory({&buffer_, 1});
    const int fd = file.fd();
    transfers_.queue().register_files({&fd, 1});
    next_write_ = moves_in_file_ / 2;
  }

  Result<IoRate> run(double read_fraction, std::uint64_t bytes) {
    const auto moves = std::max<std::uint64_t>(1, bytes / move_bytes_);
    const auto most_waiting = std::max<std::uint64_t>(4, 2 * in_flight_bytes_ / move_bytes_);
    const double cpu_before = process_cpu_seconds();
    const auto begin_ns = now_ns();
    double reads_due = 0;
    for (std::uint64_t started = 0, finished = 0; finished < moves;) {
      for (; started < moves && started - finished < most_waiting; ++started) {
        reads_due += read_fraction;
        const bool is_read = reads_due >= 1 - 1e-9;
        if (is_read) reads_due -= 1;
        transfers_.start(next_move(is_read));
      }
      TRY(transfers_.run(done_));
      finished += done_.size();
      for (auto& move : done_) TRY(std::move(move.result));
      done_.clear();
    }
    return IoRate{moves * move_bytes_, seconds_of_ns(now_ns() - begin_ns),
                  process_cpu_seconds() - cpu_before};
  }

 private:
  aio::Move next_move(bool is_read) {
    auto& place = is_read ? next_read_ : next_write_;
    const auto offset = place++ % moves_in_file_ * move_bytes_;
    const auto memory = next_memory_++ % (buffer_.size() / move_bytes_) * move_bytes_;
    return {is_read ? aio::Direction::read : aio::Direction::write,
            is_read ? aio::Priority::prefetch : aio::Priority::write_back,
            {{&file_, buffer_.data() + memory, offset, move_bytes_}},
            0};
  }

  const aio::File& file_;
  std::uint64_t move_bytes_;
  std::uint64_t moves_in_file_;
  std::span<std::byte> buffer_;
  std::uint64_t in_flight_bytes_;
  aio::Transfers transfers_;
  std::vector<aio::MoveDone> done_;
  std::uint64_t next_read_ = 0;
  std::uint64_t next_write_ = 0;
  std::uint64_t next_memory_ = 0;
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

}  // namespace

Result<IoReport> measure_io(const IoOptions& options) {
  IoReport report;
  TRY_ASSIGN(const auto kind, kind_of(options));
  report.queue = kind.second;
  const auto file_bytes = align_up(std::max<std::uint64_t>(options.file_bytes, kMoveBytes), kMoveBytes);
  const auto round_bytes = options.round_bytes == 0 ? file_bytes : options.round_bytes;
  TRY_ASSIGN(const auto file, BenchFile::create(options.directory, file_bytes));
  TRY_ASSIGN(auto memory, HugeMemory::create(kBufferBytes));
  TRY_ASSIGN(report.calibration, aio::calibrate(file.get(), file_bytes, kind.first, memory.span(),
                                                {options.request_bytes, options.depth}));
  const auto& settings = report.calibration;
  TRY_ASSIGN(auto queue, aio::make_queue(kind.first, {.depth = settings.depth}));
  OurIo ours(file.get(), file_bytes, memory.span(), std::move(queue), settings);
  TRY(ours.run(0, file_bytes));  // written once: what follows are rewrites, as in a store

  for (const auto& [name, read_fraction] : kCases) {
    const auto request_bytes =
        read_fraction == 0 ? settings.write_request_bytes : settings.read_request_bytes;
    TRY_ASSIGN(auto raw, RawIo::open({file.get().path(), file_bytes, request_bytes, settings.depth}));
    report.roof_engine = raw.engine();
    report.is_direct = raw.is_direct();
    Rounds rounds;
    for (unsigned round = 0; round < std::max(1u, options.rounds); ++round) {
      TRY(add_round(rounds, ours, raw, read_fraction, round_bytes, round % 2 == 0));
    }
    report.cases.push_back({name, round_bytes, request_bytes, settings.depth, summarise(rounds.ours),
                            summarise(rounds.ours_cpu).median, summarise(rounds.roof),
                            summarise(rounds.roof_cpu).median, summarise(rounds.ratio).median});
  }
  return report;
}

}  // namespace orlop::bench
