// What must hold on every machine, with a GPU or without, in every build. tests/gpu has the rest.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "device/device.hpp"

namespace orlop::device {
namespace {

using testing::AnyOf;
using testing::HasSubstr;

TEST(CudaDevice, AreCountedWithoutADriver) {
  EXPECT_GE(cuda_device_count(), 0);
  if (!is_built_with_cuda()) {
    EXPECT_EQ(cuda_device_count(), 0);
  }
}

TEST(CudaDevice, ThatIsNotThereIsRefusedWithItsNumberAndTheReason) {
  const auto device = make_cuda_device(cuda_device_count());
  ASSERT_FALSE(device);
  EXPECT_EQ(device.error().status, cuda_device_count() == 0 ? ORLOP_UNSUPPORTED : ORLOP_NOT_FOUND);
  EXPECT_THAT(device.error().message, HasSubstr("CUDA"));
  EXPECT_THAT(device.error().message, AnyOf(HasSubstr("driver"), HasSubstr("device"), HasSubstr("nvcc")));
  EXPECT_FALSE(make_cuda_device(-1));
}

TEST(CudaDevice, OpensExactlyTheDevicesThatAreCounted) {
  for (int index = 0; index < cuda_device_count(); ++index) {
    const auto device = make_cuda_device(index);
    ASSERT_TRUE(device) << device.error().message;
    EXPECT_EQ((*device)->kind(), DeviceKind::cuda);
  }
}

}  // namespace
}  // namespace orlop::device
