// Byte units, alignment and arithmetic that cannot overflow unnoticed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.hpp"

namespace orlop {

inline namespace literals {
constexpr std::uint64_t operator""_KiB(unsigned long long n) { return n << 10; }
constexpr std::uint64_t operator""_MiB(unsigned long long n) { return n << 20; }
constexpr std::uint64_t operator""_GiB(unsigned long long n) { return n << 30; }
}  // namespace literals

constexpr bool is_power_of_two(std::uint64_t n) { return n != 0 && (n & (n - 1)) == 0; }

// Alignments are powers of two.
constexpr std::uint64_t align_down(std::uint64_t n, std::uint64_t alignment) { return n & ~(alignment - 1); }
constexpr std::uint64_t align_up(std::uint64_t n, std::uint64_t alignment) {
  return align_down(n + alignment - 1, alignment);
}
constexpr bool is_aligned(std::uint64_t n, std::uint64_t alignment) { return (n & (alignment - 1)) == 0; }
inline bool is_aligned(const void* p, std::uint64_t alignment) {
  return is_aligned(reinterpret_cast<std::uintptr_t>(p), alignment);
}
constexpr std::uint64_t divide_up(std::uint64_t n, std::uint64_t by) { return n / by + (n % by != 0); }

// Sizes that come from outside (configs, headers, element counts) are added and multiplied with these.
Result<std::uint64_t> checked_add(std::uint64_t a, std::uint64_t b);
Result<std::uint64_t> checked_multiply(std::uint64_t a, std::uint64_t b);

// "1.25 GiB", "512 B": at most three significant digits after scaling; for messages.
std::string format_bytes(std::uint64_t bytes);

// "48G", "1.5 GiB", "4096", "1e9": binary units (K = KiB = 1024); KB/MB/GB/TB are decimal.
Result<std::uint64_t> parse_bytes(std::string_view text);

}  // namespace orlop
