#include "bench/gradient_source.hpp"

#include "zero3/param.hpp"

namespace orlop::bench {
namespace {

// Magnitudes as in training: weights up to 0.03, gradients so small that clipping has something to do from some ten
// million parameters on.
constexpr int kParamExponent = -5;
constexpr int kGradExponent = -10;

}  // namespace

Result<GradientSource> GradientSource::create(const Model& model, std::uint64_t seed, int thread_count) {
  TRY_ASSIGN(const numa::Topology topology, numa::Topology::detect());
  TRY_ASSIGN(numa::Arena buffer, numa::Arena::create(topology, model.largest_param() * zero3::bytes_of(model.params[0].dtype)));
  return GradientSource(model, seed, thread_count, std::move(buffer));
}

// Even streams are parameters, odd ones gradients.
const void* GradientSource::gradient(std::uint64_t micro_batch, std::uint32_t id) {
  const zero3::ParamSpec& param = model_->params[id];
  const std::uint64_t stream = 2 * (micro_batch * model_->params.size() + id) + 1;
  fill_random(workers_, {seed_, stream}, kGradExponent, param.dtype, buffer_.memory().data(), param.numel);
  return buffer_.memory().data();
}

void GradientSource::initial_values(std::uint32_t id, void* destination) const {
  const zero3::ParamSpec& param = model_->params[id];
  fill_random(workers_, {seed_, 2 * std::uint64_t{id}}, kParamExponent, param.dtype, destination, param.numel);
}

}  // namespace orlop::bench
