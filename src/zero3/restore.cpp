#include "zero3/restore.hpp"

#include <algorithm>
#include <cstring>
#include <unordered_map>
#include <utility>

namespace orlop::zero3 {
namespace {

constexpr std::size_t kDifferencesSaid = 8;

// What the model of a checkpoint and a registered one have not in common.
std::vector<std::string> differences(const Manifest& manifest, std::span<const ParamSpec> params, Match match) {
  std::unordered_map<std::string, const SavedParam*> saved;
  for (const SavedParam& param : manifest.params) saved.emplace(param.name, &param);
  std::vector<std::string> found;
  const auto kind = [](Training training) { return training == Training::trainable ? "trainable" : "frozen"; };
  for (const ParamSpec& param : params) {
    const auto at = saved.find(param.name);
    if (at == saved.end()) {
      if (match == Match::common) continue;
      found.push_back(fmt::format("\"{}\" is not in the checkpoint", param.name));
      continue;
    }
    const SavedParam& other = *at->second;
    if (other.numel != param.numel) {
      found.push_back(fmt::format("\"{}\" has {} elements, {} were saved", param.name, param.numel, other.numel));
    } else if (other.dtype != param.dtype) {
      found.push_back(fmt::format("\"{}\" is {}, {} was saved", param.name, name_of(param.dtype), name_of(other.dtype)));
    } else if (manifest.has_states && other.training != param.training) {
      found.push_back(fmt::format("\"{}\" is {}, saved {}", param.name, kind(param.training), kind(other.training)));
    }
    saved.erase(at);
  }
  if (match != Match::all) return found;
  std::vector<std::string> missing;
  for (const auto& [name, param] : saved) missing.push_back(fmt::format("\"{}\" is only in the checkpoint", name));
  std::sort(missing.begin(), missing.end());
  found.insert(found.end(), missing.begin(), missing.end());
  return found;
}

}  // namespace

Result<> check_same_model(const Manifest& manifest, std::span<const ParamSpec> params, Match match,
                          const std::string& directory) {
  const auto found = differences(manifest, params, match);
  if (found.empty()) return {};
  std::string list;
  for (std::size_t i = 0; i < std::min(found.size(), kDifferencesSaid); ++i) list += (i == 0 ? "" : "; ") + found[i];
  if (found.size() > kDifferencesSaid) list += fmt::format("; and {} more", found.size() - kDifferencesSaid);
  return fail(ORLOP_INVALID_ARGUMENT, "checkpoint: on {} ({} differences): it is of another model: {}", directory,
              found.size(), list);
}

Result<> check_same_optimizer(const Manifest& manifest, kernels::Optimizer optimizer, const std::string& directory) {
  if (!manifest.has_states || manifest.optimizer == optimizer) return {};
  return fail(ORLOP_INVALID_ARGUMENT, "checkpoint: on {}: its optimizer states are {}'s, the engine trains with {}; load the "
              "parameters only, or train with {}", directory, name_of(manifest.optimizer), name_of(optimizer),
              name_of(manifest.optimizer));
}

struct Restore::Part {
  std::uint32_t id;
  Range elements;         // of the parameter
  std::uint32_t block;     // of the target
  std::uint64_t in_block;  // where they begin in it
};

Result<std::unique_ptr<Restore>> Restore::open(const std::string& directory, int rank, const UpdateParts& parts,
                                               Match match) {
  std::unique_ptr<Restore> restore(new Restore());
  TRY_ASSIGN(restore->saved_, SavedCheckpoint::open(directory, rank));
  const Manifest& manifest = restore->manifest();
  TRY(check_same_model(manifest, parts.params, match, directory));
  std::unordered_map<std::string, std::uint32_t> numbers;
  for (std::uint32_t i = 0; i < manifest.params.size(); ++i) numbers.emplace(manifest.params[i].name, i);
  for (const ParamSpec& param : parts.params) {
    const auto at = numbers.find(param.name);
    restore->saved_of_.push_back(at == numbers.end() ? std::nullopt : std::optional(at->second));
  }
  return restore;
}

// ---- Into the target ----

Result<> Restore::run_all(const RestoreTarget& target, const std::atomic<bool>& cancel) {
  if (!manifest().has_states && target.update.is_pristine()) return run_params(target, cancel);  // states are so already
  for (std::uint32_t i = 0; i < target.parts.blocks.size(); ++i) {
    if (cancel) return fail(ORLOP_CANCELLED, "load checkpoint: on block {} of {}: cancelled", i, target.parts.blocks.size());
    TRY(restore_block(target, i));
  }
  TRY(restore_frozen(target));
  for (std::uint32_t id = 0; id < target.parts.params.size(); ++id) TRY(target.planes.send_to_device(id));
  return {};
}

// Those that the checkpoint has.
std::vector<Restore::Part> Restore::parts_of(const RestoreTarget& target, std::uint32_t index) const {
  const Block& block = target.parts.blocks[index];
  std::vector<Part> parts;
  for (const std::uint32_t id : target.parts.plan.units[block.unit].params) {
    const std::uint64_t offset = target.parts.plan.placements[id].offset;
    const Range part = intersect({offset, offset + target.parts.params[id].numel}, block.range);
    if (part.empty() || !saved_of_[id]) continue;
    parts.push_back({id, {part.begin - offset, part.end - offset}, index, part.begin - block.range.begin});
  }
  return parts;
}

Result<> Restore::restore_block(const RestoreTarget& target, std::uint32_t index) {
  const std::vector<Part> parts = parts_of(target, index);
  if (parts.empty()) return {};
  return target.states.access(index, swap::Change::modified, [&](const swap::BlockMemory& memory) -> Result<> {
    target.update.adopt(index, memory);
    target.update.mark_modified();
    for (const Part& part : parts) TRY(restore_part(target, part, memory));
    return {};
  });
}

Result<> Restore::restore_part(const RestoreTarget& target, const Part& part, const swap::BlockMemory& memory) {
  const Dtype dtype = target.parts.params[part.id].dtype;
  const std::uint32_t saved = *saved_of_[part.id];
  TRY(saved_->read(saved, kSavedParam, part.elements,
                   params_of(target.parts, part.block, memory) + part.in_block * bytes_of(dtype)));
  if (target.parts.params[part.id].training == Training::frozen) return {};
  for (const swap::Plane plane : swap::kPlanes) {
    if (!planes_of(dtype, target.parts.optimizer).contains(plane)) continue;
    std::byte* const into = memory.as<std::byte>(plane) + part.in_block * swap::element_bytes(plane);
    if (plane == swap::Plane::master) {
      TRY(saved_->read_master(saved, part.elements, reinterpret_cast<float*>(into)));
    } else if (!manifest().has_states) {
      std::memset(into, 0, part.elements.size() * swap::element_bytes(plane));
    } else {
      TRY(saved_->read(saved, saved_plane(plane), part.elements, into));
    }
  }
  return {};
}

Result<> Restore::restore_frozen(const RestoreTarget& target) {
  for (std::uint32_t id = 0; id < target.parts.params.size(); ++id) {
    const ParamSpec& param = target.parts.params[id];
    const Placement& place = target.parts.plan.placements[id];
    if (param.training == Training::trainable || target.parts.plan.units[place.unit].home == Home::store) continue;
    if (!saved_of_[id]) continue;
    TRY(saved_->read(*saved_of_[id], kSavedParam, {0, param.numel},
                      target.parts.buffers.host_params(place.unit) + place.offset * bytes_of(param.dtype)));
  }
  return {};
}

Result<> Restore::run_params(const RestoreTarget& target, const std::atomic<bool>& cancel) {
  std::vector<std::byte> values;
  for (std::uint32_t id = 0; id < target.parts.params.size(); ++id) {
    if (!saved_of_[id]) continue;
    const ParamSpec& param = target.parts.params[id];
    for (std::uint64_t begin = 0; begin < param.numel; begin += kBlockElements) {
      if (cancel) return fail(ORLOP_CANCELLED, "load checkpoint: on \"{}\": cancelled", param.name);
      const Range part{begin, std::min(begin + kBlockElements, param.numel)};
      values.resize(part.size() * bytes_of(param.dtype));
      TRY(saved_->read(*saved_of_[id], kSavedParam, part, values.data()));
      TRY(target.planes.write(id, Plane::param, part, param.dtype, values.data()));
    }
  }
  return {};
}

}  // namespace orlop::zero3
