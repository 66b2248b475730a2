#include "zero3/grad_flow.hpp"

#include <cmath>
#include <limits>
#include <random>

#include <gtest/gtest.h>

namespace orlop::zero3 {
namespace {

class Flow {
 public:
  explicit Flow(std::uint64_t micro_batches, int threads = 2, Dtype dtype = Dtype::f32) {
    params_ = {{"a", dtype, 100'000, 0, 0}, {"b", dtype, 77, 0, 1}, {"c", dtype, 300'001, 0, 2}};
    plan_ = plan_units(params_).value();
    device_ = device::make_host_device().value();
    topology_.emplace(numa::Topology::detect().value());
    workers_.emplace(threads);
    buffers_.emplace(FlatBuffers::create(*topology_, *device_, plan_,
                                         micro_batches == 1 ? Accumulation::single : Accumulation::several).value());
    flow_.emplace(params_, plan_, *buffers_, *workers_, cpu_adam::select_isa().value(), micro_batches);
  }
  GradFlow& operator*() { return *flow_; }
  GradFlow* operator->() { return &*flow_; }

  [[nodiscard]] std::vector<float> random_gradient(std::uint32_t id, unsigned seed) const {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    std::vector<float> gradient(params_[id].numel);
    for (float& value : gradient) value = normal(random);
    return gradient;
  }
  const float* stored(std::uint32_t id) {
    const Placement& place = plan_.placements[id];
    return reinterpret_cast<const float*>(buffers_->grads(place.unit)) + place.offset;
  }

