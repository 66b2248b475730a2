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

std::uint64_t all_grad_bytes(const UnitPlan& plan, Accumulation accumulation) {
  std::uint64_t bytes = 0;
  for (const Unit& unit : plan.units) bytes += grad_bytes(unit, accumulation);
  return bytes;
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

FlatBuffers::FlatBuffers(device::Device& device, numa::Arena params, numa::Arena grads)
    : device_(&device), param_arena_(std::move(params)), grad_arena_(std::move(grads)) {}

FlatBuffers::FlatBuffers(FlatBuffers&& other) noexcept
    : device_(other.device_),
      param_arena_(std::move(other.param_arena_)),
      grad_arena_(std::move(other.grad_arena_)),
      device_memory_(std::exchange(other.device_memory_, nullptr)),
      device_params_(std::move(other.device_params_)),
      host_params_(std::move(other.host_params_)),
      grads_(std::move(other.grads_)),
      grad_dtypes_(std::move(other.grad_dtypes_)) {}

FlatBuffers::~FlatBuffers() {
  if (device_memory_ == nullptr) return;
  device_->unregister_host(param_arena_.memory());
  device_->unregister_host(grad_arena_.memory());
  device_->release(device_memory_);
}

void FlatBuffers::register_with_device() {
  for (const numa::Arena* arena : {&param_arena_, &grad_arena_}) {
    if (arena->memory().empty()) continue;
    const auto registered = device_->register_host(arena->memory());
    if (!registered) log_warning("{}; copies between host and device will be slower", registered.error().message);
  }
}

Result<FlatBuffers> FlatBuffers::create(const numa::Topology& topology, device::Device& device,
                                        const UnitPlan& plan, Accumulation accumulation) {
  const FlatBytes needed = bytes_needed(plan, accumulation, device.is_host_addressable());
  const std::uint64_t gradients = all_grad_bytes(plan, accumulation);
  // A data loader's worker that was forked may look at the model: parameters are there for it to read.
  TRY_ASSIGN(numa::Arena param_arena,
             numa::Arena::create(topology, needed.host - gradients, {.children = numa::Children::inherit}));
  const auto populate = needed.device == 0 ? numa::Populate::on_touch : numa::Populate::now;
  TRY_ASSIGN(numa::Arena grad_arena, numa::Arena::create(topology, gradients, {.populate = populate}));
  FlatBuffers buffers(device, std::move(param_arena), std::move(grad_arena));
  if (needed.device != 0) {
    TRY_ASSIGN(buffers.device_memory_, device.allocate(needed.device));
    buffers.register_with_device();
  }
  std::byte* device_cursor = buffers.device_memory_;
  for (const Unit& unit : plan.units) {
    TRY_ASSIGN(const auto params, buffers.param_arena_.take(param_bytes(unit), kBufferAlignment));
    TRY_ASSIGN(const auto grads, buffers.grad_arena_.take(grad_bytes(unit, accumulation), kBufferAlignment));
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
