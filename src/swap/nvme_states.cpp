#include "swap/nvme_states.hpp"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <cstring>
#include <filesystem>
#include <utility>

#include <nlohmann/json.hpp>

#include "base/clock.hpp"
#include "base/log.hpp"
#include "numa/arena.hpp"
#include "swap/drive_settings.hpp"
#include "swap/first_write.hpp"
#include "swap/kept_blocks.hpp"
#include "swap/mover.hpp"
#include "swap/order.hpp"
#include "swap/pipeline.hpp"
#include "swap/plane_reads.hpp"
#include "swap/run_directory.hpp"
#include "swap/slab.hpp"
#include "swap/store.hpp"

namespace orlop::swap {
namespace {

unsigned effective_slabs(unsigned slab_count) { return slab_count == 0 ? kDefaultSlabs : slab_count; }

std::uint64_t slab_bytes(std::span<const BlockSpec> blocks) { return MemoryLayout(blocks, kPlaneAlignment).bytes(); }

// The largest of the parameters that live with their states.
std::uint64_t plane_slab_bytes(std::span<const BlockSpec> blocks) {
  std::uint64_t largest = 0;
  for (const auto& block : blocks) {
    const Plane plane = block.planes.contains(Plane::param) ? Plane::param : Plane::master;
    largest = std::max(largest, extent_layout(block).bytes[static_cast<std::size_t>(plane)]);
  }
  return align_up(largest, kPlaneAlignment);
}

Result<> check_slabs(unsigned slab_count) {
  if (effective_slabs(slab_count) >= kMinimumSlabs) return {};
  return fail(ORLOP_INVALID_ARGUMENT, "slabs: {}: at least {} are needed, one read, one worked on, one written",
              slab_count, kMinimumSlabs);
}

Result<> check_planes(std::span<const BlockSpec> blocks) {
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    if (blocks[i].planes == PlaneSet{}) return fail(ORLOP_INVALID_ARGUMENT, "block {}: it has no planes to store", i);
  }
  return {};
}

// The NUMA node next to the drive that holds `path`; -1 where there is nothing to choose.
int node_of_drive(const numa::Topology& topology, const std::string& path) {
  struct stat status = {};
  if (topology.nodes().size() < 2 || ::stat(path.c_str(), &status) != 0) return -1;
  std::error_code error;
  namespace fs = std::filesystem;
  auto device = fs::canonical(fmt::format("/sys/dev/block/{}:{}", major(status.st_dev), minor(status.st_dev)), error);
  if (error) return -1;
  if (fs::exists(device / "partition", error)) device = device.parent_path();
  return topology.node_of_block_device(device.filename().string());
}

// Asked for, or the best that works here.
Result<aio::QueueKind> choose_queue(const NvmeOptions& options) {
  if (options.queue) return *options.queue;
  TRY_ASSIGN(const auto best, aio::make_best_queue({}));
  return aio::queue_kind_of(best->name());
}

class NvmeStates final : public NvmeTier {
 public:
  static Result<std::unique_ptr<NvmeTier>> create(const numa::Topology& topology, std::vector<BlockSpec> blocks,
                                                const NvmeOptions& options);
  ~NvmeStates() override;

  Result<> prefetch(std::span<const std::uint32_t> order) override { return pipeline_->prefetch(order); }
  Result<SweepReport> sweep(std::span<const std::uint32_t> order, const Visitor& visitor,
                            const std::atomic<bool>& cancel) override {
    return sweep_beside(order, visitor, {}, cancel);
  }
  Result<SweepReport> sweep_beside(std::span<const std::uint32_t> order, const Visitor& visitor,
                                   const SideWork& side_work, const std::atomic<bool>& cancel) override {
    if (plane_reads_) plane_reads_->drop();
    return pipeline_->sweep(order, visitor, side_work, cancel);
  }
  Result<> access(std::uint32_t block, Change change,
                  const std::function<Result<>(const BlockMemory&)>& body) override {
    if (plane_reads_ && change == Change::modified) plane_reads_->drop();
    return pipeline_->access(block, change, body);
  }
  Result<> read_ahead(std::span<const Wanted> wanted) override {
    return plane_reads_ ? plane_reads_->read_ahead(wanted) : Result<>{};
  }
  Result<> read_plane(const Wanted& wanted, const PlaneReader& reader) override {
    if (plane_reads_) return plane_reads_->read(wanted, reader);
    return fail(ORLOP_INTERNAL, "store: on block {}, plane {}: no staging memory was made for it", wanted.block,
                name_of(wanted.plane));
  }
  BlockMemory resident(std::uint32_t) const override { return {}; }
  Result<> drain(int timeout_ms) override { return pipeline_->drain(timeout_ms); }
  Result<std::optional<StoredStates>> keep(const CheckpointRef& checkpoint,
                                           std::span<const std::string> replaced) override;
  void complete(const std::string& checkpoint_id) override { kept_->complete(checkpoint_id); }
  void forget(const std::string& checkpoint_id) override { kept_->forget(checkpoint_id); }
  Result<> sync() override { return store_->file().sync_data(); }
  TierUse use() const override { return use_; }
  Traffic traffic() const override;
  std::string describe() const override;

