// The definition: kernels/update_element.hpp in a loop.
#include "cpu_adam/chunk_loop.hpp"
#include "kernels/update_element.hpp"

namespace orlop::cpu_adam {
namespace {

using kernels::Element;

template <GradType kType>
float read(const void* values, std::size_t i) {
  if constexpr (kType == GradType::f32) return static_cast<const float*>(values)[i];
  const auto bits = static_cast<const std::uint16_t*>(values)[i];
  return kType == GradType::bf16 ? kernels::float_of_bf16(bits) : kernels::float_of_f16(bits);
}

template <GradType kType>
void write(void* values, std::size_t i, float value) {
  if constexpr (kType == GradType::f32) {
    static_cast<float*>(values)[i] = kernels::canonical(value);
  } else {
    static_cast<std::uint16_t*>(values)[i] =
        kType == GradType::bf16 ? kernels::bf16_of_float(value) : kernels::f16_of_float(value);
  }
}

template <Master kMaster>
float read_master(const PlaneSpan& span, std::size_t i) {
  if constexpr (kMaster == Master::itself) return static_cast<const float*>(span.param)[i];
  if constexpr (kMaster == Master::separate) return span.master[i];
  return kernels::join_master(static_cast<const std::uint16_t*>(span.param)[i], span.lo[i]);
}

template <Master kMaster>
void write_master(const PlaneSpan& span, std::size_t i, float master) {
  if constexpr (kMaster == Master::itself) {
    static_cast<float*>(span.param)[i] = master;
  } else if constexpr (kMaster == Master::separate) {
    span.master[i] = master;
    static_cast<std::uint16_t*>(span.param)[i] = kernels::f16_of_float(master);
  } else {
    const kernels::SplitMaster split = kernels::split_master(master);
    static_cast<std::uint16_t*>(span.param)[i] = split.param;
    span.lo[i] = split.lo;
  }
}

// Element i goes to lane i mod 16; lanes are added as a tree. A product of two floats is exact in double.
class LanedSquares {
 public:
  void add(std::size_t i, float value) {
    lanes_[i % 16] += static_cast<double>(value) * static_cast<double>(value);
  }
  double sum() {
    for (std::size_t width = 8; width != 0; width /= 2) {
      for (std::size_t i = 0; i != width; ++i) lanes_[i] += lanes_[i + width];
    }
    return lanes_[0];
  }

 private:
  double lanes_[16] = {};
};

struct Scalar {
  static constexpr std::size_t kSumsInPassing = 0;  // tile by tile
  static ChunkSums sums(const PlaneSpan& span) { return sums_by_plane(span); }

  template <Master kMaster, GradType kGrad, Rule kRule>
  static void update(const PlaneSpan& span, const StepConstants& constants) {
    for (std::size_t i = 0; i != span.count; ++i) {
      Element old = {read_master<kMaster>(span, i), 0, 0};
      if constexpr (has_exp_avg(kRule)) old.exp_avg = span.exp_avg[i];
      if constexpr (has_exp_avg_sq(kRule)) old.exp_avg_sq = span.exp_avg_sq[i];
      const Element now = kernels::update_element<kRule>(old, read<kGrad>(span.grad, i), constants);
      write_master<kMaster>(span, i, now.param);
      if constexpr (has_exp_avg(kRule)) span.exp_avg[i] = now.exp_avg;
      if constexpr (has_exp_avg_sq(kRule)) span.exp_avg_sq[i] = now.exp_avg_sq;
    }
  }

  template <Intake kIntake, GradType kDestination, GradType kSource>
  static double intake(void* destination, const void* source, std::size_t count) {
    for (std::size_t i = 0; i != count; ++i) {
      const float value = read<kSource>(source, i);
      write<kDestination>(destination, i,
                          kIntake == Intake::add ? read<kDestination>(destination, i) + value : value);
    }
    return squares<kDestination>(destination, count);
  }

  template <GradType kType>
  static double squares(const void* gradient, std::size_t count) {
    LanedSquares sum;
    for (std::size_t i = 0; i != count; ++i) sum.add(i, read<kType>(gradient, i));
    return sum.sum();
  }
};

}  // namespace

constinit const KernelTable kScalarKernels = make_table<Scalar>(Isa::scalar);

}  // namespace orlop::cpu_adam
