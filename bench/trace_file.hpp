// Trace file: recorded steps of a model, in JSON.
#pragma once

#include <string>
#include <vector>

#include "base/result.hpp"
#include "zero3/planner/use_trace.hpp"

namespace orlop::bench {

struct TraceFile {
  std::string model;
  std::vector<std::string> names;       // of units, in the order of registration
  std::vector<std::uint64_t> elements;  // of units
  std::vector<std::vector<zero3::UnitUse>> steps;
};

// {"format": "orlop-trace-1", "model": NAME,
//  "units": [[MODULE, ELEMENTS], ...],              in the order of registration
//  "steps": [[[UNIT, KIND, SECONDS], ...], ...]}    uses in order; UNIT counts from 0; KIND "f" forward, "r"
//  recompute,
//                                                   "b" backward; SECONDS of compute until the next use
// Errors: that of the file; ORLOP_INVALID_ARGUMENT for anything else than the above.
Result<TraceFile> read_trace_file(const std::string& path);

}  // namespace orlop::bench
