#include "zero3/planes.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/element.hpp"
#include "zero3/master.hpp"

namespace orlop::zero3 {
namespace {

using swap::BlockMemory;
using swap::Change;

swap::Plane state_plane(Plane plane) {
  return plane == Plane::exp_avg ? swap::Plane::exp_avg : swap::Plane::exp_avg_sq;
}

std::vector<std::uint32_t> first_blocks(const UnitPlan& plan, std::span<const Block> blocks) {
  std::vector<std::uint32_t> first(plan.units.size(), 0);
  for (std::size_t i = blocks.size(); i-- > 0;) first[blocks[i].unit] = static_cast<std::uint32_t>(i);
  return first;
}

}  // namespace

bool has_plane(kernels::Optimizer optimizer, Plane plane) {
  if (plane == Plane::exp_avg) return has_exp_avg(optimizer);
  if (plane == Plane::exp_avg_sq) return has_exp_avg_sq(optimizer);
  return true;
}

// Element `range.begin` of the parameter is element `in_block` of the block.
struct Planes::Piece {
  std::uint32_t block;
  Range range;  // of the parameter's elements
  std::uint64_t in_block;
};

Planes::Planes(const UpdateParts& parts, swap::States& states, Update& update)
    : parts_(parts), states_(&states), update_(&update), first_block_(first_blocks(parts.plan, parts.blocks)) {}

std::byte* Planes::host_param(std::uint32_t id, std::uint64_t first) const {
  const Placement& place = parts_.plan.placements[id];
  return parts_.buffers.host_params(place.unit) + (place.offset + first) * bytes_of(parts_.params[id].dtype);
}

void Planes::convert(Dtype to, void* destination, Dtype from, const void* source, std::uint64_t count) const {
  cpu_adam::grad_intake(parts_.isa, cpu_adam::Intake::store, grad_type_of(to), destination, grad_type_of(from), source,
                        static_cast<std::size_t>(count), nullptr);
}

std::vector<Planes::Piece> Planes::pieces_of(std::uint32_t id, Range range) const {
  std::vector<Piece> pieces;
  const Placement& place = parts_.plan.placements[id];
  const Range in_unit{place.offset + range.begin, place.offset + range.end};
  for (std::uint32_t i = first_block_[place.unit]; i < parts_.blocks.size(); ++i) {
    const Block& block = parts_.blocks[i];
    if (block.unit != place.unit || block.range.begin >= in_unit.end) break;
    const Range part = intersect(block.range, in_unit);
    if (part.empty()) continue;
    pieces.push_back({i, {part.begin - place.offset, part.end - place.offset}, part.begin - block.range.begin});
  }
  return pieces;
}

Result<> Planes::for_each_piece(std::uint32_t id, Range range, Change change, const PieceBody& body) {
  for (const Piece& piece : pieces_of(id, range)) {
    TRY(states_->access(piece.block, change, [&](const BlockMemory& memory) -> Result<> {
      if (change == Change::modified) {
        update_->adopt(piece.block, memory);
        update_->mark_modified();
      }
      body(piece, memory);
      return {};
    }));
  }
  return {};
}

Result<> Planes::read(std::uint32_t id, Plane plane, Range range, Dtype dtype, void* destination) {
  const auto out = [&](const Piece& piece) {
    return static_cast<std::byte*>(destination) + (piece.range.begin - range.begin) * bytes_of(dtype);
  };
  switch (plane) {
    case Plane::param:
      return read_param(id, range, dtype, destination);
    case Plane::grad:
      read_grad(id, range, dtype, destination);
      return {};
    case Plane::master: {
      const Dtype param_dtype = parts_.params[id].dtype;
      if (param_dtype == Dtype::f32) return read_param(id, range, dtype, destination);
      return for_each_piece(id, range, Change::none, [&](const Piece& piece, const BlockMemory& memory) {
        std::vector<float> values(piece.range.size());
        read_masters(parts_, *update_, {piece.block, memory}, piece.in_block, values);
        convert(dtype, out(piece), Dtype::f32, values.data(), values.size());
      });
    }
    default:
      return for_each_piece(id, range, Change::none, [&](const Piece& piece, const BlockMemory& memory) {
        convert(dtype, out(piece), Dtype::f32, memory.as<float>(state_plane(plane)) + piece.in_block,
                piece.range.size());
      });
  }
}

Result<> Planes::write(std::uint32_t id, Plane plane, Range range, Dtype dtype, const void* source) {
  const Dtype param_dtype = parts_.params[id].dtype;
  const auto in = [&](const Piece& piece) {
    return static_cast<const std::byte*>(source) + (piece.range.begin - range.begin) * bytes_of(dtype);
  };
  if (plane == Plane::param || (plane == Plane::master && param_dtype == Dtype::f32)) {
    return write_param(id, range, dtype, source);
  }
  if (plane != Plane::master) {
    return for_each_piece(id, range, Change::modified, [&](const Piece& piece, const BlockMemory& memory) {
      convert(Dtype::f32, memory.as<float>(state_plane(plane)) + piece.in_block, dtype, in(piece), piece.range.size());
    });
  }
  TRY(for_each_piece(id, range, Change::modified, [&](const Piece& piece, const BlockMemory& memory) {
    std::vector<float> values(piece.range.size());
    convert(Dtype::f32, values.data(), dtype, in(piece), values.size());
    auto* const params = reinterpret_cast<std::uint16_t*>(loaded_param(piece, memory));
    if (param_dtype == Dtype::bf16) {
      auto* const lo = memory.as<std::int16_t>(swap::Plane::lo) + piece.in_block;
      for (std::uint64_t i = 0; i < values.size(); ++i) {
        const kernels::SplitMaster split = kernels::split_master(values[i]);
        params[i] = split.param;
        lo[i] = split.lo;
      }
    } else {
      std::memcpy(memory.as<float>(swap::Plane::master) + piece.in_block, values.data(), values.size() * sizeof(float));
      convert(param_dtype, params, Dtype::f32, values.data(), values.size());
    }
  }));
  return copy_to_device(id, range);
}

Result<> Planes::fill(Plane plane, float value) {
  for (const std::uint32_t block : update_->order()) {
    TRY(states_->access(block, Change::modified, [&](const BlockMemory& memory) -> Result<> {
      std::fill_n(memory.as<float>(state_plane(plane)), parts_.blocks[block].range.size(), value);
      update_->adopt(block, memory);
      update_->mark_modified();
      return {};
    }));
  }
  return {};
}

std::byte* Planes::loaded_param(const Piece& piece, const BlockMemory& memory) const {
  const Dtype dtype = parts_.plan.units[parts_.blocks[piece.block].unit].dtype;
  return params_of(parts_, piece.block, memory) + piece.in_block * bytes_of(dtype);
}

Result<> Planes::read_param(std::uint32_t id, Range range, Dtype dtype, void* destination) {
  if (home_of(id) == Home::store) return read_stored(id, range, dtype, destination);
  TRY(copy_from_device(id, range));
  convert(dtype, destination, parts_.params[id].dtype, host_param(id, range.begin), range.size());
  return {};
}

// Of its blocks only the parameters are read, not the states beside them.
Result<> Planes::read_stored(std::uint32_t id, Range range, Dtype dtype, void* destination) {
  const Dtype stored = parts_.params[id].dtype;
  auto* to = static_cast<std::byte*>(destination);
  for (const Piece& piece : pieces_of(id, range)) {
    TRY(states_->read_plane({piece.block, param_plane(stored)}, [&](const swap::PlaneView& view) {
      for (std::uint64_t chunk = 0; chunk < view.read.size(); ++chunk) view.sum_chunk(chunk);
      convert(dtype, to, stored, view.memory + piece.in_block * bytes_of(stored), piece.range.size());
    }));
    to += piece.range.size() * bytes_of(dtype);
  }
  return {};
}

Result<> Planes::write_param(std::uint32_t id, Range range, Dtype dtype, const void* source) {
  if (home_of(id) == Home::store) {
    return for_each_piece(id, range, Change::modified, [&](const Piece& piece, const BlockMemory& memory) {
      convert(parts_.params[id].dtype, loaded_param(piece, memory), dtype,
              static_cast<const std::byte*>(source) + (piece.range.begin - range.begin) * bytes_of(dtype),
              piece.range.size());
      follow(id, piece, memory);
    });
  }
  convert(parts_.params[id].dtype, host_param(id, range.begin), dtype, source, range.size());
  TRY(copy_to_device(id, range));
  return follow_param(id, range);
}

// The master becomes the parameter's new value. While every block is as it was created (lo zero, master not adopted)
// that is already so.
Result<> Planes::follow_param(std::uint32_t id, Range range) {
  const Dtype dtype = parts_.params[id].dtype;
  const bool is_so = dtype == Dtype::f32 || parts_.params[id].training == Training::frozen || update_->is_pristine();
  if (is_so) return {};
  return for_each_piece(id, range, Change::modified,
                        [&](const Piece& piece, const BlockMemory& memory) { follow(id, piece, memory); });
}

void Planes::follow(std::uint32_t id, const Piece& piece, const BlockMemory& memory) const {
  const Dtype dtype = parts_.params[id].dtype;
  if (dtype == Dtype::f32 || parts_.params[id].training == Training::frozen) return;
  if (dtype == Dtype::bf16) {
    std::memset(memory.as<std::int16_t>(swap::Plane::lo) + piece.in_block, 0, piece.range.size() * 2);
  } else {
    convert(Dtype::f32, memory.as<float>(swap::Plane::master) + piece.in_block, dtype, loaded_param(piece, memory),
            piece.range.size());
  }
}

void Planes::read_grad(std::uint32_t id, Range range, Dtype dtype, void* destination) const {
  const Placement& place = parts_.plan.placements[id];
  const Dtype grad_dtype = parts_.buffers.grad_dtype(place.unit);
  convert(dtype, destination, grad_dtype,
          parts_.buffers.grads(place.unit) + (place.offset + range.begin) * bytes_of(grad_dtype), range.size());
}

Result<> Planes::copy_to_device(std::uint32_t id, Range range) {
  if (parts_.device.is_host_addressable() || home_of(id) == Home::store) return {};
  const Placement& place = parts_.plan.placements[id];
  const std::uint64_t element = bytes_of(parts_.params[id].dtype);
  return device::copy_and_wait(parts_.device,
                               parts_.buffers.device_params(place.unit) + (place.offset + range.begin) * element,
                               host_param(id, range.begin), range.size() * element,
                               device::CopyKind::host_to_device, device::Stream{});
}

Result<> Planes::copy_from_device(std::uint32_t id, Range range) {
  if (parts_.device.is_host_addressable()) return {};
  const Placement& place = parts_.plan.placements[id];
  const std::uint64_t element = bytes_of(parts_.params[id].dtype);
  return device::copy_and_wait(parts_.device, host_param(id, range.begin),
                               parts_.buffers.device_params(place.unit) + (place.offset + range.begin) * element,
                               range.size() * element, device::CopyKind::device_to_host, device::Stream{});
}

}  // namespace orlop::zero3
