// StoreHeader: the first 4096 bytes of a store file.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "swap/store_file.hpp"

namespace orlop::swap {

inline constexpr std::uint32_t kStoreFormat = 1;

// Little-endian, as all machines we run on.
struct StoreHeader {
  std::array<char, 8> magic = {};
  std::uint32_t format = 0;
  std::uint32_t rank = 0;
  std::uint32_t drive = 0;
  std::uint32_t reserved = 0;
  std::uint64_t file_bytes = 0;
  std::array<char, 40> uuid = {};
  std::array<char, 256> run_id = {};
  std::array<char, 3760> zero = {};
  std::uint64_t sum = 0;  // XXH3 of all before it

  static StoreHeader of(const StoreIdentity& identity, std::uint64_t file_bytes);
  [[nodiscard]] bool is_valid() const;
  [[nodiscard]] std::string_view run() const;
  [[nodiscard]] std::string_view opening() const;

 private:
  [[nodiscard]] std::uint64_t computed_sum() const;
};
static_assert(sizeof(StoreHeader) == kHeaderBytes);

}  // namespace orlop::swap
