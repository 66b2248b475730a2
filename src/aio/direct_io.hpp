// What direct I/O on a file must be aligned to: asked of the filesystem, else of the drive, else found by
// trying.
#pragma once

#include <cstdint>
#include <optional>

namespace orlop::aio {

// Powers of two.
struct Alignment {
  std::uint32_t memory = 1;
  std::uint32_t offset = 1;  // of file offsets and lengths

  friend bool operator==(const Alignment&, const Alignment&) = default;
};

inline constexpr std::uint32_t kLargestAlignment = 4096;  // what every drive so far accepts

// A filesystem that keeps its files in memory: direct I/O means nothing there.
bool is_in_memory(int fd);

// Each takes a descriptor opened with O_DIRECT; nullopt when that source does not know.
std::optional<Alignment> alignment_by_statx(int fd);  // STATX_DIOALIGN; 0 and 0: the file takes no direct I/O
std::optional<Alignment> alignment_of_device(int fd);  // the logical block size of the drive below
// The smallest that a transfer gets through with. Writes only to files that are empty and leaves them so.
std::optional<Alignment> alignment_by_trying(int fd);

// The first of these that knows, else kLargestAlignment; nullopt when the file takes no direct I/O.
std::optional<Alignment> direct_alignment(int fd);
// The same without trying, for a file that others may be writing: nullopt also when nothing else knows.
std::optional<Alignment> known_alignment(int fd);

}  // namespace orlop::aio
