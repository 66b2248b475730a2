// In the place of cuda_device.cpp in builds without CUDA.
#include "device/device.hpp"

namespace orlop::device {

Result<std::unique_ptr<Device>> make_cuda_device(int index) {
  return fail(ORLOP_UNSUPPORTED,
              "CUDA device {}: this library was built without CUDA; build it with nvcc installed", index);
}

int cuda_device_count() {
  return 0;
}
bool is_built_with_cuda() {
  return false;
}

}  // namespace orlop::device
