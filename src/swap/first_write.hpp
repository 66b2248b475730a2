// The first write: every byte of a new store is written once with zeros, at full speed. Overwriting is what the
// drive does fastest from then on (first writes into preallocated room measured 1.6x slower), and blocks start as zero.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>

#include "aio/file.hpp"
#include "swap/mover.hpp"

namespace orlop::swap {

struct ZeroFile {
  const aio::File* file;
  std::uint64_t bytes;
};

// All files at once, through `zeros` (a multiple of 4096 bytes, all zero), from which all writes are made. ORLOP_CANCELLED
// within the time of a few requests when *cancel (may be null) becomes true.
Result<> write_zeros(Mover& mover, std::span<const ZeroFile> files, std::span<std::byte> zeros,
                     const std::atomic<bool>* cancel);

}  // namespace orlop::swap
