#include "zero3/saved_checkpoint.hpp"

#include <algorithm>
#include <cstring>

#include "kernels/element.hpp"

namespace orlop::zero3 {

Result<std::unique_ptr<SavedCheckpoint>> SavedCheckpoint::open(const std::string& directory, int rank) {
  std::unique_ptr<SavedCheckpoint> saved(new SavedCheckpoint());
  saved->directory_ = directory;
  TRY_ASSIGN(saved->manifest_, read_manifest(directory, rank));
  if (saved->manifest_.world_size != 1) {
    return fail(ORLOP_UNSUPPORTED, "checkpoint: on {}: it was written by {} ranks, this version reads those of one",
                directory, saved->manifest_.world_size);
  }
  TRY_ASSIGN(auto planes, SavedPlanes::open(saved->manifest_, directory));
  saved->planes_.emplace(std::move(planes));
  TRY_ASSIGN(saved->isa_, cpu_adam::select_isa());
  saved->index_blocks();
  return saved;
}

// Blocks of a unit follow each other in the manifest.
void SavedCheckpoint::index_blocks() {
  first_block_.assign(manifest_.units.size(), 0);
  for (std::size_t i = manifest_.blocks.size(); i-- > 0;) {
    first_block_[manifest_.blocks[i].unit] = static_cast<std::uint32_t>(i);
  }
}

std::uint32_t SavedCheckpoint::block_of(const SavedParam& param, std::uint64_t element) const {
  std::uint32_t block = first_block_[param.unit];
  while (manifest_.blocks[block].range.end <= param.offset + element) ++block;
  return block;
}

Result<> SavedCheckpoint::read(std::uint32_t number, std::size_t plane, Range elements, void* into) {
  const SavedParam& param = manifest_.params[number];
  auto* to = static_cast<std::byte*>(into);
  while (!elements.empty()) {
    const std::uint32_t block = block_of(param, elements.begin);
    const Range of_block = manifest_.blocks[block].range;
    const Range part = intersect({param.offset + elements.begin, param.offset + elements.end}, of_block);
    TRY(planes_->read(block, plane, {part.begin - of_block.begin, part.end - of_block.begin}, to));
    to += part.size() * planes_->element_bytes(block, plane);
    elements.begin += part.size();
  }
  return {};
}

Result<> SavedCheckpoint::read_master(std::uint32_t number, Range elements, float* into) {
  const SavedParam& param = manifest_.params[number];
  if (param.dtype == Dtype::f32) return read(number, kSavedParam, elements, into);
  std::vector<std::uint16_t> params;
  std::vector<std::int16_t> rests;
  while (!elements.empty()) {
    const std::uint32_t block = block_of(param, elements.begin);
    const SavedBlock& saved = manifest_.blocks[block];
    const Range part{elements.begin, std::min(elements.end, saved.range.end - param.offset)};
    if (saved.planes.contains(swap::Plane::master) && saved.is_adopted) {
      TRY(read(number, saved_plane(swap::Plane::master), part, into));
    } else {
      params.resize(part.size());
      TRY(read(number, kSavedParam, part, params.data()));
      if (saved.planes.contains(swap::Plane::lo)) {
        rests.resize(part.size());
        TRY(read(number, saved_plane(swap::Plane::lo), part, rests.data()));
        for (std::size_t i = 0; i < part.size(); ++i) into[i] = kernels::join_master(params[i], rests[i]);
      } else {  // never updated: its own value
        cpu_adam::grad_intake(isa_, cpu_adam::Intake::store, cpu_adam::GradType::f32, into,
                              grad_type_of(param.dtype), params.data(), params.size(), nullptr);
      }
    }
    into += part.size();
    elements.begin = part.end;
  }
  return {};
}

Result<> SavedCheckpoint::verify_block(std::uint32_t block) {
  const SavedBlock& saved = manifest_.blocks[block];
  for (std::size_t plane = 0; plane < kSavedPlanes; ++plane) {
    if (has_saved_plane(saved, plane)) TRY(planes_->check(block, plane));
  }
  return {};
}

}  // namespace orlop::zero3
