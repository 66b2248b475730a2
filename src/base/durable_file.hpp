// Small files that are there whole or not at all, also after a loss of power.
#pragma once

#include <string>
#include <string_view>

#include "base/result.hpp"

namespace orlop {

// Writes beside `path`, syncs, renames over it, syncs the directory. After an error what was there before still is.
Result<> write_durably(const std::string& path, std::string_view content);

// Names made, renamed or removed in it last.
Result<> sync_directory(const std::string& directory);

}  // namespace orlop
