#include "swap/store_header.hpp"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <string_view>

#include "swap/sums.hpp"

namespace orlop::swap {
namespace {

constexpr std::array<char, 8> kMagic = {'O', 'R', 'L', 'O', 'P', 'S', 'T', 'R'};

template <std::size_t N>
std::array<char, N> padded(std::string_view text) {
  std::array<char, N> field = {};
  std::copy_n(text.begin(), std::min(text.size(), N - 1), field.begin());
  return field;
}

template <std::size_t N>
std::string_view text_in(const std::array<char, N>& field) {
  return {field.data(), ::strnlen(field.data(), N)};
}

}  // namespace

StoreHeader StoreHeader::of(const StoreIdentity& identity, std::uint64_t file_bytes) {
  StoreHeader header;
  header.magic = kMagic;
  header.format = kStoreFormat;
  header.rank = static_cast<std::uint32_t>(identity.rank);
  header.drive = static_cast<std::uint32_t>(identity.drive);
  header.file_bytes = file_bytes;
  header.uuid = padded<40>(identity.uuid);
  header.run_id = padded<256>(identity.run_id);
  header.sum = header.computed_sum();
  return header;
}

bool StoreHeader::is_valid() const { return magic == kMagic && sum == computed_sum(); }
std::string_view StoreHeader::run() const { return text_in(run_id); }
std::string_view StoreHeader::opening() const { return text_in(uuid); }

std::uint64_t StoreHeader::computed_sum() const {
  return sum_of(std::as_bytes(std::span(this, 1)).first(offsetof(StoreHeader, sum)));
}

}  // namespace orlop::swap
