// Block: what moves between tiers; a range of elements of one shard with all its state planes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/bytes.hpp"

namespace orlop::swap {

// Planes in the order in which an extent holds them. `param` is a 16-bit parameter that lives with its states; an fp32 one
// is its own master.
enum class Plane : std::uint8_t { lo, master, exp_avg, exp_avg_sq, param };
inline constexpr std::size_t kPlaneCount = 5;
inline constexpr std::array kPlanes = {Plane::lo, Plane::master, Plane::exp_avg, Plane::exp_avg_sq, Plane::param};

constexpr std::uint32_t element_bytes(Plane plane) { return plane == Plane::lo || plane == Plane::param ? 2 : 4; }
std::string_view name_of(Plane plane);

class PlaneSet {
 public:
  constexpr PlaneSet() = default;
  constexpr PlaneSet(std::initializer_list<Plane> planes) {
    for (const auto plane : planes) insert(plane);
  }
  constexpr void insert(Plane plane) { bits_ |= static_cast<std::uint8_t>(1u << static_cast<unsigned>(plane)); }
  [[nodiscard]] constexpr bool contains(Plane plane) const { return (bits_ >> static_cast<unsigned>(plane)) & 1u; }
  [[nodiscard]] constexpr bool empty() const { return bits_ == 0; }
  [[nodiscard]] constexpr std::uint32_t bytes_per_element() const {
    std::uint32_t bytes = 0;
    for (const auto plane : kPlanes) bytes += contains(plane) ? element_bytes(plane) : 0;
    return bytes;
  }
  [[nodiscard]] constexpr std::uint8_t bits() const { return bits_; }  // bit i: the i-th of kPlanes
  static constexpr PlaneSet of_bits(std::uint8_t bits) { return PlaneSet(bits & ((1u << kPlaneCount) - 1)); }

  friend constexpr bool operator==(PlaneSet, PlaneSet) = default;
  friend constexpr PlaneSet operator|(PlaneSet a, PlaneSet b) { return PlaneSet(a.bits_ | b.bits_); }
  friend constexpr PlaneSet operator&(PlaneSet a, PlaneSet b) { return PlaneSet(a.bits_ & b.bits_); }
  friend constexpr PlaneSet operator-(PlaneSet a, PlaneSet b) { return PlaneSet(a.bits_ & ~b.bits_); }

 private:
  explicit constexpr PlaneSet(unsigned bits) : bits_(static_cast<std::uint8_t>(bits)) {}

  std::uint8_t bits_ = 0;
};

// The grain of checksums: small enough that a chunk's parameters, updated in a copy until its states have proved sound,
// stay in a core's cache meanwhile.
inline constexpr std::uint64_t kChunkElements = 16 * 1024;

struct BlockSpec {
  std::uint64_t elements;  // a multiple of 2048, so that every plane is a multiple of 4096 bytes
  PlaneSet planes;
};

constexpr std::uint64_t chunk_count(const BlockSpec& block) { return divide_up(block.elements, kChunkElements); }

// XXH3_64bits of each plane of one chunk, indexed by Plane; 0 for planes that the block has not.
using ChunkSums = std::array<std::uint64_t, kPlaneCount>;

// Where the planes of a block are in memory while somebody may touch them; null for planes it has not.
struct BlockMemory {
  std::array<std::byte*, kPlaneCount> planes = {};
  template <typename T>
  [[nodiscard]] T* as(Plane plane) const {
    return reinterpret_cast<T*>(planes[static_cast<std::size_t>(plane)]);
  }
};

// Planes that are in one place, and those that are in another.
constexpr BlockMemory joined(BlockMemory one, const BlockMemory& other) {
  for (std::size_t i = 0; i < kPlaneCount; ++i) {
    if (one.planes[i] == nullptr) one.planes[i] = other.planes[i];
  }
  return one;
}

}  // namespace orlop::swap
