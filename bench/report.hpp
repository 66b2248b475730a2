// Report: cases as a table that people read and as JSON that programs do.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "bench/statistics.hpp"

namespace orlop::bench {

enum class Unit : std::uint8_t { seconds, gb_per_s, gparam_per_s };

struct Case {
  std::string name;
  std::string size;  // of one run
  Unit unit;
  Quantiles value;
  std::optional<double> gb_s;           // at the median
  std::optional<double> roof_fraction;  // 1: as fast as can be
};

// Fixed width, a heading, one line per case.
std::string table_of(const std::vector<Case>& cases);

nlohmann::json json_of(const Quantiles& quantiles);
nlohmann::json json_of(const std::vector<Case>& cases);

// Whole or not at all: written beside it and renamed.
Result<> write_json(const std::string& path, const nlohmann::json& report);
// That a file can be made there, before a long run and not after it.
Result<> check_writable(const std::string& option, const std::string& path);

}  // namespace orlop::bench
