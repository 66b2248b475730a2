// The engine's configuration: a DeepSpeed file, if one is given, with the command line's options over it.
#pragma once

#include "base/config.hpp"
#include "bench/options.hpp"

namespace orlop::bench {

// Options become keys of the file's JSON, so that both go the same way and are checked alike.
Result<Config> step_config(const StepArguments& options);

}  // namespace orlop::bench
