// FaultyDevice: any Device, but its k-th allocation or copy fails. For tests of what is above.
#pragma once

#include <atomic>
#include <memory>
#include <utility>

#include "device/device.hpp"

namespace orlop::device {

// Counted from 0; never by default.
struct DeviceFaults {
  std::uint64_t allocation = UINT64_MAX;
  std::uint64_t copy = UINT64_MAX;
};

class FaultyDevice final : public Device {
 public:
  FaultyDevice(std::unique_ptr<Device> inner, DeviceFaults faults)
      : inner_(std::move(inner)), faults_(faults) {}

  Result<Stream> make_stream() override { return inner_->make_stream(); }
  Result<Event> make_event() override { return inner_->make_event(); }
  void destroy(Stream stream) override { inner_->destroy(stream); }
  void destroy(Event event) override { inner_->destroy(event); }
  Result<> record(Event event, Stream stream) override { return inner_->record(event, stream); }
  Result<> wait(Stream stream, Event event) override { return inner_->wait(stream, event); }
  Result<bool> is_done(Event event) override { return inner_->is_done(event); }
  Result<> synchronize(Event event) override { return inner_->synchronize(event); }

  Result<std::byte*> allocate(std::uint64_t bytes) override {
    if (const auto number = allocations_++; number == faults_.allocation) {
      return fail(ORLOP_NO_MEMORY, "device memory: {} B on {}: allocation {} was told to fail", bytes,
                  description(), number);
    }
    return inner_->allocate(bytes);
  }
  void release(std::byte* memory) override { inner_->release(memory); }

  Result<> copy(void* destination, const void* source, std::uint64_t bytes, CopyKind kind,
                Stream stream) override {
    if (const auto number = copies_++; number == faults_.copy) {
      return fail(ORLOP_DEVICE_ERROR, "copy of {} B on {}: copy {} was told to fail", bytes, description(),
                  number);
    }
    return inner_->copy(destination, source, bytes, kind, stream);
  }
  Result<> fill_zero(void* destination, std::uint64_t bytes, Stream stream) override {
    return inner_->fill_zero(destination, bytes, stream);
  }

  Result<> register_host(std::span<std::byte> memory) override { return inner_->register_host(memory); }
  void unregister_host(std::span<std::byte> memory) override { inner_->unregister_host(memory); }
  [[nodiscard]] DeviceKind kind() const override { return inner_->kind(); }
  [[nodiscard]] bool is_host_addressable() const override { return inner_->is_host_addressable(); }
  [[nodiscard]] std::string description() const override { return "faulty " + inner_->description(); }
  [[nodiscard]] std::string pci_address() const override { return inner_->pci_address(); }
  Result<std::uint64_t> free_bytes() override { return inner_->free_bytes(); }

 private:
  std::unique_ptr<Device> inner_;
  DeviceFaults faults_;
  std::atomic<std::uint64_t> allocations_{0};
  std::atomic<std::uint64_t> copies_{0};
};

}  // namespace orlop::device
