// Update: the optimizer over every block, wherever its states live.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "cpu_adam/adam.hpp"
#include "device/device.hpp"
#include "swap/states.hpp"
#include "zero3/blocks.hpp"
#include "zero3/flat_buffers.hpp"
#include "zero3/live_units.hpp"

namespace orlop::zero3 {

// For benchmarks: the same pipeline with nothing to do in its middle.
enum class Arithmetic : std::uint8_t { applied, left_out };

struct UpdateParts {
  const UnitPlan& plan;
  std::span<const Block> blocks;
  std::span<const ParamSpec> params;
  const FlatBuffers& buffers;
  const LiveUnits& live;
  const cpu_adam::Workers& workers;
  device::Device& device;
  cpu_adam::Isa isa;
  kernels::Optimizer optimizer;
  Arithmetic arithmetic;
};

// Where a block's parameters are while it is loaded: in its memory, or in the flat buffers.
std::byte* params_of(const UpdateParts& parts, std::uint32_t block, const swap::BlockMemory& memory);

class Update {
 public:
  static Result<Update> create(const UpdateParts& parts);
  Update(Update&& other) noexcept;
  Update& operator=(Update&&) = delete;
  ~Update();

  // The order in which a sweep visits the blocks; the same every step, so that the next one's reads can start early.
  [[nodiscard]] std::span<const std::uint32_t> order() const { return order_; }

  // Updates every block in place: states through `states`, parameters in the flat buffers, on the device, and where
  // units of the store are in memory.
  // `constants` by group number. `before` (may be empty) is called before a block is changed.
  Result<swap::SweepReport> run(swap::States& states, std::span<const kernels::StepConstants> constants,
                                const std::function<void(std::uint32_t block)>& before,
                                const std::atomic<bool>& cancel);

  // fp16 only: a block's fp32 master is zero until its first use, when it takes the parameter's values. True once that
  // has happened (always, for other dtypes).
  [[nodiscard]] bool is_adopted(std::uint32_t block) const { return adopted_[block]; }
  void adopt(std::uint32_t block, const swap::BlockMemory& memory);

  // True until the first sweep or adoption: every state is still zero.
  [[nodiscard]] bool is_pristine() const { return is_pristine_; }
  void mark_modified() { is_pristine_ = false; }

 private:
  explicit Update(const UpdateParts& parts);
  Result<> visit(const swap::Visit& visit, std::span<const kernels::StepConstants> constants);
  void update_chunk(const swap::Visit& visit, std::uint64_t chunk,
                    std::span<const kernels::StepConstants> constants) const;
  void find_stretches(std::uint32_t block, Range chunk, std::span<const kernels::StepConstants> constants,
                      std::vector<cpu_adam::Stretch>& stretches) const;
  [[nodiscard]] cpu_adam::PlaneSpan span_of(std::uint32_t block, const swap::BlockMemory& memory, Range chunk) const;
  void renew(const swap::Visit& visit, Range chunk) const;
  Result<> copy_out(const swap::Visit& visit);

  UpdateParts parts_;
  std::vector<std::uint32_t> order_;
  std::vector<std::vector<GroupRange>> groups_;  // by block, in block coordinates
  std::vector<bool> adopted_;
  bool is_pristine_ = true;
  device::Stream stream_;  // of copies to a device that is not the host
  device::Event copied_;
};

}  // namespace orlop::zero3
