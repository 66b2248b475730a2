#include "base/config_reader.hpp"

#include <algorithm>
#include <cctype>
#include <string>
#include <utility>
#include <vector>

#include "base/bytes.hpp"

namespace orlop {
namespace {

using nlohmann::json;

// Turns the accepted superset into JSON of the same length, so that positions in messages are the user's.
class Normalizer {
 public:
  explicit Normalizer(std::string_view text) : text_(text) {}

  Result<std::string> run() && {
    while (at_ < text_.size()) TRY(step());
    return std::move(text_);
  }

 private:
  Result<> step() {
    const char c = text_[at_];
    if (c == '"') return skip_string();
    if (c == '#' || starts_with("//")) return blank_until_line_end();
    if (starts_with("/*")) return blank_comment();
    if (starts_with("Infinity") && !is_word(at_ + 8)) return quote_infinity();
    if (std::isspace(static_cast<unsigned char>(c)) == 0) see(c);
    ++at_;
    return {};
  }

  // An unterminated string is left to the parser, which says where.
  Result<> skip_string() {
    see('"');
    for (++at_; at_ < text_.size() && text_[at_] != '"'; ++at_) {
      if (text_[at_] == '\\') ++at_;
    }
    ++at_;
    return {};
  }

  Result<> blank_until_line_end() {
    for (; at_ < text_.size() && text_[at_] != '\n'; ++at_) text_[at_] = ' ';
    return {};
  }

  Result<> blank_comment() {
    const auto end = text_.find("*/", at_ + 2);
    if (end == std::string::npos) {
      return fail(ORLOP_INVALID_CONFIG,
                  "config: on line {}: the comment that begins with /* has no end; add */",
                  1 + std::count(text_.begin(), text_.begin() + static_cast<std::ptrdiff_t>(at_), '\n'));
    }
    for (; at_ < end + 2; ++at_) {
      if (text_[at_] != '\n') text_[at_] = ' ';
    }
    return {};
  }

  Result<> quote_infinity() {
    const bool negative = at_ > 0 && text_[at_ - 1] == '-';
    const std::size_t begin = negative ? at_ - 1 : at_;
    text_.replace(begin, negative ? 9 : 8, negative ? "\"-inf\"   " : "\"inf\"   ");
    see('"');
    at_ += 8;
    return {};
  }

  // Remembers the last two significant characters: a comma between a value and a closing bracket is blanked.
  void see(char c) {
    const bool after_value = std::string_view("{[:,").find(before_last_) == std::string_view::npos;
    if ((c == '}' || c == ']') && last_ == ',' && after_value) text_[comma_at_] = ' ';
    if (c == ',') comma_at_ = at_;
    before_last_ = std::exchange(last_, c);
  }

  [[nodiscard]] bool starts_with(std::string_view prefix) const {
    return text_.compare(at_, prefix.size(), prefix) == 0;
  }
  [[nodiscard]] bool is_word(std::size_t at) const {
    return at < text_.size() &&
           (std::isalnum(static_cast<unsigned char>(text_[at])) != 0 || text_[at] == '_');
  }

  std::string text_;
  std::size_t at_ = 0;
  std::size_t comma_at_ = 0;
  char last_ = '{';
  char before_last_ = '{';
};

// "[json.exception.parse_error.101] parse error at line 1, column 2: syntax error ..." without its head. It
// may quote bytes that are no UTF-8.
std::string plain_words(std::string what) {
  const std::string_view head = "parse error at ";
  if (const auto at = what.find(head); at != std::string::npos) what.erase(0, at + head.size());
  if (const auto at = what.find("] "); what.starts_with('[') && at != std::string::npos)
    what.erase(0, at + 2);
  std::replace_if(
      what.begin(), what.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
  return what.size() > 240 ? what.substr(0, 240) + "..." : what;
}

// Receives the parser's events and builds the tree; refuses what a tree could not show any more.
class TreeBuilder final : public nlohmann::json_sax<json> {
 public:
  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override { return add(value); }
  bool number_unsigned(number_unsigned_t value) override { return add(value); }
  bool number_float(number_float_t value, const string_t&) override { return add(value); }
  bool string(string_t& value) override { return add(std::move(value)); }
  bool binary(binary_t&) override { return refuse("config: binary data: has no place in it"); }

  bool start_object(std::size_t) override { return open(json::object()); }
  bool key(string_t& name) override {
    if (open_.back()->contains(name)) {
      return refuse(fmt::format("config: on {}: given twice; keep one", path_to(name)));
    }
    keys_.back() = std::move(name);
    return true;
  }
  bool end_object() override { return close(); }
  bool start_array(std::size_t) override { return open(json::array()); }
  bool end_array() override { return close(); }

  bool parse_error(std::size_t, const std::string&, const json::exception& error) override {
    return refuse(fmt::format(
        "config: on {}; a configuration is a JSON object (comments and trailing commas are allowed)",
        plain_words(error.what())));
  }

  Result<json> take() && {
    if (!problem_.empty()) return tl::unexpected(Error{ORLOP_INVALID_CONFIG, std::move(problem_)});
    if (!root_.is_object()) {
      return fail(ORLOP_INVALID_CONFIG, "config: on the whole text ({}): must be a JSON object",
                  root_.type_name());
    }
    return std::move(root_);
  }

 private:
  bool add(json value) { return place(std::move(value)) != nullptr; }

  json* place(json value) {
    if (open_.empty()) return &(root_ = std::move(value));
    json& parent = *open_.back();
    if (parent.is_array()) return &parent.emplace_back(std::move(value));
    return &(parent[keys_.back()] = std::move(value));
  }

  bool open(json container) {
    if (open_.size() >= kMaxConfigDepth) {
      return refuse(
          fmt::format("config: on {}: nested deeper than {} levels", path_to(keys_.back()), kMaxConfigDepth));
    }
    open_.push_back(place(std::move(container)));
    keys_.emplace_back();
    return true;
  }

  bool close() {
    open_.pop_back();
    keys_.pop_back();
    return true;
  }

  bool refuse(std::string problem) {
    problem_ = std::move(problem);
    return false;
  }

  [[nodiscard]] std::string path_to(const std::string& leaf) const {
    std::string path;
    for (std::size_t i = 0; i + 1 < keys_.size(); ++i) path += keys_[i] + (keys_[i].empty() ? "" : ".");
    return shown(path + leaf);
  }

  json root_;
  std::vector<json*> open_;        // stable: a parent does not change while a child is open
  std::vector<std::string> keys_;  // the current key of each open container
  std::string problem_;
};

}  // namespace

std::string shown(const json& value, std::size_t longest) {
  std::string text = value.dump(-1, ' ', false, json::error_handler_t::replace);
  if (text.size() <= longest) return text;
  std::size_t end = longest - 3;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;  // not inside a character
  return text.substr(0, end) + "...";
}

Result<json> read_config_text(std::string_view text) {
  if (text.size() > kMaxConfigBytes) {
    return fail(ORLOP_INVALID_CONFIG, "config: {}: longer than {}; is this a configuration?",
                format_bytes(text.size()), format_bytes(kMaxConfigBytes));
  }
  if (text.find_first_not_of(" \t\r\n") == std::string_view::npos) {
    return fail(ORLOP_INVALID_CONFIG, "config: the text is empty; write {{}} for the defaults");
  }
  TRY_ASSIGN(const std::string normalized, Normalizer(text).run());
  TreeBuilder builder;
  json::sax_parse(normalized, &builder);  // its result is the builder's own
  return std::move(builder).take();
}

}  // namespace orlop
