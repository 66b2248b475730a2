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

swap::PlaneSet planes_of(Dtype dtype) {
  using swap::Plane;
  switch (dtype) {
    case Dtype::bf16:
      return {Plane::lo, Plane::exp_avg, Plane::exp_avg_sq};
    case Dtype::f16:
      return {Plane::master, Plane::exp_avg, Plane::exp_avg_sq};
    default:
      return {Plane::exp_avg, Plane::exp_avg_sq};
  }
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

}  // namespace orlop::zero3
