// What tells one thing from another of its kind: random names, and when it was made.
#pragma once

#include <string>

namespace orlop {

std::string random_uuid();  // of the kernel, 36 characters
std::string utc_now();      // ISO 8601, to the second

}  // namespace orlop
