#include "zero3/unit_flow.hpp"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "base/bytes.hpp"
#include "base/clock.hpp"

namespace orlop::zero3 {
namespace {

constexpr std::size_t kMostBlocksAhead = 256;
constexpr std::uint64_t kTableBytesPerUse = 256;  // of two traces and two plans

UseKind kind_of(Use use) {
  switch (use) {
    case Use::recompute: return UseKind::recompute;
    case Use::backward: return UseKind::backward;
    case Use::forward:
    case Use::evaluation:
    case Use::access: break;
  }
  return UseKind::forward;
}

std::vector<UnitSize> copy_of(std::span<const UnitSize> sizes) { return {sizes.begin(), sizes.end()}; }

}  // namespace

UnitFlow::UnitFlow(const UpdateParts& parts, swap::States& states, LiveUnits& live, const PlanLimits& limits)
    : parts_(parts),
      states_(&states),
      live_(&live),
      limits_(limits),
      training_(copy_of(live.sizes()), limits),
      course_(&training_),
      positions_(live.sizes().size()),
      counts_(live.sizes().size()),
      blocks_(live.sizes().size()),
      returned_ns_(now_ns()) {
  for (std::uint32_t block = 0; block < parts.blocks.size(); ++block) {
    const std::uint32_t unit = parts.blocks[block].unit;
    if (parts.plan.units[unit].home == Home::store) blocks_[live.index_of(unit)].push_back(block);
  }
}

std::uint64_t UnitFlow::table_bytes(std::size_t units) {
  return units == 0 ? 0 : TraceRecorder::most_uses(units) * kTableBytesPerUse;
}

// ---- A use ----

std::vector<std::uint32_t> UnitFlow::make_room(std::uint32_t unit, std::size_t most) {
  const UnitIndex index = live_->index_of(unit);
  const std::uint64_t needed = live_->is_live(index) ? 0 : live_->sizes()[index].elements;
  const std::uint64_t live = live_->elements() + needed;
  if (live <= limits_.max_live_elements) return {};
  std::vector<UnitIndex> idle = live_->idle();
  std::erase(idle, index);
  std::vector<std::uint32_t> evicted;
  for (const UnitIndex victim : course_->victims(live - limits_.max_live_elements, idle)) {
    if (evicted.size() == most) break;
    live_->evict(victim);
    evicted.push_back(live_->unit_of(victim));
  }
  return evicted;
}

Result<bool> UnitFlow::unshard(std::uint32_t unit, Use use, std::byte* destination, device::Stream stream) {
  const UnitIndex index = live_->index_of(unit);
  note(index, use);
  const bool is_hit = live_->begin_use(index, destination);
  ++(is_hit ? counts_[index].hits : counts_[index].fetches);
  ++(is_hit ? total_.hits : total_.fetches);
  if (!is_hit) {
    TRY(fill(unit, destination, stream));
    live_->set_filled(index);
  }
  if (use != Use::access) TRY(read_ahead());
  returned_ns_ = now_ns();
  return is_hit;
}

// What a program looks at or changes outside a pass is nothing to go by.
void UnitFlow::note(UnitIndex index, Use use) {
  positions_[index] = {};
  if (use == Use::access) return;
  course_ = &course_of(use);
  positions_[index] = {course_, course_->use(index, kind_of(use), seconds_computed())};
}

Course& UnitFlow::course_of(Use use) {
  if (use != Use::evaluation) return training_;
  if (!evaluation_) evaluation_.emplace(Course::of_forward_uses(training_));
  return *evaluation_;
}

bool UnitFlow::reshard(std::uint32_t unit, AfterUse after) {
  const UnitIndex index = live_->index_of(unit);
  const auto [course, position] = positions_[index];
  const bool stays = after == AfterUse::as_planned && live_->filled()[index] && course != nullptr &&
                     course->may_stay(index, position, live_->elements());
  if (stays) {
    live_->end_use(index);
  } else {
    live_->evict(index);
  }
  returned_ns_ = now_ns();
  return stays;
}

void UnitFlow::end_pass() {
  if (!training_.end_pass(seconds_computed(), live_->filled(), rates())) return;
  course_ = &training_;  // an evaluation's order is made of the new one
  for (Position& position : positions_) {
    if (position.course != &training_) position = {};
  }
  evaluation_.reset();
}

double UnitFlow::seconds_computed() const { return seconds_of_ns(now_ns() - returned_ns_); }

// As measured so far, reads and writes alike.
DriveRates UnitFlow::rates() const {
  const swap::Traffic traffic = states_->traffic();
  const double seconds = seconds_of_ns(traffic.busy_ns);
  const double rate = seconds > 0 ? static_cast<double>(traffic.read_bytes + traffic.write_bytes) / seconds : 0;
  return {std::max(rate, 1.0), std::max(rate, 1.0)};
}

std::uint64_t UnitFlow::differing() const {
  const auto& by_unit = training_.differing();
  return std::accumulate(by_unit.begin(), by_unit.end(), std::uint64_t{0});
}

// ---- Bytes ----

Result<> UnitFlow::fill(std::uint32_t unit, std::byte* destination, device::Stream stream) {
  const auto upcoming = course_->upcoming(live_->filled());
  const std::span<const std::uint32_t> blocks = blocks_[live_->index_of(unit)];
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    TRY(read_ahead(blocks.subspan(i), upcoming));
    TRY(fetch_block(blocks[i], destination, stream));
  }
  return {};
}

Result<> UnitFlow::read_ahead() { return read_ahead({}, course_->upcoming(live_->filled())); }

// What is left of the unit at hand, then what is expected next.
Result<> UnitFlow::read_ahead(std::span<const std::uint32_t> rest, std::span<const UnitIndex> upcoming) {
  std::vector<swap::Wanted> list;
  const auto add = [&](std::span<const std::uint32_t> blocks) {
    for (const std::uint32_t block : blocks.first(std::min(blocks.size(), kMostBlocksAhead - list.size()))) {
      list.push_back(wanted(block));
    }
  };
  add(rest);
  for (const UnitIndex index : upcoming) add(blocks_[index]);
  return states_->read_ahead(list);
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
  std::int64_t copied_ns = 0;
  const std::int64_t begin_ns = now_ns();
  const auto read = states_->read_plane(wanted(block), [&](const swap::PlaneView& view) {
    const std::int64_t copy_begin_ns = now_ns();
    copy_verified(view, elements, element_bytes, parts_.device.is_host_addressable() ? to : nullptr);
    if (!parts_.device.is_host_addressable()) {
      copied = device::copy_and_wait(parts_.device, to, view.memory, elements * element_bytes,
                                     device::CopyKind::host_to_device, stream);
    }
    copied_ns = now_ns() - copy_begin_ns;
  });
  fetch_time_.copied_ns += copied_ns;
  fetch_time_.waited_ns += now_ns() - begin_ns - copied_ns;
  TRY(read);
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

}  // namespace orlop::zero3
