// Against values recorded from PyTorch (record_golden.py) and against float64.
#include <cmath>
#include <vector>

#include <gtest/gtest.h>

#include "cpu_adam/adam.hpp"

namespace orlop::cpu_adam {
namespace {

using kernels::HyperParams;

#include "golden.inc"

constexpr std::size_t kElements = 32;
constexpr int kSteps = 10;

float initial(std::int64_t i) { return static_cast<float>((i * 37 + 11) % 101 - 50) / 256; }
float gradient(std::int64_t i, std::int64_t t) {
  return std::ldexp(static_cast<float>((i * 7 + t * 13 + i * t) % 41 - 20) / 1024, -static_cast<int>(i % 5));
}

struct Model {
  std::vector<float> param, exp_avg, exp_avg_sq, grad;

  explicit Model(std::size_t count) : param(count), exp_avg(count), exp_avg_sq(count), grad(count) {
    for (std::size_t i = 0; i != count; ++i) param[i] = initial(static_cast<std::int64_t>(i));
  }
  void step(Isa isa, const HyperParams& hyper, int t) {
    for (std::size_t i = 0; i != grad.size(); ++i) grad[i] = gradient(static_cast<std::int64_t>(i), t);
    const auto constants = make_constants(hyper, static_cast<std::uint64_t>(t), 1.0);
    const Stretch stretch = {grad.size(), &constants};
    update_chunk(isa, Master::itself, GradType::f32,
               {param.data(), nullptr, nullptr, exp_avg.data(), exp_avg_sq.data(), grad.data(), grad.size()},
               {&stretch, 1}, nullptr, nullptr);
  }
};

// Per step torch rounds a parameter twice and we once: at most 1.5 ulp (2^-24 |p| each half) together, and both
// updates are within 16 roundings (1e-6) of the exact one.
float param_tolerance(float param, int t, double lr) {
  return static_cast<float>(t * (1.5 * 0x1p-23 * std::abs(param) + 1e-6 * lr));
}

void expect_golden(const HyperParams& hyper, const float (&params)[kSteps][kElements], const float (&moments)[2][kElements]) {
  for (const Isa isa : usable_isas()) {
    Model model(kElements);
    for (int t = 1; t <= kSteps; ++t) {
      model.step(isa, hyper, t);
      for (std::size_t i = 0; i != kElements; ++i) {
        ASSERT_NEAR(model.param[i], params[t - 1][i], param_tolerance(params[t - 1][i], t, hyper.lr))
            << name_of(isa) << ", step " << t << ", element " << i;
      }
    }
    // m may cancel: relative to the gradients it came from, which are at most 0.02. v is positive.
    for (std::size_t i = 0; i != kElements; ++i) {
      EXPECT_NEAR(model.exp_avg[i], moments[0][i], 0.02 * 1e-6);
      EXPECT_NEAR(model.exp_avg_sq[i], moments[1][i], 1e-6 * moments[1][i]);
    }
  }
}

TEST(Golden, AdamWAgreesWithTorchOverTenSteps) {
  expect_golden({1e-2, 0.9, 0.999, 1e-3, 0.1, true, true}, kAdamWParams, kAdamWMoments);
}

TEST(Golden, AdamAgreesWithTorchOverTenSteps) {
  expect_golden({1e-2, 0.8, 0.99, 1e-5, 0.05, false, true}, kAdamParams, kAdamMoments);
}

// The papers' algorithms in double.
struct Exact {
  double param;
  double m = 0;
  double v = 0;

  void step(double g, const HyperParams& h, int t) {
    if (!h.decoupled) g += h.weight_decay * param;
    m = h.beta1 * m + (1 - h.beta1) * g;
    v = h.beta2 * v + (1 - h.beta2) * g * g;
    const double m_hat = m / (1 - std::pow(h.beta1, t));
    const double v_hat = v / (1 - std::pow(h.beta2, t));
    if (h.decoupled) param -= h.lr * h.weight_decay * param;
    param -= h.lr * m_hat / (std::sqrt(v_hat) + h.eps);
  }
};

// Root mean square error of the accumulated update after 100 steps, relative to it.
double error_against_float64(Isa isa, const HyperParams& hyper) {
  constexpr std::size_t kCount = 4096;
  Model model(kCount);
  std::vector<Exact> exact;
  for (const float param : model.param) exact.push_back({param});
  for (int t = 1; t <= 100; ++t) {
    model.step(isa, hyper, t);
    for (std::size_t i = 0; i != kCount; ++i) exact[i].step(model.grad[i], hyper, t);
  }
  double error = 0;
  double update = 0;
  for (std::size_t i = 0; i != kCount; ++i) {
    error += std::pow(model.param[i] - exact[i].param, 2);
    update += std::pow(exact[i].param - static_cast<double>(initial(static_cast<std::int64_t>(i))), 2);
  }
  return std::sqrt(error / update);
}

TEST(Golden, ErrorAgainstFloat64IsNoWorseThanTorchs) {
  for (const Isa isa : usable_isas()) {
    const double adamw = error_against_float64(isa, {1e-3, 0.9, 0.999, 1e-8, 0.01, true, true});
    const double adam = error_against_float64(isa, {1e-3, 0.9, 0.999, 1e-8, 0.01, false, true});
    EXPECT_LT(adamw, kAdamWTorchError) << name_of(isa);
    EXPECT_LT(adam, kAdamTorchError) << name_of(isa);
    RecordProperty("adamw_error", std::to_string(adamw));
    EXPECT_GT(adamw, 0) << "two implementations in different precisions do not agree exactly";
  }
}

}  // namespace
}  // namespace orlop::cpu_adam