 private:
  std::vector<ParamSpec> params_;
  UnitPlan plan_;
  std::unique_ptr<device::Device> device_;
  std::optional<numa::Topology> topology_;
  std::optional<cpu_adam::Workers> workers_;
  std::optional<FlatBuffers> buffers_;
  std::optional<GradFlow> flow_;
};

double norm_of(const std::vector<std::vector<float>>& gradients) {
  long double sum = 0;
  for (const auto& gradient : gradients) {
    for (const float value : gradient) sum += static_cast<long double>(value) * value;
  }
  return std::sqrt(static_cast<double>(sum));
}

TEST(GradFlow, TheNormIsThatOfAllGradients) {
  Flow flow(1);
  std::vector<std::vector<float>> gradients;
  for (std::uint32_t id = 0; id < 3; ++id) {
    gradients.push_back(flow.random_gradient(id, id));
    flow->take(id, gradients.back().data(), Dtype::f32);
  }
  EXPECT_TRUE(flow->end_micro_batch());
  EXPECT_NEAR(flow->total().norm / norm_of(gradients), 1, 1e-14);
}

TEST(GradFlow, TheNormDependsOnNeitherOrderNorThreads) {
  std::vector<double> norms;
  for (const int threads : {1, 2, 3}) {
    for (const auto& order : {std::vector<std::uint32_t>{0, 1, 2}, {2, 1, 0}, {1, 2, 0}}) {
      Flow flow(1, threads);
      for (const auto id : order) flow->take(id, flow.random_gradient(id, id).data(), Dtype::f32);
      flow->end_micro_batch();
      norms.push_back(flow->total().norm);
    }
  }
  for (const double norm : norms) EXPECT_EQ(norm, norms.front());
}

TEST(GradFlow, SumsMicroBatchesInFp32AndTakesTheNormOfTheSum) {
  Flow flow(3, 2, Dtype::bf16);
  const auto one = flow.random_gradient(0, 1);
  auto sum = std::vector<float>(one.size(), 0.f);
  for (int micro_batch = 0; micro_batch < 3; ++micro_batch) {
    flow->take(0, one.data(), Dtype::f32);
    EXPECT_EQ(flow->end_micro_batch(), micro_batch == 2);
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += one[i];
  }
  EXPECT_EQ(std::vector<float>(flow.stored(0), flow.stored(0) + sum.size()), sum);
  EXPECT_NEAR(flow->total().norm / norm_of({sum}), 1, 1e-14);
}

TEST(GradFlow, ASecondGradientInOneBackwardIsAdded) {
  Flow flow(1);
  const auto one = flow.random_gradient(1, 5);
  flow->take(1, one.data(), Dtype::f32);
  flow->take(1, one.data(), Dtype::f32);
  flow->end_micro_batch();
  EXPECT_EQ(flow.stored(1)[3], 2 * one[3]);
  EXPECT_NEAR(flow->total().norm / (2 * norm_of({one})), 1, 1e-14);
}

TEST(GradFlow, AParameterWithoutAGradientCountsAsZero) {
  Flow flow(1);
  for (std::uint32_t id = 0; id < 3; ++id) flow->take(id, flow.random_gradient(id, 9).data(), Dtype::f32);
  flow->end_micro_batch();
  flow->total();
  flow->clear();
  const auto only = flow.random_gradient(1, 4);
  flow->take(1, only.data(), Dtype::f32);
  flow->end_micro_batch();
  EXPECT_NEAR(flow->total().norm / norm_of({only}), 1, 1e-14);
  EXPECT_EQ(flow.stored(0)[0], 0.f);
}

TEST(GradFlow, AReplacedGradientIsSummedAnewAndLaterOnesAreAdded) {
  Flow flow(2);
  const auto first = flow.random_gradient(0, 4);
  const std::vector<float> ones(first.size(), 1.f);
  flow->take(0, first.data(), Dtype::f32);
  flow->end_micro_batch();
  flow->replace(0, {10, 20}, ones.data(), Dtype::f32);
  EXPECT_EQ(flow.stored(0)[9], first[9]);
  EXPECT_EQ(flow.stored(0)[10], 1.f);
  flow->take(0, ones.data(), Dtype::f32);
  EXPECT_EQ(flow.stored(0)[19], 2.f);
  flow->end_micro_batch();
  const std::vector<float> infinite(1, std::numeric_limits<float>::infinity());
  flow->replace(0, {3, 4}, infinite.data(), Dtype::f32);
  EXPECT_EQ(flow->total().first_not_finite, 0u);
  flow->replace(0, {0, ones.size()}, ones.data(), Dtype::f32);
  EXPECT_EQ(flow->total().norm, std::sqrt(100'000.0));
}

TEST(GradFlow, AGradientThatCameOnlyInAnEarlierMicroBatchCounts) {
  Flow flow(2);
  const auto early = flow.random_gradient(0, 4);
  flow->take(0, early.data(), Dtype::f32);
  flow->end_micro_batch();
  flow->end_micro_batch();
  EXPECT_NEAR(flow->total().norm / norm_of({early}), 1, 1e-14);
}

TEST(GradFlow, AProgramThatKnowsTheBoundaryMayUpdateEarlierOrLater) {
  Flow flow(2);
  const auto one = flow.random_gradient(0, 4);
  const auto micro_batch = [&](Boundary boundary) {
    flow->set_boundary(boundary);
    flow->take(0, one.data(), Dtype::f32);
    return flow->end_micro_batch();
  };
  EXPECT_TRUE(micro_batch(Boundary::now));
  EXPECT_TRUE(flow->may_update());
  EXPECT_NEAR(flow->total().norm / norm_of({one}), 1, 1e-14);
  flow->clear();
  for (int earlier = 0; earlier < 2; ++earlier) EXPECT_FALSE(micro_batch(Boundary::not_yet));
  EXPECT_TRUE(micro_batch(Boundary::now));
  EXPECT_TRUE(micro_batch(Boundary::now)) << "and one more";
  EXPECT_NEAR(flow->total().norm / (4 * norm_of({one})), 1, 1e-14);
  flow->clear();
  EXPECT_FALSE(micro_batch(Boundary::counted));
  EXPECT_FALSE(flow->may_update());
  EXPECT_TRUE(micro_batch(Boundary::counted));
  EXPECT_FALSE(flow->takes_more());
}

TEST(GradFlow, NamesTheFirstParameterThatIsNotFinite) {
  Flow flow(1);
  for (std::uint32_t id = 0; id < 3; ++id) {
    auto gradient = flow.random_gradient(id, id);
    if (id > 0) gradient[50] = id == 1 ? std::numeric_limits<float>::quiet_NaN() : INFINITY;
    flow->take(id, gradient.data(), Dtype::f32);
  }
  flow->end_micro_batch();
  const GradTotal total = flow->total();
  EXPECT_EQ(total.first_not_finite, 1u);
  EXPECT_TRUE(std::isnan(total.norm));
}

}  // namespace
}  // namespace orlop::zero3
