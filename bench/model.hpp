// Model: the parameters of a published architecture, or of one made to a wanted size.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "zero3/param.hpp"

namespace orlop::bench {

struct Model {
  std::string name;
  std::vector<zero3::ParamSpec> params;  // in the order of a forward pass
  [[nodiscard]] std::uint64_t elements() const;
  [[nodiscard]] std::uint64_t largest_param() const;
};

struct LayerShape {
  std::optional<std::uint64_t> layers;
  std::optional<std::uint64_t> hidden;
};

// "gpt2", "llama-7b", ...; "-" and "_" and case do not matter. Error: ORLOP_INVALID_ARGUMENT with the nearest name.
Result<Model> model_by_name(std::string_view name, zero3::Dtype dtype);

// Transformer layers and a rest, exactly `params` elements together. What the shape leaves open follows from the size,
// as in models of that size.
Result<Model> model_of_size(std::uint64_t params, const LayerShape& shape, zero3::Dtype dtype);

// GPT-2 with another number and width of layers.
Result<Model> model_of_layers(std::uint64_t layers, std::uint64_t hidden, zero3::Dtype dtype);

std::vector<std::string_view> known_models();

}  // namespace orlop::bench
