#include "base/result.hpp"

#include <cerrno>
#include <system_error>

namespace orlop {

std::string describe_errno(int error_number) {
  return fmt::format("{} (errno {})", std::generic_category().message(error_number), error_number);
}

orlop_status status_of_errno(int error_number) {
  switch (error_number) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return ORLOP_NO_SPACE;
    case EACCES:
    case EPERM:
    case EROFS:
      return ORLOP_NO_PERMISSION;
    case ENOENT:
    case ENOTDIR:
      return ORLOP_NOT_FOUND;
    case ENOMEM:
      return ORLOP_NO_MEMORY;
    case ENOSYS:
    case EOPNOTSUPP:
      return ORLOP_UNSUPPORTED;
    default:
      return ORLOP_IO_ERROR;
  }
}

}  // namespace orlop
