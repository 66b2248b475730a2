#include "zero3/update.hpp"

#include <algorithm>
#include <numeric>
#include <utility>

#include "base/bytes.hpp"

namespace orlop::zero3 {
namespace {

using swap::kChunkElements;
using swap::Plane;

// The unit's group ranges that lie in a block, shifted to start at the block's first element.
std::vector<GroupRange> ranges_within(const std::vector<GroupRange>& of_unit, Range block) {
  std::vector<GroupRange> ranges;
  for (const auto& [range, group] : of_unit) {
    const Range part = intersect(range, block);
    if (!part.empty()) ranges.push_back({{part.begin - block.begin, part.end - block.begin}, group});
  }
  return ranges;
}

Range chunk_range(std::uint64_t chunk, std::uint64_t block_elements) {
  return {chunk * kChunkElements, std::min((chunk + 1) * kChunkElements, block_elements)};
}

// Chunks that a worker takes at a time: 256 Ki elements.
constexpr std::size_t kTaskChunks = 16;

swap::ChunkSums to_swap(const cpu_adam::ChunkSums& sums) {
  return {sums.lo, sums.master, sums.exp_avg, sums.exp_avg_sq};
}

// The fp32 master takes the value of its fp16 parameter.
void adopt_master(cpu_adam::Isa isa, const cpu_adam::AdamSpan& span) {
  cpu_adam::grad_intake(isa, cpu_adam::Intake::store, cpu_adam::GradType::f32, span.master, cpu_adam::GradType::f16,
                        span.param, span.count, nullptr);
}

}  // namespace

Update::Update(const UpdateParts& parts) : parts_(parts), order_(parts.blocks.size()) {
  std::iota(order_.begin(), order_.end(), 0u);
  std::vector<GroupRange> of_unit;
  for (std::size_t block = 0; block < parts.blocks.size(); ++block) {
    const std::uint32_t unit = parts.blocks[block].unit;
    if (block == 0 || unit != parts.blocks[block - 1].unit) of_unit = group_ranges(parts.plan, unit, parts.params);
    groups_.push_back(ranges_within(of_unit, parts.blocks[block].range));
    adopted_.push_back(parts.plan.units[unit].dtype != Dtype::f16);
  }
}

Result<Update> Update::create(const UpdateParts& parts) {
  Update update(parts);
  if (!parts.device.is_host_addressable()) {
    TRY_ASSIGN(update.stream_, parts.device.make_stream());
    TRY_ASSIGN(update.copied_, parts.device.make_event());
  }
  return update;
}

Update::Update(Update&& other) noexcept
    : parts_(other.parts_),
      order_(std::move(other.order_)),
      groups_(std::move(other.groups_)),
      adopted_(std::move(other.adopted_)),
      is_pristine_(other.is_pristine_),
      stream_(std::exchange(other.stream_, {})),
      copied_(std::exchange(other.copied_, {})) {}

Update::~Update() {
  if (copied_.handle != nullptr) parts_.device.destroy(copied_);
  if (stream_.handle != nullptr) parts_.device.destroy(stream_);
}

Result<swap::SweepReport> Update::run(swap::States& states, std::span<const kernels::AdamConstants> constants,
                                      const std::atomic<bool>& cancel) {
  mark_modified();
  TRY_ASSIGN(const swap::SweepReport report,
             states.sweep(order_, [&](const swap::Visit& v) { return visit(v, constants); }, cancel));
  if (!parts_.device.is_host_addressable()) {
    TRY(parts_.device.record(copied_, stream_));
    TRY(parts_.device.synchronize(copied_));
  }
  return report;
}

Result<> Update::visit(const swap::Visit& visit, std::span<const kernels::AdamConstants> constants) {
  if (parts_.arithmetic == Arithmetic::left_out) return {};
  const std::uint64_t elements = parts_.blocks[visit.block].range.size();
  parts_.workers.parallel_for(divide_up(elements, kChunkElements), kTaskChunks, [&](auto begin, auto end) {
    for (std::size_t chunk = begin; chunk < end; ++chunk) update_chunk(visit, chunk, constants);
  });
  adopted_[visit.block] = true;
  return copy_out(visit.block);
}

void Update::update_chunk(const swap::Visit& visit, std::uint64_t chunk,
                          std::span<const kernels::AdamConstants> constants) const {
  const Block& block = parts_.blocks[visit.block];
  const Unit& unit = parts_.plan.units[block.unit];
  const Range range = chunk_range(chunk, block.range.size());
  const cpu_adam::AdamSpan span = span_of(visit.block, visit.memory, range);

  static thread_local std::vector<cpu_adam::AdamStretch> stretches;
  stretches.clear();
  for (const auto& [group_range, group] : groups_[visit.block]) {
    const Range part = intersect(group_range, range);
    if (!part.empty()) stretches.push_back({part.size(), &constants[static_cast<std::size_t>(group)]});
  }

  const auto master = master_of(unit.dtype);
  const auto grad = grad_type_of(parts_.buffers.grad_dtype(block.unit));
  if (!visit.recorded.empty()) {
    visit.read[chunk] = to_swap(cpu_adam::chunk_sums(parts_.isa, span));
    if (visit.read[chunk] != visit.recorded[chunk]) return;
  }
  if (!adopted_[visit.block]) adopt_master(parts_.isa, span);
  cpu_adam::ChunkSums written;
  cpu_adam::adam_chunk(parts_.isa, master, grad, span, stretches, nullptr, visit.recorded.empty() ? nullptr : &written);
  if (!visit.recorded.empty()) visit.written[chunk] = to_swap(written);
}

cpu_adam::AdamSpan Update::span_of(std::uint32_t index, const swap::BlockMemory& memory, Range chunk) const {
  const Block& block = parts_.blocks[index];
  const Dtype dtype = parts_.plan.units[block.unit].dtype;
  const Dtype grad_dtype = parts_.buffers.grad_dtype(block.unit);
  const std::uint64_t in_unit = block.range.begin + chunk.begin;
  const auto at = [&]<typename T>(T* plane) { return plane == nullptr ? nullptr : plane + chunk.begin; };
  return {
      .param = parts_.buffers.host_params(block.unit) + in_unit * bytes_of(dtype),
      .lo = at(memory.as<std::int16_t>(Plane::lo)),
      .master = at(memory.as<float>(Plane::master)),
      .exp_avg = at(memory.as<float>(Plane::exp_avg)),
      .exp_avg_sq = at(memory.as<float>(Plane::exp_avg_sq)),
      .grad = parts_.buffers.grads(block.unit) + in_unit * bytes_of(grad_dtype),
      .count = static_cast<std::size_t>(chunk.size()),
  };
}

void Update::adopt(std::uint32_t block, const swap::BlockMemory& memory) {
  if (adopted_[block]) return;
  adopt_master(parts_.isa, span_of(block, memory, {0, parts_.blocks[block].range.size()}));
  adopted_[block] = true;
}

// The updated parameters of a block, on their way to a device that does not share the host's memory.
Result<> Update::copy_out(std::uint32_t index) {
  if (parts_.device.is_host_addressable()) return {};
  const Block& block = parts_.blocks[index];
  const std::uint64_t element = bytes_of(parts_.plan.units[block.unit].dtype);
  const std::uint64_t offset = block.range.begin * element;
  return parts_.device.copy(parts_.buffers.device_params(block.unit) + offset,
                            parts_.buffers.host_params(block.unit) + offset, block.range.size() * element,
                            device::CopyKind::host_to_device, stream_);
}

}  // namespace orlop::zero3
