// A program that computes with units of the store: it gives them memory, and keeps what the engine says.
#pragma once

#include <algorithm>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "zero3/training.hpp"

namespace orlop::zero3::testing {

inline bool is_stored(Engine& engine, std::uint32_t id) {
  return engine.unit(engine.place(id).value().first).value().home == Home::store;
}

inline std::vector<std::uint32_t> stored_units(Engine& engine, std::size_t params) {
  std::set<std::uint32_t> units;
  for (std::uint32_t id = 0; id < params; ++id) {
    if (is_stored(engine, id)) units.insert(engine.place(id).value().first);
  }
  return {units.begin(), units.end()};
}

class Program {
 public:
  Program(Engine& engine, std::size_t params) : engine_(engine), params_(params), units_(stored_units(engine, params)) {}

  void begin(std::uint32_t unit, Use use) {
    if (!memory_.contains(unit)) {
      if (use != Use::access) make_room(unit);
      const Unit info = engine_.unit(unit).value();
      memory_[unit].resize(info.content * bytes_of(info.dtype));
    }
    const auto filled = engine_.unshard(unit, use, memory_[unit].data(), {});
    ASSERT_TRUE(filled) << filled.error().message;
    in_use_.insert(unit);
    note();
  }

  void end(std::uint32_t unit) {
    const auto stays = engine_.reshard(unit, AfterUse::as_planned);
    ASSERT_TRUE(stays) << stays.error().message;
    in_use_.erase(unit);
    if (!*stays) memory_.erase(unit);
    note();
  }

  void use(std::uint32_t unit, Use use) {
    begin(unit, use);
    end(unit);
  }

  // All units in order, or back.
  void forward(Use kind = Use::forward) {
    for (const std::uint32_t unit : units_) use(unit, kind);
  }
  void backward() {
    for (std::size_t i = units_.size(); i-- > 0;) use(units_[i], Use::backward);
  }

  // A whole update: every unit forward and backward, gradients, the step.
  void step(const std::vector<ParamSpec>& params, unsigned seed, unsigned micro_batches = 1) {
    for (unsigned m = 0; m < micro_batches; ++m) {
      forward();
      backward();
      give_gradients(engine_, params, seed * 10 + m);
      ASSERT_TRUE(engine_.backward_end());
    }
    const auto report = testing::step(engine_);
    ASSERT_TRUE(report) << report.error().message;
  }

  // What is in the memory of a unit is what the engine says of its parameters.
  void expect_values(const std::vector<ParamSpec>& params, std::uint32_t unit) {
    ASSERT_TRUE(memory_.contains(unit));
    const Unit info = engine_.unit(unit).value();
    for (const std::uint32_t id : info.params) {
      const std::size_t element = bytes_of(params[id].dtype);
      std::vector<std::byte> read(params[id].numel * element);
      ASSERT_TRUE(engine_.read_plane(id, Plane::param, {0, params[id].numel}, params[id].dtype, read.data()));
      const auto begin = memory_[unit].begin() + static_cast<std::ptrdiff_t>(engine_.place(id)->second * element);
      ASSERT_TRUE(std::equal(read.begin(), read.end(), begin)) << params[id].name;
    }
  }

  [[nodiscard]] const std::vector<std::uint32_t>& units() const { return units_; }
  [[nodiscard]] bool has(std::uint32_t unit) const { return memory_.contains(unit); }
  [[nodiscard]] std::size_t live_units() const { return memory_.size(); }
  // At any moment: elements in memory, where not all of them were in use.
  [[nodiscard]] std::uint64_t most_kept() const { return most_kept_; }
  [[nodiscard]] std::uint64_t most_live() const { return most_live_; }

 private:
  void make_room(std::uint32_t unit) {
    for (;;) {
      const auto evicted = engine_.make_room(unit, 2);
      ASSERT_TRUE(evicted) << evicted.error().message;
      for (const std::uint32_t other : *evicted) {
        ASSERT_FALSE(in_use_.contains(other));
        ASSERT_EQ(memory_.erase(other), 1u);
      }
      if (evicted->size() < 2) return;
    }
  }

  void note() {
    std::uint64_t live = 0;
    for (const auto& [unit, memory] : memory_) live += engine_.unit(unit).value().content;
    most_live_ = std::max(most_live_, live);
    if (in_use_.size() < memory_.size()) most_kept_ = std::max(most_kept_, live);
  }

  Engine& engine_;
  std::size_t params_;
  std::vector<std::uint32_t> units_;
  std::map<std::uint32_t, std::vector<std::byte>> memory_;
  std::set<std::uint32_t> in_use_;
  std::uint64_t most_kept_ = 0;
  std::uint64_t most_live_ = 0;
};

}  // namespace orlop::zero3::testing
