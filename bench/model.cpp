#include "bench/model.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <utility>

#include "base/bytes.hpp"

namespace orlop::bench {
namespace {

using zero3::Dtype;
using zero3::ParamSpec;

enum class Family : std::uint8_t { gpt2, llama };
enum class Head : std::uint8_t { tied, own };  // whether the output layer shares the embedding

// As the models' published configurations have it.
struct Architecture {
  std::string_view name;
  Family family;
  std::uint64_t vocabulary;
  std::uint64_t hidden;
  std::uint64_t layers;
  std::uint64_t key_value_width = 0;  // llama: kv heads x head size
  std::uint64_t intermediate = 0;     // llama
  Head head = Head::tied;
  std::uint64_t positions = 1024;  // gpt2
};

constexpr std::uint64_t kGpt2Vocabulary = 50257;

constexpr std::array kArchitectures = std::to_array<Architecture>({
    {"gpt2", Family::gpt2, kGpt2Vocabulary, 768, 12},
    {"gpt2-medium", Family::gpt2, kGpt2Vocabulary, 1024, 24},
    {"gpt2-large", Family::gpt2, kGpt2Vocabulary, 1280, 36},
    {"gpt2-xl", Family::gpt2, kGpt2Vocabulary, 1600, 48},
    {"smollm2-135m", Family::llama, 49152, 576, 30, 192, 1536, Head::tied},
    {"llama-1b", Family::llama, 128256, 2048, 16, 512, 8192, Head::tied},      // Llama 3.2 1B
    {"llama-3b", Family::llama, 128256, 3072, 28, 1024, 8192, Head::tied},     // Llama 3.2 3B
    {"llama-7b", Family::llama, 32000, 4096, 32, 4096, 11008, Head::own},      // Llama 2 7B
    {"llama-8b", Family::llama, 128256, 4096, 32, 1024, 14336, Head::own},     // Llama 3.1 8B
    {"llama-13b", Family::llama, 32000, 5120, 40, 5120, 13824, Head::own},     // Llama 2 13B
    {"llama-70b", Family::llama, 32000, 8192, 80, 1024, 28672, Head::own},     // Llama 2 70B
    {"llama-405b", Family::llama, 128256, 16384, 126, 1024, 53248, Head::own}, // Llama 3.1 405B
    {"mistral-7b", Family::llama, 32000, 4096, 32, 1024, 14336, Head::own},
});

// Appends parameters; a module is what a runtime would fetch together: an embedding, a layer, the end.
class Builder {
 public:
  Builder(std::string name, Dtype dtype) : model_{std::move(name), {}}, dtype_(dtype) {}

  void begin_module() { ++module_; }
  void add(std::string name, std::uint64_t elements) {
    model_.params.push_back({.name = std::move(name), .dtype = dtype_, .numel = elements, .module = module_});
  }
  Model take() { return std::move(model_); }

 private:
  Model model_;
  Dtype dtype_;
  int module_ = -1;
};

void add_gpt2_layer(Builder& builder, std::uint64_t layer, std::uint64_t hidden) {
  const auto name = [&](const char* leaf) { return fmt::format("transformer.h.{}.{}", layer, leaf); };
  builder.begin_module();
  builder.add(name("ln_1.weight"), hidden);
  builder.add(name("ln_1.bias"), hidden);
  builder.add(name("attn.c_attn.weight"), 3 * hidden * hidden);
  builder.add(name("attn.c_attn.bias"), 3 * hidden);
  builder.add(name("attn.c_proj.weight"), hidden * hidden);
  builder.add(name("attn.c_proj.bias"), hidden);
  builder.add(name("ln_2.weight"), hidden);
  builder.add(name("ln_2.bias"), hidden);
  builder.add(name("mlp.c_fc.weight"), 4 * hidden * hidden);
  builder.add(name("mlp.c_fc.bias"), 4 * hidden);
  builder.add(name("mlp.c_proj.weight"), 4 * hidden * hidden);
  builder.add(name("mlp.c_proj.bias"), hidden);
}

constexpr std::uint64_t gpt2_layer_elements(std::uint64_t hidden) { return 12 * hidden * hidden + 13 * hidden; }

Model gpt2(const Architecture& a, std::string name, Dtype dtype) {
  Builder builder(std::move(name), dtype);
  builder.begin_module();
  builder.add("transformer.wte.weight", a.vocabulary * a.hidden);
  builder.add("transformer.wpe.weight", a.positions * a.hidden);
  for (std::uint64_t layer = 0; layer < a.layers; ++layer) add_gpt2_layer(builder, layer, a.hidden);
  builder.begin_module();
  builder.add("transformer.ln_f.weight", a.hidden);
  builder.add("transformer.ln_f.bias", a.hidden);
  return builder.take();
}

void add_llama_layer(Builder& builder, std::uint64_t layer, const Architecture& a) {
  const auto name = [&](const char* leaf) { return fmt::format("model.layers.{}.{}.weight", layer, leaf); };
  builder.begin_module();
  builder.add(name("input_layernorm"), a.hidden);
  builder.add(name("self_attn.q_proj"), a.hidden * a.hidden);
  builder.add(name("self_attn.k_proj"), a.key_value_width * a.hidden);
  builder.add(name("self_attn.v_proj"), a.key_value_width * a.hidden);
  builder.add(name("self_attn.o_proj"), a.hidden * a.hidden);
  builder.add(name("post_attention_layernorm"), a.hidden);
  builder.add(name("mlp.gate_proj"), a.intermediate * a.hidden);
  builder.add(name("mlp.up_proj"), a.intermediate * a.hidden);
  builder.add(name("mlp.down_proj"), a.hidden * a.intermediate);
}

Model llama(const Architecture& a, Dtype dtype) {
  Builder builder(std::string(a.name), dtype);
  builder.begin_module();
  builder.add("model.embed_tokens.weight", a.vocabulary * a.hidden);
  for (std::uint64_t layer = 0; layer < a.layers; ++layer) add_llama_layer(builder, layer, a);
  builder.begin_module();
  builder.add("model.norm.weight", a.hidden);
  if (a.head == Head::own) builder.add("lm_head.weight", a.vocabulary * a.hidden);
  return builder.take();
}

std::string folded(std::string_view name) {
  std::string text(name);
  for (char& c : text) c = c == '_' ? '-' : static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i);
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = std::exchange(row[j], std::min({row[j] + 1, row[j - 1] + 1, replaced}));
    }
  }
  return row[b.size()];
}

