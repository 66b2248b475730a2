// Param: what a training runtime registers.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "cpu_adam/adam.hpp"
#include "orlop/orlop.h"
#include "swap/block.hpp"

namespace orlop::zero3 {

enum class Dtype : std::uint8_t { f32 = ORLOP_F32, bf16 = ORLOP_BF16, f16 = ORLOP_F16 };
enum class Training : std::uint8_t { trainable, frozen };

constexpr std::uint64_t bytes_of(Dtype dtype) { return dtype == Dtype::f32 ? 4 : 2; }
std::string_view name_of(Dtype dtype);

// How a dtype's fp32 master is stored, and which planes its optimizer state has.
cpu_adam::Master master_of(Dtype dtype);
swap::PlaneSet planes_of(Dtype dtype, kernels::Optimizer optimizer);

// Where parameters are between their uses: in the flat buffers, or in the store beside their states.
enum class Home : std::uint8_t { memory, store };
// The plane that a parameter is in the store: an fp32 one is its own master.
swap::Plane param_plane(Dtype dtype);

struct UnitKind {
  Dtype dtype;
  bool is_trained;
  Home home;
};
// All planes of a block of such a unit.
swap::PlaneSet planes_of(const UnitKind& kind, kernels::Optimizer optimizer);
std::string_view name_of(kernels::Optimizer optimizer);
cpu_adam::GradType grad_type_of(Dtype dtype);

struct ParamSpec {
  std::string name;
  Dtype dtype = Dtype::f32;
  std::uint64_t numel = 0;
  int group = 0;
  int module = 0;
  Training training = Training::trainable;
  Home home = Home::memory;
  bool is_held = false;  // in use while other modules are
};

std::uint64_t trainable_elements(std::span<const ParamSpec> params);

}  // namespace orlop::zero3
