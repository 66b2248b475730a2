// Small random traces for the planner's tests, and the fewest bytes that any policy can fetch in them.
#pragma once

#include <algorithm>
#include <map>
#include <random>
#include <vector>

#include "zero3/planner/plan_input.hpp"

namespace orlop::zero3 {

enum class Sizes { equal, different };

struct RandomTrace {
  std::vector<UnitSize> units;
  std::vector<UnitUse> uses;
  std::uint64_t room;  // at least the largest unit

  [[nodiscard]] UseTrace trace() const { return {uses, units.size()}; }
};

// Up to 8 units and 14 uses, every unit used at least once.
inline RandomTrace random_trace(std::mt19937& random, Sizes sizes) {
  const auto below = [&](std::size_t n) { return static_cast<std::size_t>(random() % n); };
  RandomTrace result;
  const std::size_t unit_count = 2 + below(7);
  std::uint64_t all = 0;
  std::uint64_t largest = 0;
  for (std::size_t unit = 0; unit < unit_count; ++unit) {
    const std::uint64_t elements = sizes == Sizes::equal ? 3 : 1 + below(9);
    result.units.push_back({elements, 2 * elements});
    all += elements;
    largest = std::max(largest, elements);
  }
  const std::size_t use_count = unit_count + below(15 - unit_count);
  for (std::size_t i = 0; i < use_count; ++i) {
    const auto unit = static_cast<UnitIndex>(i < unit_count ? i : below(unit_count));
    result.uses.push_back({unit, UseKind::forward, static_cast<double>(below(5))});
  }
  std::ranges::shuffle(result.uses, random);
  result.room = largest + below(all - largest + 1);
  return result;
}

// Over so many steps in a row from empty memory, by trying every set of units at every use.
inline std::uint64_t fewest_bytes(const RandomTrace& t, std::size_t steps) {
  const auto elements_of = [&](unsigned set) {
    std::uint64_t elements = 0;
    for (std::size_t unit = 0; unit < t.units.size(); ++unit) {
      if ((set >> unit & 1) != 0) elements += t.units[unit].elements;
    }
    return elements;
  };
  std::map<unsigned, std::uint64_t> bytes_by_set = {{0, 0}};
  const auto offer = [](auto& sets, unsigned set, std::uint64_t bytes) {
    const auto [it, is_new] = sets.emplace(set, bytes);
    if (!is_new) it->second = std::min(it->second, bytes);
  };
  for (std::size_t use = 0; use < steps * t.uses.size(); ++use) {
    const UnitIndex unit = t.uses[use % t.uses.size()].unit;
    std::map<unsigned, std::uint64_t> after;
    for (const auto& [set, bytes] : bytes_by_set) {
      const bool is_there = (set >> unit & 1) != 0;
      const std::uint64_t then = bytes + (is_there ? 0 : t.units[unit].fetch_bytes);
      const unsigned others = set & ~(1u << unit);
      for (unsigned kept = others;; kept = (kept - 1) & others) {
        if (elements_of(kept | 1u << unit) <= t.room) offer(after, kept | 1u << unit, then);
        if (kept == 0) break;
      }
    }
    bytes_by_set = std::move(after);
  }
  return std::ranges::min_element(bytes_by_set, {}, [](const auto& entry) { return entry.second; })->second;
}

}  // namespace orlop::zero3
