// What a report says about the machine it was made on.
#pragma once

#include <string>

#include <nlohmann/json.hpp>

namespace orlop::bench {

// CPU, processors, memory, kernel, and the filesystem and drive under `directory` (empty: none).
nlohmann::json describe_machine(const std::string& directory);

// Of the program and what it was built with.
nlohmann::json describe_versions();

// "Intel Xeon, 2 processors, 23.4 GiB, Linux 6.18, ext4 on /dev/vda"
std::string machine_line(const nlohmann::json& machine);

}  // namespace orlop::bench
