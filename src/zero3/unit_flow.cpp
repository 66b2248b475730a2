#include "zero3/unit_flow.hpp"

#include <algorithm>
#include <cstring>

#include "base/bytes.hpp"

namespace orlop::zero3 {
namespace {

constexpr std::size_t kMostUnitsAhead = 256;

}  // namespace

UnitFlow::UnitFlow(const UpdateParts& parts, swap::States& states, std::uint64_t ahead_elements)
    : parts_(parts),
      states_(&states),
      ahead_elements_(ahead_elements),
      order_(static_cast<std::uint32_t>(parts.plan.units.size())),
      blocks_(parts.plan.units.size()) {
  for (std::uint32_t block = 0; block < parts.blocks.size(); ++block) {
    const std::uint32_t unit = parts.blocks[block].unit;
    if (parts.plan.units[unit].home == Home::store) blocks_[unit].push_back(block);
  }
}

Result<> UnitFlow::unshard(std::uint32_t unit, void* destination, device::Stream stream) {
  order_.note(unit);
  for (std::span<const std::uint32_t> rest = blocks_[unit]; !rest.empty(); rest = rest.subspan(1)) {
    TRY(read_ahead(rest));
    TRY(fetch_block(rest.front(), static_cast<std::byte*>(destination), stream));
  }
  return read_ahead({});
}

Result<> UnitFlow::begin_step() {
  order_.end_step();
  return read_ahead({});
}

swap::Wanted UnitFlow::wanted(std::uint32_t block) const {
  return {block, param_plane(parts_.plan.units[parts_.blocks[block].unit].dtype)};
}

Result<> UnitFlow::fetch_block(std::uint32_t block, std::byte* destination, device::Stream stream) {
  const Block& place = parts_.blocks[block];
  const Unit& unit = parts_.plan.units[place.unit];
  const auto element_bytes = static_cast<std::uint32_t>(bytes_of(unit.dtype));
  const std::uint64_t elements = std::min(place.range.end, unit.content) - place.range.begin;
  std::byte* const to = destination + place.range.begin * element_bytes;
  Result<> copied;
  TRY(states_->read_plane(wanted(block), [&](const swap::PlaneView& view) {
    copy_verified(view, elements, element_bytes, parts_.device.is_host_addressable() ? to : nullptr);
    if (parts_.device.is_host_addressable()) return;
    copied = device::copy_and_wait(parts_.device, to, view.memory, elements * element_bytes,
                                   device::CopyKind::host_to_device, stream);
  }));
  return copied;
}

// One pass: a chunk is copied and summed while it is in cache. Where the copy is a device's, only summed.
void UnitFlow::copy_verified(const swap::PlaneView& view, std::uint64_t elements, std::uint32_t element_bytes,
                             std::byte* destination) const {
  const std::uint64_t chunk_bytes = swap::kChunkElements * element_bytes;
  const std::uint64_t bytes = elements * element_bytes;
  const std::uint64_t chunks = std::max<std::uint64_t>(divide_up(elements, swap::kChunkElements), view.read.size());
  parts_.workers.parallel_for(chunks, 1, [&](std::size_t begin, std::size_t end) {
    for (std::size_t chunk = begin; chunk < end; ++chunk) {
      const std::uint64_t first = chunk * chunk_bytes;
      if (destination != nullptr && first < bytes) {
        std::memcpy(destination + first, view.memory + first, std::min(chunk_bytes, bytes - first));
      }
      view.sum_chunk(chunk);
    }
  });
}

// What is left of the unit at hand, then what is expected next.
Result<> UnitFlow::read_ahead(std::span<const std::uint32_t> rest) {
  std::vector<swap::Wanted> list;
  for (const std::uint32_t block : rest) list.push_back(wanted(block));
  std::uint64_t elements = 0;
  for (const std::uint32_t unit : order_.upcoming(kMostUnitsAhead)) {
    for (const std::uint32_t block : blocks_[unit]) {
      elements += parts_.blocks[block].range.size();
      if (elements > ahead_elements_) return states_->read_ahead(list);
      list.push_back(wanted(block));
    }
  }
  return states_->read_ahead(list);
}

}  // namespace orlop::zero3
