// Planes: reading and writing a parameter's planes wherever they live.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "swap/states.hpp"
#include "zero3/update.hpp"

namespace orlop::zero3 {

enum class Plane : std::uint8_t {
  param = ORLOP_PLANE_PARAM,
  master = ORLOP_PLANE_MASTER,
  exp_avg = ORLOP_PLANE_EXP_AVG,
  exp_avg_sq = ORLOP_PLANE_EXP_AVG_SQ,
  grad = ORLOP_PLANE_GRAD
};

// Whether parameters that this optimizer trains have the plane.
bool has_plane(kernels::Optimizer optimizer, Plane plane);

class Planes {
 public:
  Planes(const UpdateParts& parts, swap::States& states, Update& update);

  // `count` elements of a parameter's plane from `first` on, converted (round to nearest even) from or to `dtype` in
  // host memory. The range has been checked. Blocks for I/O where the plane is on NVMe.
  Result<> read(std::uint32_t id, Plane plane, Range range, Dtype dtype, void* destination);
  Result<> write(std::uint32_t id, Plane plane, Range range, Dtype dtype, const void* source);

  // Sets every element of a state plane. Blocks for I/O where it is on NVMe.
  Result<> fill(Plane plane, float value);

  // A whole parameter from its host image; nothing where the device is the host.
  Result<> send_to_device(std::uint32_t id) { return copy_to_device(id, {0, parts_.params[id].numel}); }

 private:
  struct Piece;  // the part of a range that lies in one block
  using PieceBody = std::function<void(const Piece&, const swap::BlockMemory&)>;

  [[nodiscard]] std::vector<Piece> pieces_of(std::uint32_t id, Range range) const;
  Result<> read_stored(std::uint32_t id, Range range, Dtype dtype, void* destination);
  Result<> read_param(std::uint32_t id, Range range, Dtype dtype, void* destination);
  Result<> write_param(std::uint32_t id, Range range, Dtype dtype, const void* source);
  Result<> follow_param(std::uint32_t id, Range range);
  void follow(std::uint32_t id, const Piece& piece, const swap::BlockMemory& memory) const;
  void read_grad(std::uint32_t id, Range range, Dtype dtype, void* destination) const;
  Result<> for_each_piece(std::uint32_t id, Range range, swap::Change change, const PieceBody& body);
  Result<> copy_to_device(std::uint32_t id, Range range);
  Result<> copy_from_device(std::uint32_t id, Range range);
  void convert(Dtype to, void* destination, Dtype from, const void* source, std::uint64_t count) const;
  [[nodiscard]] Home home_of(std::uint32_t id) const { return parts_.plan.units[parts_.plan.placements[id].unit].home; }
  [[nodiscard]] std::byte* loaded_param(const Piece& piece, const swap::BlockMemory& memory) const;
  [[nodiscard]] std::byte* host_param(std::uint32_t id, std::uint64_t first) const;

  UpdateParts parts_;
  swap::States* states_;
  Update* update_;
  std::vector<std::uint32_t> first_block_;  // by unit
};

}  // namespace orlop::zero3
