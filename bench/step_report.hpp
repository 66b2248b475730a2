// Step report: what a step run found, as a table, a few sentences and JSON.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "bench/comparison.hpp"
#include "bench/drive_roof.hpp"
#include "bench/report.hpp"

namespace orlop::bench {

struct StepResults {
  std::string model;
  std::uint64_t params = 0;
  bool on_nvme = false;  // anything
  std::string why;  // the size; empty when it was given
  std::vector<StepSample> samples;
  std::vector<RoofRequests> requests;  // by drive
  std::vector<IoRate> slices;  // before the first sample, between samples, after the last; empty: no roof
  std::optional<Comparison> comparison;
  std::string comparison_note;  // why there is none
  zero3::EngineStats stats;     // when the steps were done
  DiskTraffic engine_traffic;   // of the samples, by the engine's own counters
  std::uint64_t gradient_bytes = 0;  // of the benchmark's own backward pass
  std::uint64_t peak_bytes = 0;
  std::uint64_t digest = 0;
  double adam_roof_gparam_s = 0;
  std::vector<swap::DriveUse> drives;  // of the samples
  nlohmann::json engine;         // as it describes itself
  nlohmann::json phase_seconds;  // of the run's parts, by name
};

// What of a step's NVMe traffic is saved because there is room in memory.
double pinned_fraction(const StepResults& results);

// Bytes that a drive has moved, by the time it was busy.
double gb_s_while_busy(std::uint64_t bytes, const swap::DriveUse& drive);

// The request sizes that the engine uses on each drive, from its description.
std::vector<RoofRequests> roof_requests(const nlohmann::json& engine);

std::vector<Case> step_cases(const StepResults& results);
std::string step_summary_text(const StepResults& results);
nlohmann::json step_json(const StepResults& results, const std::vector<Case>& cases);

}  // namespace orlop::bench
