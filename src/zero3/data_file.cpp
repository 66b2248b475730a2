#include "zero3/data_file.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "swap/sums.hpp"

namespace orlop::zero3 {

void AlignedBytes::Free::operator()(std::byte* memory) const { std::free(memory); }

Result<AlignedBytes> AlignedBytes::allocate(std::uint64_t bytes) {
  AlignedBytes allocated;
  allocated.memory_.reset(static_cast<std::byte*>(std::aligned_alloc(4096, bytes)));
  if (allocated.memory_ == nullptr) return fail(ORLOP_NO_MEMORY, "checkpoint: {} bytes of buffers: not available", bytes);
  return allocated;
}

DataFileWriter::DataFileWriter(aio::File file, AlignedBytes memory, std::unique_ptr<aio::Queue> queue)
    : file_(std::move(file)), memory_(std::move(memory)), transfers_(std::move(queue), {}) {
  for (unsigned i = 0; i < kCopyBuffers; ++i) free_.push_back(i);
}

Result<std::unique_ptr<DataFileWriter>> DataFileWriter::create(const std::string& path, std::uint64_t bytes) {
  TRY_ASSIGN(AlignedBytes memory, AlignedBytes::allocate(buffer_bytes()));
  TRY_ASSIGN(auto queue, aio::make_queue(aio::QueueKind::threads, {.depth = kCopyBuffers, .thread_count = 2}));
  TRY_ASSIGN(aio::File file, aio::File::open(path, aio::Existing::must_not_exist));
  if (auto reserved = file.preallocate(bytes); !reserved) {
    ::unlink(path.c_str());
    return tl::unexpected(std::move(reserved.error()));
  }
  return std::unique_ptr<DataFileWriter>(new DataFileWriter(std::move(file), std::move(memory), std::move(queue)));
}

Result<> DataFileWriter::reap() {
  std::vector<aio::MoveDone> done;
  TRY(transfers_.run(done));
  for (aio::MoveDone& move : done) {
    TRY(std::move(move.result));
    free_.push_back(static_cast<unsigned>(move.id));
  }
  return {};
}

Result<unsigned> DataFileWriter::free_buffer() {
  while (free_.empty()) TRY(reap());
  const unsigned buffer = free_.back();
  free_.pop_back();
  return buffer;
}

Result<> DataFileWriter::append(const std::byte* from, std::uint64_t bytes, std::uint64_t chunk_bytes,
                                std::vector<std::uint64_t>& sums) {
  while (bytes > 0) {
    const std::uint64_t part = std::min(bytes, kCopyBytes);
    TRY_ASSIGN(const unsigned buffer, free_buffer());
    std::byte* const copy = memory_.data() + buffer * kCopyBytes;
    std::memcpy(copy, from, part);
    for (std::uint64_t at = 0; at < part; at += chunk_bytes) {
      sums.push_back(swap::sum_of({copy + at, std::min(chunk_bytes, part - at)}));
    }
    transfers_.start({aio::Direction::write, aio::Priority::write_back, {{&file_, copy, offset_, part}}, buffer});
    from += part;
    bytes -= part;
    offset_ += part;
  }
  return {};
}

Result<> DataFileWriter::finish() {
  while (free_.size() < kCopyBuffers) TRY(reap());
  return file_.sync_data();
}

}  // namespace orlop::zero3
