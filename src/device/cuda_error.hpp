// CUDA results as ours.
#pragma once

#include <utility>

#include <cuda_runtime_api.h>

#include "base/result.hpp"

namespace orlop::device {

orlop_status status_of_cuda(cudaError_t error);
std::string describe_cuda(cudaError_t error);  // "invalid argument (cudaErrorInvalidValue)"

// The error that `format` is about, with what CUDA says at its end. The runtime's own record of the last
// error is cleared, so that it does not surface in somebody else's check.
template <typename... Args>
tl::unexpected<Error> fail_cuda(cudaError_t error, fmt::format_string<Args...> format, Args&&... args) {
  (void)cudaGetLastError();
  return fail(status_of_cuda(error), "{}: {}", fmt::format(format, std::forward<Args>(args)...),
              describe_cuda(error));
}

}  // namespace orlop::device
