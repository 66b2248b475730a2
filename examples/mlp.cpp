// A small network with a backward pass of its own, trained over orlop.hpp without torch: it learns x -> sin(3 x).
//
//     c++ -std=c++20 mlp.cpp $(pkg-config --cflags --libs orlop) -o mlp && ./mlp /local_nvme
//
// Its parameters are the engine's memory; its optimizer states live in a store under the directory given, or in memory.
#include <orlop/orlop.hpp>

#include <cmath>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

namespace {

constexpr std::size_t kHidden = 64;
constexpr std::size_t kBatch = 128;
constexpr int kUpdates = 2000;

// y = w2 . tanh(w1 x + b1) + b2, and the gradients of the mean squared error.
struct Network {
  float* w1;
  float* b1;
  float* w2;
  float* b2;
  std::vector<float> grad_w1 = std::vector<float>(kHidden);
  std::vector<float> grad_b1 = std::vector<float>(kHidden);
  std::vector<float> grad_w2 = std::vector<float>(kHidden);
  float grad_b2 = 0;

  void zero_grad() {
    for (auto* gradient : {&grad_w1, &grad_b1, &grad_w2}) gradient->assign(kHidden, 0.0f);
    grad_b2 = 0;
  }

  // Returns the squared error; adds its gradients over the batch's mean.
  float learn(float x, float wanted) {
    float y = *b2;
    float hidden[kHidden];
    for (std::size_t i = 0; i < kHidden; ++i) {
      hidden[i] = std::tanh(w1[i] * x + b1[i]);
      y += w2[i] * hidden[i];
    }
    const float error = y - wanted;
    const float slope = 2 * error / kBatch;
    grad_b2 += slope;
    for (std::size_t i = 0; i < kHidden; ++i) {
      grad_w2[i] += slope * hidden[i];
      const float inner = slope * w2[i] * (1 - hidden[i] * hidden[i]);
      grad_w1[i] += inner * x;
      grad_b1[i] += inner;
    }
    return error * error;
  }
};

std::string config_for(const char* nvme_path) {
  const std::string offload = nvme_path == nullptr
                                  ? R"({"device": "cpu"})"
                                  : std::string(R"({"device": "nvme", "nvme_path": ")") + nvme_path + "\"}";
  return R"({"gradient_clipping": 1.0, "optimizer": {"type": "AdamW", "params": {"lr": 5e-3, "weight_decay": 0}},)"
         R"( "zero_optimization": {"stage": 3, "offload_optimizer": )" + offload + "}}";
}

}  // namespace

int main(int argc, char** argv) try {
  orlop::Engine engine(config_for(argc > 1 ? argv[1] : nullptr));
  const auto w1 = engine.register_param("w1", ORLOP_F32, kHidden);
  const auto b1 = engine.register_param("b1", ORLOP_F32, kHidden);
  const auto w2 = engine.register_param("w2", ORLOP_F32, kHidden);
  const auto b2 = engine.register_param("b2", ORLOP_F32, 1);
  engine.commit();

  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  for (const auto id : {w1, b1, w2}) {
    std::vector<float> start(kHidden);
    for (float& value : start) value = normal(random) * (id == w2 ? 0.1f : 2.0f);
    engine.write(id, ORLOP_PLANE_PARAM, 0, kHidden, ORLOP_F32, start.data());
  }
  Network network{engine.address<float>(w1), engine.address<float>(b1), engine.address<float>(w2), engine.address<float>(b2)};

  std::uniform_real_distribution<float> uniform(-1, 1);
  float loss = 0;
  for (int update = 1; update <= kUpdates; ++update) {
    network.zero_grad();
    loss = 0;
    for (std::size_t i = 0; i < kBatch; ++i) {
      const float x = uniform(random);
      loss += network.learn(x, std::sin(3 * x)) / kBatch;
    }
    engine.grad_ready(b2, &network.grad_b2, ORLOP_F32);
    engine.grad_ready(w2, network.grad_w2.data(), ORLOP_F32);
    engine.grad_ready(b1, network.grad_b1.data(), ORLOP_F32);
    engine.grad_ready(w1, network.grad_w1.data(), ORLOP_F32);
    engine.backward_end();
    engine.step();
    if (update % 500 == 0) std::printf("update %d: mean squared error %.2e\n", update, static_cast<double>(loss));
  }
  return loss < 1e-3f ? 0 : 1;
} catch (const orlop::Exception& error) {
  std::fprintf(stderr, "mlp: %s\n", error.what());
  return 2;
}
