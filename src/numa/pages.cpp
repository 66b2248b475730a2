#include "numa/pages.hpp"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <mutex>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <system_error>
#include <thread>
#include <unistd.h>
#include <vector>

#include "base/log.hpp"
#include "numa/text_file.hpp"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23  // Linux 5.14; older C libraries do not name it
#endif

namespace orlop::numa {
namespace {

constexpr std::uint64_t kPieceBytes = 64_MiB;

std::uint64_t read_count(const std::string& path) {
  const auto text = read_optional_text(path);
  const auto value = text ? parse_integer(*text) : std::nullopt;
  return value ? static_cast<std::uint64_t>(std::max<std::int64_t>(*value, 0)) : 0;
}

// The chosen word of "always [madvise] never".
std::string_view chosen(std::string_view text) {
  const auto begin = text.find('[');
  const auto end = text.find(']');
  if (begin == std::string_view::npos || end == std::string_view::npos || end < begin) return {};
  return text.substr(begin + 1, end - begin - 1);
}

int advise_populate(std::span<std::byte> piece) {
  while (::madvise(piece.data(), piece.size(), MADV_POPULATE_WRITE) != 0) {
    if (errno != EINTR && errno != EAGAIN) return errno;
  }
  return 0;
}

void touch(std::span<std::byte> piece) {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  for (std::size_t i = 0; i < piece.size(); i += page) {
    volatile std::byte* const byte = &piece[i];
    *byte = *byte;
  }
}

// Pieces of one stretch of memory, handed out to threads; the first error stops all.
class Pieces {
 public:
  Pieces(std::span<std::byte> memory, PopulateBy by) : memory_(memory), by_(by) {}

  void work() {
    while (error_number_.load(std::memory_order_relaxed) == 0) {
      const std::uint64_t begin = next_.fetch_add(kPieceBytes, std::memory_order_relaxed);
      if (begin >= memory_.size()) return;
      const auto piece = memory_.subspan(begin, std::min(kPieceBytes, memory_.size() - begin));
      if (by_ == PopulateBy::touch) {
        touch(piece);
      } else if (const int error_number = advise_populate(piece); error_number != 0) {
        error_number_.store(error_number, std::memory_order_relaxed);
      }
    }
  }

  // After every thread has been joined.
  [[nodiscard]] Result<> result() const {
    const int error_number = error_number_.load(std::memory_order_relaxed);
    if (error_number == 0) return {};
    return fail(error_number == ENOMEM ? ORLOP_NO_MEMORY : status_of_errno(error_number),
                "populate: {} ({} B) of host memory: MADV_POPULATE_WRITE: {}", format_bytes(memory_.size()),
                memory_.size(), describe_errno(error_number));
  }

