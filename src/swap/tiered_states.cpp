#include "swap/tiered_states.hpp"

#include <algorithm>
#include <utility>

#include <nlohmann/json.hpp>

#include "base/clock.hpp"
#include "swap/host_states.hpp"
#include "swap/order.hpp"

namespace orlop::swap {
namespace {

constexpr std::uint32_t kNone = UINT32_MAX;

// A block's numbers among those of each tier; kNone where it has no plane.
struct Place {
  std::uint32_t in_memory = kNone;
  std::uint32_t in_store = kNone;
};

// The blocks of one tier, and whose planes they are.
struct TierBlocks {
  std::vector<BlockSpec> specs;
  std::vector<std::uint32_t> blocks;

  std::uint32_t add(std::uint32_t block, const BlockSpec& spec) {
    if (spec.planes.empty()) return kNone;
    specs.push_back(spec);
    blocks.push_back(block);
    return static_cast<std::uint32_t>(specs.size() - 1);
  }
};

struct Division {
  std::vector<Place> places;  // by block
  TierBlocks memory;
  TierBlocks store;

  // Every block is in the store with all its planes.
  [[nodiscard]] bool is_store_alone() const { return memory.specs.empty() && store.specs.size() == places.size(); }
};

Division divide(std::span<const BlockSpec> blocks, std::span<const PlaneSet> resident) {
  Division division;
  for (std::uint32_t i = 0; i < blocks.size(); ++i) {
    const auto& [elements, planes] = blocks[i];
    division.places.push_back({division.memory.add(i, {elements, planes & resident[i]}),
                               division.store.add(i, {elements, planes - resident[i]})});
  }
  return division;
}

std::uint64_t table_bytes(const Division& division) {
  const std::uint64_t parts = division.memory.blocks.size() + division.store.blocks.size();
  return division.places.size() * (sizeof(Place) + sizeof(BlockSpec)) + divide_up(division.places.size(), 8) +
         parts * (sizeof(std::uint32_t) + sizeof(BlockSpec));
}

class TieredStates final : public States {
 public:
  static Result<std::unique_ptr<States>> create(const numa::Topology& topology, std::span<const BlockSpec> blocks,
                                                Division division, const NvmeOptions& options) {
    std::unique_ptr<TieredStates> states(new TieredStates(blocks, std::move(division)));
    TRY_ASSIGN(states->memory_, make_host_states(topology, states->division_.memory.specs));
    TRY_ASSIGN(states->store_, make_nvme_states(topology, states->division_.store.specs, options));
    return std::unique_ptr<States>(std::move(states));
  }

  Result<> prefetch(std::span<const std::uint32_t> order) override {
    TRY(check_order(order, seen_));
    return store_->prefetch(split(order).in_store);
  }
  Result<SweepReport> sweep(std::span<const std::uint32_t> order, const Visitor& visitor,
                            const std::atomic<bool>& cancel) override;
  Result<> access(std::uint32_t block, Change change,
                  const std::function<Result<>(const BlockMemory&)>& body) override;
  Result<> read_ahead(std::span<const Wanted> wanted) override;
  Result<> read_plane(const Wanted& wanted, const PlaneReader& reader) override;
  BlockMemory resident(std::uint32_t block) const override {
    const std::uint32_t index = division_.places[block].in_memory;
    return index == kNone ? BlockMemory{} : memory_->resident(index);
  }
  Result<> drain(int timeout_ms) override { return store_->drain(timeout_ms); }
  Result<std::optional<StoredStates>> keep(const CheckpointRef& checkpoint,
                                           std::span<const std::string> replaced) override;
  void complete(const std::string& checkpoint_id) override { store_->complete(checkpoint_id); }
  void forget(const std::string& checkpoint_id) override { store_->forget(checkpoint_id); }
  Result<> sync() override { return store_->sync(); }
  TierUse use() const override;
  Traffic traffic() const override { return store_->traffic(); }
  std::vector<DriveUse> by_drive() const override { return store_->by_drive(); }
  std::string describe() const override;

 private:
  struct Parts {
    std::vector<std::uint32_t> in_store;   // numbers of the store's
    std::vector<std::uint32_t> in_memory;  // numbers of blocks with no plane in the store
  };

  TieredStates(std::span<const BlockSpec> blocks, Division division)
      : blocks_(blocks.begin(), blocks.end()), division_(std::move(division)), seen_(blocks.size()) {}

  [[nodiscard]] Parts split(std::span<const std::uint32_t> order) const;
  [[nodiscard]] bool is_resident(const Wanted& wanted) const {
    return resident(wanted.block).planes[static_cast<std::size_t>(wanted.plane)] != nullptr;
  }

