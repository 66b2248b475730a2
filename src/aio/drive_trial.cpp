#include "aio/drive_trial.hpp"

#include <algorithm>
#include <vector>

#include "base/bytes.hpp"
#include "base/clock.hpp"

namespace orlop::aio {
namespace {

std::uint64_t align_down_to(std::uint64_t bytes, std::uint64_t unit) { return bytes - bytes % unit; }

// Requests of one direction, one after the other through the window, each with memory that no other has meanwhile:
// like the pipeline, it waits when all of it is under way. What was free last is used first: then a setting is measured
// with the memory that it keeps busy, which on virtual drives, where a processor copies, decides by a third.
class Stream {
 public:
  Stream(Direction direction, std::uint64_t request_bytes, std::uint64_t window_bytes,
         std::span<std::byte> buffer, std::uint64_t first_offset, std::uint64_t total_bytes)
      : direction_(direction),
        request_bytes_(request_bytes),
        window_bytes_(align_down_to(window_bytes, request_bytes)),
        buffer_(buffer),
        next_offset_(align_down_to(first_offset, request_bytes)),
        requests_left_(divide_up(total_bytes, request_bytes)) {
    for (std::size_t at = buffer.size() / request_bytes; at-- > 0;) free_.push_back(at * request_bytes);
  }

  [[nodiscard]] bool can_start() const { return requests_left_ > 0 && !free_.empty(); }

  // The id of a move is where its memory begins.
  Move next(const File& file) {
    std::byte* const memory = buffer_.data() + free_.back();
    free_.pop_back();
    const auto offset = next_offset_ % window_bytes_;
    next_offset_ = offset + request_bytes_;
    --requests_left_;
    const auto priority = direction_ == Direction::read ? Priority::prefetch : Priority::write_back;
    return {direction_, priority, {{&file, memory, offset, request_bytes_}}, reinterpret_cast<std::uintptr_t>(memory)};
  }

  // Returns how many bytes it moved: none if it is another stream's.
  std::uint64_t end(std::uint64_t id) {
    const std::uint64_t at = id - reinterpret_cast<std::uintptr_t>(buffer_.data());
    if (at >= buffer_.size()) return 0;
    free_.push_back(at);
    return request_bytes_;
  }

 private:
  Direction direction_;
  std::uint64_t request_bytes_;
  std::uint64_t window_bytes_;
  std::span<std::byte> buffer_;
  std::uint64_t next_offset_;
  std::uint64_t requests_left_;
  std::vector<std::size_t> free_;  // where in the buffer
};

// Where both are wanted, each has half of the buffer.
std::vector<Stream> streams_of(Load load, const TrialSetting& setting, std::uint64_t window_bytes,
                               std::span<std::byte> buffer, std::uint64_t bytes) {
  const std::uint64_t read_bytes = setting.read_request_bytes;
  const std::uint64_t write_bytes = setting.write_request_bytes;
  if (load == Load::read) return {{Direction::read, read_bytes, window_bytes, buffer, 0, bytes}};
  if (load == Load::write) return {{Direction::write, write_bytes, window_bytes, buffer, 0, bytes}};
  const std::size_t half = buffer.size() / 2;
  return {{Direction::read, read_bytes, window_bytes, buffer.first(half), 0, bytes / 2},
          {Direction::write, write_bytes, window_bytes, buffer.subspan(half), window_bytes / 2, bytes / 2}};
}

struct Progress {
  std::size_t under_way = 0;
  std::uint64_t bytes = 0;

  Result<> take(std::vector<MoveDone>& done, std::vector<Stream>& streams) {
    under_way -= done.size();
    for (auto& move : done) {
      TRY(std::move(move.result));
      for (auto& stream : streams) bytes += stream.end(move.id);
    }
    done.clear();
    return {};
  }
};

Result<> fits(Load load, const TrialSetting& setting, std::uint64_t window_bytes, std::size_t buffer_bytes) {
  const auto largest = std::max(setting.read_request_bytes, setting.write_request_bytes);
  const auto share = load == Load::half_and_half ? buffer_bytes / 2 : buffer_bytes;
  if (largest > 0 && largest <= window_bytes && largest <= share) return {};
  return fail(ORLOP_INVALID_ARGUMENT, "trial: requests of {}: do not fit in {} of file and {} of memory",
              format_bytes(largest), format_bytes(window_bytes), format_bytes(share));
}

}  // namespace

Result<TrialResult> DriveTrial::run(Load load, const TrialSetting& setting, const TrialLimits& limits) const {
  TRY(fits(load, setting, window_bytes_, buffer_.size()));
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
        if (!stream.can_start()) continue;
        transfers.start(stream.next(file_));
        ++progress.under_way;
        has_more = true;
      }
    }
    if (transfers.idle()) break;
    TRY(transfers.run(done));
    TRY(progress.take(done, streams));
  }
  return TrialResult{progress.bytes, seconds_of_ns(now_ns() - begin_ns)};
}

}  // namespace orlop::aio
