// DataFile: the bytes of a checkpoint that no store holds: parameters, and states that are in memory. Planes one behind
// the other, each a multiple of 4096 bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "aio/transfers.hpp"

namespace orlop::zero3 {

inline constexpr std::uint64_t kCopyBytes = 1u << 20;  // copied at a time; a multiple of every plane's chunk
inline constexpr unsigned kCopyBuffers = 4;

// 4096-aligned memory.
class AlignedBytes {
 public:
  static Result<AlignedBytes> allocate(std::uint64_t bytes);
  [[nodiscard]] std::byte* data() const { return memory_.get(); }

 private:
  struct Free {
    void operator()(std::byte* memory) const;
  };
  std::unique_ptr<std::byte, Free> memory_;
};

class DataFileWriter {
 public:
  // Takes the room at once, so that the disk cannot be full later: ORLOP_NO_SPACE, and no file is left.
  static Result<std::unique_ptr<DataFileWriter>> create(const std::string& path, std::uint64_t bytes);

  // Copies `bytes` (a multiple of 4096) behind what was appended before; they may change when it returns. Appends the
  // XXH3 of every `chunk_bytes` of them to `sums`.
  Result<> append(const std::byte* from, std::uint64_t bytes, std::uint64_t chunk_bytes, std::vector<std::uint64_t>& sums);
  // Everything is on the drive, also after a loss of power.
  Result<> finish();

  static constexpr std::uint64_t buffer_bytes() { return kCopyBuffers * kCopyBytes; }

 private:
  DataFileWriter(aio::File file, AlignedBytes memory, std::unique_ptr<aio::Queue> queue);
  Result<unsigned> free_buffer();
  Result<> reap();

  aio::File file_;
  AlignedBytes memory_;
  aio::Transfers transfers_;  // before what it reads from is freed
  std::vector<unsigned> free_;
  std::uint64_t offset_ = 0;
};

}  // namespace orlop::zero3
