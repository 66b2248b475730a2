// Store: one file that holds the blocks of a rank, and the table that says where, in which generation and with
// which sums.
//
// Writes go to free grains (copy-on-write): what was there stays valid until the new generation is confirmed. The
// file begins with a header that names run and rank, so that a file swapped for another is noticed. Nothing is
// believed that is read back: sums are compared with those of the table.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "aio/file.hpp"
#include "aio/transfers.hpp"
#include "swap/block.hpp"
#include "swap/layout.hpp"
#include "swap/space.hpp"

namespace orlop::swap {

inline constexpr std::uint64_t kHeaderBytes = 4096;

// Where a grain begins in the file: behind the header, at a multiple of the grain's size.
constexpr std::uint64_t grain_offset(std::uint64_t grain) { return (grain + 1) * kGrainBytes; }

struct StoreIdentity {
  std::string run_id;
  std::string uuid;  // of this opening of the run
  int rank = 0;
  int drive = 0;
  static StoreIdentity create(const std::string& run_id, int rank);
};

// An extent in use: its grains are free again once nobody holds it.
using HeldExtent = std::shared_ptr<const Extent>;

// What a store of these blocks takes when `writes_at_once` of them may be under way, each with two extents.
struct StoreSize {
  std::uint64_t grain_count = 0;
  std::uint64_t file_bytes = 0;
  std::uint64_t table_bytes = 0;  // in host memory
};
StoreSize store_size(std::span<const BlockSpec> blocks, unsigned writes_at_once);

class Store {
 public:
  // Creates and preallocates the file. Blocks are zero once [0, file_bytes()) has been written with zeros, and then
  // write_header.
  static Result<std::unique_ptr<Store>> create(const std::string& path, StoreIdentity identity,
                                               std::vector<BlockSpec> blocks, unsigned writes_at_once);

  Result<> write_header();

  [[nodiscard]] std::vector<aio::Piece> committed_pieces(std::uint32_t block, const BlockMemory& memory) const;
  // Of one plane of it.
  [[nodiscard]] std::vector<aio::Piece> committed_plane(std::uint32_t block, Plane plane, std::byte* memory) const;
  [[nodiscard]] std::vector<aio::Piece> pieces(std::uint32_t block, const Extent& extent,
                                               const BlockMemory& memory) const;

  Result<Extent> begin_write(std::uint32_t block);
  void confirm_write(std::uint32_t block, Extent extent, std::span<const ChunkSums> sums);
  void abandon_write(const Extent& extent) { space_.release(extent); }

  // What every block is in now. Who holds it keeps it from being written over.
  [[nodiscard]] std::vector<HeldExtent> held_extents() const;
  // Sees to it that `grains` are free, by making the file longer. ORLOP_NO_SPACE: nothing has changed.
  Result<> make_room(std::uint64_t grains);
  // At the end: gives the blocks up, and what nobody holds back to the filesystem.
  void trim();

  // ORLOP_CORRUPT naming path, block, plane, chunk, offset, generation and both sums of the first mismatch.
  Result<> verify(std::uint32_t block, std::span<const ChunkSums> found) const;

  Result<> verify_plane(std::uint32_t block, Plane plane, std::span<const std::uint64_t> found) const;

  // That the file is still the one that was created: its name, its size, its header. Cheap; ORLOP_CORRUPT with a
  // sentence that says what happened to it.
  Result<> check_identity();

  [[nodiscard]] const aio::File& file() const { return file_; }
  [[nodiscard]] std::uint64_t file_bytes() const { return size_.file_bytes; }
  [[nodiscard]] const StoreSize& size() const { return size_; }
  [[nodiscard]] const Space& space() const { return space_; }
  [[nodiscard]] const std::vector<BlockSpec>& blocks() const { return blocks_; }
  [[nodiscard]] unsigned writes_at_once() const { return writes_at_once_; }
  [[nodiscard]] const StoreIdentity& identity() const { return identity_; }
  [[nodiscard]] const Extent& extent_of(std::uint32_t block) const { return *entries_[block].extent; }
  [[nodiscard]] std::uint64_t generation_of(std::uint32_t block) const { return entries_[block].generation; }
  [[nodiscard]] std::span<const ChunkSums> sums_of(std::uint32_t block) const;
  [[nodiscard]] const std::vector<ChunkSums>& sums() const { return sums_; }  // of all blocks, in order
  // Where a byte of an extent lies in the file.
  [[nodiscard]] static std::uint64_t file_offset(const Extent& extent, std::uint64_t offset);

 private:
  struct Entry {
    HeldExtent extent;
    std::uint64_t generation = 0;
    std::uint64_t first_sum = 0;  // in sums_
  };
  friend StoreSize store_size(std::span<const BlockSpec> blocks, unsigned writes_at_once);

  Store(aio::File file, StoreIdentity identity, std::vector<BlockSpec> blocks, unsigned writes_at_once);
  Result<> lay_out();
  HeldExtent hold(Extent extent);
  Result<> note_inode();
  Result<> check_name() const;
  Result<> check_size() const;
  Result<> check_header();
  void add_pieces(std::uint32_t block, const Extent& extent, Plane plane, std::byte* memory,
                  std::vector<aio::Piece>& pieces) const;
  tl::unexpected<Error> mismatch(std::uint32_t block, Plane plane, std::uint64_t chunk, std::uint64_t found) const;

  aio::File file_;
  StoreIdentity identity_;
  std::vector<BlockSpec> blocks_;
  unsigned writes_at_once_;
  StoreSize size_;
  Space space_;
  std::vector<Entry> entries_;  // after space_, into which their extents go back
  std::vector<ChunkSums> sums_;
  dev_t device_ = 0;
  ino_t inode_ = 0;
  std::unique_ptr<std::byte[], void (*)(std::byte*)> header_;  // aligned for direct I/O
};

}  // namespace orlop::swap
