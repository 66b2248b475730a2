// Engine: one rank's parameters, gradients, optimizer and tiers. The only place that knows every layer.
//
// Its life: registering -> ready <-> stepping -> stopped (after an error of a step; see orlop.h). Calls are serialised
// here; a step runs on a thread of its own, so that the caller can wait for it in slices.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "base/config.hpp"
#include "base/trace.hpp"
#include "comm/communicator.hpp"
#include "cpu_adam/adam.hpp"
#include "device/device.hpp"
#include "numa/topology.hpp"
#include "swap/nvme_states.hpp"
#include "zero3/background.hpp"
#include "zero3/blocks.hpp"
#include "zero3/flat_buffers.hpp"
#include "zero3/grad_flow.hpp"
#include "zero3/groups.hpp"
#include "zero3/loss_scaler.hpp"
#include "zero3/manifest.hpp"
#include "zero3/memory_plan.hpp"
#include "zero3/planes.hpp"
#include "zero3/restore.hpp"
#include "zero3/unit_flow.hpp"
#include "zero3/update.hpp"

namespace orlop::zero3 {

struct EngineOptions {
  Config config;
  int rank = 0;
  int world_size = 1;
  device::DeviceKind device = device::DeviceKind::host;
  int device_index = 0;
  std::string run_id;  // empty: the configuration's, else derived
  Arithmetic arithmetic = Arithmetic::applied;
  swap::Checksums checksums = swap::Checksums::verified;  // without arithmetic they are left out too
};

struct StepReport {
  bool skipped = false;
  std::uint64_t step = 0;
  std::uint64_t skipped_steps = 0;
  double grad_norm = 0;
  double clip_factor = 1;
  double loss_scale = 1;
  double seconds = 0;
  double exposed_io_seconds = 0;
  double hidden_io_seconds = 0;
  double adam_seconds = 0;
  std::uint64_t nvme_read_bytes = 0;
  std::uint64_t nvme_write_bytes = 0;
  double unit_wait_seconds = 0;
  double unit_copy_seconds = 0;
};

struct EngineStats {
  std::uint64_t params = 0;
  std::uint64_t steps = 0;
  std::uint64_t skipped_steps = 0;
  std::uint64_t host_budget_bytes = 0;
  std::uint64_t host_bytes = 0;
  std::uint64_t model_bytes = 0;
  std::uint64_t staging_bytes = 0;
  std::uint64_t nvme_bytes = 0;
  std::uint64_t nvme_read_bytes = 0;
  std::uint64_t nvme_write_bytes = 0;
  double exposed_io_seconds = 0;
  double hidden_io_seconds = 0;
  double adam_seconds = 0;
  double step_seconds = 0;
  std::uint64_t live_limit_bytes = 0;
  std::uint64_t live_bytes = 0;
  std::uint64_t unit_hits = 0;
  std::uint64_t unit_fetches = 0;
  std::uint64_t unexpected_uses = 0;
  std::uint64_t loss_scale_good_steps = 0;
  std::uint64_t loss_scale_overflows_left = 0;
  double unit_wait_seconds = 0;
  double unit_copy_seconds = 0;
  std::uint64_t activation_bytes = 0;
};

enum class SaveWhat : std::uint8_t { everything, trained };  // trained: frozen parameters are left out

struct SaveOptions {
  std::string directory;               // made if it is not there, in one that is
  std::string client_json;             // of whoever embeds the engine; an object, or empty
  std::vector<std::string> replaced;   // directories of checkpoints to remove once this one is complete
  std::string latest_file;             // gets the name of the directory once it is complete; may be empty
  std::uint64_t bytes_per_second = 0;  // 0: as fast as possible
  SaveWhat what = SaveWhat::everything;
};

class Engine {
 public:
  static Result<std::unique_ptr<Engine>> open(EngineOptions options);
  ~Engine();

  Result<std::uint32_t> register_param(ParamSpec spec);
  // What commit would take, as JSON.
  Result<std::string> plan();
  Result<> commit();
  Result<void*> address(std::uint32_t id);
  // Units of the layout, from commit on.
  Result<std::pair<std::uint32_t, std::uint64_t>> place(std::uint32_t id);  // unit, and the first element in it
  Result<Unit> unit(std::uint32_t unit);
  // Evicts what must go before a unit comes in, at most `most` units.
  Result<std::vector<std::uint32_t>> make_room(std::uint32_t unit, std::size_t most);
  Result<> unshard(std::uint32_t unit, Use use, void* destination, device::Stream stream);
  Result<bool> reshard(std::uint32_t unit, AfterUse after);  // true: it stays

  Result<> read_plane(std::uint32_t id, Plane plane, Range range, Dtype dtype, void* destination);
  Result<> write_plane(std::uint32_t id, Plane plane, Range range, Dtype dtype, const void* source);

