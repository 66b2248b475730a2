#include <cctype>
#include <utility>

#include <cuda_runtime_api.h>

#include "base/bytes.hpp"
#include "base/log.hpp"
#include "device/cuda_context.hpp"
#include "device/cuda_error.hpp"
#include "device/device.hpp"

namespace orlop::device {
namespace {

cudaStream_t stream_of(Stream stream) {
  return static_cast<cudaStream_t>(stream.handle);
}
cudaEvent_t event_of(Event event) {
  return static_cast<cudaEvent_t>(event.handle);
}

cudaMemcpyKind memcpy_kind(CopyKind kind) {
  switch (kind) {
    case CopyKind::host_to_device:
      return cudaMemcpyHostToDevice;
    case CopyKind::device_to_host:
      return cudaMemcpyDeviceToHost;
    case CopyKind::device_to_device:
      return cudaMemcpyDeviceToDevice;
  }
  return cudaMemcpyDefault;
}

const char* name_of(CopyKind kind) {
  switch (kind) {
    case CopyKind::host_to_device:
      return "host to device";
    case CopyKind::device_to_host:
      return "device to host";
    case CopyKind::device_to_device:
      return "device to device";
  }
  return "?";
}

class CudaDevice final : public Device {
 public:
  CudaDevice(int index, CudaContext context, std::string name, std::string pci_address)
      : index_(index),
        context_(std::move(context)),
        name_(fmt::format("CUDA device {} ({})", index, name)),
        pci_address_(std::move(pci_address)) {}

  Result<Stream> make_stream() override;
  Result<Event> make_event() override;
  void destroy(Stream stream) override;
  void destroy(Event event) override;
  Result<> record(Event event, Stream stream) override;
  Result<> wait(Stream stream, Event event) override;
  Result<bool> is_done(Event event) override;
  Result<> synchronize(Event event) override;
  Result<std::byte*> allocate(std::uint64_t bytes) override;
  void release(std::byte* memory) override;
  Result<> copy(void* destination, const void* source, std::uint64_t bytes, CopyKind kind,
                Stream stream) override;
  Result<> fill_zero(void* destination, std::uint64_t bytes, Stream stream) override;
  Result<> register_host(std::span<std::byte> memory) override;
  void unregister_host(std::span<std::byte> memory) override;
  Result<std::uint64_t> free_bytes() override;

  [[nodiscard]] DeviceKind kind() const override { return DeviceKind::cuda; }
  [[nodiscard]] bool is_host_addressable() const override { return false; }
  [[nodiscard]] std::string description() const override { return name_; }
  [[nodiscard]] std::string pci_address() const override { return pci_address_; }

 private:
  // Runs `call` with our context current; errors become "CUDA device 0 (name): what: why".
  template <typename Call>
  Result<> on_device(std::string_view what, Call call) const {
    TRY_ASSIGN(const auto scope, context_.enter());
    if (const cudaError_t error = call(); error != cudaSuccess)
      return fail_cuda(error, "{}: {}", name_, what);
    return {};
  }

  // For calls that cannot report: destructors wait, log and go on.
  template <typename Call>
  void on_device_logged(std::string_view what, Call call) const {
    if (const auto done = on_device(what, call); !done) log_error("{}", done.error().message);
  }

