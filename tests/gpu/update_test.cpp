#include "kernels/update.hpp"
#include "kernels/update_element.hpp"

#include <cmath>
#include <limits>

#include "gpu_test.hpp"

namespace orlop::kernels {
namespace {

// The planes of a span, each starting `offset` elements into its array.
struct Planes {
  std::size_t offset;
  std::vector<float> f32_param, master, exp_avg, exp_avg_sq, f32_grad;
  std::vector<std::uint16_t> param, grad;
  std::vector<std::int16_t> lo;
};

enum class Values { ordinary, extreme };

class Draw {
 public:
  explicit Draw(Values values) : values_(values) {}

  float weight() { return next(-12, 4); }
  float square() { return std::fabs(next(-24, 4)); }
  float gradient() {
    if (values_ == Values::ordinary || random_() % 16 != 0) return next(-12, 4);
    constexpr float kExtremes[] = {0.0f,
                                   -0.0f,
                                   1e-45f,
                                   -1e-40f,
                                   3e38f,
                                   -1e25f,
                                   std::numeric_limits<float>::infinity(),
                                   std::numeric_limits<float>::quiet_NaN()};
    return kExtremes[random_() % std::size(kExtremes)];
  }

 private:
  float next(int least, int most) {
    std::uniform_int_distribution<int> exponent(values_ == Values::extreme ? -149 : least, most);
    return std::ldexp(mantissa_(random_), exponent(random_));
  }

  Values values_;
  std::mt19937 random_{11};
  std::uniform_real_distribution<float> mantissa_{-2.0f, 2.0f};
};

float grad_of(GradType type, const Planes& planes, std::size_t i) {
  if (type == GradType::f32) return planes.f32_grad[i];
  return type == GradType::bf16 ? float_of_bf16(planes.grad[i]) : float_of_f16(planes.grad[i]);
}

float master_of(Master master, const Planes& planes, std::size_t i) {
  if (master == Master::itself) return planes.f32_param[i];
  return master == Master::separate ? planes.master[i] : join_master(planes.param[i], planes.lo[i]);
}

void set_master(Master master, Planes& planes, std::size_t i, float value) {
  if (master == Master::itself) {
    planes.f32_param[i] = value;
  } else if (master == Master::separate) {
    planes.master[i] = value;
    planes.param[i] = f16_of_float(value);
  } else {
    const SplitMaster split = split_master(value);
    planes.param[i] = split.param;
    planes.lo[i] = split.lo;
  }
}

Planes draw_planes(Master master, GradType grad, Values values, std::size_t count, std::size_t offset) {
  const std::size_t room = offset + count + 1;  // one element beyond, which must stay as it is
  const std::size_t f32_grads = grad == GradType::f32 ? room : 0;
  Planes planes{.offset = offset,
                .f32_param = std::vector<float>(master == Master::itself ? room : 0),
                .master = std::vector<float>(master == Master::separate ? room : 0),
                .exp_avg = std::vector<float>(room),
                .exp_avg_sq = std::vector<float>(room),
                .f32_grad = std::vector<float>(f32_grads),
                .param = std::vector<std::uint16_t>(master == Master::itself ? 0 : room),
                .grad = std::vector<std::uint16_t>(room - f32_grads),
                .lo = std::vector<std::int16_t>(master == Master::split ? room : 0)};
  Draw draw(values);
  for (std::size_t i = 0; i < room; ++i) {
    set_master(master, planes, i, draw.weight());
    planes.exp_avg[i] = draw.weight();
    planes.exp_avg_sq[i] = draw.square();
    const float gradient = draw.gradient();
    if (grad == GradType::f32) planes.f32_grad[i] = gradient;
    if (grad == GradType::bf16) planes.grad[i] = bf16_of_float(gradient);
    if (grad == GradType::f16) planes.grad[i] = f16_of_float(gradient);
  }
  return planes;
}

Element update_any(const Element& old, float grad, const StepConstants& constants) {
  switch (constants.rule) {
    case Rule::adam: return update_element<Rule::adam>(old, grad, constants);
    case Rule::adagrad: return update_element<Rule::adagrad>(old, grad, constants);
    case Rule::lion: return update_element<Rule::lion>(old, grad, constants);
    default: return update_element<Rule::adamw>(old, grad, constants);
  }
}

// The definition in a loop.
void update(Master master, GradType grad, const StepConstants& constants, Planes& planes, std::size_t count) {
  for (std::size_t i = planes.offset; i < planes.offset + count; ++i) {
    const Element now =
        update_any({master_of(master, planes, i), planes.exp_avg[i], planes.exp_avg_sq[i]},
                     grad_of(grad, planes, i), constants);
    set_master(master, planes, i, now.param);
    planes.exp_avg[i] = now.exp_avg;
    planes.exp_avg_sq[i] = now.exp_avg_sq;
  }
}

template <typename T>
std::vector<std::uint32_t> bits_of_all(const std::vector<T>& values) {
  std::vector<std::uint32_t> bits;
  for (const T value : values) {
    if constexpr (std::is_same_v<T, float>) {
      bits.push_back(std::bit_cast<std::uint32_t>(value));
    } else {
      bits.push_back(static_cast<std::uint16_t>(value));
    }
  }
  return bits;
}

struct Case {
  Master master;
  GradType grad;
  Rule rule;
};

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (const Master master : {Master::itself, Master::split, Master::separate}) {
    for (const GradType grad : {GradType::f32, GradType::bf16, GradType::f16}) {
      for (const Rule rule : {Rule::adamw, Rule::adam, Rule::adagrad, Rule::lion}) cases.push_back({master, grad, rule});
    }
  }
  return cases;
}

std::string name_of_case(const testing::TestParamInfo<Case>& info) {
  constexpr const char* kMasters[] = {"itself", "split", "separate"};
  constexpr const char* kGrads[] = {"f32", "bf16", "f16"};
  constexpr const char* kRules[] = {"adamw", "adam", "adagrad", "lion"};
  return std::string(kMasters[static_cast<int>(info.param.master)]) + "_" +
         kGrads[static_cast<int>(info.param.grad)] + "_" + kRules[static_cast<int>(info.param.rule)];
}

class UpdateOnTheDevice : public GpuTest, public testing::WithParamInterface<Case> {
 protected:
  template <typename T>
  T* upload_plane(const std::vector<T>& values, std::size_t offset) {
    return values.empty() ? nullptr : upload(values) + offset;
  }
  template <typename T>
  void fetch(std::vector<T>& values, const T* there, std::size_t offset) {
    if (!values.empty()) values = download(there - offset, values.size());
  }

