// FlatBuffers: the memory of units: parameters on the device, their host image where the device is elsewhere, and
// gradients on the host. Units that live in the store have gradients only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "device/device.hpp"
#include "numa/arena.hpp"
#include "zero3/unit.hpp"

namespace orlop::zero3 {

enum class Accumulation : std::uint8_t {
  single,  // one micro-batch: gradients keep the parameter's dtype
  several  // gradients are summed in fp32
};

struct FlatBytes {
  std::uint64_t host = 0;
  std::uint64_t device = 0;
};

class FlatBuffers {
 public:
  // What create() takes, by the same arithmetic. On the host device gradients take their memory as they come, so that a
  // model that moves in, and is there twice for a while, has it meanwhile.
  static FlatBytes bytes_needed(const UnitPlan& plan, Accumulation accumulation, bool device_is_host);

  static Result<FlatBuffers> create(const numa::Topology& topology, device::Device& device, const UnitPlan& plan,
                                    Accumulation accumulation);

  FlatBuffers(FlatBuffers&&) noexcept;
  FlatBuffers& operator=(FlatBuffers&&) = delete;
  ~FlatBuffers();

  // Parameters where the model computes with them. Null, as below, for units that live in the store.
  [[nodiscard]] std::byte* device_params(std::uint32_t unit) const { return device_params_[unit]; }
  // Parameters where the host updates them: the same memory on the host device, an image of it elsewhere.
  [[nodiscard]] std::byte* host_params(std::uint32_t unit) const { return host_params_[unit]; }
  // Null for frozen units.
  [[nodiscard]] std::byte* grads(std::uint32_t unit) const { return grads_[unit]; }
  [[nodiscard]] Dtype grad_dtype(std::uint32_t unit) const { return grad_dtypes_[unit]; }

 private:
  FlatBuffers(device::Device& device, numa::Arena params, numa::Arena grads);
  void register_with_device();

  device::Device* device_;
  numa::Arena param_arena_;
  numa::Arena grad_arena_;
  std::byte* device_memory_ = nullptr;  // owned, where the device is not the host
  std::vector<std::byte*> device_params_;
  std::vector<std::byte*> host_params_;
  std::vector<std::byte*> grads_;
  std::vector<Dtype> grad_dtypes_;
};

}  // namespace orlop::zero3
