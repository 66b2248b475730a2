// Locality of devices, from sysfs: the NUMA node (its OS index) that a drive or a PCI device hangs on.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace orlop::numa {

// "nvme0n1", "/dev/nvme0n1p2", "dm-0", "md127": partitions belong to their drive, stacked devices to their
// first member. Nothing when the system does not say. `root` stands for "/" (tests).
std::optional<int> os_node_of_block_device(const std::string& root, std::string_view name);
// "0000:3b:00.0" in either case.
std::optional<int> os_node_of_pci(const std::string& root, std::string_view address);

}  // namespace orlop::numa
