// SavedCheckpoint: a checkpoint on disk, read by parameter. Needs no engine.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cpu_adam/adam.hpp"
#include "zero3/manifest.hpp"
#include "zero3/saved_planes.hpp"

namespace orlop::zero3 {

class SavedCheckpoint {
 public:
  // Errors: those of read_manifest and SavedPlanes::open, and ORLOP_UNSUPPORTED for one of several ranks.
  static Result<std::unique_ptr<SavedCheckpoint>> open(const std::string& directory, int rank);

  [[nodiscard]] const Manifest& manifest() const { return manifest_; }
  [[nodiscard]] const std::string& directory() const { return directory_; }

  // Elements of a parameter (by its number in the manifest) as they were saved, a plane as SavedPlanes numbers them.
  Result<> read(std::uint32_t param, std::size_t plane, Range elements, void* into);
  // Its fp32 master, whatever that is made of.
  Result<> read_master(std::uint32_t param, Range elements, float* into);

  [[nodiscard]] SavedPlanes& planes() { return *planes_; }

  // One of the manifest's blocks, every byte.
  Result<> verify_block(std::uint32_t block);

 private:
  SavedCheckpoint() = default;
  void index_blocks();
  [[nodiscard]] std::uint32_t block_of(const SavedParam& param, std::uint64_t element) const;

  std::string directory_;
  Manifest manifest_;
  std::vector<std::uint32_t> first_block_;  // by unit
  std::optional<SavedPlanes> planes_;
  cpu_adam::Isa isa_ = cpu_adam::Isa::scalar;
};

// Bytes done, bytes in all. False: stop, with ORLOP_CANCELLED. Called on the calling thread, some times a second.
using Progress = std::function<bool(std::uint64_t done_bytes, std::uint64_t total_bytes)>;

// Reads everything on several threads; the first damage found, or nothing.
Result<> verify_checkpoint(const std::string& directory, int rank, const Progress& progress);

// Writes a checkpoint that stands alone, without a store, into `target`, which must be empty or not there yet. What is
// read is verified. Memory: a few MiB.
Result<> export_checkpoint(const std::string& directory, int rank, const std::string& target, const Progress& progress);

}  // namespace orlop::zero3
