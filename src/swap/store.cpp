#include "swap/store.hpp"

#include <algorithm>
#include <functional>
#include <iterator>
#include <numeric>
#include <utility>

#include "base/log.hpp"
#include "swap/sums.hpp"

namespace orlop::swap {
namespace {

// Of a filesystem, when a file is made longer only because its drive is fast.
constexpr std::uint64_t kLeftFreeBytes = 1_GiB;
// A share that grew by less than this part of itself is no reason to make a file longer.
constexpr double kWorthLengthening = 1.0 / 32;

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

std::vector<double> shares_or_equal(std::vector<double> shares, std::size_t count) {
  return shares.empty() ? std::vector<double>(count, 1.0 / static_cast<double>(count)) : std::move(shares);
}

// Takes grains from runs, from the front.
class RunTaker {
 public:
  explicit RunTaker(std::vector<GrainRun> runs) : runs_(std::move(runs)) {}
  void take(Stripe stripe, std::vector<GrainRun>& into) {
    while (stripe.grain_count > 0) {
      GrainRun& run = runs_[at_];
      const std::uint32_t count = std::min(run.grain_count, stripe.grain_count);
      into.push_back({run.first_grain, count, stripe.drive});
      run.first_grain += count;
      run.grain_count -= count;
      stripe.grain_count -= count;
      if (run.grain_count == 0) ++at_;
    }
  }

