#include "device_contract.hpp"

namespace orlop::device {

INSTANTIATE_TEST_SUITE_P(Host, DeviceContract, testing::Values(DeviceCase{"host", make_host_device}),
                         name_of_case);

TEST(HostDevice, IsPlainMemory) {
  const auto device = make_host_device().value();
  EXPECT_TRUE(device->is_host_addressable());
  std::byte* const memory = device->allocate(100).value();
  memory[99] = std::byte{1};
  device->release(memory);
}

}  // namespace orlop::device
