#include "zero3/saved_planes.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "swap/layout.hpp"
#include "swap/sums.hpp"

namespace orlop::zero3 {
namespace {

std::string_view name_of_plane(std::size_t plane) {
  return plane == kSavedParam ? "param" : name_of(static_cast<swap::Plane>(plane - 1));
}

bool is_in_store(const SavedBlock& block, std::size_t plane) {
  return plane != kSavedParam && block.stored.planes.contains(static_cast<swap::Plane>(plane - 1));
}

}  // namespace

Result<SavedPlanes> SavedPlanes::open(const Manifest& manifest, const std::string& directory) {
  SavedPlanes planes(manifest, directory);
  TRY(planes.open_data());
  if (manifest.has_store()) {
    auto store = swap::SavedStore::open(manifest.stores);
    if (!store) {
      return fail(store.error().status,
                  "checkpoint: on {}: its optimizer states are in a store that is not there any more: {}; a checkpoint "
                  "refers to its store: to move or copy one, write it out whole with `orlop export --full {} TARGET` first",
                  directory, store.error().message, directory);
    }
    planes.store_.emplace(std::move(*store));
  }
  TRY_ASSIGN(planes.memory_, AlignedBytes::allocate(buffer_bytes()));
  return planes;
}

Result<> SavedPlanes::open_data() {
  data_path_ = (std::filesystem::path(directory_) / manifest_->data_file).string();
  TRY_ASSIGN(data_, swap::open_to_read(data_path_));
  struct stat status = {};
  if (::fstat(data_.get(), &status) != 0 || static_cast<std::uint64_t>(status.st_size) < manifest_->data_bytes) {
    return fail(ORLOP_CORRUPT, "checkpoint: on {} ({} bytes): it was truncated, {} bytes were written; load an older "
                "checkpoint", data_path_, status.st_size, manifest_->data_bytes);
  }
  return {};
}

std::uint32_t SavedPlanes::element_bytes(std::uint32_t block, std::size_t plane) const {
  if (plane != kSavedParam) return swap::element_bytes(static_cast<swap::Plane>(plane - 1));
  return static_cast<std::uint32_t>(bytes_of(manifest_->units[manifest_->blocks[block].unit]));
}

std::size_t SavedPlanes::place_of(std::uint32_t block, std::size_t plane) const {
  const SavedBlock& saved = manifest_->blocks[block];
  if (plane != kSavedParam || saved.home == Home::memory) return plane;
  return saved_plane(param_plane(manifest_->units[saved.unit]));
}

Result<> SavedPlanes::read(std::uint32_t block, std::size_t asked, Range elements, void* into) {
  const std::size_t plane = place_of(block, asked);
  const std::uint32_t size = element_bytes(block, plane);
  auto* to = static_cast<std::byte*>(into);
  while (!elements.empty()) {
    const Window& window = windows_[plane];
    if (window.block != block || intersect(window.elements, elements).empty() || window.elements.begin > elements.begin) {
      TRY(fill(block, plane, elements.begin));
    }
    const Range part = intersect(window.elements, elements);
    const std::byte* const from = memory_.data() + plane * kCopyBytes;
    std::memcpy(to, from + (part.begin - window.elements.begin) * size, part.size() * size);
    to += part.size() * size;
    elements.begin = part.end;
  }
  return {};
}

Result<> SavedPlanes::check(std::uint32_t block, std::size_t plane) {
  const std::uint64_t elements = manifest_->blocks[block].range.size();
  for (std::uint64_t at = 0; at < elements; at = windows_[plane].elements.end) TRY(fill(block, plane, at));
  return {};
}

// Whole chunks from the one that holds `element` on, as many as a buffer takes.
Result<> SavedPlanes::fill(std::uint32_t block, std::size_t plane, std::uint64_t element) {
  const std::uint32_t size = element_bytes(block, plane);
  const std::uint64_t begin = element / swap::kChunkElements * swap::kChunkElements;
  const Range range{begin, std::min(begin + kCopyBytes / size, manifest_->blocks[block].range.size())};
  const std::span<std::byte> bytes(memory_.data() + plane * kCopyBytes, range.size() * size);
  windows_[plane] = {};
  TRY(read_bytes(block, plane, range.begin * size, bytes));
  TRY(verify(block, plane, range, bytes));
  windows_[plane] = {block, range};
  return {};
}

// `offset` in bytes of the plane. In the block's extent, or in the data file.
std::uint64_t SavedPlanes::offset_of(std::uint32_t block, std::size_t plane, std::uint64_t offset) const {
  const SavedBlock& saved = manifest_->blocks[block];
  if (is_in_store(saved, plane)) return swap::extent_layout(saved.in_store()).offset[plane - 1] + offset;
  const std::uint64_t begin = saved.file_offset + offset;
  if (plane == kSavedParam) return begin;
  return begin + saved.range.size() * param_bytes_beside(*manifest_, saved) +
         swap::extent_layout(saved.in_file()).offset[plane - 1];
}

const std::string& SavedPlanes::path_of(std::uint32_t block, std::size_t plane, std::uint64_t offset) const {
  const SavedBlock& saved = manifest_->blocks[block];
  return is_in_store(saved, plane) ? store_->path_of(saved.stored.extent, offset_of(block, plane, offset)) : data_path_;
}

Result<> SavedPlanes::read_bytes(std::uint32_t block, std::size_t plane, std::uint64_t offset,
                                 std::span<std::byte> into) const {
  const SavedBlock& saved = manifest_->blocks[block];
  const std::uint64_t at = offset_of(block, plane, offset);
  if (is_in_store(saved, plane)) return store_->read(saved.stored.extent, at, into);
  return swap::read_whole(data_.get(), data_path_, at, into);
}

Result<> SavedPlanes::verify(std::uint32_t block, std::size_t plane, Range elements,
                             std::span<const std::byte> bytes) const {
  const SavedBlock& saved = manifest_->blocks[block];
  const std::uint64_t chunk_bytes = swap::kChunkElements * element_bytes(block, plane);
  for (std::uint64_t at = 0; at < bytes.size(); at += chunk_bytes) {
    const std::uint64_t chunk = elements.begin / swap::kChunkElements + at / chunk_bytes;
    const std::uint64_t found = swap::sum_of(bytes.subspan(at, std::min(chunk_bytes, bytes.size() - at)));
    const std::uint64_t expected =
        plane == kSavedParam ? saved.param_sums[chunk] : saved.state_sums[chunk][plane - 1];
    if (found == expected) continue;
    return fail(ORLOP_CORRUPT,
                "checkpoint: on {} (block {}, plane {}, chunk {}): what was read from {} is not what was written: "
                "expected sum {:016x}, found {:016x}; load an older checkpoint",
                directory_, block, name_of_plane(plane), chunk,
                path_of(block, plane, chunk * chunk_bytes), expected, found);
  }
  return {};
}

}  // namespace orlop::zero3
