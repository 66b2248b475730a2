// UseOrder: in which order units are used within a step, and so which will be used next.
//
// A step repeats the one before it. Before there was one, units are expected in the order of registration, and backwards
// once they come backwards. A use that is not the expected one is counted, never an error: expectation goes on from where
// the step before had it.
#pragma once

#include <cstdint>
#include <vector>

namespace orlop::zero3 {

class UseOrder {
 public:
  explicit UseOrder(std::uint32_t unit_count) : unit_count_(unit_count) {}

  void note(std::uint32_t unit);
  // The next use is the first of another step.
  void end_step();

  // What is expected next within this step, at most `most` uses.
  [[nodiscard]] std::vector<std::uint32_t> upcoming(std::size_t most) const;

  // Uses so far that were not what was expected; the first step counts none.
  [[nodiscard]] std::uint64_t surprises() const { return surprises_; }

 private:
  void find_again(std::uint32_t unit);
  [[nodiscard]] std::vector<std::uint32_t> upcoming_by_number(std::size_t most) const;

  std::uint32_t unit_count_;
  std::vector<std::uint32_t> before_;   // of the step before
  std::vector<std::uint32_t> current_;  // of this one so far
  std::size_t expected_ = 0;            // in before_
  std::uint64_t surprises_ = 0;
};

}  // namespace orlop::zero3
