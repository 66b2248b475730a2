// The call on tensors: argument checks, and the threads of this process.
#include <unistd.h>

#include "capi/groups.hpp"
#include "capi/handle.hpp"
#include "cpu_adam/tensors.hpp"
#include "zero3/groups.hpp"

using namespace orlop;
using capi::not_null;

namespace {

constexpr const char* kCall = "update tensors";

// Every processor; null in a child of the process that made them: threads do not cross fork(). They are never ended, since
// other threads may use them while the process exits.
const cpu_adam::Workers* workers_of_process() {
  struct Owned {
    pid_t owner = ::getpid();
    cpu_adam::Workers workers{0};
  };
  static const Owned& owned = *new Owned;
  return owned.owner == ::getpid() ? &owned.workers : nullptr;
}

Result<cpu_adam::ElementType> element_type_of(int32_t dtype) {
  TRY_ASSIGN(const zero3::Dtype known, capi::dtype_of(kCall, dtype));
  switch (known) {
    case zero3::Dtype::bf16: return cpu_adam::ElementType::bf16;
    case zero3::Dtype::f16: return cpu_adam::ElementType::f16;
    default: return cpu_adam::ElementType::f32;
  }
}

Result<> check_state(bool wanted, const char* name, const void* given) {
  if (wanted == (given != nullptr)) return {};
  return fail(ORLOP_INVALID_ARGUMENT, "{}: on {}: the optimizer {}", kCall, name,
              wanted ? "has that state, but the pointer is NULL" : "has no such state; give NULL");
}

Result<cpu_adam::Tensor> tensor_of(const orlop_tensor& given, const kernels::HyperParams& hyper) {
  TRY(not_null(kCall, "a parameter", given.param));
  TRY(not_null(kCall, "a gradient", given.grad));
  TRY(check_state(has_exp_avg(hyper.optimizer), "exp_avg", given.exp_avg));
  TRY(check_state(has_exp_avg_sq(hyper.optimizer), "exp_avg_sq", given.exp_avg_sq));
  if (given.step == 0) return fail(ORLOP_INVALID_ARGUMENT, "{}: on step 0: updates count from 1", kCall);
  TRY_ASSIGN(const auto param_type, element_type_of(given.param_dtype));
  TRY_ASSIGN(const auto grad_type, element_type_of(given.grad_dtype));
  TRY_ASSIGN(const auto state_type, element_type_of(given.state_dtype));
  return cpu_adam::Tensor{given.param, given.grad, given.exp_avg, given.exp_avg_sq, param_type, grad_type, state_type,
                          given.numel, kernels::make_constants(hyper, given.step, 1.0)};
}

Result<kernels::HyperParams> hyper_params_of(const orlop_group_params* group) {
  TRY_ASSIGN(const kernels::HyperParams hyper, capi::hyper_params_of(kCall, group));
  if (hyper.optimizer == kernels::Optimizer::external) {
    return fail(ORLOP_INVALID_ARGUMENT, "{}: on ORLOP_OPTIMIZER_EXTERNAL: the program's own arithmetic is not known here; "
                "give ADAM, ADAGRAD or LION", kCall);
  }
  TRY(zero3::check_hyper_params("the group of tensors", hyper));
  return hyper;
}

}  // namespace

extern "C" orlop_status orlop_tensor_update(const orlop_group_params* group, const orlop_tensor* tensors,
                                            uint64_t count) {
  return capi::guarded([&]() -> Result<> {
    TRY_ASSIGN(const kernels::HyperParams hyper, hyper_params_of(group));
    if (count == 0) return {};
    TRY(not_null(kCall, "the tensors", tensors));
    std::vector<cpu_adam::Tensor> known;
    for (uint64_t i = 0; i < count; ++i) {  // one behind the other, each of the size that the first says
      const auto* const at = reinterpret_cast<const std::byte*>(tensors) + i * tensors->struct_size;
      TRY_ASSIGN(const orlop_tensor given, capi::read_struct(kCall, reinterpret_cast<const orlop_tensor*>(at)));
      TRY_ASSIGN(known.emplace_back(), tensor_of(given, hyper));
    }
    TRY_ASSIGN(const cpu_adam::Isa isa, cpu_adam::select_isa());
    cpu_adam::update_tensors(isa, workers_of_process(), known);
    return {};
  });
}
