// Numbers as people write and read them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.hpp"

namespace orlop::bench {

// "500M", "1e9", "7B", "1.3b", "124439808": K, M, B (or G) and T are decimal. Error: ORLOP_INVALID_ARGUMENT.
Result<std::uint64_t> parse_count(std::string_view text);

std::string format_count(std::uint64_t count);      // "500 M", "1.24 B"
std::string format_decimal(std::uint64_t bytes);    // "10 GB", "512 MB": as GB/s counts
std::string format_seconds(double seconds);         // "3.95 s", "12.3 ms"
std::string format_whole_bytes(std::uint64_t n);    // "1234567 bytes (1.18 MiB)"

}  // namespace orlop::bench
