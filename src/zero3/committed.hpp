// Committed: what an engine has once its parameters are laid out. Members depend on those before them and are destroyed
// in reverse: the store is closed before the memory it reads into is freed.
#pragma once

#include "zero3/engine.hpp"
#include "zero3/snapshot.hpp"

namespace orlop::zero3 {

struct Engine::Committed {
  UnitPlan units;
  std::vector<Block> blocks;
  MemoryPlan memory;
  std::uint64_t model_bytes = 0;  // on the host
  int group_count = 1;
  std::optional<FlatBuffers> buffers;
  std::optional<GradFlow> grads;
  std::optional<LiveUnits> live;
  std::optional<UpdateParts> parts;
  std::unique_ptr<swap::States> states;
  std::optional<Update> update;
  std::optional<Planes> planes;
  std::optional<UnitFlow> flow;  // none where no unit lives in the store
  std::unique_ptr<Snapshot> snapshot;  // being saved
  std::vector<std::string> replaced;   // ids that the store may forget then
  std::unique_ptr<Restore> restore;    // being loaded
  swap::Traffic reported;  // the tier's traffic up to the last step report
  bool prefetched = false;  // the next sweep's first reads are under way
  bool has_warned_of_live = false;
};

}  // namespace orlop::zero3
