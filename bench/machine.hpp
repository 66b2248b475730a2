// What a report says about the machine it was made on.
#pragma once

#include <span>
#include <string>

#include <nlohmann/json.hpp>

namespace orlop::bench {

// CPU, processors, memory, kernel, and the filesystem and drive under the first of the directories (there may be none);
// all of them under "drives" where there are several.
nlohmann::json describe_machine(std::span<const std::string> directories);

// Of the program and what it was built with.
nlohmann::json describe_versions();

// "Intel Xeon, 2 processors, 23.4 GiB, Linux 6.18, ext4 on /dev/vda"
std::string machine_line(const nlohmann::json& machine);

}  // namespace orlop::bench
