#include "bench/quantities.hpp"

#include <charconv>
#include <cmath>

#include "base/bytes.hpp"

namespace orlop::bench {
namespace {

double factor_of(std::string_view suffix) {
  if (suffix.empty()) return 1;
  if (suffix == "K" || suffix == "k") return 1e3;
  if (suffix == "M" || suffix == "m") return 1e6;
  if (suffix == "B" || suffix == "b" || suffix == "G" || suffix == "g") return 1e9;
  if (suffix == "T" || suffix == "t") return 1e12;
  return 0;
}

// At most three digits that count.
std::string three_digits(double value) {
  const int decimals = value < 10 ? 2 : value < 100 ? 1 : 0;
  std::string text = fmt::format("{:.{}f}", value, decimals);
  if (text.find('.') == std::string::npos) return text;
  while (text.back() == '0') text.pop_back();
  if (text.back() == '.') text.pop_back();
  return text;
}

std::string scaled(double value, const char* const (&units)[5]) {
  int unit = 0;
  while (value >= 999.5 && unit < 4) {
    value /= 1000;
    ++unit;
  }
  return fmt::format("{}{}", three_digits(value), units[unit]);
}

}  // namespace

Result<std::uint64_t> parse_count(std::string_view text) {
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const auto suffix = text.substr(static_cast<std::size_t>(end - text.data()));
  const double count = std::round(number * factor_of(suffix));
  if (error != std::errc{} || !(count >= 1) || count > 0x1p53) {
    return fail(ORLOP_INVALID_ARGUMENT, "\"{}\": must be a count such as 500M, 1e9 or 7B", text);
  }
  return static_cast<std::uint64_t>(count);
}

std::string format_count(std::uint64_t count) {
  return scaled(static_cast<double>(count), {"", " K", " M", " B", " T"});
}

std::string format_decimal(std::uint64_t bytes) {
  return scaled(static_cast<double>(bytes), {" B", " kB", " MB", " GB", " TB"});
}

std::string format_seconds(double seconds) {
  if (seconds >= 0.9995) return fmt::format("{} s", three_digits(seconds));
  if (seconds >= 0.9995e-3) return fmt::format("{} ms", three_digits(seconds * 1e3));
  return fmt::format("{} us", three_digits(seconds * 1e6));
}

std::string format_whole_bytes(std::uint64_t n) { return fmt::format("{} bytes ({})", n, format_bytes(n)); }

}  // namespace orlop::bench