 private:
  std::span<std::byte> memory_;
  PopulateBy by_;
  std::atomic<std::uint64_t> next_{0};
  std::atomic<int> error_number_{0};
};

std::size_t thread_count(const Topology& topology, int node, std::uint64_t bytes) {
  std::size_t count = static_cast<std::size_t>(topology.processor_count());
  if (node >= 0) {
    const std::size_t local = topology.nodes()[static_cast<std::size_t>(node)].processors.size();
    if (local != 0) count = std::min(count, local);
  }
  return std::min<std::size_t>(count, divide_up(bytes, kPieceBytes));
}

// Where the page lands is the memory policy's business; running on its node only zeroes it faster.
void bind_if_possible(const Topology& topology, int node) {
  if (node < 0 || topology.nodes().size() == 1) return;
  if (const auto bound = bind_current_thread(topology, node); !bound) log_debug("{}", bound.error().message);
}

void join_all(std::vector<std::thread>& threads) {
  for (std::thread& thread : threads) thread.join();
}

struct SmapsRange {
  std::uintptr_t begin;
  std::uintptr_t end;
};

// "7f0000000000-7f0000200000 rw-p ..."
std::optional<SmapsRange> parse_range(std::string_view line) {
  const auto word = line.substr(0, line.find(' '));
  const auto dash = word.find('-');
  if (dash == std::string_view::npos) return std::nullopt;
  SmapsRange range{};
  const auto first = std::from_chars(word.data(), word.data() + dash, range.begin, 16);
  const auto second = std::from_chars(word.data() + dash + 1, word.data() + word.size(), range.end, 16);
  if (first.ptr != word.data() + dash || second.ptr != word.data() + word.size()) return std::nullopt;
  return range;
}

// The part of a mapping's huge pages that falls to its overlap with `memory`.
std::uint64_t share(SmapsRange mapping, SmapsRange memory, std::uint64_t huge_bytes) {
  const auto begin = std::max(mapping.begin, memory.begin);
  const auto end = std::min(mapping.end, memory.end);
  if (begin >= end) return 0;
  const double fraction = static_cast<double>(end - begin) / static_cast<double>(mapping.end - mapping.begin);
  return static_cast<std::uint64_t>(fraction * static_cast<double>(huge_bytes));
}

}  // namespace

std::uint64_t free_explicit_huge_bytes(const std::string& root, std::optional<int> os_node) {
  const std::string all = root + "/sys/kernel/mm/hugepages/hugepages-2048kB/";
  const std::uint64_t free = read_count(all + "free_hugepages");
  const std::uint64_t reserved = read_count(all + "resv_hugepages");
  std::uint64_t count = free - std::min(free, reserved);
  if (os_node) {
    count = std::min(count, read_count(fmt::format(
                                "{}/sys/devices/system/node/node{}/hugepages/hugepages-2048kB/free_hugepages",
                                root, *os_node)));
  }
  return count * kHugePageBytes;
}

bool transparent_huge_pages_allowed(const std::string& root) {
  const std::string directory = root + "/sys/kernel/mm/transparent_hugepage/";
  // Since Linux 6.8 each size has a setting of its own, which may inherit the general one.
  const auto own = read_optional_text(directory + "hugepages-2048kB/enabled");
  if (own && chosen(*own) != "inherit") return chosen(*own) != "never" && !chosen(*own).empty();
  const auto general = read_optional_text(directory + "enabled");
  return general && (chosen(*general) == "always" || chosen(*general) == "madvise");
}

bool transparent_huge_pages_denied_to_process() {
  return ::prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0) > 0;
}

std::optional<std::uint64_t> transparent_huge_bytes(std::span<const std::byte> memory) {
  const auto text = read_optional_text("/proc/self/smaps");
  if (!text) return std::nullopt;
  const auto begin = reinterpret_cast<std::uintptr_t>(memory.data());
  const SmapsRange wanted{begin, begin + memory.size()};
  std::uint64_t huge = 0;
  SmapsRange mapping{};
  for (const std::string_view line : split_lines(*text)) {
    if (const auto range = parse_range(line)) mapping = *range;
    if (const auto bytes = find_field(line, "AnonHugePages")) huge += share(mapping, wanted, *bytes);
  }
  return huge;
}

Result<> populate(std::span<std::byte> memory, const Topology& topology, int node, PopulateBy by) {
  if (memory.empty()) return {};
  Pieces pieces(memory, by);
  std::vector<std::thread> threads;
  try {
    for (std::size_t i = 1; i < thread_count(topology, node, memory.size()); ++i) {
      threads.emplace_back([&] {
        bind_if_possible(topology, node);
        pieces.work();
      });
    }
  } catch (const std::system_error& error) {  // no more threads for us: those that run, and this one, do it
    log_info("populate: {} of the threads wanted: {}", threads.size() + 1, error.what());
  }
  pieces.work();
  join_all(threads);
  return pieces.result();
}

bool populate_advice_is_supported() {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  void* const memory = ::mmap(nullptr, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return false;
  const int error_number = advise_populate({static_cast<std::byte*>(memory), page});
  ::munmap(memory, page);
  return error_number == 0;
}

}  // namespace orlop::numa