std::string_view nearest_model(std::string_view name) {
  return std::ranges::min_element(kArchitectures, {}, [&](const Architecture& a) {
           return edit_distance(name, a.name);
         })->name;
}

// Layers of models grow about as hidden / 64: 12 layers at 768, 32 at 2048.
std::uint64_t hidden_for(std::uint64_t params, std::optional<std::uint64_t> layers) {
  const auto n = static_cast<double>(params);
  const double hidden = layers ? std::sqrt(n / (12.0 * static_cast<double>(*layers))) : std::cbrt(n * 64 / 12);
  const std::uint64_t grain = hidden < 256 ? 16 : 64;
  return std::max<std::uint64_t>(16, align_down(static_cast<std::uint64_t>(hidden), grain));
}

constexpr std::uint64_t kLargestHidden = 1u << 20;
constexpr std::uint64_t kMostLayers = 100'000;

Result<> check_shape(const LayerShape& shape) {
  if (shape.layers && (*shape.layers == 0 || *shape.layers > kMostLayers)) {
    return fail(ORLOP_INVALID_ARGUMENT, "--layers: {}: must be from 1 to {}", *shape.layers, kMostLayers);
  }
  if (shape.hidden && (*shape.hidden == 0 || *shape.hidden > kLargestHidden)) {
    return fail(ORLOP_INVALID_ARGUMENT, "--hidden: {}: must be from 1 to {}", *shape.hidden, kLargestHidden);
  }
  return {};
}

// What no whole layer fills, in pieces no larger than a layer's largest matrix.
void add_rest(Builder& builder, std::uint64_t rest, std::uint64_t largest) {
  builder.begin_module();
  for (std::uint64_t i = 0; rest > 0; ++i) {
    const std::uint64_t part = std::min(rest, largest);
    builder.add(fmt::format("rest.{}.weight", i), part);
    rest -= part;
  }
}

}  // namespace

std::uint64_t Model::elements() const {
  std::uint64_t sum = 0;
  for (const ParamSpec& param : params) sum += param.numel;
  return sum;
}

std::uint64_t Model::largest_param() const {
  return std::ranges::max(params, {}, &ParamSpec::numel).numel;
}

std::vector<std::string_view> known_models() {
  std::vector<std::string_view> names;
  for (const Architecture& a : kArchitectures) names.push_back(a.name);
  return names;
}

Result<Model> model_by_name(std::string_view name, Dtype dtype) {
  const std::string wanted = folded(name);
  const auto found = std::ranges::find(kArchitectures, wanted, &Architecture::name);
  if (found == kArchitectures.end()) {
    return fail(ORLOP_INVALID_ARGUMENT, "--model: \"{}\": is not known; did you mean \"{}\"? Known are {}", name,
                nearest_model(wanted), fmt::join(known_models(), ", "));
  }
  return found->family == Family::gpt2 ? gpt2(*found, std::string(found->name), dtype) : llama(*found, dtype);
}

Result<Model> model_of_size(std::uint64_t params, const LayerShape& shape, Dtype dtype) {
  TRY(check_shape(shape));
  if (params == 0 || params > std::uint64_t{1} << 50) {
    return fail(ORLOP_INVALID_ARGUMENT, "--params: {}: must be from 1 to {}", params, std::uint64_t{1} << 50);
  }
  const std::uint64_t hidden = shape.hidden.value_or(hidden_for(params, shape.layers));
  const std::uint64_t per_layer = gpt2_layer_elements(hidden);
  const std::uint64_t fitting = std::min(params / per_layer, kMostLayers);
  const std::uint64_t layers = shape.layers.value_or(fitting);
  if (layers > fitting) {
    return fail(ORLOP_INVALID_ARGUMENT,
                "--params: {} parameters with --layers {} and --hidden {}: these layers alone have {}; ask for at least "
                "that many", params, layers, hidden, layers * per_layer);
  }
  Builder builder(fmt::format("{} parameters, {} layers of width {}", params, layers, hidden), dtype);
  for (std::uint64_t layer = 0; layer < layers; ++layer) add_gpt2_layer(builder, layer, hidden);
  add_rest(builder, params - layers * per_layer, 4 * hidden * hidden);
  return builder.take();
}

Result<Model> model_of_layers(std::uint64_t layers, std::uint64_t hidden, Dtype dtype) {
  TRY(check_shape({layers, hidden}));
  return gpt2({"", Family::gpt2, kGpt2Vocabulary, hidden, layers}, fmt::format("gpt2, {} layers of width {}", layers, hidden),
              dtype);
}

}  // namespace orlop::bench
