// Warnings of the engine (a queue or direct I/O refused, and what that costs), on standard error.
//
// They are held back until what they belong to has succeeded: where it fails, its own sentence says everything.
#pragma once

#include "base/result.hpp"

namespace orlop::bench {

Result<> collect_warnings();
// Prints what came since the last time, each sentence once.
void print_warnings();

}  // namespace orlop::bench
