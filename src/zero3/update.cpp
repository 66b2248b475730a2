#include "zero3/update.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/bytes.hpp"
#include "swap/sums.hpp"

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

// The fp32 master takes the value of its fp16 parameter.
void adopt_master(cpu_adam::Isa isa, const cpu_adam::PlaneSpan& span) {
  cpu_adam::grad_intake(isa, cpu_adam::Intake::store, cpu_adam::GradType::f32, span.master, cpu_adam::GradType::f16,
                        span.param, span.count, nullptr);
}

// One chunk and what is to be done with it.
struct ChunkWork {
  cpu_adam::Isa isa;
  Dtype dtype;
  cpu_adam::GradType grad;
  swap::PlaneSet stored;  // what came from the store and goes back to it
  cpu_adam::PlaneSpan span;
  std::span<const cpu_adam::Stretch> stretches;

  [[nodiscard]] bool is_param_stored() const { return stored.contains(param_plane(dtype)); }
};

void run_update(const ChunkWork& work, const cpu_adam::PlaneSpan& span, cpu_adam::ChunkSums* read,
              cpu_adam::ChunkSums* written) {
  cpu_adam::update_chunk(work.isa, master_of(work.dtype), work.grad, span, work.stretches, read, written);
}

// Of parameters that came from the store, in cache now: the sum costs no pass over memory.
std::uint64_t param_sum(const ChunkWork& work) {
  if (!work.is_param_stored()) return 0;
  return swap::sum_of({static_cast<const std::byte*>(work.span.param), work.span.count * bytes_of(work.dtype)});
}

swap::ChunkSums sums_of(const ChunkWork& work, const cpu_adam::ChunkSums& states, std::uint64_t params) {
  swap::ChunkSums sums = {states.lo, states.master, states.exp_avg, states.exp_avg_sq, 0};
  if (work.is_param_stored()) sums[static_cast<std::size_t>(param_plane(work.dtype))] = params;
  for (const auto plane : swap::kPlanes) {
    if (!work.stored.contains(plane)) sums[static_cast<std::size_t>(plane)] = 0;
  }
  return sums;
}

// What is in the store's memory may be computed with before it is known to be sound: of a block that is not, nothing is
// written back. States that stay in memory beside such parameters are spared what is not sound.
void update_stored(const ChunkWork& work, const swap::ChunkSums& recorded, swap::ChunkSums& read,
                   swap::ChunkSums& written) {
  const std::uint64_t params = param_sum(work);
  if (params != recorded[static_cast<std::size_t>(param_plane(work.dtype))]) {
    read = sums_of(work, cpu_adam::chunk_sums(work.isa, work.span), params);
    return;
  }
  cpu_adam::ChunkSums found;
  cpu_adam::ChunkSums made;
  run_update(work, work.span, &found, &made);
  read = sums_of(work, found, params);
  written = sums_of(work, made, param_sum(work));
}

// States are summed in the pass that computes with them, so whether they were sound is known only afterwards: parameters
// are updated in a copy that stays in cache, and take its values only if they were.
void update_verified(const ChunkWork& work, const swap::ChunkSums& recorded, swap::ChunkSums& read,
                     swap::ChunkSums& written) {
  static thread_local std::vector<std::byte> params;
  params.resize(work.span.count * bytes_of(work.dtype));
  std::memcpy(params.data(), work.span.param, params.size());
  cpu_adam::PlaneSpan trial = work.span;
  trial.param = params.data();
  cpu_adam::ChunkSums found;
  cpu_adam::ChunkSums made;
  run_update(work, trial, &found, &made);
  read = sums_of(work, found, 0);
  if (read != recorded) return;
  written = sums_of(work, made, 0);
  std::memcpy(work.span.param, params.data(), params.size());
}

// The first update of an fp16 parameter: the master that was read is checked, then replaced by the parameter's value.
void adopt_verified(const ChunkWork& work, const swap::ChunkSums& recorded, swap::ChunkSums& read,
                    swap::ChunkSums& written) {
  read = sums_of(work, cpu_adam::chunk_sums(work.isa, work.span), param_sum(work));
  if (read != recorded) return;
  adopt_master(work.isa, work.span);
  cpu_adam::ChunkSums made;
  run_update(work, work.span, nullptr, &made);
  written = sums_of(work, made, param_sum(work));
}

}  // namespace

std::byte* params_of(const UpdateParts& parts, std::uint32_t block, const swap::BlockMemory& memory) {
  const Block& place = parts.blocks[block];
  const Unit& unit = parts.plan.units[place.unit];
  if (unit.home == Home::store) return memory.as<std::byte>(param_plane(unit.dtype));
  return parts.buffers.host_params(place.unit) + place.range.begin * bytes_of(unit.dtype);
}

