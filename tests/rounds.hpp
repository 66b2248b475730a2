// How often a test repeats what is random, or the same on other data.
#pragma once

namespace orlop {

// A sanitizer makes each round ten times slower and sees in the first few what it would see in all; the release build, which
// looks at results, makes the whole number.
constexpr unsigned rounds([[maybe_unused]] unsigned whole, [[maybe_unused]] unsigned sanitized) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  return sanitized;
#else
  return whole;
#endif
}

}  // namespace orlop
