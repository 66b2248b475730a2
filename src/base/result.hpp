// Result: how everything inside the library reports failure.
#pragma once

#include <string>
#include <utility>

#include <fmt/format.h>
#include <tl/expected.hpp>

#include "orlop/orlop.h"

namespace orlop {

// A failure: the status that crosses the C ABI and one sentence in the form
// `what: on what (numbers): why`, followed by what to do instead where that helps.
struct Error {
  orlop_status status;
  std::string message;
};

template <typename T = void>
using Result = tl::expected<T, Error>;

template <typename... Args>
[[nodiscard]] tl::unexpected<Error> fail(orlop_status status, fmt::format_string<Args...> format,
                                         Args&&... args) {
  return tl::unexpected<Error>(Error{status, fmt::format(format, std::forward<Args>(args)...)});
}

// "No space left on device (errno 28)": the tail of every message about a system call.
std::string describe_errno(int error_number);

// The status that an errno maps to (ENOSPC -> ORLOP_NO_SPACE, EACCES -> ORLOP_NO_PERMISSION, ...).
orlop_status status_of_errno(int error_number);

}  // namespace orlop

#define ORLOP_CONCAT_(a, b) a##b
#define ORLOP_CONCAT(a, b) ORLOP_CONCAT_(a, b)

// TRY(expression): return the error of a Result, otherwise drop its value.
#define TRY(...)                                                                       \
  do {                                                                                 \
    if (auto try_result_ = (__VA_ARGS__); !try_result_)                                \
      return tl::unexpected<::orlop::Error>(std::move(try_result_).error());           \
  } while (false)

// TRY_ASSIGN(declaration, expression): declare a variable from a Result, or return its error.
#define TRY_ASSIGN(declaration, ...) \
  TRY_ASSIGN_(ORLOP_CONCAT(try_assign_, __LINE__), declaration, __VA_ARGS__)
#define TRY_ASSIGN_(temporary, declaration, ...)                              \
  auto temporary = (__VA_ARGS__);                                             \
  if (!temporary) return tl::unexpected<::orlop::Error>(std::move(temporary).error()); \
  declaration = std::move(*temporary)
