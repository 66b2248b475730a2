#include "raw_io.hpp"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <thread>
#include <unistd.h>
#include <utility>
#include <vector>

#ifdef ORLOP_HAVE_URING
#include <liburing.h>
#endif

#include "base/unique_fd.hpp"

namespace orlop::bench {
namespace {

constexpr std::uint64_t kHugePage = 2 << 20;
constexpr std::uint64_t kSector = 4096;
constexpr std::uint64_t kLargestPinned = 1ull << 30;  // bytes of one registered buffer
constexpr unsigned kMostThreads = 32;

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

struct Operation {
  bool is_read;
  std::uint64_t bytes;
  std::uint64_t offset;
  std::byte* memory;
};

// A place that goes around in [0, end).
class Place {
 public:
  Place(std::uint64_t begin, std::uint64_t end) : next_(begin), end_(end) {}
  std::uint64_t take(std::uint64_t bytes) {
    const auto place = next_ + bytes <= end_ ? next_ : 0;
    next_ = place + bytes;
    return place;
  }

 private:
  std::uint64_t next_;
  std::uint64_t end_;
};

// Requests one after the other through region and memory, reads and writes each at their own place in the
// region.
class Sequence {
 public:
  Sequence(const RawIoOptions& options, std::span<std::byte> memory)
      : read_bytes_(options.request_bytes),
        write_bytes_(options.write_request_bytes),
        slot_bytes_(std::max(read_bytes_, write_bytes_)),
        read_place_(0, options.region_bytes),
        write_place_(options.region_bytes / 2 / write_bytes_ * write_bytes_, options.region_bytes),
        memory_place_(0, options.memory_bytes),
        memory_(memory.data()) {}

  void begin(double read_fraction) {
    read_fraction_ = read_fraction;
    read_ = written_ = 0;
  }

  Operation next() {
    const bool is_read = read_fraction_ >= 1 || read_ * (1 - read_fraction_) < written_ * read_fraction_ ||
                         (read_fraction_ > 0 && read_ + written_ == 0);
    const auto bytes = is_read ? read_bytes_ : write_bytes_;
    (is_read ? read_ : written_) += static_cast<double>(bytes);
    return {is_read, bytes, (is_read ? read_place_ : write_place_).take(bytes),
            memory_ + memory_place_.take(slot_bytes_)};
  }

