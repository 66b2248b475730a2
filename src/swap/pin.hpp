// Pin: a file beside a store that says which of its grains a checkpoint refers to. Written before the checkpoint is
// complete, so that no complete one is without. A pin whose checkpoint is gone counts for nothing.
#pragma once

#include <string>
#include <vector>

#include "base/result.hpp"
#include "swap/checkpoint_ref.hpp"
#include "swap/space.hpp"

namespace orlop::swap {

struct Pin {
  std::string path;     // of the pin itself
  std::string opening;  // of the store: StoreIdentity::uuid
  CheckpointRef checkpoint;
  std::vector<GrainRun> runs;
};

// "<run directory>/rank<r>-<checkpoint id>.pin"
std::string pin_path(const std::string& directory, int rank, const std::string& checkpoint_id);

std::string link_path(const std::string& directory, int rank, const std::string& checkpoint_id);

// Durable when it returns.
Result<> write_pin(const Pin& pin);
// With its link.
void remove_pin(const Pin& pin);

struct Pins {
  std::vector<Pin> held;                 // their checkpoints are there, or cannot be looked for
  std::vector<Pin> dead;                 // their checkpoints are gone
  std::vector<std::string> unreadable;   // paths; nothing of such a directory may be given up
};
Pins pins_in(const std::string& directory);

}  // namespace orlop::swap
