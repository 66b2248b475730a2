#include "swap/store.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <utility>

#include "base/stamp.hpp"
#include "swap/saved_store.hpp"
#include "swap/store_header.hpp"
#include "swap/sums.hpp"

namespace orlop::swap {
namespace {

std::uint64_t block_grains(const BlockSpec& block) { return grains_of(extent_layout(block).total_bytes); }

// Grains of the largest blocks that can be under way at once.
std::uint64_t spare_grains(std::span<const BlockSpec> blocks, unsigned writes_at_once) {
  std::vector<std::uint64_t> grains;
  for (const auto& block : blocks) grains.push_back(block_grains(block));
  const auto count = std::min<std::size_t>(writes_at_once, grains.size());
  std::partial_sort(grains.begin(), grains.begin() + static_cast<std::ptrdiff_t>(count), grains.end(), std::greater<>());
  std::uint64_t spare = 0;
  for (std::size_t i = 0; i < count; ++i) spare += grains[i];
  return spare;
}

std::unique_ptr<std::byte[], void (*)(std::byte*)> aligned_page() {
  return {static_cast<std::byte*>(std::aligned_alloc(kHeaderBytes, kHeaderBytes)),
          [](std::byte* page) { std::free(page); }};
}

// pread and pwrite of the header, whole or an error.
template <typename Call>
Result<> move_header(Call call, int fd, std::byte* page, const std::string& path) {
  ssize_t moved = 0;
  do {
    moved = call(fd, page, kHeaderBytes, 0);
  } while (moved < 0 && errno == EINTR);
  if (moved < 0) {
    const int error = errno;
    return fail(status_of_errno(error), "store header: on {} (offset 0, {} bytes): {}", path, kHeaderBytes,
                describe_errno(error));
  }
  if (moved != static_cast<ssize_t>(kHeaderBytes)) {
    return fail(ORLOP_IO_ERROR, "store header: on {} (offset 0): {} of {} bytes moved", path, moved, kHeaderBytes);
  }
  return {};
}

// The end of a sentence about a file that should have been ours.
std::string whose(const StoreHeader& header, const StoreIdentity& ours) {
  if (!header.is_valid()) return fmt::format("it is no store (run {} had its own there)", ours.run_id);
  if (header.run() != ours.run_id) return fmt::format("it belongs to run {}, not {}", header.run(), ours.run_id);
  return fmt::format("it belongs to another opening of run {} ({}, rank {}), not {}, rank {}", ours.run_id,
                     header.opening(), header.rank, ours.uuid, ours.rank);
}

std::string whose_file(const std::string& path, const StoreIdentity& ours) {
  const unique_fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  StoreHeader header;
  if (fd.is_open() && ::pread(fd.get(), &header, sizeof header, 0) != static_cast<ssize_t>(sizeof header)) header = {};
  return whose(header, ours);
}

}  // namespace

StoreIdentity StoreIdentity::create(const std::string& run_id, int rank) { return {run_id, random_uuid(), rank, 0}; }

StoreSize store_size(std::span<const BlockSpec> blocks, unsigned writes_at_once) {
  std::uint64_t grains = spare_grains(blocks, writes_at_once);
  std::uint64_t chunks = 0;
  for (const auto& block : blocks) {
    grains += block_grains(block);
    chunks += chunk_count(block);
  }
  StoreSize size;
  size.grain_count = grains;
  size.file_bytes = grain_offset(grains);
  size.table_bytes = blocks.size() * (sizeof(BlockSpec) + sizeof(Store::Entry)) + chunks * sizeof(ChunkSums) +
                     Space::map_bytes(grains) + grains * sizeof(GrainRun)  // at the worst a run is one grain
                     + kHeaderBytes;
  return size;
}

Store::Store(aio::File file, StoreIdentity identity, std::vector<BlockSpec> blocks, unsigned writes_at_once)
    : file_(std::move(file)),
      identity_(std::move(identity)),
      blocks_(std::move(blocks)),
      writes_at_once_(writes_at_once),
      size_(store_size(blocks_, writes_at_once)),
      space_(static_cast<std::uint32_t>(size_.grain_count)),
      entries_(blocks_.size()),
      header_(aligned_page()) {}

Result<std::unique_ptr<Store>> Store::create(const std::string& path, StoreIdentity identity,
                                             std::vector<BlockSpec> blocks, unsigned writes_at_once) {
  const StoreSize size = store_size(blocks, writes_at_once);
  if (size.grain_count > UINT32_MAX) {
    return fail(ORLOP_INVALID_ARGUMENT, "store: on {} ({}): larger than a store can be ({})", path,
                format_bytes(size.file_bytes), format_bytes(UINT32_MAX * kGrainBytes));
  }
  TRY_ASSIGN(auto file, aio::File::open(path, aio::Existing::must_not_exist));
  if (file.alignment().offset > kPlaneAlignment || file.alignment().memory > kPlaneAlignment) {
    return fail(ORLOP_UNSUPPORTED, "store: on {}: the drive wants transfers aligned to {} bytes, the store has {}",
                path, std::max(file.alignment().offset, file.alignment().memory), kPlaneAlignment);
  }
  TRY(file.preallocate(size.file_bytes));
  std::unique_ptr<Store> store(new Store(std::move(file), std::move(identity), std::move(blocks), writes_at_once));
  if (store->header_ == nullptr) return fail(ORLOP_NO_MEMORY, "store header: {} bytes: not available", kHeaderBytes);
  TRY(store->note_inode());
  TRY(store->lay_out());
  return store;
}

Result<> Store::note_inode() {
  struct stat status = {};
  if (::fstat(file_.fd(), &status) != 0) {
    const int error = errno;
    return fail(status_of_errno(error), "store: on {}: {}", file_.path(), describe_errno(error));
  }
  device_ = status.st_dev;
  inode_ = status.st_ino;
  return {};
}

Result<> Store::lay_out() {
  std::uint64_t chunks = 0;
  for (const auto& block : blocks_) chunks += chunk_count(block);
  sums_.resize(chunks);
  std::uint64_t first_sum = 0;
  for (std::size_t i = 0; i < blocks_.size(); ++i) {
    TRY_ASSIGN(Extent extent, space_.allocate(extent_layout(blocks_[i]).total_bytes));
    entries_[i].extent = hold(std::move(extent));
    entries_[i].first_sum = first_sum;
    zero_block_sums(blocks_[i], {sums_.data() + first_sum, chunk_count(blocks_[i])});
    first_sum += chunk_count(blocks_[i]);
  }
  return {};
}

Result<> Store::write_header() {
  const auto header = StoreHeader::of(identity_, size_.file_bytes);
  std::memcpy(header_.get(), &header, sizeof header);
  return move_header(::pwrite, file_.fd(), header_.get(), file_.path());
}

// ---- Where things are

std::uint64_t Store::file_offset(const Extent& extent, std::uint64_t offset) {
  for (const auto& run : extent.runs) {
    const std::uint64_t bytes = run.grain_count * kGrainBytes;
    if (offset < bytes) return grain_offset(run.first_grain) + offset;
    offset -= bytes;
  }
  return 0;  // behind the extent: nobody asks
}

void Store::add_pieces(std::uint32_t block, const Extent& extent, Plane plane, std::byte* memory,
                       std::vector<aio::Piece>& pieces) const {
  const ExtentLayout layout = extent_layout(blocks_[block]);
  const std::uint64_t plane_begin = layout.offset[static_cast<std::size_t>(plane)];
  const std::uint64_t plane_end = plane_begin + layout.bytes[static_cast<std::size_t>(plane)];
  std::uint64_t run_begin = 0;
  for (const auto& run : extent.runs) {
    const std::uint64_t run_end = run_begin + run.grain_count * kGrainBytes;
    const std::uint64_t begin = std::max(plane_begin, run_begin);
    const std::uint64_t end = std::min(plane_end, run_end);
    if (begin < end) {
      pieces.push_back(
          {&file_, memory + (begin - plane_begin), grain_offset(run.first_grain) + (begin - run_begin), end - begin});
    }
    run_begin = run_end;
  }
}

std::vector<aio::Piece> Store::pieces(std::uint32_t block, const Extent& extent, const BlockMemory& memory) const {
  std::vector<aio::Piece> pieces;
  for (const auto plane : kPlanes) add_pieces(block, extent, plane, memory.as<std::byte>(plane), pieces);
  return pieces;
}

std::vector<aio::Piece> Store::committed_plane(std::uint32_t block, Plane plane, std::byte* memory) const {
  std::vector<aio::Piece> pieces;
  add_pieces(block, *entries_[block].extent, plane, memory, pieces);
  return pieces;
}

std::vector<aio::Piece> Store::committed_pieces(std::uint32_t block, const BlockMemory& memory) const {
  return pieces(block, *entries_[block].extent, memory);
}

std::span<const ChunkSums> Store::sums_of(std::uint32_t block) const {
  return {sums_.data() + entries_[block].first_sum, chunk_count(blocks_[block])};
}

// ---- Generations

Result<Extent> Store::begin_write(std::uint32_t block) {
  return space_.allocate(extent_layout(blocks_[block]).total_bytes);
}

void Store::confirm_write(std::uint32_t block, Extent extent, std::span<const ChunkSums> sums) {
  Entry& entry = entries_[block];
  entry.extent = hold(std::move(extent));
  ++entry.generation;
  std::copy(sums.begin(), sums.end(), sums_.begin() + static_cast<std::ptrdiff_t>(entry.first_sum));
}

HeldExtent Store::hold(Extent extent) {
  return {new Extent(std::move(extent)), [this](const Extent* held) {
            space_.release(*held);
            delete held;
          }};
}

std::vector<HeldExtent> Store::held_extents() const {
  std::vector<HeldExtent> extents;
  extents.reserve(entries_.size());
  for (const Entry& entry : entries_) extents.push_back(entry.extent);
  return extents;
}

Result<> Store::make_room(std::uint64_t grains) {
  if (grains <= space_.free_grains()) return {};
  const std::uint64_t more = grains - space_.free_grains();
  StoreSize size = size_;
  size.grain_count += more;
  size.file_bytes += more * kGrainBytes;
  size.table_bytes += Space::map_bytes(more);
  if (size.grain_count > UINT32_MAX) {
    return fail(ORLOP_NO_SPACE, "store: on {} ({}): larger than a store can be ({})", file_.path(),
                format_bytes(size.file_bytes), format_bytes(UINT32_MAX * kGrainBytes));
  }
  TRY(file_.preallocate(size.file_bytes));
  space_.grow(static_cast<std::uint32_t>(more));
  size_ = size;
  return write_header();
}

void Store::trim() {
  entries_.clear();
  for (const GrainRun& run : space_.free_runs()) punch_grains(file_.fd(), run);
}

Result<> Store::verify(std::uint32_t block, std::span<const ChunkSums> found) const {
  const auto expected = sums_of(block);
  for (std::uint64_t chunk = 0; chunk < expected.size(); ++chunk) {
    for (const auto plane : kPlanes) {
      const auto i = static_cast<std::size_t>(plane);
      if (!blocks_[block].planes.contains(plane) || found[chunk][i] == expected[chunk][i]) continue;
      return mismatch(block, plane, chunk, found[chunk][i]);
    }
  }
  return {};
}

Result<> Store::verify_plane(std::uint32_t block, Plane plane, std::span<const std::uint64_t> found) const {
  const auto expected = sums_of(block);
  for (std::uint64_t chunk = 0; chunk < found.size(); ++chunk) {
    if (found[chunk] != expected[chunk][static_cast<std::size_t>(plane)]) {
      return mismatch(block, plane, chunk, found[chunk]);
    }
  }
  return {};
}

tl::unexpected<Error> Store::mismatch(std::uint32_t block, Plane plane, std::uint64_t chunk,
                                      std::uint64_t found) const {
  const Entry& entry = entries_[block];
  const std::uint64_t offset = extent_layout(blocks_[block]).offset[static_cast<std::size_t>(plane)] +
                               chunk * kChunkElements * element_bytes(plane);
  return fail(ORLOP_CORRUPT,
              "store: on {} (block {}, plane {}, chunk {}, offset {}, generation {}): what was read is not what was "
              "written: expected sum {:016x}, found {:016x}",
              file_.path(), block, name_of(plane), chunk, file_offset(*entry.extent, offset), entry.generation,
              sums_of(block)[chunk][static_cast<std::size_t>(plane)], found);
}

// ---- Is it still ours

Result<> Store::check_identity() {
  TRY(check_name());
  TRY(check_size());
  return check_header();
}

Result<> Store::check_name() const {
  struct stat status = {};
  if (::stat(file_.path().c_str(), &status) != 0) {
    const int error = errno;
    return fail(ORLOP_CORRUPT, "store file was removed: on {} (run {}): {}", file_.path(), identity_.run_id,
                describe_errno(error));
  }
  if (status.st_dev == device_ && status.st_ino == inode_) return {};
  return fail(ORLOP_CORRUPT, "store file was replaced: on {}: {}", file_.path(), whose_file(file_.path(), identity_));
}

Result<> Store::check_size() const {
  TRY_ASSIGN(const std::uint64_t bytes, file_.size());
  if (bytes >= size_.file_bytes) return {};
  return fail(ORLOP_CORRUPT, "store file was truncated: on {} (has {} bytes, needs {}): states of run {} are lost",
              file_.path(), bytes, size_.file_bytes, identity_.run_id);
}

Result<> Store::check_header() {
  TRY(move_header(::pread, file_.fd(), header_.get(), file_.path()));
  StoreHeader header;
  std::memcpy(&header, header_.get(), sizeof header);
  const auto ours = StoreHeader::of(identity_, size_.file_bytes);
  if (std::memcmp(&header, &ours, sizeof header) == 0) return {};
  return fail(ORLOP_CORRUPT, "store file was overwritten: on {}: {}", file_.path(), whose(header, identity_));
}

}  // namespace orlop::swap
