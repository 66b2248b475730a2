// DriveTrial: how fast a stretch of a file is with a given setting, measured through Transfers itself.
#pragma once

#include <cstdint>
#include <span>

#include "aio/file.hpp"
#include "aio/queue.hpp"
#include "aio/transfers.hpp"

namespace orlop::aio {

enum class Load : std::uint8_t { read, write, half_and_half };

struct TrialSetting {
  std::uint64_t read_request_bytes;
  std::uint64_t write_request_bytes;
  unsigned depth;
  Mixing mixing = Mixing::mixed;
  std::uint64_t phase_bytes = kDefaultPhaseBytes;
};

// A trial ends when this much was moved or this much time has passed, whichever comes first.
struct TrialLimits {
  std::uint64_t bytes;
  std::int64_t end_ns;  // on now_ns()'s clock
};

struct TrialResult {
  std::uint64_t bytes = 0;
  double seconds = 0;
  [[nodiscard]] double gb_per_s() const {
    return seconds > 0 ? static_cast<double>(bytes) * 1e-9 / seconds : 0;
  }
};

class DriveTrial {
 public:
  // Borrows file and buffer. Trials move within [0, window_bytes), from the start again at its end.
  DriveTrial(const File& file, std::uint64_t window_bytes, QueueKind kind, std::span<std::byte> buffer)
      : file_(file), window_bytes_(window_bytes), kind_(kind), buffer_(buffer) {}

  Result<TrialResult> run(Load load, const TrialSetting& setting, const TrialLimits& limits) const;

  void set_window(std::uint64_t bytes) { window_bytes_ = bytes; }
  [[nodiscard]] std::uint64_t window_bytes() const { return window_bytes_; }

 private:
  const File& file_;
  std::uint64_t window_bytes_;
  QueueKind kind_;
  std::span<std::byte> buffer_;
};

}  // namespace orlop::aio
