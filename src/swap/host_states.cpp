#include "swap/host_states.hpp"

#include <optional>
#include <utility>

#include <nlohmann/json.hpp>

#include "base/clock.hpp"
#include "swap/order.hpp"

namespace orlop::swap {
namespace {

constexpr std::uint64_t kNoDrive = 1;  // no drive asks for alignment

// Each block has a layout of its own, so that blocks of different sizes take no more than they fill.
MemoryLayout layout_of(const BlockSpec& block) { return {{&block, 1}, kNoDrive}; }

std::uint64_t planes_bytes(std::span<const BlockSpec> blocks) {
  std::uint64_t bytes = 0;
  for (const auto& block : blocks) bytes += layout_of(block).bytes();
  return bytes;
}

class HostStates final : public States {
 public:
  static Result<std::unique_ptr<States>> create(const numa::Topology& topology, std::vector<BlockSpec> blocks) {
    TRY(check_blocks(blocks));
    const std::uint64_t bytes = planes_bytes(blocks);
    std::unique_ptr<HostStates> states(new HostStates(topology, host_states_bytes(blocks), blocks.size()));
    if (bytes == 0) {  // no optimizer has a state of these parameters
      states->blocks_.resize(blocks.size());
      return states;
    }
    TRY_ASSIGN(states->arena_, numa::Arena::create(topology, bytes, {.populate = numa::Populate::on_touch}));
    for (const auto& block : blocks) {
      const auto layout = layout_of(block);
      TRY_ASSIGN(const auto memory, states->arena_->take(layout.bytes(), kPlaneAlignment));
      states->blocks_.push_back(layout.at(memory.data(), block.planes));
    }
    return states;
  }

  Result<> prefetch(std::span<const std::uint32_t> order) override { return check_order(order, seen_); }

  Result<SweepReport> sweep(std::span<const std::uint32_t> order, const Visitor& visitor,
                            const std::atomic<bool>& cancel) override {
    TRY(check_order(order, seen_));
    TRY(populate());
    SweepReport report;
    const std::int64_t begin = now_ns();
    for (const auto block : order) {
      if (cancel.load(std::memory_order_relaxed)) {
        return fail(ORLOP_CANCELLED, "sweep: cancelled before block {}", block);
      }
      TRY(visitor(Visit{.block = block, .memory = blocks_[block], .stored = {}, .recorded = {}, .read = {}, .written = {}}));
    }
    report.work_ns = now_ns() - begin;
    return report;
  }

  Result<> access(std::uint32_t block, Change change,
                  const std::function<Result<>(const BlockMemory&)>& body) override {
    TRY(check_block(block, blocks_.size()));
    if (change == Change::modified) TRY(populate());
    return body(blocks_[block]);
  }

  Result<> read_ahead(std::span<const Wanted>) override { return {}; }
  Result<> read_plane(const Wanted& wanted, const PlaneReader& reader) override {
    TRY(check_block(wanted.block, blocks_.size()));
    reader({blocks_[wanted.block].as<const std::byte>(wanted.plane), 0, {}, 0});
    return {};
  }
  BlockMemory resident(std::uint32_t block) const override { return blocks_[block]; }
  Result<> drain(int) override { return {}; }
  Result<std::optional<StoredStates>> keep(const CheckpointRef&, std::span<const std::string>) override {
    return std::nullopt;
  }
  void complete(const std::string&) override {}
  void forget(const std::string&) override {}
  Result<> sync() override { return {}; }
  TierUse use() const override { return {.host_bytes = bytes_}; }
  Traffic traffic() const override { return {}; }
  std::vector<DriveUse> by_drive() const override { return {}; }
  std::string describe() const override {
    return nlohmann::json{{"tier", "host"}, {"blocks", blocks_.size()}, {"host_bytes", bytes_}}.dump();
  }

 private:
  HostStates(const numa::Topology& topology, std::uint64_t bytes, std::size_t block_count)
      : topology_(topology), bytes_(bytes), seen_(block_count) {
    blocks_.reserve(block_count);
  }

  // Not before states are written: while a model moves into the engine, its parameters are there twice.
  Result<> populate() {
    if (is_populated_ || !arena_) return {};
    is_populated_ = true;
    return arena_->populate(topology_);
  }

  const numa::Topology& topology_;
  std::uint64_t bytes_;
  std::optional<numa::Arena> arena_;
  bool is_populated_ = false;
  std::vector<BlockMemory> blocks_;
  std::vector<bool> seen_;
};

}  // namespace

std::uint64_t host_states_bytes(std::span<const BlockSpec> blocks) {
  return planes_bytes(blocks) + blocks.size() * sizeof(BlockMemory) + divide_up(blocks.size(), 8);
}

Result<std::unique_ptr<States>> make_host_states(const numa::Topology& topology, std::vector<BlockSpec> blocks) {
  return HostStates::create(topology, std::move(blocks));
}

}  // namespace orlop::swap
