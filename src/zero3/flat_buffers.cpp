#include "zero3/flat_buffers.hpp"

#include <utility>

#include "base/bytes.hpp"
#include "base/log.hpp"

namespace orlop::zero3 {
namespace {

// Every unit's buffer starts on a page of its own: enough for any vector, DMA and GPU alignment.
constexpr std::uint64_t kBufferAlignment = 4096;

std::uint64_t elements_of(const Unit& unit) { return align_up(unit.content, kShardGrain); }

Dtype grad_dtype_of(const Unit& unit, Accumulation accumulation) {
  return accumulation == Accumulation::single ? unit.dtype : Dtype::f32;
}

std::uint64_t param_bytes(const Unit& unit) {
  if (unit.home == Home::store) return 0;
  return align_up(elements_of(unit) * bytes_of(unit.dtype), kBufferAlignment);
}

std::uint64_t grad_bytes(const Unit& unit, Accumulation accumulation) {
  if (unit.training == Training::frozen) return 0;
  return align_up(elements_of(unit) * bytes_of(grad_dtype_of(unit, accumulation)), kBufferAlignment);
}

}  // namespace

FlatBytes FlatBuffers::bytes_needed(const UnitPlan& plan, Accumulation accumulation, bool device_is_host) {
  FlatBytes needed;
  for (const Unit& unit : plan.units) {
    needed.host += param_bytes(unit) + grad_bytes(unit, accumulation);
    if (!device_is_host) needed.device += param_bytes(unit);
  }
  return needed;
}

FlatBuffers::FlatBuffers(device::Device& device, numa::Arena arena) : device_(&device), arena_(std::move(arena)) {}

FlatBuffers::FlatBuffers(FlatBuffers&& other) noexcept
    : device_(other.device_),
      arena_(std::move(other.arena_)),
      device_memory_(std::exchange(other.device_memory_, nullptr)),
      device_params_(std::move(other.device_params_)),
      host_params_(std::move(other.host_params_)),
      grads_(std::move(other.grads_)),
      grad_dtypes_(std::move(other.grad_dtypes_)) {}

FlatBuffers::~FlatBuffers() {
  if (device_memory_ == nullptr) return;
  device_->unregister_host(arena_.memory());
  device_->release(device_memory_);
}

Result<FlatBuffers> FlatBuffers::create(const numa::Topology& topology, device::Device& device,
                                        const UnitPlan& plan, Accumulation accumulation) {
  const FlatBytes needed = bytes_needed(plan, accumulation, device.is_host_addressable());
  // A data loader's worker that was forked may look at the model: parameters are there for it to read.
  const numa::ArenaOptions options{.children = numa::Children::inherit};
  TRY_ASSIGN(numa::Arena arena, numa::Arena::create(topology, needed.host, options));
  FlatBuffers buffers(device, std::move(arena));
  if (needed.device != 0) {
    TRY_ASSIGN(buffers.device_memory_, device.allocate(needed.device));
    if (const auto registered = device.register_host(buffers.arena_.memory()); !registered) {
      log_warning("{}; copies between host and device will be slower", registered.error().message);
    }
  }
  std::byte* device_cursor = buffers.device_memory_;
  for (const Unit& unit : plan.units) {
    TRY_ASSIGN(const auto params, buffers.arena_.take(param_bytes(unit), kBufferAlignment));
    TRY_ASSIGN(const auto grads, buffers.arena_.take(grad_bytes(unit, accumulation), kBufferAlignment));
    const bool is_here = unit.home == Home::memory;
    buffers.host_params_.push_back(is_here ? params.data() : nullptr);
    buffers.device_params_.push_back(!is_here ? nullptr : needed.device != 0 ? device_cursor : params.data());
    buffers.grads_.push_back(unit.training == Training::frozen ? nullptr : grads.data());
    buffers.grad_dtypes_.push_back(grad_dtype_of(unit, accumulation));
    if (needed.device != 0) device_cursor += param_bytes(unit);
  }
  if (needed.device != 0) {
    TRY(device.fill_zero(buffers.device_memory_, needed.device, device::Stream{}));
  }
  return buffers;
}

}  // namespace orlop::zero3
