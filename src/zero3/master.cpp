#include "zero3/master.hpp"

#include <cstring>

#include "kernels/element.hpp"

namespace orlop::zero3 {

void read_masters(const UpdateParts& parts, const Update& update, const LoadedBlock& block, std::uint64_t first,
                  std::span<float> values) {
  const Block& place = parts.blocks[block.index];
  const Dtype dtype = parts.plan.units[place.unit].dtype;
  const std::byte* const params = params_of(parts, block.index, block.memory) + first * bytes_of(dtype);
  if (dtype == Dtype::f32) {
    std::memcpy(values.data(), params, values.size_bytes());
  } else if (dtype == Dtype::bf16) {
    const auto* const halves = reinterpret_cast<const std::uint16_t*>(params);
    const auto* const lo = block.memory.as<std::int16_t>(swap::Plane::lo) + first;
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = kernels::join_master(halves[i], lo[i]);
  } else if (update.is_adopted(block.index)) {
    std::memcpy(values.data(), block.memory.as<float>(swap::Plane::master) + first, values.size_bytes());
  } else {
    cpu_adam::grad_intake(parts.isa, cpu_adam::Intake::store, cpu_adam::GradType::f32, values.data(),
                          cpu_adam::GradType::f16, params, values.size(), nullptr);
  }
}

}  // namespace orlop::zero3
