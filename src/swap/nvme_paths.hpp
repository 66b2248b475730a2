// The directories that a store is to be in, one on each drive: whether they can be, before anything is created.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "base/result.hpp"

namespace orlop::swap {

// That each of the directories exists, is a directory, writable, and named once; that there is one, and not too many.
Result<> check_drives(std::span<const std::string> nvme_paths);

// Before anything is created: the same, and that together they have room for the store (exact shortfall).
Result<> check_nvme_paths(std::span<const std::string> nvme_paths, std::uint64_t store_bytes);

}  // namespace orlop::swap
