#include <algorithm>
#include <cmath>

#include "cpu_adam/adam.hpp"
#include "cpu_adam/dispatch.hpp"
#include "kernels/float_environment.hpp"

namespace orlop::cpu_adam {
namespace {

constexpr std::size_t size_of(GradType type) { return type == GradType::f32 ? 4 : 2; }

// Finite elements have finite squares in double, and 1024 of them a finite sum.
void add_block(GradSummary* summary, double squares) {
  if (summary == nullptr) return;
  if (std::isfinite(squares)) {
    summary->sum_of_squares.add(squares);
  } else {
    summary->finite = false;
  }
}

template <typename Body>
void for_each_block(std::size_t count, const Body& body) {
  for (std::size_t first = 0; first < count; first += kSquaresBlock) {
    body(first, std::min(kSquaresBlock, count - first));
  }
}

}  // namespace

void grad_intake(Isa isa, Intake intake, GradType destination_type, void* destination, GradType source_type,
                 const void* source, std::size_t count, GradSummary* summary) {
  const kernels::FloatEnvironment environment;
  const KernelTable::TakeGrad take = kernels_of(isa).intake[static_cast<std::size_t>(
      intake)][static_cast<std::size_t>(destination_type)][static_cast<std::size_t>(source_type)];
  auto* to = static_cast<std::byte*>(destination);
  const auto* from = static_cast<const std::byte*>(source);
  for_each_block(count, [&](std::size_t first, std::size_t length) {
    add_block(summary, take(to + first * size_of(destination_type), from + first * size_of(source_type), length));
  });
}

void grad_summarize(Isa isa, GradType type, const void* gradient, std::size_t count, GradSummary* summary) {
  const kernels::FloatEnvironment environment;
  const KernelTable::Squares squares = kernels_of(isa).squares[static_cast<std::size_t>(type)];
  const auto* from = static_cast<const std::byte*>(gradient);
  for_each_block(count, [&](std::size_t first, std::size_t length) {
    add_block(summary, squares(from + first * size_of(type), length));
  });
}

}  // namespace orlop::cpu_adam