  // `steps` updates on the device, as the planes are afterwards.
  Planes run(const Planes& planes, std::size_t count, std::uint64_t steps) {
    const auto [master, grad, rule] = GetParam();
    const std::size_t offset = planes.offset;
    float* const f32_param = upload_plane(planes.f32_param, offset);
    std::uint16_t* const param = upload_plane(planes.param, offset);
    const float* const f32_grad = upload_plane(planes.f32_grad, offset);
    const std::uint16_t* const grads = upload_plane(planes.grad, offset);
    const PlaneSpan span{.param = master == Master::itself ? static_cast<void*>(f32_param) : param,
                        .lo = upload_plane(planes.lo, offset),
                        .master = upload_plane(planes.master, offset),
                        .exp_avg = upload_plane(planes.exp_avg, offset),
                        .exp_avg_sq = upload_plane(planes.exp_avg_sq, offset),
                        .grad = grad == GradType::f32 ? static_cast<const void*>(f32_grad) : grads,
                        .count = count};
    for (std::uint64_t t = 1; t <= steps; ++t) {
      EXPECT_EQ(launch_update(master, grad, span, constants_at(t), stream_.handle), 0);
    }
    finish();
    Planes after = planes;
    fetch(after.f32_param, f32_param, offset);
    fetch(after.param, param, offset);
    fetch(after.lo, span.lo, offset);
    fetch(after.master, span.master, offset);
    fetch(after.exp_avg, span.exp_avg, offset);
    fetch(after.exp_avg_sq, span.exp_avg_sq, offset);
    return after;
  }

  static StepConstants constants_at(std::uint64_t t) {
    return make_constants({.lr = 1e-3,
                           .beta1 = 0.9,
                           .beta2 = 0.999,
                           .eps = 1e-8,
                           .weight_decay = 0.1,
                           .decoupled = is_decoupled(GetParam().rule),
                           .bias_correction = true,
                           .optimizer = optimizer_of(GetParam().rule),
                           .lr_decay = 0.5},
                          t, 1.0 / 1024);
  }

  void expect_same_bits(Values values, std::size_t count, std::size_t offset, std::uint64_t steps) {
    const auto [master, grad, rule] = GetParam();
    const Planes before = draw_planes(master, grad, values, count, offset);
    const Planes there = run(before, count, steps);
    Planes here = before;
    for (std::uint64_t t = 1; t <= steps; ++t) update(master, grad, constants_at(t), here, count);
    EXPECT_TRUE(bits_of_all(there.f32_param) == bits_of_all(here.f32_param)) << count << " at " << offset;
    EXPECT_TRUE(bits_of_all(there.param) == bits_of_all(here.param)) << count << " at " << offset;
    EXPECT_TRUE(bits_of_all(there.lo) == bits_of_all(here.lo)) << count << " at " << offset;
    EXPECT_TRUE(bits_of_all(there.master) == bits_of_all(here.master)) << count << " at " << offset;
    EXPECT_TRUE(bits_of_all(there.exp_avg) == bits_of_all(here.exp_avg)) << count << " at " << offset;
    EXPECT_TRUE(bits_of_all(there.exp_avg_sq) == bits_of_all(here.exp_avg_sq)) << count << " at " << offset;
  }
};

TEST_P(UpdateOnTheDevice, EqualsTheDefinitionBitForBit) {
  expect_same_bits(Values::ordinary, 100'003, 0, 3);
}

TEST_P(UpdateOnTheDevice, EqualsItForDenormalsInfinitiesAndNans) {
  expect_same_bits(Values::extreme, 100'003, 0, 3);
}

TEST_P(UpdateOnTheDevice, TakesAnyLengthAtAnyOffsetAndNoMore) {
  for (const std::size_t count : {0, 1, 2, 3, 4, 5, 7, 8, 255, 256, 257, 1023, 1027}) {
    for (const std::size_t offset : {0, 1, 2, 4}) expect_same_bits(Values::ordinary, count, offset, 1);
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, UpdateOnTheDevice, testing::ValuesIn(all_cases()), name_of_case);

}  // namespace
}  // namespace orlop::kernels
