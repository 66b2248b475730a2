// NvmeStates: optimizer states in a store on disk, staged through a ring of slabs.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "aio/calibration.hpp"
#include "aio/queue.hpp"
#include "numa/topology.hpp"
#include "swap/queue_factory.hpp"
#include "swap/states.hpp"

namespace orlop::swap {

// Left out only to measure what they cost: visits then have no sums to compare or to fill.
enum class Checksums : std::uint8_t { verified, left_out };

struct NvmeOptions {
  std::vector<std::string> nvme_paths;  // the user's directories; a file of the store is <path>/orlop/<run_id>/rank<r>.store
  std::string run_id;
  int rank = 0;
  std::optional<aio::QueueKind> queue;  // none: the best that works
  aio::CalibrationOverrides overrides;  // from the aio block
  unsigned slab_count = 0;              // 0: kDefaultSlabs; at least kMinimumSlabs
  unsigned plane_slab_count = 0;        // for planes that are read by themselves; 0: there are none
  Checksums checksums = Checksums::verified;
  unsigned thread_count = 0;  // of QueueKind::threads; 0: its own choice
  Trace* trace = nullptr;
  std::uint64_t limit_bytes = UINT64_MAX;  // the largest the store may become as checkpoints are kept in it
  const std::atomic<bool>* cancel = nullptr;  // observed while the store is written for the first time
  std::vector<QueueFactory> make_queues;  // by drive; none: a queue of the kind above; for tests with a faulty one
};

inline constexpr unsigned kMinimumSlabs = 3;  // one read, one worked on, one written
inline constexpr unsigned kDefaultSlabs = 6;

inline constexpr unsigned kMinimumPlaneSlabs = 2;  // one read, one copied from

// What make_nvme_states will take, by the same arithmetic: host bytes (slabs, tables) and the size of the store (extents
// of every block, spares for the ring, a header on each drive).
TierUse nvme_states_use(std::span<const BlockSpec> blocks, unsigned slab_count, unsigned plane_slab_count = 0,
                        std::size_t drive_count = 1);

// Work that a sweep does where it would wait for the store: one piece at each call; false when there is none left.
using SideWork = std::function<Result<bool>()>;

class NvmeTier : public States {
 public:
  // A sweep with other work beside it. It ends with the sweep, whatever is left of that work.
  virtual Result<SweepReport> sweep_beside(std::span<const std::uint32_t> order, const Visitor& visitor,
                                           const SideWork& side_work, const std::atomic<bool>& cancel) = 0;
};

// Locks the run's directories, reclaims what crashed runs of this host left behind (unlocked, without a checkpoint; said
// in the log), preallocates the store, calibrates, shares it out over the drives, writes it once with zeros. Removed again
// when it is destroyed.
Result<std::unique_ptr<NvmeTier>> make_nvme_states(const numa::Topology& topology, std::vector<BlockSpec> blocks,
                                                   const NvmeOptions& options);

}  // namespace orlop::swap
