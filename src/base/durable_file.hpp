// Small files that are there whole or not at all, also after a loss of power.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "base/result.hpp"

namespace orlop {

// Writes beside `path`, syncs, renames over it, syncs the directory. After an error before the rename what was there still
// is. With `links` (on the same filesystem) the file gets these as other names before it gets its own.
Result<> write_durably(const std::string& path, std::string_view content, std::span<const std::string> links = {});

// Names made, renamed or removed in it last.
Result<> sync_directory(const std::string& directory);

}  // namespace orlop
