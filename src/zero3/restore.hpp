// Restore: a checkpoint into an engine, whatever tiers, blocks and budgets that has.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "zero3/planes.hpp"
#include "zero3/saved_checkpoint.hpp"

namespace orlop::zero3 {

enum class LoadWhat : std::uint8_t { everything, parameters };
// registered: what else the checkpoint has is left out; common: and what it does not have stays as it is.
enum class Match : std::uint8_t { all, registered, common };

// ORLOP_INVALID_ARGUMENT with the list of differences between what was saved and what is registered.
Result<> check_same_model(const Manifest& manifest, std::span<const ParamSpec> params, Match match,
                          const std::string& directory);

// ORLOP_INVALID_ARGUMENT when the saved states are not this optimizer's.
Result<> check_same_optimizer(const Manifest& manifest, kernels::Optimizer optimizer, const std::string& directory);

struct RestoreTarget {
  const UpdateParts& parts;
  swap::States& states;
  Update& update;
  Planes& planes;
};

class Restore {
 public:
  // Opens and compares; changes nothing.
  static Result<std::unique_ptr<Restore>> open(const std::string& directory, int rank, const UpdateParts& parts,
                                               Match match);

  // Everything: parameters, masters, moments. Where no states were saved masters take their parameters' values and
  // moments are zero. After an error the target is half restored.
  Result<> run_all(const RestoreTarget& target, const std::atomic<bool>& cancel);
  // Parameters only; masters take their values, moments stay.
  Result<> run_params(const RestoreTarget& target, const std::atomic<bool>& cancel);

  [[nodiscard]] const Manifest& manifest() const { return saved_->manifest(); }

 private:
  Restore() = default;
  struct Part;  // of a parameter, within one block of the target
  [[nodiscard]] std::vector<Part> parts_of(const RestoreTarget& target, std::uint32_t block) const;
  Result<> restore_block(const RestoreTarget& target, std::uint32_t block);
  Result<> restore_part(const RestoreTarget& target, const Part& part, const swap::BlockMemory& memory);
  Result<> restore_frozen(const RestoreTarget& target);

  std::unique_ptr<SavedCheckpoint> saved_;
  std::vector<std::optional<std::uint32_t>> saved_of_;  // by id: its number in the manifest
};

}  // namespace orlop::zero3
