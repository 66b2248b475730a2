// Store: the files that hold the blocks of a rank, one per drive, and the table that says where, in which generation and
// with which sums.
//
// Writes go to free grains (copy-on-write): what was there stays valid until the new generation is confirmed. Each
// generation is striped over the drives by the shares of that moment, so that other shares need no copying. Nothing is
// believed that is read back: sums are compared with those of the table.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "aio/transfers.hpp"
#include "swap/block.hpp"
#include "swap/drive_room.hpp"
#include "swap/layout.hpp"
#include "swap/store_file.hpp"
#include "swap/striping.hpp"

namespace orlop::swap {

// A manifest has 8 bits for the number of a drive.
inline constexpr std::size_t kMostDrives = 64;

// An extent in use: its grains are free again once nobody holds it.
using HeldExtent = std::shared_ptr<const Extent>;

// What a store of these blocks takes on `drive_count` drives when `writes_at_once` of them may be under way, each with two
// extents.
struct StoreSize {
  std::uint64_t grain_count = 0;
  std::uint64_t file_bytes = 0;
  std::uint64_t table_bytes = 0;  // in host memory
};
StoreSize store_size(std::span<const BlockSpec> blocks, unsigned writes_at_once, std::size_t drive_count = 1);

struct StoreOptions {
  std::vector<std::string> paths;  // of its files, one per drive
  StoreIdentity identity;          // of the first; the others have their own number of the drive
  std::vector<BlockSpec> blocks;
  unsigned writes_at_once = 0;
  std::vector<double> shares = {};         // of the drives; empty: equal ones
  std::uint64_t limit_bytes = UINT64_MAX;  // of all files together, as shares change
};

class Store {
 public:
  // Creates and preallocates the files. Blocks are zero once each file has been written with zeros, and then
  // write_headers.
  static Result<std::unique_ptr<Store>> create(StoreOptions options);

  // Lays out everything anew by other shares, in files of other lengths. Before anything is written.
  Result<> lay_out(std::vector<double> shares);
  Result<> write_headers();

  // How what is written from now on is shared out. A drive that gets more may get a longer file, where its filesystem and
  // limit_bytes have room for that; else it takes what it can hold, and the others the rest.
  void set_shares(std::vector<double> shares);

  [[nodiscard]] std::vector<aio::Piece> committed_pieces(std::uint32_t block, const BlockMemory& memory) const;
  // Of one plane of it.
  [[nodiscard]] std::vector<aio::Piece> committed_plane(std::uint32_t block, Plane plane, std::byte* memory) const;
  [[nodiscard]] std::vector<aio::Piece> pieces(std::uint32_t block, const Extent& extent,
                                               const BlockMemory& memory) const;

  Result<Extent> begin_write(std::uint32_t block);
  void confirm_write(std::uint32_t block, Extent extent, std::span<const ChunkSums> sums);
  void abandon_write(const Extent& extent) { release(extent); }

  // What every block is in now. Who holds it keeps it from being written over.
  [[nodiscard]] std::vector<HeldExtent> held_extents() const;
  // Sees to it that `grains` are free, by making files longer. ORLOP_NO_SPACE: nothing has changed.
  Result<> make_room(std::uint64_t grains);
  // At the end: gives the blocks up, and what nobody holds back to the filesystems.
  void trim();

  // ORLOP_CORRUPT naming path, block, plane, chunk, offset, generation and both sums of the first mismatch.
  Result<> verify(std::uint32_t block, std::span<const ChunkSums> found) const;

  Result<> verify_plane(std::uint32_t block, Plane plane, std::span<const std::uint64_t> found) const;

  // That every file is still the one that was created.
  Result<> check_identity();

  [[nodiscard]] std::size_t drive_count() const { return files_.size(); }
  [[nodiscard]] const StoreFile& file(std::size_t drive) const { return *files_[drive]; }
  // Of all files, from any thread.
  [[nodiscard]] std::uint64_t file_bytes() const;
  [[nodiscard]] std::uint64_t free_grains() const;
  [[nodiscard]] const std::vector<BlockSpec>& blocks() const { return blocks_; }
  [[nodiscard]] unsigned writes_at_once() const { return writes_at_once_; }
  [[nodiscard]] const Extent& extent_of(std::uint32_t block) const { return *entries_[block].extent; }
  [[nodiscard]] std::uint64_t generation_of(std::uint32_t block) const { return entries_[block].generation; }
  [[nodiscard]] std::span<const ChunkSums> sums_of(std::uint32_t block) const;
  [[nodiscard]] const std::vector<ChunkSums>& sums() const { return sums_; }  // of all blocks, in order

  // Where a byte of an extent lies.
  struct Place {
    std::uint32_t drive;
    std::uint64_t offset;  // in its file
    friend bool operator==(const Place&, const Place&) = default;
  };
  [[nodiscard]] static Place place_of(const Extent& extent, std::uint64_t offset);

 private:
  struct Entry {
    HeldExtent extent;
    std::uint64_t generation = 0;
    std::uint64_t first_sum = 0;  // in sums_
  };
  friend StoreSize store_size(std::span<const BlockSpec> blocks, unsigned writes_at_once, std::size_t drive_count);

  explicit Store(StoreOptions options);
  Result<> resize_files();
  Result<std::vector<std::uint64_t>> grains_by_drive(std::uint64_t grains, std::span<const DriveRoom> rooms) const;
  Result<std::vector<DriveRoom>> rooms_for_more() const;
  Result<> place_blocks();
  Result<Extent> allocate(std::uint64_t bytes);
  void release(const Extent& extent);
  HeldExtent hold(Extent extent);
  void lengthen(std::size_t drive, std::uint64_t wanted_grains);
  void add_pieces(std::uint32_t block, const Extent& extent, Plane plane, std::byte* memory,
                  std::vector<aio::Piece>& pieces) const;
  tl::unexpected<Error> mismatch(std::uint32_t block, Plane plane, std::uint64_t chunk, std::uint64_t found) const;

  std::vector<BlockSpec> blocks_;
  unsigned writes_at_once_;
  std::uint64_t limit_bytes_;
  std::uint64_t planned_grains_;  // of all files, but for what other shares have added
  Striping striping_;
  std::vector<std::unique_ptr<StoreFile>> files_;
  std::vector<Entry> entries_;  // after files_, into which their extents go back
  std::vector<ChunkSums> sums_;
};

}  // namespace orlop::swap
