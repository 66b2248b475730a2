#include "device/device.hpp"

namespace orlop::device {

Result<> copy_and_wait(Device& device, void* destination, const void* source, std::uint64_t bytes, CopyKind kind,
                       Stream stream) {
  TRY_ASSIGN(const Event done, device.make_event());
  const auto copied = [&]() -> Result<> {
    TRY(device.copy(destination, source, bytes, kind, stream));
    TRY(device.record(done, stream));
    return device.synchronize(done);
  }();
  device.destroy(done);
  return copied;
}

}  // namespace orlop::device