 private:
  std::vector<GrainRun> runs_;
  std::size_t at_ = 0;
};

}  // namespace

StoreSize store_size(std::span<const BlockSpec> blocks, unsigned writes_at_once, std::size_t drive_count) {
  std::uint64_t grains = spare_grains(blocks, writes_at_once);
  std::uint64_t chunks = 0;
  for (const auto& block : blocks) {
    grains += block_grains(block);
    chunks += chunk_count(block);
  }
  StoreSize size;
  size.grain_count = grains;
  size.file_bytes = drive_count * store_file_bytes(0) + grains * kGrainBytes;
  size.table_bytes = blocks.size() * (sizeof(BlockSpec) + sizeof(Store::Entry)) + chunks * sizeof(ChunkSums) +
                     Space::map_bytes(grains) + grains * sizeof(GrainRun)  // at the worst a run is one grain
                     + drive_count * (kHeaderBytes + sizeof(StoreFile));
  return size;
}

Store::Store(StoreOptions options)
    : blocks_(std::move(options.blocks)),
      writes_at_once_(options.writes_at_once),
      limit_bytes_(options.limit_bytes),
      planned_grains_(store_size(blocks_, writes_at_once_).grain_count),
      striping_(shares_or_equal(std::move(options.shares), options.paths.size())) {}

Result<std::unique_ptr<Store>> Store::create(StoreOptions options) {
  const auto paths = options.paths;
  StoreIdentity identity = options.identity;
  std::unique_ptr<Store> store(new Store(std::move(options)));
  for (const std::string& path : paths) {
    TRY_ASSIGN(store->files_.emplace_back(), StoreFile::create(path, identity));
    ++identity.drive;
  }
  TRY(store->lay_out(store->striping_.shares()));
  return store;
}

Result<> Store::lay_out(std::vector<double> shares) {
  entries_.clear();
  striping_ = Striping(std::move(shares));
  TRY(resize_files());
  return place_blocks();
}

Result<> Store::write_headers() {
  for (const auto& file : files_) TRY(file->write_header());
  return {};
}

// Shorter files first: they make room for longer ones.
Result<> Store::resize_files() {
  if (files_.size() == 1) return files_.front()->resize(planned_grains_);
  for (const auto& file : files_) TRY(file->resize(0));
  std::vector<std::string> directories;
  for (const auto& file : files_) directories.push_back(aio::directory_of(file->file().path()));
  TRY_ASSIGN(const auto rooms, rooms_for_files(directories));
  TRY_ASSIGN(const auto grains, grains_by_drive(planned_grains_, rooms));
  for (std::size_t drive = 0; drive < files_.size(); ++drive) TRY(files_[drive]->resize(grains[drive]));
  return {};
}

Result<std::vector<std::uint64_t>> Store::grains_by_drive(std::uint64_t grains, std::span<const DriveRoom> rooms) const {
  if (auto parts = apportion(grains, striping_.shares(), rooms)) return std::move(*parts);
  const std::uint64_t bytes = grains * kGrainBytes;
  const std::uint64_t room = grains_in(rooms) * kGrainBytes;
  return fail(ORLOP_NO_SPACE, "store: on {} and {} more: {} bytes are needed there together, there is room for {}: {} bytes "
              "({}) too few", files_.front()->file().path(), files_.size() - 1, bytes, room, bytes - room,
              format_bytes(bytes - room));
}

Result<> Store::place_blocks() {
  std::uint64_t chunks = 0;
  for (const auto& block : blocks_) chunks += chunk_count(block);
  sums_.resize(chunks);
  entries_.resize(blocks_.size());
  std::uint64_t first_sum = 0;
  for (std::size_t i = 0; i < blocks_.size(); ++i) {
    TRY_ASSIGN(Extent extent, allocate(extent_layout(blocks_[i]).total_bytes));
    entries_[i].extent = hold(std::move(extent));
    entries_[i].first_sum = first_sum;
    zero_block_sums(blocks_[i], {sums_.data() + first_sum, chunk_count(blocks_[i])});
    first_sum += chunk_count(blocks_[i]);
  }
  return {};
}

std::uint64_t Store::file_bytes() const {
  std::uint64_t bytes = 0;
  for (const auto& file : files_) bytes += file->bytes();
  return bytes;
}

std::uint64_t Store::free_grains() const {
  std::uint64_t grains = 0;
  for (const auto& file : files_) grains += file->space().free_grains();
  return grains;
}

// ---- Shares

void Store::set_shares(std::vector<double> shares) {
  striping_.set_shares(std::move(shares));
  const auto wanted = apportion(planned_grains_, striping_.shares());
  for (std::size_t drive = 0; drive < files_.size(); ++drive) lengthen(drive, wanted[drive]);
}

// As far as there is room; what is missing the other drives hold.
void Store::lengthen(std::size_t drive, std::uint64_t wanted_grains) {
  const std::uint64_t there = files_[drive]->space().grain_count();
  if (static_cast<double>(wanted_grains) <= static_cast<double>(there) * (1 + kWorthLengthening)) return;
  const auto free = aio::free_bytes(aio::directory_of(files_[drive]->file().path()));
  if (!free) return log_debug("store: {}", free.error().message);
  const std::uint64_t bytes = file_bytes();
  const std::uint64_t room = std::min(*free - std::min(*free, kLeftFreeBytes), limit_bytes_ - std::min(limit_bytes_, bytes));
  const std::uint64_t more = std::min(wanted_grains - there, room / kGrainBytes);
  if (more == 0) return;
  if (const auto grown = files_[drive]->grow(more); !grown) log_debug("store: {}", grown.error().message);
}

// ---- Where things are

Store::Place Store::place_of(const Extent& extent, std::uint64_t offset) {
  for (const auto& run : extent.runs) {
    const std::uint64_t bytes = run.grain_count * kGrainBytes;
    if (offset < bytes) return {run.drive, grain_offset(run.first_grain) + offset};
    offset -= bytes;
  }
  return {};  // behind the extent: nobody asks
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
          {&files_[run.drive]->file(), memory + (begin - plane_begin), grain_offset(run.first_grain) + (begin - run_begin),
           end - begin});
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

Result<Extent> Store::begin_write(std::uint32_t block) { return allocate(extent_layout(blocks_[block]).total_bytes); }

// Each drive's grains as its space gives them, then dealt out in stripes.
Result<Extent> Store::allocate(std::uint64_t bytes) {
  std::vector<std::uint32_t> room;
  for (const auto& file : files_) room.push_back(file->space().free_grains());
  const auto stripes = striping_.cut(static_cast<std::uint32_t>(grains_of(bytes)), std::move(room));
  std::vector<std::uint64_t> wanted(files_.size());
  for (const Stripe& stripe : stripes) wanted[stripe.drive] += stripe.grain_count;
  Extent taken;  // to give back after an error
  std::vector<RunTaker> parts;
  for (std::uint32_t drive = 0; drive < files_.size(); ++drive) {
    Result<Extent> part = wanted[drive] == 0 ? Extent{} : files_[drive]->space().allocate(wanted[drive] * kGrainBytes);
    if (!part) {
      release(taken);
      return part;
    }
    for (const GrainRun& run : part->runs) taken.runs.push_back({run.first_grain, run.grain_count, drive});
    parts.emplace_back(std::move(part->runs));
  }
  Extent extent;
  for (const Stripe& stripe : stripes) parts[stripe.drive].take(stripe, extent.runs);
  extent.runs.shrink_to_fit();
  return extent;
}

void Store::release(const Extent& extent) {
  for (const GrainRun& run : extent.runs) files_[run.drive]->space().release(run);
}

void Store::confirm_write(std::uint32_t block, Extent extent, std::span<const ChunkSums> sums) {
  Entry& entry = entries_[block];
  entry.extent = hold(std::move(extent));
  ++entry.generation;
  std::copy(sums.begin(), sums.end(), sums_.begin() + static_cast<std::ptrdiff_t>(entry.first_sum));
}

HeldExtent Store::hold(Extent extent) {
  return {new Extent(std::move(extent)), [this](const Extent* held) {
            release(*held);
            delete held;
          }};
}

std::vector<HeldExtent> Store::held_extents() const {
  std::vector<HeldExtent> extents;
  extents.reserve(entries_.size());
  for (const Entry& entry : entries_) extents.push_back(entry.extent);
  return extents;
}

// Where the filesystems have room: by the shares.
Result<> Store::make_room(std::uint64_t grains) {
  const std::uint64_t free = free_grains();
  if (grains <= free) return {};
  const std::uint64_t more = grains - free;
  std::vector<std::uint64_t> parts = {more};
  if (files_.size() > 1) {
    TRY_ASSIGN(const auto rooms, rooms_for_more());
    TRY_ASSIGN(parts, grains_by_drive(more, rooms));
  }
  for (std::size_t drive = 0; drive < files_.size(); ++drive) {
    if (parts[drive] > 0) TRY(files_[drive]->grow(parts[drive]));
  }
  planned_grains_ += more;
  return {};
}

Result<std::vector<DriveRoom>> Store::rooms_for_more() const {
  std::vector<DriveRoom> rooms;
  for (const auto& file : files_) {
    TRY_ASSIGN(rooms.emplace_back(), room_at(aio::directory_of(file->file().path())));
  }
  return rooms;
}

void Store::trim() {
  entries_.clear();
  for (const auto& file : files_) file->trim();
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
  const Place place = place_of(*entry.extent, offset);
  return fail(ORLOP_CORRUPT,
              "store: on {} (block {}, plane {}, chunk {}, offset {}, generation {}): what was read is not what was "
              "written: expected sum {:016x}, found {:016x}",
              files_[place.drive]->file().path(), block, name_of(plane), chunk, place.offset, entry.generation,
              sums_of(block)[chunk][static_cast<std::size_t>(plane)], found);
}

Result<> Store::check_identity() {
  for (const auto& file : files_) TRY(file->check_identity());
  return {};
}

}  // namespace orlop::swap
