#include "device/cuda_error.hpp"

namespace orlop::device {

orlop_status status_of_cuda(cudaError_t error) {
  switch (error) {
    case cudaErrorMemoryAllocation:
      return ORLOP_NO_MEMORY;
    case cudaErrorNoDevice:
    case cudaErrorInsufficientDriver:
    case cudaErrorStubLibrary:
    case cudaErrorNotSupported:
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorSystemDriverMismatch:
      return ORLOP_UNSUPPORTED;
    case cudaErrorInvalidDevice:
      return ORLOP_NOT_FOUND;
    default:
      return ORLOP_DEVICE_ERROR;
  }
}

std::string describe_cuda(cudaError_t error) {
  return fmt::format("{} ({})", cudaGetErrorString(error), cudaGetErrorName(error));
}

}  // namespace orlop::device
