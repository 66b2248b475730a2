#include "numa/text_file.hpp"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <fcntl.h>

#include "base/log.hpp"
#include "base/unique_fd.hpp"

namespace orlop::numa {
namespace {

constexpr std::string_view kBlank = " \t\r\n";

std::vector<std::string_view> split(std::string_view text, std::string_view separators) {
  std::vector<std::string_view> parts;
  while (true) {
    const auto begin = text.find_first_not_of(separators);
    if (begin == std::string_view::npos) return parts;
    text.remove_prefix(begin);
    const auto length = std::min(text.find_first_of(separators), text.size());
    parts.push_back(text.substr(0, length));
    text.remove_prefix(length);
  }
}

tl::unexpected<Error> fail_read(const std::string& path, int error_number) {
  return fail(status_of_errno(error_number), "read: {}: {}", path, describe_errno(error_number));
}

}  // namespace

Result<std::string> read_text_file(const std::string& path) {
  const unique_fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.is_open()) return fail_read(path, errno);
  std::string text;
  char buffer[4096];
  while (true) {
    const ssize_t count = ::read(file.get(), buffer, sizeof buffer);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return fail_read(path, errno);
    if (count == 0) return text;
    text.append(buffer, static_cast<std::size_t>(count));
  }
}

std::optional<std::string> read_optional_text(const std::string& path) {
  auto text = read_text_file(path);
  if (text) return *std::move(text);
  if (text.error().status != ORLOP_NOT_FOUND) log_warning("{}; going on without it", text.error().message);
  return std::nullopt;
}

std::optional<std::int64_t> parse_integer(std::string_view text) {
  const auto words = split_words(text);
  if (words.size() != 1) return std::nullopt;
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(words[0].data(), words[0].data() + words[0].size(), value);
  if (error != std::errc{} || end != words[0].data() + words[0].size()) return std::nullopt;
  return value;
}

std::vector<std::string_view> split_words(std::string_view text) {
  return split(text, kBlank);
}
std::vector<std::string_view> split_lines(std::string_view text) {
  return split(text, "\n");
}

std::optional<std::uint64_t> find_field(std::string_view text, std::string_view key) {
  for (const std::string_view line : split_lines(text)) {
    const auto words = split(line, " \t:");
    if (words.size() < 2 || words[0] != key) continue;
    const auto value = parse_integer(words[1]);
    if (!value || *value < 0) return std::nullopt;
    const bool in_kib = words.size() > 2 && words[2] == "kB";
    return static_cast<std::uint64_t>(*value) * (in_kib ? 1024u : 1u);
  }
  return std::nullopt;
}

}  // namespace orlop::numa
