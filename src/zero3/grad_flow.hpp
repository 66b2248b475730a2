// GradFlow: gradients from the backward pass into host memory, with their norm and finiteness found on the way.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "cpu_adam/adam.hpp"
#include "zero3/flat_buffers.hpp"
#include "zero3/unit.hpp"

namespace orlop::zero3 {

struct GradTotal {
  double norm;  // L2 over all gradients as they were summed; not finite when any element is not
  std::optional<std::uint32_t> first_not_finite;  // parameter id
};

// Which micro-batch is the last before an update.
enum class Boundary : std::uint8_t {
  counted = ORLOP_BOUNDARY_COUNTED,
  not_yet = ORLOP_BOUNDARY_NOT_YET,  // the program knows, and says that the next one is not
  now = ORLOP_BOUNDARY_NOW,          // or that it is
};

class GradFlow {
 public:
  GradFlow(std::span<const ParamSpec> params, const UnitPlan& plan, const FlatBuffers& buffers,
           const cpu_adam::Workers& workers, cpu_adam::Isa isa, std::uint64_t micro_batches);

  // Stores the first gradient of a parameter since clear(), adds later ones; `gradient` is in host memory and may be
  // reused on return. In the last micro-batch the norm is found in the same pass.
  void take(std::uint32_t id, const void* gradient, Dtype dtype);

  // Holds for the micro-batch under way and those that follow.
  void set_boundary(Boundary boundary) { boundary_ = boundary; }

  // Gives elements of a gradient other values, from host memory; of one that never came the others are zero.
  void replace(std::uint32_t id, Range range, const void* values, Dtype dtype);

  // Ends a micro-batch; true when it was the last.
  bool end_micro_batch();

  // After the last micro-batch: gradients that never came are zero, norms that a late gradient left open are found.
  GradTotal total();

  void clear();

  // Memory of the tables, which create() takes beside the gradients themselves.
  static std::uint64_t bytes_needed(std::size_t param_count) { return param_count * sizeof(Entry); }

  // A program that knows the boundary may give more, and may update with what there is.
  [[nodiscard]] bool takes_more() const { return boundary_ != Boundary::counted || micro_batch_ < micro_batches_; }
  [[nodiscard]] bool may_update() const {
    return boundary_ == Boundary::counted ? micro_batch_ >= micro_batches_ : micro_batch_ > 0;
  }
  [[nodiscard]] bool is_last_micro_batch() const {
    return boundary_ == Boundary::counted ? micro_batch_ + 1 >= micro_batches_ : boundary_ == Boundary::now;
  }
  [[nodiscard]] bool has_gradient(std::uint32_t id) const { return entries_[id].taken; }
  [[nodiscard]] std::uint64_t micro_batches() const { return micro_batches_; }
  [[nodiscard]] std::uint64_t ended_micro_batches() const { return micro_batch_; }

 private:
  struct Entry {
    bool taken = false;
    bool summarized = false;  // `summary` is that of the gradient as it stands
    cpu_adam::GradSummary summary;
  };

  [[nodiscard]] std::byte* destination(std::uint32_t id) const;
  [[nodiscard]] Dtype destination_dtype(std::uint32_t id) const;
  void summarize(std::uint32_t id);
  void fill_zero(std::uint32_t id);

  std::span<const ParamSpec> params_;
  const UnitPlan* plan_;
  const FlatBuffers* buffers_;
  const cpu_adam::Workers* workers_;
  cpu_adam::Isa isa_;
  std::uint64_t micro_batches_;
  std::uint64_t micro_batch_ = 0;
  Boundary boundary_ = Boundary::counted;
  std::vector<Entry> entries_;
};

}  // namespace orlop::zero3
