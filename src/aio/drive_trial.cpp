#include "aio/drive_trial.hpp"

#include <algorithm>
#include <vector>

#include "base/bytes.hpp"
#include "base/clock.hpp"

namespace orlop::aio {
namespace {

// Requests of one direction, one after the other through the window and through the buffer, around and
// around.
class Stream {
 public:
  Stream(Direction direction, std::uint64_t request_bytes, std::uint64_t window_bytes,
         std::span<std::byte> buffer, std::uint64_t first_offset, std::uint64_t total_bytes)
      : direction_(direction),
        request_bytes_(request_bytes),
        window_bytes_(align_down_to(window_bytes, request_bytes)),
        buffer_(buffer),
        buffer_bytes_(align_down_to(buffer.size(), request_bytes)),
        next_offset_(align_down_to(first_offset, request_bytes)),
        requests_left_(divide_up(total_bytes, request_bytes)) {}

  [[nodiscard]] bool has_more() const { return requests_left_ > 0; }

  Move next(const File& file) {
    const auto offset = next_offset_ % window_bytes_;
    const auto memory = next_memory_ % buffer_bytes_;
    next_offset_ = offset + request_bytes_;
    next_memory_ = memory + request_bytes_;
    --requests_left_;
    const auto priority = direction_ == Direction::read ? Priority::prefetch : Priority::write_back;
    return {direction_, priority, {{&file, buffer_.data() + memory, offset, request_bytes_}}, request_bytes_};
  }

 private:
  static std::uint64_t align_down_to(std::uint64_t bytes, std::uint64_t unit) { return bytes - bytes % unit; }

  Direction direction_;
  std::uint64_t request_bytes_;
  std::uint64_t window_bytes_;
  std::span<std::byte> buffer_;
  std::uint64_t buffer_bytes_;
  std::uint64_t next_offset_;
  std::uint64_t next_memory_ = 0;
  std::uint64_t requests_left_;
};

std::vector<Stream> streams_of(Load load, const TrialSetting& setting, std::uint64_t window_bytes,
                               std::span<std::byte> buffer, std::uint64_t bytes) {
  std::vector<Stream> streams;
  const auto share = load == Load::half_and_half ? bytes / 2 : bytes;
  if (load != Load::write) {
    streams.emplace_back(Direction::read, setting.read_request_bytes, window_bytes, buffer, 0, share);
  }
  if (load != Load::read) {
    const auto first_offset = load == Load::write ? 0 : window_bytes / 2;
    streams.emplace_back(Direction::write, setting.write_request_bytes, window_bytes, buffer, first_offset,
                         share);
  }
  return streams;
}

// Every move is one request, and its id their bytes.
struct Progress {
  std::size_t under_way = 0;
  std::uint64_t bytes = 0;

  Result<> take(std::vector<MoveDone>& done) {
    under_way -= done.size();
    for (auto& move : done) {
      TRY(std::move(move.result));
      bytes += move.id;
    }
    done.clear();
    return {};
  }
};

Result<> fits(const TrialSetting& setting, std::uint64_t window_bytes, std::size_t buffer_bytes) {
  const auto largest = std::max(setting.read_request_bytes, setting.write_request_bytes);
  if (largest > 0 && largest <= window_bytes && largest <= buffer_bytes) return {};
  return fail(ORLOP_INVALID_ARGUMENT, "trial: requests of {}: do not fit in {} of file and {} of memory",
              format_bytes(largest), format_bytes(window_bytes), format_bytes(buffer_bytes));
}

}  // namespace

Result<TrialResult> DriveTrial::run(Load load, const TrialSetting& setting, const TrialLimits& limits) const {
  TRY(fits(setting, window_bytes_, buffer_.size()));
  TRY_ASSIGN(auto queue, make_queue(kind_, {.depth = setting.depth}));
  queue->register_memory({&buffer_, 1});
  const int fd = file_.fd();
  queue->register_files({&fd, 1});
  Transfers transfers(std::move(queue), {setting.read_request_bytes, setting.write_request_bytes,
                                         setting.mixing, setting.phase_bytes});
  auto streams = streams_of(load, setting, window_bytes_, buffer_, limits.bytes);
  const std::size_t most_under_way = 2 * static_cast<std::size_t>(setting.depth) + 2;
  std::vector<MoveDone> done;
  Progress progress;
  const auto begin_ns = now_ns();
  for (;;) {
    const bool in_time = now_ns() < limits.end_ns || progress.bytes == 0;
    bool has_more = in_time;
    while (has_more && progress.under_way < most_under_way) {
      has_more = false;
      for (auto& stream : streams) {
        if (!stream.has_more()) continue;
        transfers.start(stream.next(file_));
        ++progress.under_way;
        has_more = true;
      }
    }
    if (transfers.idle()) break;
    TRY(transfers.run(done));
    TRY(progress.take(done));
  }
  return TrialResult{progress.bytes, seconds_of_ns(now_ns() - begin_ns)};
}

}  // namespace orlop::aio
