// Trainer: an engine that trains a model of random numbers, with every step measured.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "bench/gradient_source.hpp"
#include "bench/interrupt.hpp"
#include "bench/options.hpp"
#include "bench/process_usage.hpp"
#include "zero3/engine.hpp"

namespace orlop::bench {

// Forward and backward: a third of the time before the first gradient's forward half ends, two thirds spread over the
// gradients, as backward costs twice forward.
struct DeviceTime {
  double seconds = 0;
  DeviceLoad load = DeviceLoad::sleep;
};

struct StepSample {
  double seconds = 0;       // of the update: step_begin to step_wait, and what of its write-back outlasts the next forward;
                            // where parameters are in the store, and of fetching them for forward and backward
  double tail_seconds = 0;  // of these: the latter
  double exposed_io_seconds = 0;
  double adam_seconds = 0;
  double unit_wait_seconds = 0;  // of fetching: for the store
  double unit_copy_seconds = 0;  // likewise: to memory of the program's, sums compared
  double cpu_seconds = 0;  // during `seconds`, of the whole process
  DiskTraffic timed;       // during `seconds`
  DiskTraffic whole;       // from the first gradient until everything was written
};

class Trainer {
 public:
  // Opens, registers, commits, and gives every parameter its first values.
  static Result<std::unique_ptr<Trainer>> open(const Model& model, GradientSource& gradients,
                                               zero3::EngineOptions options, DeviceTime device_time);

  // One step; the engine is idle before and after it.
  Result<StepSample> step();
  // Closes the engine; the last error of write-back surfaces here.
  Result<> close();

  zero3::Engine& engine() { return *engine_; }

 private:
  Trainer(const Model& model, GradientSource& gradients, DeviceTime device_time, std::uint64_t micro_batches,
          std::unique_ptr<zero3::Engine> engine);

  // Units in the store, as a pass over the model uses them; each takes its part of what the pass computes.
  enum class Pass : std::uint8_t { forward, backward };
  struct StoredUnit {
    std::uint32_t unit;
    std::uint64_t elements;
  };

  Result<> find_stored_units();
  Result<> load_params();
  Result<> fetch_units(Pass pass, StepSample& sample);
  [[nodiscard]] double seconds_of(Pass pass) const;
  Result<> backward();
  Result<zero3::StepReport> wait_for_step();
  Result<> drain();

  const Model* model_;
  GradientSource* gradients_;
  DeviceTime device_time_;
  std::uint64_t micro_batches_;  // per step
  std::uint64_t micro_batch_ = 0;
  std::vector<StoredUnit> stored_units_;
  std::vector<std::byte> unit_memory_;  // of the largest of them
  std::unique_ptr<zero3::Engine> engine_;
  CancelOnInterrupt cancel_on_interrupt_;
};

}  // namespace orlop::bench