  std::vector<BlockSpec> blocks_;
  Division division_;
  std::unique_ptr<States> memory_;
  std::unique_ptr<NvmeTier> store_;
  std::vector<bool> seen_;
};

TieredStates::Parts TieredStates::split(std::span<const std::uint32_t> order) const {
  Parts parts;
  for (const std::uint32_t block : order) {
    const std::uint32_t in_store = division_.places[block].in_store;
    if (in_store == kNone) {
      parts.in_memory.push_back(block);
    } else {
      parts.in_store.push_back(in_store);
    }
  }
  return parts;
}

Result<SweepReport> TieredStates::sweep(std::span<const std::uint32_t> order, const Visitor& visitor,
                                        const std::atomic<bool>& cancel) {
  TRY(check_order(order, seen_));
  const Parts parts = split(order);
  const Visitor visit_stored = [&](const Visit& part) {
    Visit visit = part;
    visit.block = division_.store.blocks[part.block];
    visit.memory = joined(part.memory, resident(visit.block));
    return visitor(visit);
  };
  std::size_t done = 0;
  const SideWork visit_resident = [&]() -> Result<bool> {
    if (done == parts.in_memory.size()) return false;
    const std::uint32_t block = parts.in_memory[done++];
    TRY(visitor({.block = block, .memory = resident(block), .stored = {}, .recorded = {}, .read = {}, .written = {}}));
    return true;
  };
  TRY_ASSIGN(SweepReport report, store_->sweep_beside(parts.in_store, visit_stored, visit_resident, cancel));
  const std::int64_t begin_ns = now_ns();
  for (bool has_worked = true; has_worked;) {
    if (cancel) return fail(ORLOP_CANCELLED, "sweep: cancelled before the last {} blocks", parts.in_memory.size() - done);
    TRY_ASSIGN(has_worked, visit_resident());
  }
  report.work_ns += now_ns() - begin_ns;
  return report;
}

Result<> TieredStates::access(std::uint32_t block, Change change,
                              const std::function<Result<>(const BlockMemory&)>& body) {
  TRY(check_block(block, blocks_.size()));
  const std::uint32_t in_store = division_.places[block].in_store;
  if (in_store == kNone) return body(resident(block));
  return store_->access(in_store, change,
                        [&](const BlockMemory& memory) { return body(joined(memory, resident(block))); });
}

Result<> TieredStates::read_ahead(std::span<const Wanted> wanted) {
  std::vector<Wanted> in_store;
  for (const Wanted& one : wanted) {
    if (!is_resident(one)) in_store.push_back({division_.places[one.block].in_store, one.plane});
  }
  return store_->read_ahead(in_store);
}

Result<> TieredStates::read_plane(const Wanted& wanted, const PlaneReader& reader) {
  TRY(check_block(wanted.block, blocks_.size()));
  const Place& place = division_.places[wanted.block];
  if (is_resident(wanted)) return memory_->read_plane({place.in_memory, wanted.plane}, reader);
  return store_->read_plane({place.in_store, wanted.plane}, reader);
}

Result<std::optional<StoredStates>> TieredStates::keep(const CheckpointRef& checkpoint,
                                                       std::span<const std::string> replaced) {
  TRY_ASSIGN(auto of_store, store_->keep(checkpoint, replaced));
  if (!of_store) return std::nullopt;
  StoredStates kept = std::move(*of_store);
  StoredStates all;
  all.stores = std::move(kept.stores);
  all.manifest_links = std::move(kept.manifest_links);
  auto sums = kept.sums.cbegin();
  for (std::size_t i = 0; i < blocks_.size(); ++i) {
    const std::uint32_t in_store = division_.places[i].in_store;
    const auto chunks = static_cast<std::ptrdiff_t>(chunk_count(blocks_[i]));
    if (in_store == kNone) {
      all.blocks.emplace_back();
      all.sums.resize(all.sums.size() + static_cast<std::size_t>(chunks));
    } else {
      all.blocks.push_back(std::move(kept.blocks[in_store]));
      all.sums.insert(all.sums.end(), sums, sums + chunks);
      sums += chunks;
    }
  }
  return std::optional(std::move(all));
}

TierUse TieredStates::use() const {
  TierUse use = store_->use();
  use.host_bytes += memory_->use().host_bytes + table_bytes(division_);
  return use;
}

std::string TieredStates::describe() const {
  auto text = nlohmann::json::parse(store_->describe());
  text["blocks"] = blocks_.size();
  text["resident_bytes"] = memory_->use().host_bytes;
  text["host_bytes"] = use().host_bytes;
  return text.dump();
}

}  // namespace

TierUse tiered_states_use(std::span<const BlockSpec> blocks, std::span<const PlaneSet> resident, unsigned slab_count,
                          unsigned plane_slab_count, std::size_t drive_count) {
  const Division division = divide(blocks, resident);
  if (division.store.specs.empty()) return {.host_bytes = host_states_bytes(blocks)};
  TierUse use = nvme_states_use(division.store.specs, slab_count, plane_slab_count, drive_count);
  if (!division.is_store_alone()) use.host_bytes += host_states_bytes(division.memory.specs) + table_bytes(division);
  return use;
}

Result<std::unique_ptr<States>> make_tiered_states(const numa::Topology& topology, std::span<const BlockSpec> blocks,
                                                   std::span<const PlaneSet> resident, const NvmeOptions& options) {
  Division division = divide(blocks, resident);
  if (division.store.specs.empty()) return make_host_states(topology, {blocks.begin(), blocks.end()});
  if (division.is_store_alone()) return make_nvme_states(topology, std::move(division.store.specs), options);
  return TieredStates::create(topology, blocks, std::move(division), options);
}

}  // namespace orlop::swap
