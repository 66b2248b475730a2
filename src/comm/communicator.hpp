// Communicator: the collectives that sharding needs, behind one interface. Values are defined by rank order,
// so that every implementation gives the same bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/result.hpp"

namespace orlop::comm {

// Every rank makes the same calls in the same order with sizes that fit together; one thread of a rank at a
// time. Sizes that do not fit within a rank are ORLOP_INVALID_ARGUMENT on that rank, before anything is sent.
class Communicator {
 public:
  virtual ~Communicator() = default;

  [[nodiscard]] virtual int rank() const = 0;
  [[nodiscard]] virtual int world_size() const = 0;

  // Rank r's `shard` lands at position r of `whole` (world_size x shard bytes). In place: `shard` may be this
  // rank's position in `whole`; other overlaps are not allowed, here and below.
  virtual Result<> all_gather(std::span<const std::byte> shard, std::span<std::byte> whole) = 0;
  // Sums in rank order: integers exactly (modulo 2^64), so that exact accumulators stay exact.
  virtual Result<> all_reduce_sum(std::span<std::int64_t> values) = 0;
  // Sums `whole` element-wise in fp32, in rank order: ((r0 + r1) + r2) + ...; this rank keeps its part (the
  // rank-th of world_size). In place: `shard` may be that part of `whole`.
  virtual Result<> reduce_scatter_sum(std::span<const float> whole, std::span<float> shard) = 0;
  virtual Result<> broadcast(std::span<std::byte> bytes, int root) = 0;
  virtual Result<> barrier() = 0;
};

// One rank alone: every collective is a copy.
std::unique_ptr<Communicator> make_self_communicator();

}  // namespace orlop::comm
