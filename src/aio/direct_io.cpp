#include "aio/direct_io.hpp"

#include <array>
#include <cstddef>
#include <cstdio>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <memory>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/bytes.hpp"

namespace orlop::aio {
namespace {

constexpr unsigned kStatxDioAlign = 0x2000;  // STATX_DIOALIGN, which older headers lack

// struct statx as the kernel has it since 6.1, as far as it is needed here.
struct StatxWithDirect {
  std::uint32_t mask;
  std::array<std::byte, 148> before;
  std::uint32_t memory_alignment;
  std::uint32_t offset_alignment;
  std::array<std::byte, 96> after;
};
static_assert(sizeof(StatxWithDirect) == 256 && offsetof(StatxWithDirect, memory_alignment) == 152);

bool is_plausible(std::uint32_t alignment) {
  return is_power_of_two(alignment) && alignment <= 1u << 16;
}

std::optional<std::uint32_t> read_number(const std::string& path) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "re"), &std::fclose);
  unsigned number = 0;
  if (file == nullptr || std::fscanf(file.get(), "%u", &number) != 1) return std::nullopt;
  return number;
}

// One sector-sized region and another behind it, so that any smaller alignment can be had exactly.
struct alignas(kLargestAlignment) TrialMemory {
  std::array<std::byte, 2 * kLargestAlignment> bytes;
};

// One direct transfer that is aligned to `alignment` and to nothing larger.
bool gets_through(int fd, bool writes, std::uint32_t alignment, TrialMemory& memory) {
  std::byte* const at = memory.bytes.data() + alignment;
  const off_t offset = alignment == kLargestAlignment ? 0 : static_cast<off_t>(alignment);
  const auto moved = writes ? ::pwrite(fd, at, alignment, offset) : ::pread(fd, at, alignment, offset);
  return moved == static_cast<ssize_t>(alignment);
}

}  // namespace

bool is_in_memory(int fd) {
  struct statfs info {};
  if (::fstatfs(fd, &info) != 0) return false;
  return info.f_type == TMPFS_MAGIC || info.f_type == RAMFS_MAGIC;
}

std::optional<Alignment> alignment_by_statx(int fd) {
  StatxWithDirect info{};
  if (::syscall(SYS_statx, fd, "", AT_EMPTY_PATH, kStatxDioAlign, &info) != 0) return std::nullopt;
  if ((info.mask & kStatxDioAlign) == 0) return std::nullopt;
  const Alignment alignment{info.memory_alignment, info.offset_alignment};
  if (alignment == Alignment{0, 0}) return alignment;
  if (!is_plausible(alignment.memory) || !is_plausible(alignment.offset)) return std::nullopt;
  return alignment;
}

std::optional<Alignment> alignment_of_device(int fd) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) return std::nullopt;
  const auto device = fmt::format("/sys/dev/block/{}:{}", major(info.st_dev), minor(info.st_dev));
  auto bytes = read_number(device + "/queue/logical_block_size");
  if (!bytes)
    bytes = read_number(device + "/../queue/logical_block_size");  // a partition: ask the drive it is of
  if (!bytes || !is_plausible(*bytes)) return std::nullopt;
  return Alignment{*bytes, *bytes};
}

std::optional<Alignment> alignment_by_trying(int fd) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) return std::nullopt;
  const bool writes = info.st_size == 0;
  if (!writes && info.st_size < static_cast<off_t>(2 * kLargestAlignment)) return std::nullopt;
  const auto memory = std::make_unique<TrialMemory>();
  std::optional<Alignment> found;
  for (std::uint32_t alignment = 512; alignment <= kLargestAlignment && !found; alignment *= 2) {
    if (gets_through(fd, writes, alignment, *memory)) found = Alignment{alignment, alignment};
  }
  if (writes && ::ftruncate(fd, 0) != 0) return std::nullopt;
  return found;
}

std::optional<Alignment> known_alignment(int fd) {
  const auto alignment = alignment_by_statx(fd);
  if (!alignment) return alignment_of_device(fd);
  return alignment->memory == 0 ? std::nullopt : alignment;
}

std::optional<Alignment> direct_alignment(int fd) {
  if (const auto alignment = alignment_by_statx(fd)) {
    if (alignment->memory == 0) return std::nullopt;
    return alignment;
  }
  if (const auto alignment = alignment_of_device(fd)) return alignment;
  if (const auto alignment = alignment_by_trying(fd)) return alignment;
  return Alignment{kLargestAlignment, kLargestAlignment};
}

}  // namespace orlop::aio
