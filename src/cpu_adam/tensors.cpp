#include "cpu_adam/tensors.hpp"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "base/bytes.hpp"
#include "cpu_adam/dispatch.hpp"
#include "kernels/float_environment.hpp"

namespace orlop::cpu_adam {
namespace {

constexpr std::size_t kPieceElements = 16 * 1024;        // what a worker takes at a time
constexpr std::size_t kTileElements = kSquaresBlock;     // the most that a conversion takes; its copies stay in the L1 cache

constexpr std::size_t size_of(ElementType type) { return type == ElementType::f32 ? 4 : 2; }

template <typename Byte>
Byte* advance(Byte* array, ElementType type, std::size_t elements) {
  return array == nullptr ? nullptr : array + elements * size_of(type);
}

void* advance(void* array, ElementType type, std::size_t elements) {
  return advance(static_cast<std::byte*>(array), type, elements);
}
const void* advance(const void* array, ElementType type, std::size_t elements) {
  return advance(static_cast<const std::byte*>(array), type, elements);
}

Tensor part_of(const Tensor& tensor, std::size_t first, std::size_t count) {
  Tensor part = tensor;
  part.param = advance(tensor.param, tensor.param_type, first);
  part.grad = advance(tensor.grad, tensor.grad_type, first);
  part.exp_avg = advance(tensor.exp_avg, tensor.state_type, first);
  part.exp_avg_sq = advance(tensor.exp_avg_sq, tensor.state_type, first);
  part.count = count;
  return part;
}

// At most kTileElements of an array as fp32: the array itself where it is that, else a copy.
class WideTile {
 public:
  WideTile(const KernelTable& kernels, ElementType type, void* array, std::size_t count)
      : kernels_(kernels), type_(type), array_(array), count_(count) {
    if (is_copy()) convert(ElementType::f32, values_, type_, array_);
  }
  float* values() { return is_copy() ? values_ : static_cast<float*>(array_); }
  void write_back() {
    if (is_copy()) convert(type_, array_, ElementType::f32, values_);
  }

 private:
  [[nodiscard]] bool is_copy() const { return array_ != nullptr && type_ != ElementType::f32; }

  // A gradient's intake is this conversion; the sum of squares that comes with it is not used.
  void convert(ElementType to_type, void* to, ElementType from_type, const void* from) const {
    kernels_.intake[static_cast<std::size_t>(Intake::store)][static_cast<std::size_t>(to_type)]
                   [static_cast<std::size_t>(from_type)](to, from, count_);
  }

  const KernelTable& kernels_;
  ElementType type_;
  void* array_;
  std::size_t count_;
  alignas(64) float values_[kTileElements];
};

void update_wide(const KernelTable& kernels, const Tensor& part, float* param, float* exp_avg, float* exp_avg_sq) {
  const PlaneSpan span = {param, nullptr, nullptr, exp_avg, exp_avg_sq, part.grad, part.count};
  const Stretch stretch = {part.count, &part.constants};
  kernels.update[static_cast<std::size_t>(Master::itself)][static_cast<std::size_t>(part.grad_type)](span, &stretch, 1,
                                                                                                     nullptr, nullptr);
}

void update_tile(const KernelTable& kernels, const Tensor& tile) {
  WideTile param(kernels, tile.param_type, tile.param, tile.count);
  WideTile exp_avg(kernels, tile.state_type, tile.exp_avg, tile.count);
  WideTile exp_avg_sq(kernels, tile.state_type, tile.exp_avg_sq, tile.count);
  update_wide(kernels, tile, param.values(), exp_avg.values(), exp_avg_sq.values());
  param.write_back();
  exp_avg.write_back();
  exp_avg_sq.write_back();
}

void update_piece(const KernelTable& kernels, const Tensor& piece) {
  const bool is_wide = piece.param_type == ElementType::f32 && piece.state_type == ElementType::f32;
  const std::size_t step = is_wide ? piece.count : kTileElements;
  for (std::size_t first = 0; first < piece.count; first += step) {
    update_tile(kernels, part_of(piece, first, std::min(step, piece.count - first)));
  }
}

// The pieces of all tensors, counted through.
class Pieces {
 public:
  explicit Pieces(std::span<const Tensor> tensors) : tensors_(tensors) {
    for (const Tensor& tensor : tensors) {
      count_ += divide_up(tensor.count, kPieceElements);
      ends_.push_back(count_);
    }
  }
  [[nodiscard]] std::size_t count() const { return count_; }
  [[nodiscard]] Tensor operator[](std::size_t number) const {
    const auto end = std::upper_bound(ends_.begin(), ends_.end(), number);
    const auto index = static_cast<std::size_t>(end - ends_.begin());
    const Tensor& tensor = tensors_[index];
    const std::size_t first = (number - (index == 0 ? 0 : ends_[index - 1])) * kPieceElements;
    return part_of(tensor, first, std::min(kPieceElements, tensor.count - first));
  }

 private:
  std::span<const Tensor> tensors_;
  std::vector<std::size_t> ends_;
  std::size_t count_ = 0;
};

}  // namespace

void update_tensors(Isa isa, const Workers* workers, std::span<const Tensor> tensors) {
  const Pieces pieces(tensors);
  const auto update = [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i != end; ++i) update_piece(kernels_of(isa), pieces[i]);
  };
  if (workers != nullptr) return workers->parallel_for(pieces.count(), 1, update);
  const kernels::FloatEnvironment environment;
  update(0, pieces.count());
}

}  // namespace orlop::cpu_adam
