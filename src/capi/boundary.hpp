// Boundary: what every call of the C ABI does on its way in and out.
#pragma once

#include <cstring>
#include <exception>
#include <new>
#include <string>
#include <utility>

#include "base/result.hpp"

namespace orlop::capi {

// This thread's last sentence.
std::string& last_error();

orlop_status report(const Error& error);

// Runs a call's body; what it returns or throws becomes a status and a sentence.
template <typename Body>
orlop_status guarded(const Body& body) noexcept {
  try {
    const Result<> result = body();
    return result ? ORLOP_OK : report(result.error());
  } catch (const std::bad_alloc&) {
    return report({ORLOP_NO_MEMORY, "host memory: on a table of the engine: the system has none left"});
  } catch (const std::exception& e) {
    return report({ORLOP_INTERNAL, std::string("internal: ") + e.what()});
  }
}

// A struct begins with its size and at least one more field.
inline Result<> check_struct_size(const char* call, std::size_t size) {
  if (size >= sizeof(std::uint32_t) * 2) return {};
  return fail(ORLOP_INVALID_ARGUMENT, "{}: on struct_size {}: set it to sizeof the struct", call, size);
}

// Reads a caller's struct whose first field is struct_size: fields it does not have are zero; a longer one is accepted
// only if what this library does not know is zero.
template <typename Struct>
Result<Struct> read_struct(const char* call, const Struct* given) {
  if (given == nullptr) return fail(ORLOP_INVALID_ARGUMENT, "{}: on its struct: the pointer is NULL", call);
  const std::size_t size = given->struct_size;
  TRY(check_struct_size(call, size));
  const auto* const bytes = reinterpret_cast<const unsigned char*>(given);
  for (std::size_t i = sizeof(Struct); i < size; ++i) {
    if (bytes[i] != 0) {
      return fail(ORLOP_UNSUPPORTED, "{}: on byte {} of a struct of {}: this library knows {} bytes; it is older than "
                  "the header", call, i, size, sizeof(Struct));
    }
  }
  Struct known{};
  std::memcpy(&known, given, size < sizeof(Struct) ? size : sizeof(Struct));
  return known;
}

// Fills a caller's struct up to the size it gave.
template <typename Struct>
Result<> fill_struct(const char* call, Struct* given, Struct values) {
  if (given == nullptr) return fail(ORLOP_INVALID_ARGUMENT, "{}: on its struct: the pointer is NULL", call);
  const std::uint32_t size = given->struct_size;
  TRY(check_struct_size(call, size));
  values.struct_size = size;
  if (size > sizeof(Struct)) std::memset(reinterpret_cast<char*>(given) + sizeof(Struct), 0, size - sizeof(Struct));
  std::memcpy(given, &values, size < sizeof(Struct) ? size : sizeof(Struct));
  return {};
}

// Copies text with its NUL into a caller's buffer; *needed_bytes always says how large it must be.
Result<> fill_text(const char* call, const std::string& text, char* buffer, std::size_t capacity_bytes,
                   std::size_t* needed_bytes);

}  // namespace orlop::capi
