// GradientSource: the backward pass of a benchmark.
#pragma once

#include <cstdint>

#include "bench/model.hpp"
#include "bench/random_values.hpp"
#include "numa/arena.hpp"

namespace orlop::bench {

class GradientSource {
 public:
  // Memory for the model's largest parameter, used for one after the other.
  static Result<GradientSource> create(const Model& model, std::uint64_t seed, int thread_count);

  // The gradient of a parameter in a micro-batch (counted over the whole run): valid until the next call.
  const void* gradient(std::uint64_t micro_batch, std::uint32_t id);
  // What a parameter starts with.
  void initial_values(std::uint32_t id, void* destination) const;

  [[nodiscard]] std::uint64_t buffer_bytes() const { return buffer_.memory().size(); }

 private:
  GradientSource(const Model& model, std::uint64_t seed, int thread_count, numa::Arena buffer)
      : model_(&model), seed_(seed), workers_(thread_count), buffer_(std::move(buffer)) {}

  const Model* model_;
  std::uint64_t seed_;
  cpu_adam::Workers workers_;
  numa::Arena buffer_;
};

}  // namespace orlop::bench
