// SavedPlanes: reading the blocks of a checkpoint, every chunk compared with its sum before anybody sees it.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/unique_fd.hpp"
#include "swap/saved_store.hpp"
#include "zero3/data_file.hpp"
#include "zero3/manifest.hpp"

namespace orlop::zero3 {

// What a checkpoint holds of a block: the parameters, then the state planes as swap::Plane numbers them.
inline constexpr std::size_t kSavedPlanes = 1 + swap::kPlaneCount;
inline constexpr std::size_t kSavedParam = 0;
constexpr std::size_t saved_plane(swap::Plane plane) { return 1 + static_cast<std::size_t>(plane); }

// Whether a block has a plane of its own by that number: a parameter that is with its states is found there.
inline bool has_saved_plane(const SavedBlock& block, std::size_t plane) {
  if (plane == kSavedParam) return block.home == Home::memory;
  return block.planes.contains(static_cast<swap::Plane>(plane - 1));
}

class SavedPlanes {
 public:
  // Opens what the manifest names. The manifest outlives it. Errors: ORLOP_NOT_FOUND (the store is gone, or the data
  // file), ORLOP_CORRUPT (the data file is shorter than it was).
  static Result<SavedPlanes> open(const Manifest& manifest, const std::string& directory);

  // Elements of one plane of one of the manifest's blocks; kSavedParam is the parameter wherever it is.
  Result<> read(std::uint32_t block, std::size_t plane, Range elements, void* into);

  // Every byte of one plane.
  Result<> check(std::uint32_t block, std::size_t plane);
  [[nodiscard]] std::uint32_t element_bytes(std::uint32_t block, std::size_t plane) const;

  static constexpr std::uint64_t buffer_bytes() { return kSavedPlanes * kCopyBytes; }

 private:
  // The last chunks of a plane that were read: what follows is most often in them.
  struct Window {
    std::uint32_t block = 0;
    Range elements;  // none: nothing was read
  };
  SavedPlanes(const Manifest& manifest, std::string directory) : manifest_(&manifest), directory_(std::move(directory)) {}
  Result<> open_data();
  [[nodiscard]] std::size_t place_of(std::uint32_t block, std::size_t plane) const;
  Result<> fill(std::uint32_t block, std::size_t plane, std::uint64_t element);
  Result<> read_bytes(std::uint32_t block, std::size_t plane, std::uint64_t offset, std::span<std::byte> into) const;
  [[nodiscard]] std::uint64_t offset_of(std::uint32_t block, std::size_t plane, std::uint64_t offset) const;
  [[nodiscard]] const std::string& path_of(std::uint32_t block, std::size_t plane, std::uint64_t offset) const;
  Result<> verify(std::uint32_t block, std::size_t plane, Range elements, std::span<const std::byte> bytes) const;

  const Manifest* manifest_;
  std::string directory_;
  std::string data_path_;
  unique_fd data_;
  std::optional<swap::SavedStore> store_;
  AlignedBytes memory_;
  std::array<Window, kSavedPlanes> windows_;
};

}  // namespace orlop::zero3
