// Device: where parameters are computed with. Streams, events, memory and copies behind one interface, so that
// everything above runs without a GPU.
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

// A queue of work that runs in order. Opaque to everything above; a runtime's own stream (cudaStream_t) can be lent.
struct Stream {
  void* handle = nullptr;
};

// A point in a stream's work; waiting for it orders later work behind it.
struct Event {
  void* handle = nullptr;
};

class Device {
 public:
  virtual ~Device() = default;

  virtual Result<Stream> make_stream() = 0;
  virtual Result<Event> make_event() = 0;
  virtual void destroy(Stream stream) = 0;
  virtual void destroy(Event event) = 0;

  virtual Result<> record(Event event, Stream stream) = 0;
  virtual Result<> wait(Stream stream, Event event) = 0;  // later work of `stream` waits
  virtual Result<bool> is_done(Event event) = 0;
  virtual Result<> synchronize(Event event) = 0;  // the calling thread waits

  // Device memory, at least 256-byte aligned. The host device gives ordinary aligned memory.
  virtual Result<std::byte*> allocate(std::uint64_t bytes) = 0;
  virtual void release(std::byte* memory) = 0;

  // Asynchronous in `stream`'s order; host memory should be registered for it to overlap.
  virtual Result<> copy(void* destination, const void* source, std::uint64_t bytes, CopyKind kind, Stream stream) = 0;
  virtual Result<> fill_zero(void* destination, std::uint64_t bytes, Stream stream) = 0;

  // Page-locks host memory so that copies run at the link's speed; refused: ORLOP_UNSUPPORTED, copies still work.
  virtual Result<> register_host(std::span<std::byte> memory) = 0;
  virtual void unregister_host(std::span<std::byte> memory) = 0;

  [[nodiscard]] virtual DeviceKind kind() const = 0;
  // True where the CPU can read and write device memory in place (the host device): no copy is ever needed.
  [[nodiscard]] virtual bool is_host_addressable() const = 0;
  [[nodiscard]] virtual std::string description() const = 0;
  virtual Result<std::uint64_t> free_bytes() = 0;
};

Result<std::unique_ptr<Device>> make_host_device();
// ORLOP_UNSUPPORTED when built without CUDA or no driver is there; ORLOP_NOT_FOUND when the index is too high.
Result<std::unique_ptr<Device>> make_cuda_device(int index);
int cuda_device_count();  // 0 without a driver or in a build without CUDA

}  // namespace orlop::device
