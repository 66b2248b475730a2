// Pages: which sizes this system gives, and mapped memory made real in parallel.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "numa/topology.hpp"

namespace orlop::numa {

inline constexpr std::uint64_t kHugePageBytes = 2_MiB;

// Bytes in 2 MiB pages that the administrator has set aside and nobody has taken or reserved, on one node (an
// OS index) or anywhere. `root` stands for "/" (tests).
std::uint64_t free_explicit_huge_bytes(const std::string& root, std::optional<int> os_node);

// Whether madvise(MADV_HUGEPAGE) gives 2 MiB pages here: the system's setting.
bool transparent_huge_pages_allowed(const std::string& root);
// Whether this process has been denied them (PR_SET_THP_DISABLE).
bool transparent_huge_pages_denied_to_process();

// How much of `memory` lies in transparent huge pages, by /proc/self/smaps; nothing when it cannot be read.
// Mappings that the kernel has merged with neighbours count in proportion.
std::optional<std::uint64_t> transparent_huge_bytes(std::span<const std::byte> memory);

// How pages are made real: by the kernel in one call, or by writing a byte to each.
enum class PopulateBy : std::uint8_t { advice, touch };

// Gives every page of `memory` (2 MiB-aligned) a frame, on threads of `node` (-1: any). Contents stay as they
// are.
Result<> populate(std::span<std::byte> memory, const Topology& topology, int node,
                  PopulateBy by = PopulateBy::advice);

// MADV_POPULATE_WRITE is there (Linux 5.14): running out of pages is then an error instead of a signal.
bool populate_advice_is_supported();

}  // namespace orlop::numa
