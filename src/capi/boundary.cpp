#include "capi/boundary.hpp"

namespace orlop::capi {

std::string& last_error() {
  static thread_local std::string sentence;
  return sentence;
}

orlop_status report(const Error& error) {
  last_error() = error.message;
  return error.status;
}

Result<> fill_text(const char* call, const std::string& text, char* buffer, std::size_t capacity_bytes,
                   std::size_t* needed_bytes) {
  const std::size_t needed = text.size() + 1;
  if (needed_bytes != nullptr) *needed_bytes = needed;
  if (buffer == nullptr) return {};
  if (capacity_bytes < needed) {
    return fail(ORLOP_INVALID_ARGUMENT, "{}: on a buffer of {} bytes: {} are needed", call, capacity_bytes, needed);
  }
  std::memcpy(buffer, text.c_str(), needed);
  return {};
}

}  // namespace orlop::capi
