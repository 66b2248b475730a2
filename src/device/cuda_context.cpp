#include "device/cuda_context.hpp"

#include <utility>

#include "base/log.hpp"
#include "device/cuda_error.hpp"

namespace orlop::device {
namespace {

template <typename Function>
Result<Function> find_driver_function(const char* name) {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found{};
#if CUDART_VERSION >= 12050
  constexpr unsigned kVersion = 4000;  // as CUDA 4.0 has it
  const cudaError_t error =
      cudaGetDriverEntryPointByVersion(name, &function, kVersion, cudaEnableDefault, &found);
#else
  const cudaError_t error = cudaGetDriverEntryPoint(name, &function, cudaEnableDefault, &found);
#endif
  if (error != cudaSuccess) return fail_cuda(error, "CUDA driver: {}", name);
  if (found != cudaDriverEntryPointSuccess || function == nullptr) {
    return fail(ORLOP_UNSUPPORTED, "CUDA driver: {}: this driver does not have it", name);
  }
  return reinterpret_cast<Function>(function);
}

}  // namespace

Result<CudaContext> CudaContext::open(int index) {
  TRY_ASSIGN(const Get get, find_driver_function<Get>("cuCtxGetCurrent"));
  TRY_ASSIGN(const Set set, find_driver_function<Set>("cuCtxSetCurrent"));
  CUcontext before = nullptr;
  if (const CUresult result = get(&before); result != CUDA_SUCCESS && result != CUDA_ERROR_NOT_INITIALIZED) {
    return fail(ORLOP_DEVICE_ERROR, "CUDA device {}: cuCtxGetCurrent: CUresult {}", index,
                static_cast<int>(result));
  }
  cudaError_t error = cudaSetDevice(index);
  if (error == cudaSuccess) error = cudaFree(nullptr);  // older runtimes open the context only now
  CUcontext handle = nullptr;
  const CUresult got = error == cudaSuccess ? get(&handle) : CUDA_SUCCESS;
  const CUresult put_back = set(before);
  if (error != cudaSuccess) return fail_cuda(error, "CUDA device {}: opening its context", index);
  if (got != CUDA_SUCCESS || put_back != CUDA_SUCCESS || handle == nullptr) {
    return fail(ORLOP_DEVICE_ERROR, "CUDA device {}: its context: CUresult {} and {}", index,
                static_cast<int>(got), static_cast<int>(put_back));
  }
  return CudaContext(index, handle, get, set);
}

Result<CudaContext::Scope> CudaContext::enter() const {
  CUcontext before = nullptr;
  CUresult result = get_(&before);
  if (result == CUDA_SUCCESS && before != handle_) result = set_(handle_);
  if (result != CUDA_SUCCESS) {
    return fail(ORLOP_DEVICE_ERROR, "CUDA device {}: making it current: CUresult {}", index_,
                static_cast<int>(result));
  }
  return Scope(*this, before);
}

CudaContext::Scope::Scope(Scope&& other) noexcept
    : context_(std::exchange(other.context_, nullptr)), before_(other.before_) {}

CudaContext::Scope::~Scope() {
  if (context_ == nullptr || before_ == context_->handle_) return;
  if (const CUresult result = context_->set_(before_); result != CUDA_SUCCESS) {
    log_error("CUDA device {}: leaving it: CUresult {}", context_->index_, static_cast<int>(result));
  }
}

}  // namespace orlop::device
