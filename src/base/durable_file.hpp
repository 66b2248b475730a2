// Small files that are there whole or not at all, also after a loss of power.
#pragma once

#include <string>
#include <string_view>

#include "base/result.hpp"

namespace orlop {

// Writes beside `path`, syncs, renames over it, syncs the directory. After an error before the rename what was there still
// is. With `link` (not empty, on the same filesystem) the file gets that as a second name before it gets its first.
Result<> write_durably(const std::string& path, std::string_view content, const std::string& link = {});

// Names made, renamed or removed in it last.
Result<> sync_directory(const std::string& directory);

}  // namespace orlop
