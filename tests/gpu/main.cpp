// The gpu suite needs a GPU: without one it is skipped, which is not the same as passing.
#include <cstdio>

#include <gtest/gtest.h>

#include "device/device.hpp"

int main(int argc, char** argv) {
  constexpr int kSkipped = 77;  // as meson reads exit statuses
  testing::InitGoogleTest(&argc, argv);
  if (orlop::device::cuda_device_count() == 0) {
    const auto device = orlop::device::make_cuda_device(0);
    std::printf("skipped: %s\n", device ? "no CUDA device is counted" : device.error().message.c_str());
    return kSkipped;
  }
  return RUN_ALL_TESTS();
}