 private:
  NvmeStates(RunDirectory directory, const TierUse& use) : directory_(std::move(directory)), use_(use) {}
  Result<> make_rings(const numa::Topology& topology, const NvmeOptions& options, int node);
  Result<> set_drive(const NvmeOptions& options);
  Result<> start_mover(const numa::Topology& topology, const NvmeOptions& options, int node);
  Result<> write_first(const NvmeOptions& options);

  // In this order: what is destroyed first comes last.
  RunDirectory directory_;
  TierUse use_;
  std::uint64_t limit_bytes_ = UINT64_MAX;
  std::unique_ptr<Store> store_;
  std::optional<KeptBlocks> kept_;
  std::unique_ptr<SlabRing> ring_;
  std::unique_ptr<SlabRing> plane_ring_;  // may be none
  aio::QueueKind queue_kind_ = aio::QueueKind::threads;
  aio::Calibration drive_;
  std::unique_ptr<Mover> mover_;
  Traffic before_;  // of the first write, which is no step's
  std::unique_ptr<Pipeline> pipeline_;
  std::optional<PlaneReads> plane_reads_;
};

Result<std::unique_ptr<NvmeTier>> NvmeStates::create(const numa::Topology& topology, std::vector<BlockSpec> blocks,
                                                     const NvmeOptions& options) {
  const unsigned slab_count = effective_slabs(options.slab_count);
  const TierUse use = nvme_states_use(blocks, slab_count, options.plane_slab_count);
  TRY(check_not_busy(options.nvme_path, options.run_id, options.rank));
  TRY(check_nvme_path(options.nvme_path, use.nvme_bytes));
  TRY_ASSIGN(auto directory, RunDirectory::acquire(options.nvme_path, options.run_id, options.rank));
  const int node = node_of_drive(topology, options.nvme_path);
  std::unique_ptr<NvmeStates> states(new NvmeStates(std::move(directory), use));
  TRY_ASSIGN(states->store_,
             Store::create(states->directory_.store_path(), StoreIdentity::create(options.run_id, options.rank),
                           std::move(blocks), slab_count));
  states->kept_.emplace(*states->store_, states->directory_.path());
  states->limit_bytes_ = options.limit_bytes;
  TRY(states->make_rings(topology, options, node));
  TRY(states->set_drive(options));
  TRY(states->start_mover(topology, options, node));
  TRY(states->write_first(options));
  const MemoryLayout layout(states->store_->blocks(), states->store_->file().alignment().memory);
  states->pipeline_ = std::make_unique<Pipeline>(*states->store_, *states->ring_, *states->mover_, layout,
                                                  options.checksums);
  if (states->plane_ring_) {
    states->plane_reads_.emplace(*states->store_, *states->plane_ring_, *states->mover_, *states->pipeline_,
                                 options.checksums);
  }
  return std::unique_ptr<NvmeTier>(std::move(states));
}

Result<> NvmeStates::make_rings(const numa::Topology& topology, const NvmeOptions& options, int node) {
  const auto& blocks = store_->blocks();
  TRY_ASSIGN(ring_, SlabRing::create(topology, effective_slabs(options.slab_count), slab_bytes(blocks), {.node = node}));
  if (options.plane_slab_count == 0) return {};
  TRY_ASSIGN(plane_ring_, SlabRing::create(topology, options.plane_slab_count, plane_slab_bytes(blocks), {.node = node}));
  return {};
}

Result<> NvmeStates::set_drive(const NvmeOptions& options) {
  TRY_ASSIGN(queue_kind_, choose_queue(options));
  TRY_ASSIGN(drive_, drive_settings(store_->file(), store_->file_bytes(), queue_kind_, ring_->memory(),
                                    options.overrides));
  return {};
}

Result<> NvmeStates::start_mover(const numa::Topology& topology, const NvmeOptions& options, int node) {
  const QueueFactory make = options.make_queue ? options.make_queue : [kind = queue_kind_](const auto& queue_options) {
    return aio::make_queue(kind, queue_options);
  };
  MoverOptions mover;
  mover.make_queue = [&topology, node, make](const aio::QueueOptions& queue_options) {
    if (node >= 0) {
      if (const auto bound = numa::bind_current_thread(topology, node); !bound) {
        log_debug("I/O thread: {}", bound.error().message);
      }
    }
    return make(queue_options);
  };
  mover.queue.depth = drive_.depth;
  if (options.thread_count != 0) mover.queue.thread_count = options.thread_count;
  mover.requests.read_request_bytes = drive_.read_request_bytes;
  mover.requests.write_request_bytes = drive_.write_request_bytes;
  mover.requests.mixing = drive_.mixing;
  mover.memory = {ring_->memory()};
  if (plane_ring_) mover.memory.push_back(plane_ring_->memory());
  mover.files = {store_->file().fd()};
  mover.trace = options.trace;
  TRY_ASSIGN(mover_, Mover::create(std::move(mover)));
  return {};
}

Result<> NvmeStates::write_first(const NvmeOptions& options) {
  const std::int64_t begin_ns = now_ns();
  const auto zeros = ring_->memory();
  std::memset(zeros.data(), 0, zeros.size());  // the calibration wrote to it
  TRY(write_zeros(*mover_, store_->file(), store_->file_bytes(), zeros, options.cancel));
  TRY(store_->write_header());
  before_ = mover_->traffic();
  const double seconds = seconds_of_ns(now_ns() - begin_ns);
  log_info("store: on {}: {} written once with zeros in {:.2f} s ({:.2f} GB/s)", store_->file().path(),
           format_bytes(store_->file_bytes()), seconds, static_cast<double>(store_->file_bytes()) / seconds * 1e-9);
  return {};
}

Result<std::optional<StoredStates>> NvmeStates::keep(const CheckpointRef& checkpoint,
                                                     std::span<const std::string> replaced) {
  TRY(pipeline_->drain(-1));
  directory_.reclaim_set_aside();
  TRY_ASSIGN(auto stored, kept_->keep(checkpoint, replaced, limit_bytes_));
  use_.nvme_bytes = store_->file_bytes();
  return std::optional(std::move(stored));
}

// The pipeline's leases go before the ring and the mover, and the file is closed before its directory goes. What
// checkpoints refer to stays.
NvmeStates::~NvmeStates() {
  plane_reads_.reset();
  pipeline_.reset();
  if (!kept_) return;
  kept_->forget_gone();
  if (kept_->is_empty()) return;
  mover_.reset();
  store_->trim();
  directory_.keep_store();
}

Traffic NvmeStates::traffic() const {
  const Traffic now = mover_->traffic();
  return {now.read_bytes - before_.read_bytes + pipeline_->checked_bytes(), now.write_bytes - before_.write_bytes,
          now.busy_ns - before_.busy_ns};
}

std::string NvmeStates::describe() const {
  const bool is_direct = store_->file().access() == aio::Access::direct;
  return nlohmann::json{
      {"tier", "nvme"},
      {"path", store_->file().path()},
      {"access", is_direct ? "direct" : "buffered"},
      {"alignment", {{"memory", store_->file().alignment().memory}, {"offset", store_->file().alignment().offset}}},
      {"queue", mover_->queue_name()},
      {"read_request_bytes", drive_.read_request_bytes},
      {"write_request_bytes", drive_.write_request_bytes},
      {"depth", drive_.depth},
      {"mixing", drive_.mixing == aio::Mixing::mixed ? "mixed" : "phased"},
      {"calibration",
       {{"origin", drive_.origin},
        {"read_gb_s", drive_.read_gb_s},
        {"write_gb_s", drive_.write_gb_s},
        {"mixed_gb_s", drive_.mixed_gb_s}}},
      {"slabs", ring_->count()},
      {"slab_bytes", ring_->slab_bytes()},
      {"huge_pages", ring_->arena().page_kind() != numa::PageKind::small},
      {"blocks", store_->blocks().size()},
      {"grains", store_->space().grain_count()},
      {"grain_bytes", kGrainBytes},
      {"store_bytes", store_->file_bytes()},
      {"host_bytes", use_.host_bytes}}
      .dump();
}

}  // namespace