  Result<kernels::HyperParams> group(int group);
  Result<> set_group(int group, const kernels::HyperParams& hyper);

  Result<> grad_ready(std::uint32_t id, const void* gradient, Dtype dtype, device::Stream stream);
  Result<> set_boundary(Boundary boundary);
  Result<bool> backward_end();  // true at the boundary
  Result<> grad_discard();

  // What losses are to be multiplied with until the next step.
  double loss_scale();
  // None: the engine's own.
  Result<> step_begin(std::optional<double> loss_scale);
  // ORLOP_TIMEOUT while it is under way.
  Result<StepReport> step_wait(int timeout_ms);
  Result<> drain(int timeout_ms);

  // Checkpoints. Saving goes on beside training; loading does not. One at a time.
  Result<> save_begin(const SaveOptions& options);
  Result<> load_begin(const std::string& directory, LoadWhat what, Match match = Match::all);
  // The outcome of either, once. ORLOP_TIMEOUT while it is under way.
  Result<> checkpoint_wait(int timeout_ms);

  EngineStats stats();
  // What each drive of the store has moved since commit; none before, and where states are in memory.
  std::vector<swap::DriveUse> drives();
  std::string describe();
  Result<std::uint64_t> digest();
  Result<> write_trace(const std::string& path);

  void cancel() noexcept { cancelled_.store(true, std::memory_order_relaxed); }
  // Waits for what is in flight and reports the last error of write-back; the destructor does the rest.
  Result<> finish();

 private:
  enum class Phase : std::uint8_t { registering, ready, stepping, loading, stopped };
  struct Committed;

  Engine(EngineOptions options, numa::Topology topology, std::unique_ptr<device::Device> device, cpu_adam::Isa isa);

  Result<> expect_ready(const char* what) const;
  bool is_external() const;
  Result<> expect_unit(const char* what, std::uint32_t unit) const;
  Result<> write_grad(std::uint32_t id, Range range, Dtype dtype, const void* source);
  Result<> expect_stored_unit(const char* what, std::uint32_t unit) const;
  void choose_homes();
  Result<> expect_param(const char* what, std::uint32_t id) const;
  Result<> expect_range(const char* what, std::uint32_t id, Plane plane, Range range) const;
  Result<> stop_if_failed(Result<> result);
  Result<> stop_after(Result<> result);

  void record_unit(const char* what, std::uint32_t unit, std::int64_t begin_ns);
  void warn_beyond_limit(std::uint32_t unit);

  [[nodiscard]] std::vector<Block> cut(const UnitPlan& units) const;
  [[nodiscard]] std::uint64_t model_bytes(const UnitPlan& units) const;  // on the host
  enum class Against : std::uint8_t { budgets, this_machine };  // what a plan must fit; this machine has budgets, too
  Result<MemoryPlan> plan_memory(const UnitPlan& units, const std::vector<Block>& blocks, Against against) const;
  void say_plan(const Committed& committed) const;
  void say_contradictions(const Committed& committed) const;
  Result<> allocate(Committed& committed);
  Result<std::unique_ptr<swap::States>> make_states(const MemoryPlan& memory,
                                                    const std::vector<swap::BlockSpec>& specs);

  Result<> take_from_device(std::uint32_t id, const void* gradient, Dtype dtype, device::Stream stream);
  Result<> prefetch_states();
  [[nodiscard]] bool applies_anything(bool is_own_scale) const;
  Result<> step(double loss_scale, bool is_own_scale);
  Result<> skip(std::uint32_t id, bool is_own_scale);
  [[nodiscard]] Manifest manifest_now(SaveWhat what) const;
  void make_way_for_changes();
  Result<> settle_save(Result<> outcome);
  Result<> finish_save();
  Result<> load(LoadWhat what);
  Result<> finish_load(int timeout_ms);

  void account(std::int64_t begin_ns, const swap::SweepReport& sweep);
  void count_step();
  void cancel_step();

  EngineOptions options_;
  numa::Topology topology_;
  std::unique_ptr<device::Device> device_;
  cpu_adam::Isa isa_;
  cpu_adam::Workers workers_;
  std::unique_ptr<comm::Communicator> communicator_;
  Trace trace_;
  Groups groups_;
  LossScaler scaler_;

  std::mutex mutex_;       // everything below
  std::mutex wait_mutex_;  // one waiter at a time
  Phase phase_ = Phase::registering;
  std::optional<Error> stop_error_;
  std::vector<ParamSpec> params_;
  std::unordered_set<std::string> names_;
  std::unique_ptr<Committed> committed_;
  std::vector<std::byte> landing_;  // of gradients from a device that is not the host
  StepReport report_;  // while stepping, the background thread's
  EngineStats stats_;
  std::atomic<bool> cancelled_{false};
  std::unique_ptr<Background> background_;  // last: its thread uses what is above
};

}  // namespace orlop::zero3