  int index_;
  CudaContext context_;
  std::string name_;
  std::string pci_address_;
};

// Non-blocking: a runtime that uses the default stream does not serialise us with it.
Result<Stream> CudaDevice::make_stream() {
  cudaStream_t stream = nullptr;
  TRY(on_device("make stream", [&] { return cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking); }));
  return Stream{stream};
}

Result<Event> CudaDevice::make_event() {
  cudaEvent_t event = nullptr;
  TRY(on_device("make event", [&] { return cudaEventCreateWithFlags(&event, cudaEventDisableTiming); }));
  return Event{event};
}

void CudaDevice::destroy(Stream stream) {
  if (stream.handle == nullptr) return;
  on_device_logged("destroy stream: waiting for its work",
                   [&] { return cudaStreamSynchronize(stream_of(stream)); });
  on_device_logged("destroy stream", [&] { return cudaStreamDestroy(stream_of(stream)); });
}

void CudaDevice::destroy(Event event) {
  if (event.handle == nullptr) return;
  on_device_logged("destroy event: waiting for it", [&] { return cudaEventSynchronize(event_of(event)); });
  on_device_logged("destroy event", [&] { return cudaEventDestroy(event_of(event)); });
}

Result<> CudaDevice::record(Event event, Stream stream) {
  return on_device("record event", [&] { return cudaEventRecord(event_of(event), stream_of(stream)); });
}

Result<> CudaDevice::wait(Stream stream, Event event) {
  return on_device("wait for event",
                   [&] { return cudaStreamWaitEvent(stream_of(stream), event_of(event), 0); });
}

Result<bool> CudaDevice::is_done(Event event) {
  bool is_done = true;
  TRY(on_device("query event", [&] {
    const cudaError_t error = cudaEventQuery(event_of(event));
    if (error != cudaErrorNotReady) return error;
    is_done = false;
    return cudaSuccess;
  }));
  return is_done;
}

Result<> CudaDevice::synchronize(Event event) {
  return on_device("synchronize with event", [&] { return cudaEventSynchronize(event_of(event)); });
}

// cudaMalloc aligns to 256 bytes at least.
Result<std::byte*> CudaDevice::allocate(std::uint64_t bytes) {
  if (bytes == 0) return nullptr;
  void* memory = nullptr;
  std::size_t free = 0;
  std::size_t total = 0;
  TRY(on_device("memory", [&] { return cudaMemGetInfo(&free, &total); }));
  if (const auto done = on_device("memory", [&] { return cudaMalloc(&memory, bytes); }); !done) {
    return fail(done.error().status, "{} ({} B): {} ({} B) of {} are free: {}", format_bytes(bytes), bytes,
                format_bytes(free), free, format_bytes(total), done.error().message);
  }
  return static_cast<std::byte*>(memory);
}

void CudaDevice::release(std::byte* memory) {
  if (memory == nullptr) return;
  on_device_logged("release memory", [&] { return cudaFree(memory); });
}

Result<> CudaDevice::copy(void* destination, const void* source, std::uint64_t bytes, CopyKind kind,
                          Stream stream) {
  if (bytes == 0) return {};
  return on_device(fmt::format("copy of {} B {}", bytes, name_of(kind)), [&] {
    return cudaMemcpyAsync(destination, source, bytes, memcpy_kind(kind), stream_of(stream));
  });
}

Result<> CudaDevice::fill_zero(void* destination, std::uint64_t bytes, Stream stream) {
  if (bytes == 0) return {};
  return on_device(fmt::format("fill of {} B", bytes),
                   [&] { return cudaMemsetAsync(destination, 0, bytes, stream_of(stream)); });
}

// One registration for the whole range: a copy that crosses from one registration into the next is an error.
Result<> CudaDevice::register_host(std::span<std::byte> memory) {
  if (memory.empty()) return {};
  const auto done =
      on_device(fmt::format("page-locking {} of host memory", format_bytes(memory.size())),
                [&] { return cudaHostRegister(memory.data(), memory.size(), cudaHostRegisterPortable); });
  if (done) return {};
  return fail(ORLOP_UNSUPPORTED, "{}; copies go through the driver's own buffers, slower and without overlap",
              done.error().message);
}

void CudaDevice::unregister_host(std::span<std::byte> memory) {
  if (memory.empty()) return;
  on_device_logged("unlocking host memory", [&] { return cudaHostUnregister(memory.data()); });
}

Result<std::uint64_t> CudaDevice::free_bytes() {
  std::size_t free = 0;
  std::size_t total = 0;
  TRY(on_device("memory", [&] { return cudaMemGetInfo(&free, &total); }));
  return free;
}

Result<int> count_devices() {
  int count = 0;
  if (const cudaError_t error = cudaGetDeviceCount(&count); error != cudaSuccess) {
    return fail_cuda(error, "CUDA: no device can be used");
  }
  return count;
}

// As sysfs writes it, in lower case.
Result<std::string> read_pci_address(int index) {
  char text[32] = {};
  if (const cudaError_t error = cudaDeviceGetPCIBusId(text, sizeof text, index); error != cudaSuccess) {
    return fail_cuda(error, "CUDA device {}: its PCI address", index);
  }
  std::string address(text);
  for (char& c : address) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return address;
}

}  // namespace

Result<std::unique_ptr<Device>> make_cuda_device(int index) {
  TRY_ASSIGN(const int count, count_devices());
  if (count == 0) return fail(ORLOP_UNSUPPORTED, "CUDA device {}: this machine has none", index);
  if (index < 0 || index >= count) {
    return fail(ORLOP_NOT_FOUND, "CUDA device {}: this process sees {} (see CUDA_VISIBLE_DEVICES)", index,
                count);
  }
  cudaDeviceProp properties{};
  if (const cudaError_t error = cudaGetDeviceProperties(&properties, index); error != cudaSuccess) {
    return fail_cuda(error, "CUDA device {}: its properties", index);
  }
  TRY_ASSIGN(std::string pci_address, read_pci_address(index));
  TRY_ASSIGN(CudaContext context, CudaContext::open(index));
  std::string name = fmt::format("{}, {}, compute {}.{}", properties.name,
                                 format_bytes(properties.totalGlobalMem), properties.major, properties.minor);
  return std::make_unique<CudaDevice>(index, std::move(context), std::move(name), std::move(pci_address));
}

int cuda_device_count() {
  const auto count = count_devices();
  if (!count) log_debug("{}", count.error().message);
  return count.value_or(0);
}

bool is_built_with_cuda() {
  return true;
}

}  // namespace orlop::device
