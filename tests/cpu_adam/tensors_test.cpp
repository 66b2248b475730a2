#include "cpu_adam/tensors.hpp"

#include <array>
#include <cmath>
#include <cstring>
#include <vector>

#include <gtest/gtest.h>
#include <xmmintrin.h>

#include "kernels/update_element.hpp"
#include "planes.hpp"

namespace orlop::cpu_adam {
namespace {

using kernels::Element;
using kernels::make_constants;
using kernels::Optimizer;
using kernels::Rule;
using kernels::StepConstants;

struct Kind {
  ElementType param;
  ElementType grad;
  ElementType state;
  StepConstants constants;
};

std::string describe(const Kind& kind) {
  const auto number = [](auto value) { return std::to_string(static_cast<int>(value)); };
  return "param " + number(kind.param) + " grad " + number(kind.grad) + " state " + number(kind.state) + " rule " +
         number(kind.constants.rule);
}

template <typename Body>
void for_each_kind(const Body& body) {
  for (const Optimizer optimizer : kAllOptimizers) {
    for (const bool decoupled : {true, false}) {
      const StepConstants constants = make_constants({1e-2, 0.9, 0.99, 1e-8, 0.1, decoupled, true, optimizer, 0.25}, 3, 1.0);
      for (const ElementType param : kAllGradTypes) {
        for (const ElementType grad : kAllGradTypes) {
          for (const ElementType state : kAllGradTypes) body(Kind{param, grad, state, constants});
        }
      }
    }
  }
}

// An array of elements of some type, with a guard behind its end.
class Array {
 public:
  Array(ElementType type, std::size_t count) : type_(type), count_(count), bytes_((count + kGuard) * size()) {}

  [[nodiscard]] float get(std::size_t i) const {
    if (type_ == ElementType::f32) return as<float>(i);
    return type_ == ElementType::bf16 ? kernels::float_of_bf16(as<std::uint16_t>(i))
                                      : kernels::float_of_f16(as<std::uint16_t>(i));
  }
  void set(std::size_t i, float value) {
    if (type_ == ElementType::f32) return put(i, value);
    put(i, type_ == ElementType::bf16 ? kernels::bf16_of_float(value) : kernels::f16_of_float(value));
  }
  void fill(RandomValues& random, bool is_square) {
    for (std::size_t i = 0; i != count_ + kGuard; ++i) {
      float value = type_ == ElementType::f32 ? random.value() : from_16(random.value_16(type_));
      if (is_square && !std::isnan(value)) value = std::abs(value);
      set(i, value);
    }
  }
  void* data() { return bytes_.data(); }
  bool operator==(const Array& other) const { return bytes_ == other.bytes_; }

 private:
  static constexpr std::size_t kGuard = 32;

  [[nodiscard]] std::size_t size() const { return type_ == ElementType::f32 ? 4 : 2; }
  [[nodiscard]] float from_16(std::uint16_t bits) const {
    return type_ == ElementType::bf16 ? kernels::float_of_bf16(bits) : kernels::float_of_f16(bits);
  }
  template <typename T>
  [[nodiscard]] T as(std::size_t i) const {
    T value;
    std::memcpy(&value, bytes_.data() + i * sizeof(T), sizeof(T));
    return value;
  }
  template <typename T>
  void put(std::size_t i, T value) {
    std::memcpy(bytes_.data() + i * sizeof(T), &value, sizeof(T));
  }

  ElementType type_;
  std::size_t count_;
  std::vector<unsigned char> bytes_;
};

struct Arrays {
  Arrays(const Kind& of, std::size_t elements, std::uint64_t seed, Values values)
      : kind(of), count(elements), param(of.param, elements), grad(of.grad, elements), exp_avg(of.state, elements),
        exp_avg_sq(of.state, elements) {
    RandomValues random(seed, values);
    param.fill(random, false);
    grad.fill(random, false);
    exp_avg.fill(random, false);
    exp_avg_sq.fill(random, true);
  }

  Tensor tensor() {
    const Rule rule = kind.constants.rule;
    return {param.data(), grad.data(), has_exp_avg(rule) ? exp_avg.data() : nullptr,
            has_exp_avg_sq(rule) ? exp_avg_sq.data() : nullptr, kind.param, kind.grad, kind.state, count, kind.constants};
  }

  bool operator==(const Arrays& other) const {
    return param == other.param && exp_avg == other.exp_avg && exp_avg_sq == other.exp_avg_sq && grad == other.grad;
  }

