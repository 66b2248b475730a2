#include "faulty_device.hpp"

#include "device_contract.hpp"

namespace orlop::device {
namespace {

Result<std::unique_ptr<Device>> make_faulty(DeviceFaults faults) {
  TRY_ASSIGN(auto inner, make_host_device());
  return std::make_unique<FaultyDevice>(std::move(inner), faults);
}

}  // namespace

INSTANTIATE_TEST_SUITE_P(Faulty, DeviceContract,
                         testing::Values(DeviceCase{"never_failing", [] { return make_faulty({}); }}),
                         name_of_case);

TEST(FaultyDevice, FailsTheAllocationItWasToldAndNoOther) {
  const auto device = make_faulty({.allocation = 1}).value();
  for (int i = 0; i < 4; ++i) {
    const auto memory = device->allocate(16);
    EXPECT_EQ(memory.has_value(), i != 1) << i;
    if (memory) {
      device->release(*memory);
    } else {
      EXPECT_EQ(memory.error().status, ORLOP_NO_MEMORY);
    }
  }
}

TEST(FaultyDevice, FailsTheCopyItWasToldAndCopiesNothing) {
  const auto device = make_faulty({.copy = 2}).value();
  for (int i = 0; i < 4; ++i) {
    int to = 0;
    const int from = 42;
    const auto copied = device->copy(&to, &from, sizeof to, CopyKind::host_to_device, Stream{});
    EXPECT_EQ(copied.has_value(), i != 2) << i;
    EXPECT_EQ(to, i != 2 ? 42 : 0);
    if (!copied) {
      EXPECT_EQ(copied.error().status, ORLOP_DEVICE_ERROR);
    }
  }
}

}  // namespace orlop::device
