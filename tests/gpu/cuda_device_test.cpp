#include <cuda_runtime_api.h>

#include "../device/device_contract.hpp"
#include "../device/faulty_device.hpp"

namespace orlop::device {
namespace {

Result<std::unique_ptr<Device>> make_first() {
  return make_cuda_device(0);
}

Result<std::unique_ptr<Device>> make_faulty() {
  TRY_ASSIGN(auto inner, make_cuda_device(0));
  return std::make_unique<FaultyDevice>(std::move(inner), DeviceFaults{});
}

}  // namespace

INSTANTIATE_TEST_SUITE_P(Cuda, DeviceContract,
                         testing::Values(DeviceCase{"cuda", make_first},
                                         DeviceCase{"faulty_cuda", make_faulty}),
                         name_of_case);

TEST(CudaDevice, LeavesTheThreadsCurrentDeviceAsItWas) {
  const auto device = make_cuda_device(cuda_device_count() - 1).value();
  std::thread([&] {
    int before = -1;
    ASSERT_EQ(cudaGetDevice(&before), cudaSuccess);
    device->release(device->allocate(4096).value());
    int after = -2;
    ASSERT_EQ(cudaGetDevice(&after), cudaSuccess);
    EXPECT_EQ(after, before);
  }).join();
}

TEST(CudaDevice, MemoryThatIsTakenIsNoLongerFree) {
  constexpr std::uint64_t kBytes = 64_MiB;
  const auto device = make_cuda_device(0).value();
  const std::uint64_t before = device->free_bytes().value();
  std::byte* const memory = device->allocate(kBytes).value();
  EXPECT_LE(device->free_bytes().value(), before - kBytes);
  device->release(memory);
  EXPECT_EQ(device->free_bytes().value(), before);
}

TEST(CudaDevice, HostMemoryIsRegisteredOnceAtATime) {
  const auto device = make_cuda_device(0).value();
  std::vector<std::byte> host(1_MiB);
  ASSERT_TRUE(device->register_host(host));
  EXPECT_EQ(device->register_host(host).error().status, ORLOP_UNSUPPORTED);
  device->unregister_host(host);
  EXPECT_TRUE(device->register_host(host));
  device->unregister_host(host);
}

TEST(CudaDevice, AStreamOfTheRuntimesOwnCanBeLent) {
  const auto device = make_cuda_device(0).value();
  cudaStream_t lent = nullptr;
  ASSERT_EQ(cudaStreamCreate(&lent), cudaSuccess);
  const auto bytes = pattern(4096, 1);
  std::vector<std::byte> seen(4096);
  std::byte* const memory = device->allocate(4096).value();
  EXPECT_TRUE(device->copy(memory, bytes.data(), 4096, CopyKind::host_to_device, Stream{lent}));
  EXPECT_TRUE(device->copy(seen.data(), memory, 4096, CopyKind::device_to_host, Stream{lent}));
  ASSERT_EQ(cudaStreamSynchronize(lent), cudaSuccess);
  EXPECT_EQ(seen, bytes);
  device->release(memory);
  EXPECT_EQ(cudaStreamDestroy(lent), cudaSuccess);
}

}  // namespace orlop::device