 private:
  std::uint64_t read_bytes_;
  std::uint64_t write_bytes_;
  std::uint64_t slot_bytes_;
  Place read_place_;
  Place write_place_;
  Place memory_place_;
  std::byte* memory_;
  double read_fraction_ = 1;
  double read_ = 0;  // bytes in this run
  double written_ = 0;
};

tl::unexpected<Error> failed_request(const RawIoOptions& options, const Operation& operation,
                                     std::int64_t result) {
  const auto why =
      result < 0 ? describe_errno(static_cast<int>(-result)) : fmt::format("{} bytes moved", result);
  return fail(ORLOP_IO_ERROR, "raw {}: {} ({} bytes at offset {}): {}", operation.is_read ? "read" : "write",
              options.path, operation.bytes, operation.offset, why);
}

}  // namespace

double process_cpu_seconds() {
  rusage usage{};
  if (::getrusage(RUSAGE_SELF, &usage) != 0) return 0;
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

Result<HugeMemory> HugeMemory::create(std::uint64_t bytes) {
  HugeMemory memory;
  memory.size_ = (bytes + kHugePage - 1) / kHugePage * kHugePage;
  // One page more, to begin at a boundary; the rest is given back.
  void* const mapped =
      ::mmap(nullptr, memory.size_ + kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) {
    return fail(ORLOP_NO_MEMORY, "buffers: map {} bytes: {}", memory.size_, describe_errno(errno));
  }
  auto* const begin = static_cast<std::byte*>(mapped);
  const auto ahead = (kHugePage - reinterpret_cast<std::uintptr_t>(begin) % kHugePage) % kHugePage;
  if (ahead > 0) ::munmap(begin, ahead);
  if (ahead < kHugePage) ::munmap(begin + ahead + memory.size_, kHugePage - ahead);
  memory.data_ = begin + ahead;
  ::madvise(memory.data_, memory.size_,
            MADV_HUGEPAGE);  // without huge pages the roof is lower, and still a roof
  for (std::uint64_t at = 0; at < memory.size_; at += kSector) memory.data_[at] = std::byte{0};
  return memory;
}

HugeMemory::HugeMemory(HugeMemory&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

HugeMemory& HugeMemory::operator=(HugeMemory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

HugeMemory::~HugeMemory() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

struct RawIo::State {
  State(RawIoOptions raw_options, HugeMemory buffers)
      : options(std::move(raw_options)),
        memory(std::move(buffers)),
        sequence(options, memory.span()),
        operations(options.depth) {}

  ~State() {
#ifdef ORLOP_HAVE_URING
    if (has_ring) io_uring_queue_exit(&ring);
#endif
  }

  State(const State&) = delete;
  State& operator=(const State&) = delete;

  Result<> open_file() {
    fd = unique_fd(::open(options.path.c_str(), O_RDWR | O_CLOEXEC | O_DIRECT));
    is_direct = fd.is_open();
    if (!is_direct && errno == EINVAL) fd = unique_fd(::open(options.path.c_str(), O_RDWR | O_CLOEXEC));
    if (fd.is_open()) return {};
    return fail(status_of_errno(errno), "raw open: {}: {}", options.path, describe_errno(errno));
  }

  [[nodiscard]] std::uint64_t slot_bytes() const {
    return std::max(options.request_bytes, options.write_request_bytes);
  }

  // All return the bytes moved.
  Result<std::uint64_t> run_threads(std::uint64_t bytes);
  Result<> work(std::span<const Operation> all, std::size_t first, std::size_t step) const;
#ifdef ORLOP_HAVE_URING
  bool set_up_ring();
  bool set_up_queue();
  [[nodiscard]] std::vector<iovec> pieces() const;
  std::uint64_t prepare(unsigned slot);
  Result<std::uint64_t> run_ring(std::uint64_t bytes);

  io_uring ring{};
  bool has_ring = false;
#endif
  RawIoOptions options;
  HugeMemory memory;
  Sequence sequence;
  std::vector<Operation> operations;  // in flight, by slot
  unique_fd fd;
  bool is_direct = false;
};

#ifdef ORLOP_HAVE_URING

bool RawIo::State::set_up_queue() {
  for (const unsigned flags : {IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN, 0u}) {
    if (io_uring_queue_init(options.depth, &ring, flags) == 0) return true;
  }
  return false;
}

// Memory in pieces that may be registered, none of which a request straddles.
std::vector<iovec> RawIo::State::pieces() const {
  std::vector<iovec> found;
  const auto piece_bytes = kLargestPinned / slot_bytes() * slot_bytes();
  for (std::uint64_t at = 0; at < options.memory_bytes; at += piece_bytes) {
    found.push_back({memory.span().data() + at, std::min(piece_bytes, options.memory_bytes - at)});
  }
  return found;
}

// Everything registered, or no ring at all: a roof that is lower than it need be is none.
bool RawIo::State::set_up_ring() {
  has_ring = set_up_queue();
  if (!has_ring) return false;
  const auto buffers = pieces();
  const int descriptor = fd.get();
  if (io_uring_register_buffers(&ring, buffers.data(), static_cast<unsigned>(buffers.size())) == 0 &&
      io_uring_register_files(&ring, &descriptor, 1) == 0) {
    return true;
  }
  io_uring_queue_exit(&ring);
  return has_ring = false;
}

// Returns the bytes of the request.
std::uint64_t RawIo::State::prepare(unsigned slot) {
  operations[slot] = sequence.next();
  const auto& [is_read, bytes, offset, at] = operations[slot];
  const auto place = static_cast<std::uint64_t>(at - memory.span().data());
  const auto index = static_cast<int>(place / (kLargestPinned / slot_bytes() * slot_bytes()));
  io_uring_sqe* const entry = io_uring_get_sqe(&ring);
  if (is_read) {
    io_uring_prep_read_fixed(entry, 0, at, static_cast<unsigned>(bytes), offset, index);
  } else {
    io_uring_prep_write_fixed(entry, 0, at, static_cast<unsigned>(bytes), offset, index);
  }
  entry->flags |= IOSQE_FIXED_FILE;
  entry->user_data = slot;
  return bytes;
}

Result<std::uint64_t> RawIo::State::run_ring(std::uint64_t bytes) {
  Result<std::uint64_t> moved = 0;
  std::uint64_t started_bytes = 0;
  unsigned in_flight = 0;
  for (; in_flight < options.depth && started_bytes < bytes; ++in_flight) started_bytes += prepare(in_flight);
  while (in_flight > 0) {
    const int submitted = io_uring_submit_and_wait(&ring, 1);
    if (submitted < 0 && submitted != -EINTR) {
      return fail(ORLOP_IO_ERROR, "raw loop: wait: {}", describe_errno(-submitted));
    }
    unsigned head = 0;
    unsigned seen = 0;
    io_uring_cqe* entry = nullptr;
    io_uring_for_each_cqe(&ring, head, entry) {
      const auto slot = static_cast<unsigned>(entry->user_data);
      ++seen;
      --in_flight;
      if (!moved) continue;
      if (entry->res != static_cast<std::int64_t>(operations[slot].bytes)) {
        moved = failed_request(options, operations[slot], entry->res);
        continue;
      }
      *moved += operations[slot].bytes;
      if (started_bytes >= bytes) continue;
      started_bytes += prepare(slot);
      ++in_flight;
    }
    io_uring_cq_advance(&ring, seen);
  }
  return moved;
}

#endif

Result<> RawIo::State::work(std::span<const Operation> all, std::size_t first, std::size_t step) const {
  for (auto i = first; i < all.size(); i += step) {
    const auto& [is_read, bytes, offset, at] = all[i];
    const auto place = static_cast<off_t>(offset);
    const auto moved = is_read ? ::pread(fd.get(), at, bytes, place) : ::pwrite(fd.get(), at, bytes, place);
    if (moved != static_cast<ssize_t>(bytes))
      return failed_request(options, all[i], moved < 0 ? -errno : moved);
  }
  return {};
}

Result<std::uint64_t> RawIo::State::run_threads(std::uint64_t bytes) {
  std::vector<Operation> all;
  std::uint64_t total = 0;
  for (; total < bytes; total += all.back().bytes) all.push_back(sequence.next());
  const auto count = std::min(options.depth, kMostThreads);
  std::vector<Result<>> results(count);
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < count; ++i) {
    threads.emplace_back([&, i] { results[i] = work(all, i, count); });
  }
  for (auto& thread : threads) thread.join();
  for (auto& result : results) TRY(std::move(result));
  return total;
}

RawIo::RawIo(std::unique_ptr<State> state) : state_(std::move(state)) {}
RawIo::RawIo(RawIo&&) noexcept = default;
RawIo& RawIo::operator=(RawIo&&) noexcept = default;
RawIo::~RawIo() = default;

Result<RawIo> RawIo::open(const RawIoOptions& wanted) {
  RawIoOptions options = wanted;
  if (options.write_request_bytes == 0) options.write_request_bytes = options.request_bytes;
  const auto slot_bytes = std::max(options.request_bytes, options.write_request_bytes);
  const auto is_request = [&](std::uint64_t bytes) {
    return bytes > 0 && bytes % kSector == 0 && bytes <= kLargestPinned && bytes <= options.region_bytes;
  };
  if (options.depth == 0 || !is_request(options.request_bytes) || !is_request(options.write_request_bytes)) {
    return fail(ORLOP_INVALID_ARGUMENT,
                "raw loop: requests of {} and {} bytes at depth {} in {} bytes of file: must be multiples of "
                "{} bytes that fit",
                options.request_bytes, options.write_request_bytes, options.depth, options.region_bytes,
                kSector);
  }
  options.memory_bytes =
      std::max(options.memory_bytes / slot_bytes, std::uint64_t{options.depth}) * slot_bytes;
  TRY_ASSIGN(auto memory, HugeMemory::create(options.memory_bytes));
  auto state = std::make_unique<State>(options, std::move(memory));
  TRY(state->open_file());
#ifdef ORLOP_HAVE_URING
  state->set_up_ring();  // otherwise threads; engine() says which
#endif
  return RawIo(std::move(state));
}

Result<IoRate> RawIo::run(double read_fraction, std::uint64_t bytes) {
  auto& state = *state_;
  state.sequence.begin(read_fraction);
  const double cpu_before = process_cpu_seconds();
  const double begin = seconds_now();
#ifdef ORLOP_HAVE_URING
  TRY_ASSIGN(const auto moved, state.has_ring ? state.run_ring(bytes) : state.run_threads(bytes));
#else
  TRY_ASSIGN(const auto moved, state.run_threads(bytes));
#endif
  return IoRate{moved, seconds_now() - begin, process_cpu_seconds() - cpu_before};
}

const char* RawIo::engine() const {
#ifdef ORLOP_HAVE_URING
  if (state_->has_ring) return "io_uring";
#endif
  return "threads";
}

bool RawIo::is_direct() const {
  return state_->is_direct;
}

}  // namespace orlop::bench