Update::Update(const UpdateParts& parts) : parts_(parts) {
  std::vector<GroupRange> of_unit;
  for (std::size_t block = 0; block < parts.blocks.size(); ++block) {
    const std::uint32_t unit = parts.blocks[block].unit;
    if (block == 0 || unit != parts.blocks[block - 1].unit) of_unit = group_ranges(parts.plan, unit, parts.params);
    groups_.push_back(ranges_within(of_unit, parts.blocks[block].range));
    const bool is_trained = parts.plan.units[unit].training == Training::trainable;
    if (is_trained) order_.push_back(static_cast<std::uint32_t>(block));
    adopted_.push_back(!is_trained || parts.plan.units[unit].dtype != Dtype::f16);
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

Result<swap::SweepReport> Update::run(swap::States& states, std::span<const kernels::StepConstants> constants,
                                      const std::function<void(std::uint32_t block)>& before,
                                      const std::atomic<bool>& cancel) {
  mark_modified();
  const auto visitor = [&](const swap::Visit& v) {
    if (before) before(v.block);
    return visit(v, constants);
  };
  TRY_ASSIGN(const swap::SweepReport report, states.sweep(order_, visitor, cancel));
  if (!parts_.device.is_host_addressable()) {
    TRY(parts_.device.record(copied_, stream_));
    TRY(parts_.device.synchronize(copied_));
  }
  return report;
}

Result<> Update::visit(const swap::Visit& visit, std::span<const kernels::StepConstants> constants) {
  if (parts_.arithmetic == Arithmetic::left_out) return {};
  const std::uint64_t elements = parts_.blocks[visit.block].range.size();
  parts_.workers.parallel_for(divide_up(elements, kChunkElements), kTaskChunks, [&](auto begin, auto end) {
    for (std::size_t chunk = begin; chunk < end; ++chunk) update_chunk(visit, chunk, constants);
  });
  adopted_[visit.block] = true;
  return copy_out(visit);
}

void Update::update_chunk(const swap::Visit& visit, std::uint64_t chunk,
                          std::span<const kernels::StepConstants> constants) const {
  const Block& block = parts_.blocks[visit.block];
  const Unit& unit = parts_.plan.units[block.unit];
  const Range range = chunk_range(chunk, block.range.size());
  static thread_local std::vector<cpu_adam::Stretch> stretches;
  find_stretches(visit.block, range, constants, stretches);
  const ChunkWork work{parts_.isa, unit.dtype, grad_type_of(parts_.buffers.grad_dtype(block.unit)),
                       visit.stored, span_of(visit.block, visit.memory, range), stretches};
  const bool is_adopted = adopted_[visit.block];
  if (visit.recorded.empty()) {
    if (!is_adopted) adopt_master(parts_.isa, work.span);
    run_update(work, work.span, nullptr, nullptr);
  } else if (is_adopted && work.is_param_stored()) {
    update_stored(work, visit.recorded[chunk], visit.read[chunk], visit.written[chunk]);
  } else if (is_adopted) {
    update_verified(work, visit.recorded[chunk], visit.read[chunk], visit.written[chunk]);
  } else {
    adopt_verified(work, visit.recorded[chunk], visit.read[chunk], visit.written[chunk]);
  }
  const bool is_sound = visit.recorded.empty() || visit.read[chunk] == visit.recorded[chunk];
  if (unit.home == Home::store && is_sound) renew(visit, range);
}

// A unit of the store that is in memory has its new values there, too, as the chunk is still in cache.
void Update::renew(const swap::Visit& visit, Range chunk) const {
  const Block& block = parts_.blocks[visit.block];
  const Unit& unit = parts_.plan.units[block.unit];
  std::byte* const values = parts_.live.values_of(block.unit);
  const Range in_unit = intersect({block.range.begin + chunk.begin, block.range.begin + chunk.end}, {0, unit.content});
  if (values == nullptr || in_unit.empty() || !parts_.device.is_host_addressable()) return;
  const std::uint64_t element = bytes_of(unit.dtype);
  std::memcpy(values + in_unit.begin * element,
              params_of(parts_, visit.block, visit.memory) + chunk.begin * element, in_unit.size() * element);
}

void Update::find_stretches(std::uint32_t block, Range chunk, std::span<const kernels::StepConstants> constants,
                            std::vector<cpu_adam::Stretch>& stretches) const {
  stretches.clear();
  for (const auto& [range, group] : groups_[block]) {
    const Range part = intersect(range, chunk);
    if (!part.empty()) stretches.push_back({part.size(), &constants[static_cast<std::size_t>(group)]});
  }
}

cpu_adam::PlaneSpan Update::span_of(std::uint32_t index, const swap::BlockMemory& memory, Range chunk) const {
  const Block& block = parts_.blocks[index];
  const Dtype dtype = parts_.plan.units[block.unit].dtype;
  const Dtype grad_dtype = parts_.buffers.grad_dtype(block.unit);
  const std::uint64_t in_unit = block.range.begin + chunk.begin;
  const auto at = [&]<typename T>(T* plane) { return plane == nullptr ? nullptr : plane + chunk.begin; };
  return {
      .param = params_of(parts_, index, memory) + chunk.begin * bytes_of(dtype),
      .lo = at(memory.as<std::int16_t>(Plane::lo)),
      .master = dtype == Dtype::f32 ? nullptr : at(memory.as<float>(Plane::master)),
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

// The updated parameters of a block, on their way to a device that does not share the host's memory. What the store lends
// is waited for.
Result<> Update::copy_out(const swap::Visit& visit) {
  if (parts_.device.is_host_addressable()) return {};
  const Block& block = parts_.blocks[visit.block];
  const Unit& unit = parts_.plan.units[block.unit];
  const bool is_stored = unit.home == Home::store;
  std::byte* const to = is_stored ? parts_.live.values_of(block.unit) : parts_.buffers.device_params(block.unit);
  const bool is_sound = !is_stored || std::ranges::equal(visit.read, visit.recorded);
  if (to == nullptr || !is_sound) return {};
  const std::uint64_t element = bytes_of(unit.dtype);
  const Range part = is_stored ? intersect(block.range, {0, unit.content}) : block.range;
  TRY(parts_.device.copy(to + part.begin * element, params_of(parts_, visit.block, visit.memory), part.size() * element,
                         device::CopyKind::host_to_device, stream_));
  if (!is_stored) return {};
  TRY(parts_.device.record(copied_, stream_));
  return parts_.device.synchronize(copied_);
}

}  // namespace orlop::zero3
