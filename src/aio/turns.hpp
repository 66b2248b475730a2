// Turns: which class of waiting requests goes next.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "base/bytes.hpp"

namespace orlop::aio {

// Urgency, most urgent first.
enum class Priority : std::uint8_t { demand_read, prefetch, write_back };
inline constexpr std::size_t kPriorityCount = 3;

enum class Mixing : std::uint8_t { mixed, phased };  // reads and writes together, or in turns

inline constexpr std::uint64_t kDefaultPhaseBytes = 128_MiB;

// Demand reads always go first. While both others wait, `mixed` gives them equal bytes, one after the other,
// and `phased` serves one of them for phase_bytes before the other's turn. While only one waits, it goes.
class Turns {
 public:
  using Waiting = std::array<bool, kPriorityCount>;  // by class

  Turns(Mixing mixing, std::uint64_t phase_bytes) : mixing_(mixing), phase_bytes_(phase_bytes) {}

  // The class that goes next; at least one must wait.
  Priority next(const Waiting& waiting);
  // Told after each request that goes.
  void went(Priority priority, std::uint64_t bytes);

 private:
  Mixing mixing_;
  std::uint64_t phase_bytes_;
  Priority turn_ = Priority::prefetch;  // the class being served, of the two that alternate
  std::uint64_t served_bytes_ = 0;      // phased: in this turn
  std::int64_t lead_bytes_ = 0;         // mixed: of prefetches over write-backs while both wait
};

}  // namespace orlop::aio
