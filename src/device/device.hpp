// Device: where parameters are computed with. Streams, events, memory and copies behind one interface, so
// that everything above runs without a GPU.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "base/result.hpp"

namespace orlop::device {

enum class DeviceKind : std::uint8_t { host, cuda };
enum class CopyKind : std::uint8_t { host_to_device, device_to_host, device_to_device };

// A queue of work that runs in order. Opaque to everything above; a runtime's own stream (cudaStream_t) can
// be lent. The host device does its work at once, in the call: its streams and events are always done.
struct Stream {
  void* handle = nullptr;
};

// A point in a stream's work; waiting for it orders later work behind it. Done until it is first recorded.
struct Event {
  void* handle = nullptr;
};

// Calls may come from any thread and leave the thread's current CUDA device as it was. Two threads may use
// different streams at once, one stream from one thread at a time.
class Device {
 public:
  virtual ~Device() = default;

  virtual Result<Stream> make_stream() = 0;
  virtual Result<Event> make_event() = 0;
  // Work that is under way is finished first. Null handles are ignored.
  virtual void destroy(Stream stream) = 0;
  virtual void destroy(Event event) = 0;

  virtual Result<> record(Event event, Stream stream) = 0;
  virtual Result<> wait(Stream stream, Event event) = 0;  // later work of `stream` waits
  virtual Result<bool> is_done(Event event) = 0;
  virtual Result<> synchronize(Event event) = 0;  // the calling thread waits

  // Device memory, at least 256-byte aligned; null for 0 bytes. The host device gives ordinary aligned
  // memory. ORLOP_NO_MEMORY with the numbers.
  virtual Result<std::byte*> allocate(std::uint64_t bytes) = 0;
  virtual void release(std::byte* memory) = 0;

  // Asynchronous in `stream`'s order; host memory should be registered for it to overlap. The ranges do not
  // overlap.
  virtual Result<> copy(void* destination, const void* source, std::uint64_t bytes, CopyKind kind,
                        Stream stream) = 0;
  virtual Result<> fill_zero(void* destination, std::uint64_t bytes, Stream stream) = 0;

  // Page-locks host memory so that copies run at the link's speed; refused: ORLOP_UNSUPPORTED, copies still
  // work.
  virtual Result<> register_host(std::span<std::byte> memory) = 0;
  virtual void unregister_host(std::span<std::byte> memory) = 0;

  [[nodiscard]] virtual DeviceKind kind() const = 0;
  // True where the CPU can read and write device memory in place (the host device): no copy is ever needed.
  [[nodiscard]] virtual bool is_host_addressable() const = 0;
  [[nodiscard]] virtual std::string description() const = 0;
  // "0000:3b:00.0", for numa::Topology::node_of_pci; empty for the host device.
  [[nodiscard]] virtual std::string pci_address() const = 0;
  // Of the device's own memory. ORLOP_UNSUPPORTED on the host device: its memory is the host's
  // (numa::host_memory).
  virtual Result<std::uint64_t> free_bytes() = 0;
};

// A copy in `stream`'s order that has ended when this returns.
Result<> copy_and_wait(Device& device, void* destination, const void* source, std::uint64_t bytes, CopyKind kind,
                       Stream stream);

Result<std::unique_ptr<Device>> make_host_device();
// ORLOP_UNSUPPORTED when built without CUDA or no driver or device is there; ORLOP_NOT_FOUND when the index
// is not one of cuda_device_count().
Result<std::unique_ptr<Device>> make_cuda_device(int index);
int cuda_device_count();  // 0 without a driver or in a build without CUDA
bool is_built_with_cuda();

}  // namespace orlop::device
