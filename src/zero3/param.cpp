#include "zero3/param.hpp"

namespace orlop::zero3 {

std::string_view name_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::f32:
      return "fp32";
    case Dtype::bf16:
      return "bf16";
    case Dtype::f16:
      return "fp16";
  }
  return "?";
}

cpu_adam::Master master_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::bf16:
      return cpu_adam::Master::split;
    case Dtype::f16:
      return cpu_adam::Master::separate;
    default:
      return cpu_adam::Master::itself;
  }
}

swap::PlaneSet planes_of(Dtype dtype, kernels::Optimizer optimizer) {
  using swap::Plane;
  swap::PlaneSet planes;
  if (dtype == Dtype::bf16) planes.insert(Plane::lo);
  if (dtype == Dtype::f16) planes.insert(Plane::master);
  if (has_exp_avg(optimizer)) planes.insert(Plane::exp_avg);
  if (has_exp_avg_sq(optimizer)) planes.insert(Plane::exp_avg_sq);
  return planes;
}

swap::Plane param_plane(Dtype dtype) { return dtype == Dtype::f32 ? swap::Plane::master : swap::Plane::param; }

swap::PlaneSet planes_of(const UnitKind& kind, kernels::Optimizer optimizer) {
  swap::PlaneSet planes;
  if (kind.is_trained) planes = planes_of(kind.dtype, optimizer);
  if (kind.home == Home::store) planes.insert(param_plane(kind.dtype));
  return planes;
}

std::string_view name_of(kernels::Optimizer optimizer) {
  switch (optimizer) {
    case kernels::Optimizer::adam:
      return "Adam";
    case kernels::Optimizer::adagrad:
      return "Adagrad";
    case kernels::Optimizer::lion:
      return "Lion";
    case kernels::Optimizer::external:
      return "External";
  }
  return "?";
}

cpu_adam::GradType grad_type_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::bf16:
      return cpu_adam::GradType::bf16;
    case Dtype::f16:
      return cpu_adam::GradType::f16;
    default:
      return cpu_adam::GradType::f32;
  }
}

std::uint64_t trainable_elements(std::span<const ParamSpec> params) {
  std::uint64_t elements = 0;
  for (const ParamSpec& param : params) elements += param.training == Training::trainable ? param.numel : 0;
  return elements;
}

}  // namespace orlop::zero3
