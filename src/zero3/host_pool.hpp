// HostPool: host memory that a program borrows in pieces and gives back, for activations between their making and their
// use say. In huge pages, registered with the device so that copies overlap, and kept until the pool is gone: what is
// borrowed again costs nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "device/device.hpp"
#include "numa/arena.hpp"
#include "numa/topology.hpp"

namespace orlop::zero3 {

enum class Locking : std::uint8_t { left_to_system, locked };

struct HostPoolOptions {
  device::DeviceKind device = device::DeviceKind::host;
  int device_index = 0;
  std::uint64_t limit_bytes = UINT64_MAX;
  Locking locking = Locking::left_to_system;  // whether pages may be swapped out
};

struct HostPoolUse {
  std::uint64_t limit_bytes;
  std::uint64_t host_bytes;  // taken from the system
  std::uint64_t used_bytes;  // of these: lent now
  std::uint64_t peak_bytes;  // the most that were
};

// Thread-safe.
class HostPool {
 public:
  static constexpr std::uint64_t kPieceBytes = 4096;       // pieces are aligned to this, and multiples of it
  static constexpr std::uint64_t kGrowthBytes = 64u << 20;  // at least, as far as the limit allows

  // Takes nothing yet. Errors: those of opening the device.
  static Result<std::unique_ptr<HostPool>> open(const HostPoolOptions& options);
  ~HostPool();

  // At least one byte. ORLOP_NO_MEMORY with the numbers: the limit, or what the system has.
  Result<std::byte*> take(std::uint64_t bytes);
  // ORLOP_INVALID_ARGUMENT for memory that is not lent.
  Result<> give_back(const std::byte* memory);

  [[nodiscard]] HostPoolUse use() const;

 private:
  // An arena and what is free of it. Pieces of two arenas are never joined: each is registered by itself.
  struct Region {
    numa::Arena arena;
    std::map<std::byte*, std::uint64_t> free;  // bytes, by address; neighbours are one
  };
  struct Lent {
    std::size_t region;
    std::uint64_t bytes;
  };

  HostPool(const HostPoolOptions& options, numa::Topology topology, std::unique_ptr<device::Device> device);

  // With mutex_ held.
  std::byte* take_free(std::uint64_t bytes);
  Result<> grow(std::uint64_t bytes);
  void make_fast(std::span<std::byte> memory);

  const HostPoolOptions options_;
  numa::Topology topology_;
  std::unique_ptr<device::Device> device_;
  int node_;

  mutable std::mutex mutex_;
  std::vector<Region> regions_;
  std::unordered_map<const std::byte*, Lent> lent_;
  std::uint64_t host_bytes_ = 0;
  std::uint64_t used_bytes_ = 0;
  std::uint64_t peak_bytes_ = 0;
};

}  // namespace orlop::zero3
