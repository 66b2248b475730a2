#include "swap/nvme_states.hpp"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <utility>

#include <nlohmann/json.hpp>

#include "base/clock.hpp"
#include "base/log.hpp"
#include "numa/arena.hpp"
#include "swap/drive_settings.hpp"
#include "swap/drive_shares.hpp"
#include "swap/first_write.hpp"
#include "swap/kept_blocks.hpp"
#include "swap/mover.hpp"
#include "swap/nvme_paths.hpp"
#include "swap/order.hpp"
#include "swap/pipeline.hpp"
#include "swap/plane_reads.hpp"
#include "swap/run_directory.hpp"
#include "swap/slab.hpp"
#include "swap/store.hpp"

namespace orlop::swap {
namespace {

// The drives are measured anew that often while as much is moved as the store holds, within these bounds.
constexpr std::uint64_t kLooksPerStore = 4;
constexpr std::uint64_t kShortestLook = 16_MiB;
constexpr std::uint64_t kLongestLook = 512_MiB;

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

// The node next to all of them.
int node_of_drives(const numa::Topology& topology, const std::vector<std::string>& paths) {
  const int node = node_of_drive(topology, paths.front());
  const auto is_there = [&](const std::string& path) { return node_of_drive(topology, path) == node; };
  return std::all_of(paths.begin(), paths.end(), is_there) ? node : -1;
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
  Result<> sync() override;
  TierUse use() const override;
  Traffic traffic() const override;
  std::vector<DriveUse> by_drive() const override;
  std::string describe() const override;

 private:
  explicit NvmeStates(const NvmeOptions& options) : paths_(options.nvme_paths), limit_bytes_(options.limit_bytes) {}
  Result<> acquire_directories(const NvmeOptions& options);
  Result<> make_store(std::vector<BlockSpec> blocks, const NvmeOptions& options);
  Result<> make_rings(const numa::Topology& topology, const NvmeOptions& options);
  Result<> set_drives(const NvmeOptions& options);
  [[nodiscard]] std::vector<double> calibrated_gb_s() const;
  [[nodiscard]] IoThreadOptions io_options(std::size_t drive, const numa::Topology& topology,
                                           const NvmeOptions& options) const;
  Result<> start_mover(const numa::Topology& topology, const NvmeOptions& options);
  Result<> write_first(const NvmeOptions& options);
  void make_readers(const NvmeOptions& options);
  [[nodiscard]] std::uint64_t memory_alignment() const;
  [[nodiscard]] nlohmann::json describe_drive(std::size_t drive) const;

  // In this order: what is destroyed first comes last.
  std::vector<std::string> paths_;  // as the user gave them; all lists by drive go in their order
  std::uint64_t limit_bytes_;
  std::vector<RunDirectory> directories_;
  TierUse use_;  // but for what the store has grown by
  std::unique_ptr<Store> store_;
  std::optional<KeptBlocks> kept_;
  std::unique_ptr<SlabRing> ring_;
  std::unique_ptr<SlabRing> plane_ring_;  // may be none
  aio::QueueKind queue_kind_ = aio::QueueKind::threads;
  std::vector<aio::Calibration> drives_;
  std::unique_ptr<Mover> mover_;
  std::vector<Traffic> before_;  // of the first write, which is no step's
  std::int64_t before_busy_ns_ = 0;
  std::optional<DriveShares> shares_;
  std::unique_ptr<Pipeline> pipeline_;
  std::optional<PlaneReads> plane_reads_;
};

Result<std::unique_ptr<NvmeTier>> NvmeStates::create(const numa::Topology& topology, std::vector<BlockSpec> blocks,
                                                     const NvmeOptions& options) {
  std::unique_ptr<NvmeStates> states(new NvmeStates(options));
  states->use_ = nvme_states_use(blocks, effective_slabs(options.slab_count), options.plane_slab_count,
                                 options.nvme_paths.size());
  TRY(states->acquire_directories(options));
  TRY(states->make_store(std::move(blocks), options));
  TRY(states->make_rings(topology, options));
  TRY(states->set_drives(options));
  TRY(states->start_mover(topology, options));
  TRY(states->write_first(options));
  states->make_readers(options);
  return std::unique_ptr<NvmeTier>(std::move(states));
}

Result<> NvmeStates::acquire_directories(const NvmeOptions& options) {
  for (const std::string& path : paths_) TRY(check_not_busy(path, options.run_id, options.rank));
  TRY(check_nvme_paths(paths_, use_.nvme_bytes));
  for (const std::string& path : paths_) {
    TRY_ASSIGN(auto directory, RunDirectory::acquire(path, options.run_id, options.rank));
    directories_.push_back(std::move(directory));
  }
  return {};
}

Result<> NvmeStates::make_store(std::vector<BlockSpec> blocks, const NvmeOptions& options) {
  StoreOptions store;
  std::vector<std::string> directories;
  for (const RunDirectory& directory : directories_) {
    store.paths.push_back(directory.store_path());
    directories.push_back(directory.path());
  }
  store.identity = StoreIdentity::create(options.run_id, options.rank);
  store.blocks = std::move(blocks);
  store.writes_at_once = effective_slabs(options.slab_count);
  store.limit_bytes = limit_bytes_;
  TRY_ASSIGN(store_, Store::create(std::move(store)));
  kept_.emplace(*store_, std::move(directories));
  return {};
}

Result<> NvmeStates::make_rings(const numa::Topology& topology, const NvmeOptions& options) {
  const auto& blocks = store_->blocks();
  const int node = node_of_drives(topology, paths_);
  TRY_ASSIGN(ring_, SlabRing::create(topology, effective_slabs(options.slab_count), slab_bytes(blocks), {.node = node}));
  if (options.plane_slab_count == 0) return {};
  TRY_ASSIGN(plane_ring_, SlabRing::create(topology, options.plane_slab_count, plane_slab_bytes(blocks), {.node = node}));
  return {};
}

// Measured with equal parts on all of them; then each drive gets the part that its speed asks for.
Result<> NvmeStates::set_drives(const NvmeOptions& options) {
  TRY_ASSIGN(queue_kind_, choose_queue(options));
  for (std::size_t drive = 0; drive < paths_.size(); ++drive) {
    const StoreFile& file = store_->file(drive);
    TRY_ASSIGN(drives_.emplace_back(),
               drive_settings(file.file(), file.bytes(), queue_kind_, ring_->memory(), options.overrides));
  }
  return paths_.size() == 1 ? Result<>{} : store_->lay_out(shares_of(calibrated_gb_s()));
}

std::vector<double> NvmeStates::calibrated_gb_s() const {
  std::vector<double> rates;
  for (const aio::Calibration& drive : drives_) rates.push_back(drive.mixed_gb_s);
  return rates;
}

IoThreadOptions NvmeStates::io_options(std::size_t drive, const numa::Topology& topology,
                                       const NvmeOptions& options) const {
  const bool is_given = drive < options.make_queues.size();
  const QueueFactory make = is_given ? options.make_queues[drive] : [kind = queue_kind_](const auto& queue_options) {
    return aio::make_queue(kind, queue_options);
  };
  IoThreadOptions io;
  io.make_queue = [&topology, node = node_of_drive(topology, paths_[drive]), make](const aio::QueueOptions& queue_options) {
    if (node >= 0) {
      if (const auto bound = numa::bind_current_thread(topology, node); !bound) {
        log_debug("I/O thread: {}", bound.error().message);
      }
    }
    return make(queue_options);
  };
  const aio::Calibration& settings = drives_[drive];
  io.queue.depth = settings.depth;
  if (options.thread_count != 0) io.queue.thread_count = options.thread_count;
  io.requests.read_request_bytes = settings.read_request_bytes;
  io.requests.write_request_bytes = settings.write_request_bytes;
  io.requests.mixing = settings.mixing;
  io.memory = {ring_->memory()};
  if (plane_ring_) io.memory.push_back(plane_ring_->memory());
  io.file = &store_->file(drive).file();
  return io;
}

Result<> NvmeStates::start_mover(const numa::Topology& topology, const NvmeOptions& options) {
  MoverOptions mover;
  for (std::size_t drive = 0; drive < paths_.size(); ++drive) mover.drives.push_back(io_options(drive, topology, options));
  mover.trace = options.trace;
  TRY_ASSIGN(mover_, Mover::create(std::move(mover)));
  return {};
}

Result<> NvmeStates::write_first(const NvmeOptions& options) {
  const std::int64_t begin_ns = now_ns();
  const auto zeros = ring_->memory();
  std::memset(zeros.data(), 0, zeros.size());  // the calibration wrote to it
  std::vector<ZeroFile> files;
  for (std::size_t drive = 0; drive < paths_.size(); ++drive) {
    files.push_back({&store_->file(drive).file(), store_->file(drive).bytes()});
  }
  TRY(write_zeros(*mover_, files, zeros, options.cancel));
  TRY(store_->write_headers());
  before_ = mover_->traffic_by_drive();
  before_busy_ns_ = mover_->traffic().busy_ns;
  const double seconds = seconds_of_ns(now_ns() - begin_ns);
  const std::uint64_t bytes = store_->file_bytes();
  log_info("store: on {}: {} written once with zeros in {:.2f} s ({:.2f} GB/s)", fmt::join(paths_, ", "),
           format_bytes(bytes), seconds, static_cast<double>(bytes) / seconds * 1e-9);
  return {};
}

void NvmeStates::make_readers(const NvmeOptions& options) {
  const std::uint64_t interval = std::clamp(store_->file_bytes() / kLooksPerStore, kShortestLook, kLongestLook);
  shares_.emplace(paths_, calibrated_gb_s(), before_, interval);
  const MemoryLayout layout(store_->blocks(), memory_alignment());
  pipeline_ = std::make_unique<Pipeline>(*store_, *ring_, *mover_, *shares_, layout, options.checksums);
  if (plane_ring_) plane_reads_.emplace(*store_, *plane_ring_, *mover_, *pipeline_, options.checksums);
}

// Of the drive that asks for most.
std::uint64_t NvmeStates::memory_alignment() const {
  std::uint64_t alignment = 1;
  for (std::size_t drive = 0; drive < paths_.size(); ++drive) {
    alignment = std::max<std::uint64_t>(alignment, store_->file(drive).file().alignment().memory);
  }
  return alignment;
}

Result<std::optional<StoredStates>> NvmeStates::keep(const CheckpointRef& checkpoint,
                                                     std::span<const std::string> replaced) {
  TRY(pipeline_->drain(-1));
  for (RunDirectory& directory : directories_) directory.reclaim_set_aside();
  TRY_ASSIGN(auto stored, kept_->keep(checkpoint, replaced, limit_bytes_));
  return std::optional(std::move(stored));
}

Result<> NvmeStates::sync() {
  for (std::size_t drive = 0; drive < paths_.size(); ++drive) TRY(store_->file(drive).file().sync_data());
  return {};
}

// The pipeline's leases go before the ring and the mover, and the files are closed before their directories go. What
// checkpoints refer to stays.
NvmeStates::~NvmeStates() {
  plane_reads_.reset();
  pipeline_.reset();
  if (!kept_) return;
  kept_->forget_gone();
  if (kept_->is_empty()) return;
  mover_.reset();
  store_->trim();
  for (RunDirectory& directory : directories_) directory.keep_store();
}

TierUse NvmeStates::use() const {
  TierUse use = use_;
  use.nvme_bytes = store_->file_bytes();
  return use;
}

std::vector<DriveUse> NvmeStates::by_drive() const {
  const auto now = mover_->traffic_by_drive();
  const auto shares = shares_->shares();
  const auto gb_s = shares_->gb_s();
  const std::uint64_t checked_bytes = pipeline_->checked_bytes() / paths_.size();
  std::vector<DriveUse> drives;
  for (std::size_t i = 0; i < paths_.size(); ++i) {
    const Traffic traffic{now[i].read_bytes - before_[i].read_bytes + checked_bytes,
                          now[i].write_bytes - before_[i].write_bytes, now[i].busy_ns - before_[i].busy_ns};
    drives.push_back({paths_[i], traffic, gb_s[i], shares[i], store_->file(i).bytes()});
  }
  return drives;
}

Traffic NvmeStates::traffic() const {
  Traffic sum{0, 0, mover_->traffic().busy_ns - before_busy_ns_};
  for (const DriveUse& drive : by_drive()) {
    sum.read_bytes += drive.traffic.read_bytes;
    sum.write_bytes += drive.traffic.write_bytes;
  }
  return sum;
}

nlohmann::json NvmeStates::describe_drive(std::size_t drive) const {
  const aio::File& file = store_->file(drive).file();
  const aio::Calibration& settings = drives_[drive];
  return {{"path", file.path()},
          {"access", file.access() == aio::Access::direct ? "direct" : "buffered"},
          {"alignment", {{"memory", file.alignment().memory}, {"offset", file.alignment().offset}}},
          {"queue", mover_->queue_name(drive)},
          {"read_request_bytes", settings.read_request_bytes},
          {"write_request_bytes", settings.write_request_bytes},
          {"depth", settings.depth},
          {"mixing", settings.mixing == aio::Mixing::mixed ? "mixed" : "phased"},
          {"calibration",
           {{"origin", settings.origin},
            {"read_gb_s", settings.read_gb_s},
            {"write_gb_s", settings.write_gb_s},
            {"mixed_gb_s", settings.mixed_gb_s}}}};
}

// The first drive's settings, then what all have in common, then every drive.
std::string NvmeStates::describe() const {
  nlohmann::json drives = nlohmann::json::array();
  for (std::size_t drive = 0; drive < paths_.size(); ++drive) drives.push_back(describe_drive(drive));
  nlohmann::json out = drives.front();
  const std::uint64_t store_bytes = store_->file_bytes();
  out.update({{"tier", "nvme"},
              {"slabs", ring_->count()},
              {"slab_bytes", ring_->slab_bytes()},
              {"huge_pages", ring_->arena().page_kind() != numa::PageKind::small},
              {"blocks", store_->blocks().size()},
              {"grains", (store_bytes - paths_.size() * store_file_bytes(0)) / kGrainBytes},
              {"grain_bytes", kGrainBytes},
              {"store_bytes", store_bytes},
              {"host_bytes", use_.host_bytes},
              {"drives", std::move(drives)}});
  return out.dump();
}

}  // namespace

TierUse nvme_states_use(std::span<const BlockSpec> blocks, unsigned slab_count, unsigned plane_slab_count,
                        std::size_t drive_count) {
  const unsigned slabs = effective_slabs(slab_count);
  const StoreSize store = store_size(blocks, slabs, drive_count);
  TierUse use;
  use.staging_bytes = slabs * slab_bytes(blocks) + plane_slab_count * plane_slab_bytes(blocks);
  use.host_bytes = use.staging_bytes + store.table_bytes + Pipeline::table_bytes(blocks, slabs);
  if (plane_slab_count != 0) use.host_bytes += PlaneReads::table_bytes(blocks);
  use.nvme_bytes = store.file_bytes;
  return use;
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
