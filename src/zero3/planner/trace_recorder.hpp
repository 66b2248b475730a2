// TraceRecorder: follows the uses of a step along the trace that is expected, and makes the next trace of
// what it saw.
#pragma once

#include <optional>
#include <utility>

#include "zero3/planner/use_trace.hpp"

namespace orlop::zero3 {

// A use that is not the expected one is no error: it is counted, and where the step goes on is found again. A
// use that was expected a little later means that those before it are skipped. A jump further on (an
// evaluation that begins before the step has ended) is believed when the use after it agrees, and so is any
// jump while the order is only a guess, as modules are often registered in another order than they run.
// Anything else is something inserted: the expectation stays where it was.
class TraceRecorder {
 public:
  // How far ahead a use is looked for among those expected; a router's choice among experts is well within
  // it.
  static constexpr std::size_t kSkip = 32;
  // A step with more uses is not remembered: memory for it stays within bounds.
  static constexpr std::size_t most_uses(std::size_t unit_count) { return 4096 + 8 * unit_count; }

  // Expects the order of registration: a guess.
  explicit TraceRecorder(std::size_t unit_count)
      : expected_(UseTrace::predicted(unit_count)), differing_(unit_count) {}
  explicit TraceRecorder(UseTrace seen)
      : expected_(std::move(seen)), differing_(expected_.unit_count()), has_trace_(true) {}

  // A unit is used; `compute_seconds` went by since the use before, waiting left out. The answer is the
  // position in expected() up to which the step has come, for the queries of Plan.
  std::size_t use(UnitIndex unit, UseKind kind, double compute_seconds);
  // The step has ended, `compute_seconds` after its last use: what was seen is what is expected from now on.
  // Whether that is another order than before.
  bool end_step(double compute_seconds);
  // What was seen since the last step is none: an evaluation, a step that failed.
  void discard();

  [[nodiscard]] const UseTrace& expected() const { return expected_; }
  // Whether expected() was seen and not guessed.
  [[nodiscard]] bool has_trace() const { return has_trace_; }
  // By unit: uses that came unexpected and uses that were expected and skipped, once there was a trace.
  [[nodiscard]] const std::vector<std::uint64_t>& differing() const { return differing_; }

 private:
  [[nodiscard]] bool has_new_order() const;
  void skip(std::size_t steps);
  void note_difference(UnitIndex unit);
  [[nodiscard]] std::size_t wrapped(std::size_t position) const { return position % expected_.size(); }

  UseTrace expected_;
  std::vector<UnitUse> seen_;
  std::vector<std::uint64_t> differing_;
  std::size_t next_ = 0;             // position of the expected use
  std::optional<std::size_t> jump_;  // where the step is if it has jumped
  bool has_trace_ = false;
};

}  // namespace orlop::zero3
