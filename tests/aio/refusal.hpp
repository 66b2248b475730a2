// A thread on which the kernel refuses a system call, as sandboxes and old kernels do.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

namespace orlop::aio {

struct Refusal {
  long call;                              // SYS_...
  int error_number;                       // what it fails with
  std::optional<unsigned> argument = {};  // only when this argument
  std::uint32_t bits = 0;                 // has one of these bits
};

// Runs `body` on a thread of its own with these refusals; false when the system allows no such filter.
bool run_refusing(const std::vector<Refusal>& refusals, const std::function<void()>& body);

}  // namespace orlop::aio
