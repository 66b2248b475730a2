#include "bench/progress.hpp"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include <fmt/format.h>

namespace orlop::bench {
namespace {

constexpr std::size_t kBarWidth = 24;

std::size_t terminal_width() {
  winsize size = {};
  return ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

std::string bar(double done) {
  const auto filled = static_cast<std::size_t>(std::lround(std::clamp(done, 0.0, 1.0) * kBarWidth));
  return std::string(filled, '#') + std::string(kBarWidth - filled, '.');
}

}  // namespace

Progress::Progress() : is_terminal_(::isatty(STDERR_FILENO) == 1) {}

Progress::~Progress() { clear(); }

// The cursor stays at the end of the last line.
void Progress::show(double done, std::string_view text, const std::vector<std::string>& below) {
  if (!is_terminal_) return;
  clear();
  const std::size_t width = terminal_width() - 1;
  std::string lines = fmt::format("[{}] {}", bar(done), text).substr(0, width);
  for (const std::string& line : below) lines += "\n" + line.substr(0, width);
  fmt::print(stderr, "{}", lines);
  std::fflush(stderr);
  is_shown_ = true;
  below_count_ = below.size();
}

void Progress::clear() {
  if (!is_shown_) return;
  const std::string up = below_count_ == 0 ? "" : fmt::format("\033[{}A", below_count_);
  fmt::print(stderr, "\r{}\033[J", up);
  std::fflush(stderr);
  is_shown_ = false;
}

}  // namespace orlop::bench
