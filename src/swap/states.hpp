// States: the tier that holds the optimizer's blocks, and the sweep over them.
//
// A sweep visits blocks in a given order, each exactly once; the visitor updates a block's planes in place and the
// tier sees to it that they come from and go back to where they live. On NVMe this is a pipeline of three stages, read /
// work / write, over a small ring of slabs; in host memory it is a loop.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "base/trace.hpp"
#include "swap/block.hpp"
#include "swap/checkpoint_ref.hpp"
#include "swap/saved_store.hpp"
#include "swap/space.hpp"
#include "swap/sums.hpp"

namespace orlop::swap {

// One block under work. When `recorded` is not empty the three spans have one entry per chunk: the visitor stores the sums
// of what it read in `read` and of what it wrote in `written`, both taken while the chunk is in cache, and lets nothing
// outside the block's memory depend on a chunk whose `read` differs from `recorded`. Only the planes of `stored` count
// there; the sums of others are 0. The tier compares the two after the visit, reports the first difference
// (ORLOP_CORRUPT) and writes nothing of that block.
struct Visit {
  std::uint32_t block;
  BlockMemory memory;
  PlaneSet stored;  // these came from the store; the others are in memory for good
  std::span<const ChunkSums> recorded;
  std::span<ChunkSums> read;
  std::span<ChunkSums> written;
};
using Visitor = std::function<Result<>(const Visit&)>;

enum class Change : std::uint8_t { none, modified };

// One plane of one block, to be copied. When `read` is not empty the reader stores there the sums of what it read, one for
// each chunk; the tier compares them with what was recorded afterwards.
struct PlaneView {
  const std::byte* memory;
  std::uint64_t bytes;  // of the whole plane
  std::span<std::uint64_t> read;
  std::uint64_t whole_chunk_bytes;

  // Stores the sum of a chunk as it is now; nothing where none is wanted.
  void sum_chunk(std::uint64_t chunk) const {
    if (chunk >= read.size()) return;
    const std::uint64_t first = chunk * whole_chunk_bytes;
    read[chunk] = sum_of({memory + first, std::min(whole_chunk_bytes, bytes - first)});
  }
};
using PlaneReader = std::function<void(const PlaneView&)>;

// A plane of a block that will be wanted.
struct Wanted {
  std::uint32_t block;
  Plane plane;
  friend bool operator==(const Wanted&, const Wanted&) = default;
};

struct SweepReport {
  std::int64_t exposed_io_ns = 0;  // the sweep waited for the store
  std::int64_t work_ns = 0;        // spent in the visitor
};

struct TierUse {
  std::uint64_t host_bytes = 0;     // allocated by this tier on the host
  std::uint64_t staging_bytes = 0;  // of these: the ring of slabs
  std::uint64_t nvme_bytes = 0;     // size of the store
};

struct Traffic {
  std::uint64_t read_bytes = 0;
  std::uint64_t write_bytes = 0;
  std::int64_t busy_ns = 0;  // at least one request was in flight
};

// What a drive has moved, and how much of what is written goes there.
struct DriveUse {
  std::string path;  // the nvme_path
  Traffic traffic;
  double gb_s = 0;   // measured last, while it was busy; 0: not yet
  double share = 1;
  std::uint64_t store_bytes = 0;
};

// What a checkpoint has to say of blocks that are on a drive already.
struct StoredBlock {
  PlaneSet planes;  // that are in the store; none: the block is in memory
  Extent extent;
  std::uint64_t generation = 0;
};
struct StoredStates {
  std::vector<StoreRef> stores;  // the files, by drive
  std::vector<StoredBlock> blocks;
  std::vector<ChunkSums> sums;              // of all blocks, in order; 0 for planes that are in memory
  std::vector<std::string> manifest_links;  // other names that the manifest is to get before its own
};

class States {
 public:
  virtual ~States() = default;

  // Starts reading what a sweep in this order will want first. Returns at once; harmless to call again.
  virtual Result<> prefetch(std::span<const std::uint32_t> order) = 0;

  // Visits every block of `order`. Returns when the last visitor has returned; write-back may go on behind it, and
  // its errors surface at the next call. Stops with ORLOP_CANCELLED between blocks when *cancel becomes true.
  virtual Result<SweepReport> sweep(std::span<const std::uint32_t> order, const Visitor& visitor,
                                    const std::atomic<bool>& cancel) = 0;

  // One block outside a sweep, verified; written back and confirmed before it returns if it was modified.
  virtual Result<> access(std::uint32_t block, Change change,
                          const std::function<Result<>(const BlockMemory&)>& body) = 0;

  // Starts reading single planes, in this order, as many as staging has room for. Returns at once; what was read ahead
  // and is not wanted in this order any more is dropped. Between sweeps.
  virtual Result<> read_ahead(std::span<const Wanted> wanted) = 0;
  // One plane of a block, verified as the reader says. At once where it was read ahead.
  virtual Result<> read_plane(const Wanted& wanted, const PlaneReader& reader) = 0;

  // The planes of a block that stay in memory for good; null for the others. From any thread.
  [[nodiscard]] virtual BlockMemory resident(std::uint32_t block) const = 0;

  // Waits until nothing is in flight; ORLOP_TIMEOUT after timeout_ms (-1: for ever).
  virtual Result<> drain(int timeout_ms) = 0;

  // Checkpoints: what is on a drive already stays there as it is now, for the checkpoint that refers to it, and is not
  // copied. What is in memory must be written; none where all states are. Waits for what is in flight, and makes
  // room on the drive for going on, counting on the checkpoints `replaced` (their ids) to be given up soon.
  // ORLOP_NO_SPACE: nothing has changed.
  virtual Result<std::optional<StoredStates>> keep(const CheckpointRef& checkpoint,
                                                   std::span<const std::string> replaced) = 0;
  // The checkpoint exists: its manifest is in its place.
  virtual void complete(const std::string& checkpoint_id) = 0;
  // The checkpoint does not exist, or no longer.
  virtual void forget(const std::string& checkpoint_id) = 0;
  // What is kept is on the drive, also after a loss of power. From any thread.
  virtual Result<> sync() = 0;

  [[nodiscard]] virtual TierUse use() const = 0;
  [[nodiscard]] virtual Traffic traffic() const = 0;
  // Its drives in order; none in memory.
  [[nodiscard]] virtual std::vector<DriveUse> by_drive() const = 0;
  // For orlop_engine_describe: a JSON object as text (tier, store path, queue, calibration, ring, access).
  [[nodiscard]] virtual std::string describe() const = 0;
};

}  // namespace orlop::swap