TierUse nvme_states_use(std::span<const BlockSpec> blocks, unsigned slab_count, unsigned plane_slab_count) {
  const unsigned slabs = effective_slabs(slab_count);
  const StoreSize store = store_size(blocks, slabs);
  TierUse use;
  use.staging_bytes = slabs * slab_bytes(blocks) + plane_slab_count * plane_slab_bytes(blocks);
  use.host_bytes = use.staging_bytes + store.table_bytes + Pipeline::table_bytes(blocks, slabs);
  if (plane_slab_count != 0) use.host_bytes += PlaneReads::table_bytes(blocks);
  use.nvme_bytes = store.file_bytes;
  return use;
}

Result<> check_nvme_path(const std::string& nvme_path, std::uint64_t store_bytes) {
  TRY(check_directory(nvme_path));
  TRY_ASSIGN(std::uint64_t free, aio::free_bytes(nvme_path));
  if (free >= store_bytes) return {};
  free += reclaimable_bytes(nvme_path);
  if (free >= store_bytes) return {};
  return fail(ORLOP_NO_SPACE,
              "nvme_path: on {}: the store needs {} bytes ({}), {} bytes ({}) are free: {} bytes ({}) too few",
              nvme_path, store_bytes, format_bytes(store_bytes), free, format_bytes(free), store_bytes - free,
              format_bytes(store_bytes - free));
}

Result<std::unique_ptr<NvmeTier>> make_nvme_states(const numa::Topology& topology, std::vector<BlockSpec> blocks,
                                                   const NvmeOptions& options) {
  if (blocks.empty()) return fail(ORLOP_INVALID_ARGUMENT, "store: no blocks: nothing to keep on NVMe");
  TRY(check_blocks(blocks));
  TRY(check_planes(blocks));
  TRY(check_slabs(options.slab_count));
  return NvmeStates::create(topology, std::move(blocks), options);
}

}  // namespace orlop::swap
