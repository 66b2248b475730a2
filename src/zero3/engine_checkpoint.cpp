// The engine's checkpoints.
#include <sys/stat.h>

#include <cerrno>
#include <filesystem>
#include <utility>

#include "base/bytes.hpp"
#include "base/clock.hpp"
#include "base/log.hpp"
#include "base/stamp.hpp"
#include "zero3/committed.hpp"

namespace orlop::zero3 {
namespace {

namespace fs = std::filesystem;

// The blocks of the update, in its order.
std::vector<SavedBlock> updated_blocks(const UnitPlan& units, const std::vector<Block>& blocks, const Update& update,
                                       kernels::Optimizer optimizer) {
  std::vector<SavedBlock> saved;
  for (std::uint32_t i = 0; i < blocks.size(); ++i) {
    SavedBlock block;
    block.unit = blocks[i].unit;
    block.range = blocks[i].range;
    block.home = units.units[block.unit].home;
    block.planes = planes_of(kind_of(units.units[block.unit]), optimizer);
    block.is_adopted = update.is_adopted(i);
    saved.push_back(std::move(block));
  }
  return saved;
}

// Frozen units in memory, cut alike.
void append_frozen(const UnitPlan& units, std::vector<SavedBlock>& saved) {
  for (std::uint32_t unit = 0; unit < units.units.size(); ++unit) {
    if (units.units[unit].training == Training::trainable || units.units[unit].home == Home::store) continue;
    const Range whole = used_part(units.units[unit].content, 0, 1);
    for (std::uint64_t begin = whole.begin; begin < whole.end; begin += kBlockElements) {
      SavedBlock block;
      block.unit = unit;
      block.range = {begin, std::min(begin + kBlockElements, whole.end)};
      saved.push_back(std::move(block));
    }
  }
}

void take_stored(Manifest& manifest, swap::StoredStates stored) {
  std::size_t first_sum = 0;
  for (std::size_t i = 0; i < stored.blocks.size(); ++i) {
    SavedBlock& block = manifest.blocks[i];
    block.stored = std::move(stored.blocks[i]);
    const auto sums = stored.sums.begin() + static_cast<std::ptrdiff_t>(first_sum);
    const std::uint64_t count = swap::chunk_count(block.spec());
    block.state_sums.assign(sums, sums + static_cast<std::ptrdiff_t>(count));
    first_sum += count;
  }
  manifest.stores = std::move(stored.stores);
}

Result<std::string> make_directory(const std::string& given) {
  std::error_code error;
  const std::string path = fs::absolute(given, error).lexically_normal().string();
  if (error) return fail(ORLOP_INVALID_ARGUMENT, "save checkpoint: on \"{}\": {}", given, error.message());
  if (::mkdir(path.c_str(), 0755) == 0 || (errno == EEXIST && fs::is_directory(path, error))) return path;
  const int code = errno;
  return fail(status_of_errno(code), "save checkpoint: on {}: the directory cannot be made: {}", path,
              describe_errno(code));
}

// The checkpoints that will be gone: those to be removed, and the one this one takes the place of.
std::vector<std::string> ids_of(const std::vector<std::string>& directories, const std::string& own, int rank) {
  std::vector<std::string> ids;
  for (const std::string& directory : directories) {
    if (auto id = swap::checkpoint_id_at(manifest_path(directory, rank))) ids.push_back(std::move(*id));
  }
  if (auto id = swap::checkpoint_id_at(manifest_path(own, rank))) ids.push_back(std::move(*id));
  return ids;
}

}  // namespace

Manifest Engine::manifest_now(SaveWhat what) const {
  const Committed& c = *committed_;
  Manifest manifest;
  manifest.id = random_uuid();
  manifest.created = utc_now();
  manifest.rank = communicator_->rank();
  manifest.world_size = communicator_->world_size();
  manifest.steps = stats_.steps;
  manifest.skipped_steps = stats_.skipped_steps;
  manifest.scaler = scaler_.state();
  manifest.optimizer = groups_.optimizer();
  manifest.groups = groups_.values(c.group_count);
  for (const Unit& unit : c.units.units) manifest.units.push_back(unit.dtype);
  for (std::uint32_t id = 0; id < params_.size(); ++id) {
    const ParamSpec& p = params_[id];
    if (what == SaveWhat::trained && p.training == Training::frozen) continue;
    const Placement& place = c.units.placements[id];
    manifest.params.push_back({p.name, p.dtype, p.numel, p.training, place.unit, place.offset});
  }
  manifest.blocks = updated_blocks(c.units, c.blocks, *c.update, manifest.optimizer);
  if (what == SaveWhat::everything) append_frozen(c.units, manifest.blocks);
  manifest.data_file = fmt::format("rank{}-{}.states", manifest.rank, manifest.id);
  return manifest;
}

// ---- Saving ----

Result<> Engine::save_begin(const SaveOptions& options) {
  const std::lock_guard lock(mutex_);
  TRY(expect_ready("save checkpoint"));
  Committed& c = *committed_;
  if (c.snapshot) {
    return fail(ORLOP_OUT_OF_ORDER, "save checkpoint: on {}: another is being saved: call orlop_checkpoint_wait first",
                options.directory);
  }
  if (options_.checksums == swap::Checksums::left_out || options_.arithmetic == Arithmetic::left_out) {
    return fail(ORLOP_UNSUPPORTED, "save checkpoint: on {}: the engine was opened without checksums", options.directory);
  }
  Manifest manifest = manifest_now(options.what);
  TRY_ASSIGN(manifest.client, client_of("save checkpoint", options.client_json));
  TRY_ASSIGN(const std::string directory, make_directory(options.directory));
  const swap::CheckpointRef ref{manifest.id, manifest_path(directory, manifest.rank), swap::device_of(directory).value_or(0), {}, false};
  c.replaced = ids_of(options.replaced, directory, manifest.rank);
  TRY_ASSIGN(auto stored, c.states->keep(ref, c.replaced));
  SnapshotOptions snapshot{directory, options.replaced, options.latest_file, {}, options.bytes_per_second};
  if (stored) {
    snapshot.manifest_links = std::move(stored->manifest_links);
    take_stored(manifest, std::move(*stored));
  } else {
    c.replaced.clear();  // they hold nothing that an update would need
  }
  place_in_file(manifest);
  auto begun = Snapshot::begin(std::move(manifest), std::move(snapshot), *c.buffers, *c.states, cancelled_);
  if (!begun) {
    c.states->forget(ref.id);
    return tl::unexpected(std::move(begun.error()));
  }
  c.snapshot = std::move(*begun);
  return {};
}

// The store has room for a new generation of every block once the checkpoints that are being replaced are gone.
void Engine::make_way_for_changes() {
  Committed& c = *committed_;
  if (!c.snapshot || c.replaced.empty()) return;
  if (!c.snapshot->await_end()) return c.states->forget(c.snapshot->id());
  c.states->complete(c.snapshot->id());
  for (const std::string& id : std::exchange(c.replaced, {})) c.states->forget(id);
}

// A checkpoint that could not be written is not the training's failure.
Result<> Engine::settle_save(Result<> outcome) {
  Committed& c = *committed_;
  if (outcome) {
    c.states->complete(c.snapshot->id());
    for (const std::string& id : c.replaced) c.states->forget(id);
  } else {
    c.states->forget(c.snapshot->id());
  }
  c.snapshot.reset();
  return outcome;
}

// No step is under way.
Result<> Engine::finish_save() {
  const std::lock_guard waiting(wait_mutex_);
  if (committed_ == nullptr || !committed_->snapshot) return {};
  auto outcome = committed_->snapshot->wait(-1);
  const std::lock_guard lock(mutex_);
  return settle_save(std::move(*outcome));
}

// ---- Loading ----

Result<> Engine::load_begin(const std::string& directory, LoadWhat what, Match match) {
  {
    const std::lock_guard lock(mutex_);
    TRY(expect_ready("load checkpoint"));
  }
  if (const auto saved = finish_save(); !saved) log_warning("{}", saved.error().message);  // of no import to what is loaded
  const std::lock_guard lock(mutex_);
  TRY(expect_ready("load checkpoint"));
  Committed& c = *committed_;
  TRY_ASSIGN(auto restore, Restore::open(directory, communicator_->rank(), *c.parts, match));
  if (what == LoadWhat::everything) TRY(check_same_optimizer(restore->manifest(), groups_.optimizer(), directory));
  c.restore = std::move(restore);
  c.grads->clear();
  c.prefetched = false;
  phase_ = Phase::loading;
  background_->start([this, what] { return load(what); });
  return {};
}

// On the background thread; phase_ is loading, so nothing else touches what it uses.
Result<> Engine::load(LoadWhat what) {
  Committed& c = *committed_;
  const std::int64_t begin_ns = now_ns();
  const RestoreTarget target{*c.parts, *c.states, *c.update, *c.planes};
  if (what == LoadWhat::parameters) return c.restore->run_params(target, cancelled_);
  TRY(c.restore->run_all(target, cancelled_));
  const Manifest& manifest = c.restore->manifest();
  stats_.steps = manifest.steps;
  stats_.skipped_steps = manifest.skipped_steps;
  if (manifest.has_states) scaler_.restore(manifest.scaler);
  for (std::size_t i = 0; i < manifest.groups.size(); ++i) TRY(groups_.set(static_cast<int>(i), manifest.groups[i]));
  log_info("checkpoint: {} of update {} loaded in {:.2f} s", manifest.id, manifest.steps,
           seconds_of_ns(now_ns() - begin_ns));
  return {};
}

Result<> Engine::finish_load(int timeout_ms) {
  auto finished = background_->wait(timeout_ms);
  if (!finished) return fail(ORLOP_TIMEOUT, "load checkpoint: not finished after {} ms: call again", timeout_ms);
  const std::lock_guard lock(mutex_);
  phase_ = Phase::ready;
  committed_->restore.reset();
  if (committed_->flow) committed_->flow->forget_values();
  return stop_after(std::move(*finished));
}

Result<> Engine::checkpoint_wait(int timeout_ms) {
  const std::lock_guard waiting(wait_mutex_);
  {
    const std::lock_guard lock(mutex_);
    const bool is_saving = committed_ != nullptr && committed_->snapshot;
    if (phase_ != Phase::loading && !is_saving) {
      return fail(ORLOP_OUT_OF_ORDER, "wait for checkpoint: none is being saved or loaded");
    }
    if (phase_ == Phase::stepping) return expect_ready("wait for checkpoint");
  }
  if (phase_ == Phase::loading) return finish_load(timeout_ms);
  auto finished = committed_->snapshot->wait(timeout_ms);
  if (!finished) return fail(ORLOP_TIMEOUT, "save checkpoint: not finished after {} ms: call again", timeout_ms);
  const std::lock_guard lock(mutex_);
  return settle_save(std::move(*finished));
}

}  // namespace orlop::zero3
