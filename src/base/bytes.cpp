#include "base/bytes.hpp"

#include <array>
#include <cctype>
#include <charconv>
#include <cmath>

namespace orlop {

Result<std::uint64_t> checked_add(std::uint64_t a, std::uint64_t b) {
  std::uint64_t sum = 0;
  if (__builtin_add_overflow(a, b, &sum)) {
    return fail(ORLOP_INVALID_ARGUMENT, "size: {} + {} bytes: does not fit in 64 bits", a, b);
  }
  return sum;
}

Result<std::uint64_t> checked_multiply(std::uint64_t a, std::uint64_t b) {
  std::uint64_t product = 0;
  if (__builtin_mul_overflow(a, b, &product)) {
    return fail(ORLOP_INVALID_ARGUMENT, "size: {} x {}: does not fit in 64 bits", a, b);
  }
  return product;
}

std::string format_bytes(std::uint64_t bytes) {
  static constexpr std::array<const char*, 7> kUnits = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  if (bytes < 1024) return fmt::format("{} B", bytes);
  double scaled = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (scaled >= 1023.995 && unit + 1 < kUnits.size()) {
    scaled /= 1024;
    ++unit;
  }
  return fmt::format("{:.{}f} {}", scaled, scaled < 10 ? 2 : scaled < 100 ? 1 : 0, kUnits[unit]);
}

namespace {

// The factor that a unit suffix stands for, 0 when there is no such unit.
double unit_factor(std::string unit) {
  for (char& c : unit) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  if (unit.empty() || unit == "b") return 1;
  static constexpr std::string_view kPrefixes = "kmgtpe";
  const auto power = kPrefixes.find(unit[0]);
  if (power == std::string_view::npos) return 0;
  const auto rest = unit.substr(1);
  const double exponent = static_cast<double>(power + 1);
  if (rest.empty() || rest == "ib") return std::pow(1024.0, exponent);
  if (rest == "b") return std::pow(1000.0, exponent);
  return 0;
}

}  // namespace

Result<std::uint64_t> parse_bytes(std::string_view text) {
  const auto invalid = [&] {
    return fail(ORLOP_INVALID_ARGUMENT,
                "size: \"{}\": not a number of bytes; write for example 48G, 1.5GiB, 500MB or 4096", text);
  };
  double number = 0;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || !(number >= 0)) return invalid();
  std::string_view unit(rest, static_cast<std::size_t>(text.data() + text.size() - rest));
  while (!unit.empty() && unit.front() == ' ') unit.remove_prefix(1);
  const double bytes = number * unit_factor(std::string(unit));
  if (unit_factor(std::string(unit)) == 0 || bytes >= 0x1p63) return invalid();
  return static_cast<std::uint64_t>(bytes);
}

}  // namespace orlop
