#include "numa/arena.hpp"

#include <algorithm>
#include <cerrno>
#include <memory>
#include <sys/mman.h>
#include <utility>

#include <hwloc.h>

#include "base/bytes.hpp"
#include "base/log.hpp"
#include "numa/pages.hpp"

namespace orlop::numa {
namespace {

// A mapping on its way into an arena.
class Mapping {
 public:
  Mapping() = default;
  Mapping(std::byte* data, std::uint64_t bytes) : data_(data), bytes_(bytes) {}
  Mapping(Mapping&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  Mapping& operator=(Mapping&&) = delete;
  ~Mapping() {
    if (data_ != nullptr) ::munmap(data_, bytes_);
  }

  [[nodiscard]] std::span<std::byte> memory() const { return {data_, bytes_}; }
  std::byte* release() { return std::exchange(data_, nullptr); }

 private:
  std::byte* data_ = nullptr;
  std::uint64_t bytes_ = 0;
};

Result<> check_node(const Topology& topology, int node) {
  if (node >= -1 && node < static_cast<int>(topology.nodes().size())) return {};
  return fail(ORLOP_INVALID_ARGUMENT, "arena: node {}: this machine has nodes 0 to {}", node,
              topology.nodes().size() - 1);
}

std::optional<int> os_node(const Topology& topology, int node) {
  if (node < 0 || !topology.is_this_machine()) return std::nullopt;
  return topology.nodes()[static_cast<std::size_t>(node)].os_index;
}

Result<> check_room(const Topology& topology, std::uint64_t bytes, std::uint64_t mapped) {
  TRY_ASSIGN(const HostMemory host, host_memory());
  const std::uint64_t needed = bytes_in_all(mapped, topology.processor_count());
  if (needed <= host.available_bytes) return {};
  const std::uint64_t missing = needed - host.available_bytes;
  return fail(
      ORLOP_NO_MEMORY,
      "host memory: arena of {} ({} B): takes {} B with its page tables, {} ({} B) of {} are available, "
      "limited by {}: {} ({} B) are missing; lower the host budget or free memory",
      format_bytes(bytes), bytes, needed, format_bytes(host.available_bytes), host.available_bytes,
      format_bytes(host.total_bytes), host.limited_by, format_bytes(missing), missing);
}

tl::unexpected<Error> fail_map(std::uint64_t bytes, int error_number) {
  return fail(
      ORLOP_NO_MEMORY,
      "host memory: arena of {} ({} B): mmap: {}; a limit on address space (ulimit -v) or on commitment "
      "(vm.overcommit_memory=2) may be in force",
      format_bytes(bytes), bytes, describe_errno(error_number));
}

Result<Mapping> map(std::uint64_t bytes, int extra_flags) {
  void* const data =
      ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | extra_flags, -1, 0);
  if (data == MAP_FAILED) return fail_map(bytes, errno);
  return Mapping(static_cast<std::byte*>(data), bytes);
}

// mmap aligns to small pages: one huge page more is mapped, and what sticks out on either side goes back.
Result<Mapping> map_aligned(std::uint64_t bytes) {
  TRY_ASSIGN(Mapping wide, map(bytes + kHugePageBytes, MAP_NORESERVE));
  const std::uint64_t wide_bytes = wide.memory().size();
  std::byte* const begin = wide.release();
  const auto address = reinterpret_cast<std::uintptr_t>(begin);
  const std::uint64_t head = align_up(address, kHugePageBytes) - address;
  const std::uint64_t tail = wide_bytes - head - bytes;
  const bool trimmed =
      (head == 0 || ::munmap(begin, head) == 0) && (tail == 0 || ::munmap(begin + head + bytes, tail) == 0);
  if (!trimmed)
    log_warning("arena: {} of address space stay mapped: {}", format_bytes(head + tail),
                describe_errno(errno));
  return Mapping(begin + head, bytes);
}

// Preferred, not strictly bound: under a strict policy a full node kills the process instead of using its
// neighbour.
void prefer_node(std::span<std::byte> memory, const Topology& topology, int node) {
  if (!os_node(topology, node) || topology.nodes().size() == 1) return;
  const std::unique_ptr<hwloc_bitmap_s, decltype(&hwloc_bitmap_free)> nodes(hwloc_bitmap_alloc(),
                                                                            &hwloc_bitmap_free);
  const bool is_set = nodes &&
                      hwloc_bitmap_set(nodes.get(), static_cast<unsigned>(*os_node(topology, node))) == 0 &&
                      hwloc_set_area_membind(topology.handle(), memory.data(), memory.size(), nodes.get(),
                                             HWLOC_MEMBIND_BIND, HWLOC_MEMBIND_BYNODESET) == 0;
  if (!is_set) {
    log_warning("arena: node {} ({}): mbind: {}; pages land where they are first touched", node,
                format_bytes(memory.size()), describe_errno(errno));
  }
}

void keep_from_children(std::span<std::byte> memory) {
  if (::madvise(memory.data(), memory.size(), MADV_DONTFORK) != 0) {
    log_warning("arena: MADV_DONTFORK: {}; a fork copies pages that are written while the child lives",
                describe_errno(errno));
  }
}

// Explicit huge pages are set aside by the system, so that there is nothing to save by populating them later. Only with
// the populating advice: a pool that runs dry (another node's pages, a hugetlb cgroup) is then an error here instead of
// SIGBUS at some later touch. Nothing: take other pages.
std::optional<Mapping> map_explicit_huge(std::uint64_t bytes, const Topology& topology,
                                         const ArenaOptions& options) {
  if (!populate_advice_is_supported()) return std::nullopt;
  if (free_explicit_huge_bytes("", os_node(topology, options.node)) < bytes) return std::nullopt;
  constexpr int kTwoMiB = 21 << MAP_HUGE_SHIFT;
  auto mapping = map(bytes, MAP_HUGETLB | kTwoMiB);
  if (!mapping) return std::nullopt;
  prefer_node(mapping->memory(), topology, options.node);
  if (const auto done = populate(mapping->memory(), topology, options.node); !done) {
    log_info("arena: explicit huge pages: {}; using transparent ones", done.error().message);
    return std::nullopt;
  }
  return *std::move(mapping);
}

PageKind ask_for_huge_pages(std::span<std::byte> memory) {
  constexpr const char* kPrice =
      "direct I/O into 4 KiB pages ran at 0.7x (reads) and 0.9x (writes) of huge pages";
  if (!transparent_huge_pages_allowed("") || transparent_huge_pages_denied_to_process()) {
    log_warning("arena: {} in small pages: transparent huge pages are off; {}", format_bytes(memory.size()),
                kPrice);
    return PageKind::small;
  }
  if (::madvise(memory.data(), memory.size(), MADV_HUGEPAGE) != 0) {
    log_warning("arena: {} in small pages: MADV_HUGEPAGE: {}; {}", format_bytes(memory.size()),
                describe_errno(errno), kPrice);
    return PageKind::small;
  }
  return PageKind::transparent_huge;
}

Result<> make_real(std::span<std::byte> memory, const Topology& topology, int node) {
  const PopulateBy by = populate_advice_is_supported() ? PopulateBy::advice : PopulateBy::touch;
  return populate(memory, topology, node, by);
}

void report_fragmentation(std::span<const std::byte> memory) {
  const auto huge = transparent_huge_bytes(memory);
  if (!huge || *huge >= memory.size() / 10 * 9) return;
  log_warning("arena: {} of {} are in huge pages: memory is fragmented; direct I/O into the rest is slower",
              format_bytes(*huge), format_bytes(memory.size()));
}

}  // namespace

Result<Arena> Arena::create(const Topology& topology, std::uint64_t bytes, const ArenaOptions& options) {
  TRY(check_node(topology, options.node));
  Arena arena;
  if (bytes == 0) return arena;
  TRY_ASSIGN(const std::uint64_t padded, checked_add(bytes, kHugePageBytes - 1));
  arena.size_ = bytes;
  arena.mapped_ = align_down(padded, kHugePageBytes);
  arena.node_ = options.node;

  if (auto mapping = map_explicit_huge(arena.mapped_, topology, options)) {
    if (options.children == Children::do_without) keep_from_children(mapping->memory());
    arena.data_ = mapping->release();
    arena.page_kind_ = PageKind::explicit_huge;
    return arena;
  }
  TRY(check_room(topology, bytes, arena.mapped_));
  TRY_ASSIGN(Mapping mapping, map_aligned(arena.mapped_));
  if (options.children == Children::do_without) keep_from_children(mapping.memory());
  arena.page_kind_ = ask_for_huge_pages(mapping.memory());
  prefer_node(mapping.memory(), topology, options.node);
  arena.data_ = mapping.release();
  if (options.populate == Populate::now) TRY(arena.populate(topology));
  return arena;
}

Result<> Arena::populate(const Topology& topology) {
  const std::span<std::byte> mapped(data_, mapped_);
  if (mapped.empty() || page_kind_ == PageKind::explicit_huge) return {};
  TRY(make_real(mapped, topology, node_));
  if (page_kind_ == PageKind::transparent_huge) report_fragmentation(mapped);
  return {};
}

Arena::Arena(Arena&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      mapped_(std::exchange(other.mapped_, 0)),
      taken_(std::exchange(other.taken_, 0)),
      node_(other.node_),
      page_kind_(other.page_kind_) {}

Arena& Arena::operator=(Arena&& other) noexcept {
  Arena moved(std::move(other));
  std::swap(data_, moved.data_);
  std::swap(size_, moved.size_);
  std::swap(mapped_, moved.mapped_);
  std::swap(taken_, moved.taken_);
  std::swap(node_, moved.node_);
  std::swap(page_kind_, moved.page_kind_);
  return *this;
}

Arena::~Arena() {
  if (data_ == nullptr) return;
  if (::munmap(data_, mapped_) != 0)
    log_error("arena: munmap of {}: {}", format_bytes(mapped_), describe_errno(errno));
}

Result<std::span<std::byte>> Arena::take(std::uint64_t bytes, std::uint64_t alignment) {
  if (!is_power_of_two(alignment) || alignment > kHugePageBytes) {
    return fail(ORLOP_INVALID_ARGUMENT, "arena: alignment {}: not a power of two of at most {}", alignment,
                kHugePageBytes);
  }
  const std::uint64_t begin = align_up(taken_, alignment);
  if (begin > size_ || bytes > size_ - begin) {
    return fail(ORLOP_NO_MEMORY, "arena: {} B aligned to {} B: {} of {} B are taken, {} B are missing", bytes,
                alignment, taken_, size_, bytes - (size_ - std::min(begin, size_)));
  }
  taken_ = begin + bytes;
  return std::span<std::byte>(data_ + begin, bytes);
}

}  // namespace orlop::numa
