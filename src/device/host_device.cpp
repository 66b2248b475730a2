#include <cstdlib>
#include <cstring>
#include <unistd.h>

#include "base/bytes.hpp"
#include "device/device.hpp"

namespace orlop::device {
namespace {

constexpr std::uint64_t kAlignment = 256;

std::uint64_t physical_bytes() {
  const long pages = ::sysconf(_SC_PHYS_PAGES);
  const long page_bytes = ::sysconf(_SC_PAGESIZE);
  if (pages < 0 || page_bytes < 0) return UINT64_MAX / 2;  // unknown: the allocator decides
  return static_cast<std::uint64_t>(pages) * static_cast<std::uint64_t>(page_bytes);
}

// The CPU as a device: every call is done when it returns.
class HostDevice final : public Device {
 public:
  Result<Stream> make_stream() override { return Stream{}; }
  Result<Event> make_event() override { return Event{}; }
  void destroy(Stream) override {}
  void destroy(Event) override {}

  Result<> record(Event, Stream) override { return {}; }
  Result<> wait(Stream, Event) override { return {}; }
  Result<bool> is_done(Event) override { return true; }
  Result<> synchronize(Event) override { return {}; }

  Result<std::byte*> allocate(std::uint64_t bytes) override {
    if (bytes == 0) return nullptr;
    // Where memory is overcommitted the allocator promises more than there is.
    void* const memory =
        bytes <= physical_bytes() ? std::aligned_alloc(kAlignment, align_up(bytes, kAlignment)) : nullptr;
    if (memory == nullptr) {
      return fail(
          ORLOP_NO_MEMORY, "device memory: {} ({} B) on {}: not there; this machine has {} ({} B) in all",
          format_bytes(bytes), bytes, description(), format_bytes(physical_bytes()), physical_bytes());
    }
    return static_cast<std::byte*>(memory);
  }
  void release(std::byte* memory) override { std::free(memory); }

  Result<> copy(void* destination, const void* source, std::uint64_t bytes, CopyKind, Stream) override {
    if (bytes != 0) std::memcpy(destination, source, bytes);
    return {};
  }
  Result<> fill_zero(void* destination, std::uint64_t bytes, Stream) override {
    if (bytes != 0) std::memset(destination, 0, bytes);
    return {};
  }

  Result<> register_host(std::span<std::byte>) override { return {}; }  // there is no link to lock pages for
  void unregister_host(std::span<std::byte>) override {}

  [[nodiscard]] DeviceKind kind() const override { return DeviceKind::host; }
  [[nodiscard]] bool is_host_addressable() const override { return true; }
  [[nodiscard]] std::string description() const override { return "host"; }
  [[nodiscard]] std::string pci_address() const override { return {}; }
  Result<std::uint64_t> free_bytes() override {
    return fail(ORLOP_UNSUPPORTED, "device memory: host: it has none of its own; its memory is the host's");
  }
};

}  // namespace

Result<std::unique_ptr<Device>> make_host_device() {
  return std::make_unique<HostDevice>();
}

}  // namespace orlop::device