  Kind kind;
  std::size_t count;
  Array param, grad, exp_avg, exp_avg_sq;
};

Element updated(const Element& old, float grad, const StepConstants& constants) {
  switch (constants.rule) {
    case Rule::adamw: return kernels::update_element<Rule::adamw>(old, grad, constants);
    case Rule::adam: return kernels::update_element<Rule::adam>(old, grad, constants);
    case Rule::adagrad: return kernels::update_element<Rule::adagrad>(old, grad, constants);
    case Rule::lion: return kernels::update_element<Rule::lion>(old, grad, constants);
  }
  return old;
}

// The definition: each element widened, updated, rounded.
void update_by_definition(Arrays& arrays) {
  const Rule rule = arrays.kind.constants.rule;
  for (std::size_t i = 0; i != arrays.count; ++i) {
    const Element now = updated({arrays.param.get(i), arrays.exp_avg.get(i), arrays.exp_avg_sq.get(i)},
                                arrays.grad.get(i), arrays.kind.constants);
    arrays.param.set(i, now.param);
    if (has_exp_avg(rule)) arrays.exp_avg.set(i, now.exp_avg);
    if (has_exp_avg_sq(rule)) arrays.exp_avg_sq.set(i, now.exp_avg_sq);
  }
}

void update(Isa isa, const Workers* workers, Arrays& arrays) {
  const Tensor tensor = arrays.tensor();
  update_tensors(isa, workers, {&tensor, 1});
}

TEST(Tensors, EqualTheDefinitionOfOneElementBitForBit) {
  std::uint64_t seed = 1;
  for_each_kind([&](const Kind& kind) {
    for (const Values values : kAllValues) {
      const Arrays original(kind, 1500, ++seed, values);
      Arrays expected = original;
      update_by_definition(expected);
      for (const Isa isa : usable_isas()) {
        Arrays actual = original;
        update(isa, nullptr, actual);
        EXPECT_TRUE(expected == actual) << name_of(isa) << ", " << describe(kind) << ", "
                                        << orlop::cpu_adam::describe(values) << ", seed " << seed;
      }
    }
  });
}

TEST(Tensors, OfEveryTailLengthAreUpdatedToTheirEndAndNoFurther) {
  for_each_kind([&](const Kind& kind) {
    if (kind.grad != kind.param) return;
    for (std::size_t count = 0; count <= 66; ++count) {
      Arrays expected(kind, count + 1000, count, Values::ordinary);  // around the end of a tile
      Arrays actual = expected;
      update_by_definition(expected);
      update(usable_isas().back(), nullptr, actual);
      EXPECT_TRUE(expected == actual) << describe(kind) << ", " << count << " elements more";
    }
  });
}

TEST(Tensors, OfAllSizesAreSharedByWorkersWithoutChangingABit) {
  const Workers workers(3);
  for_each_kind([&](const Kind& kind) {
    if (kind.grad != kind.param || kind.state == ElementType::f16) return;
    std::vector<Arrays> alone, together;
    for (const std::size_t count : {40'000, 0, 1, 16'384, 16'385, 3, 33'000}) {
      alone.emplace_back(kind, count, count, Values::ordinary);
      together.emplace_back(alone.back());
    }
    std::vector<Tensor> tensors;
    for (Arrays& arrays : together) tensors.push_back(arrays.tensor());
    update_tensors(usable_isas().back(), &workers, tensors);
    for (std::size_t i = 0; i != alone.size(); ++i) {
      update_by_definition(alone[i]);
      EXPECT_TRUE(alone[i] == together[i]) << describe(kind) << ", " << alone[i].count << " elements";
    }
  });
}

TEST(Tensors, HaveConstantsOfTheirOwn) {
  Kind slow{ElementType::f32, ElementType::f32, ElementType::f32,
            make_constants({1e-3, 0.9, 0.99, 1e-8, 0, true, true}, 1, 1.0)};
  Kind fast = slow;
  fast.constants = make_constants({1e-1, 0.9, 0.99, 1e-8, 0, true, true}, 5, 1.0);
  std::vector<Arrays> actual = {{slow, 100, 1, Values::ordinary}, {fast, 100, 2, Values::ordinary}};
  std::vector<Arrays> expected = actual;
  const std::array tensors = {actual[0].tensor(), actual[1].tensor()};
  update_tensors(Isa::scalar, nullptr, tensors);
  for (Arrays& arrays : expected) update_by_definition(arrays);
  EXPECT_TRUE(expected == actual);
}

TEST(Tensors, AreComputedWithDenormalsWhateverTheCallersSettings) {
  constexpr unsigned kFlush = 0x1f80 | 0x8000 | 0x0040;  // FTZ, DAZ
  for_each_kind([&](const Kind& kind) {
    Arrays expected(kind, 1500, 4, Values::tiny);
    Arrays actual = expected;
    update_by_definition(expected);
    const unsigned saved = _mm_getcsr();
    _mm_setcsr(kFlush);
    update(usable_isas().back(), nullptr, actual);
    EXPECT_EQ(_mm_getcsr(), kFlush);
    _mm_setcsr(saved);
    EXPECT_TRUE(expected == actual) << describe(kind);
  });
}

}  // namespace
}  // namespace orlop::cpu_adam
