#include "raw_io.hpp"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <fcntl.h>
#include <optional>
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
  std::uint64_t offset;
};

// Requests one after the other through the region; reads and writes each at their own place.
class Sequence {
 public:
  Sequence(std::uint64_t region_bytes, std::uint64_t request_bytes)
      : request_bytes_(request_bytes), count_(region_bytes / request_bytes), next_write_(count_ / 2) {}

  void set_read_fraction(double fraction) { read_fraction_ = fraction; }

  Operation next() {
    due_ += read_fraction_;
    const bool is_read = due_ >= 1 - 1e-9;
    if (is_read) due_ -= 1;
    auto& place = is_read ? next_read_ : next_write_;
    const Operation operation{is_read, place % count_ * request_bytes_};
    ++place;
    return operation;
  }

 private:
  std::uint64_t request_bytes_;
  std::uint64_t count_;
  std::uint64_t next_read_ = 0;
  std::uint64_t next_write_;
  double read_fraction_ = 1;
  double due_ = 0;  // reads owed
};

tl::unexpected<Error> failed_request(const RawIoOptions& options, const Operation& operation,
                                     std::int64_t result) {
  const auto why =
      result < 0 ? describe_errno(static_cast<int>(-result)) : fmt::format("{} bytes moved", result);
  return fail(ORLOP_IO_ERROR, "raw {}: {} ({} bytes at offset {}): {}", operation.is_read ? "read" : "write",
              options.path, options.request_bytes, operation.offset, why);
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
        sequence(options.region_bytes, options.request_bytes),
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

  [[nodiscard]] std::byte* slot_memory(unsigned slot) const {
    return memory.span().data() + slot * options.request_bytes;
  }

  Result<> run_threads(std::uint64_t requests);
  Result<> work(std::uint64_t first, std::uint64_t end, std::uint64_t step, unsigned slot,
                const std::vector<Operation>& all) const;
#ifdef ORLOP_HAVE_URING
  bool set_up_ring();
  bool set_up_queue();
  void prepare(unsigned slot);
  Result<> run_ring(std::uint64_t requests);

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

// Everything registered, or no ring at all: a roof that is lower than it need be is none.
bool RawIo::State::set_up_ring() {
  has_ring = set_up_queue();
  if (!has_ring) return false;
  std::vector<iovec> pieces;  // a buffer per slot: a roof is for few and large requests
  for (unsigned slot = 0; slot < options.depth; ++slot)
    pieces.push_back({slot_memory(slot), options.request_bytes});
  const int descriptor = fd.get();
  if (io_uring_register_buffers(&ring, pieces.data(), options.depth) == 0 &&
      io_uring_register_files(&ring, &descriptor, 1) == 0) {
    return true;
  }
  io_uring_queue_exit(&ring);
  return has_ring = false;
}

void RawIo::State::prepare(unsigned slot) {
  operations[slot] = sequence.next();
  const auto& [is_read, offset] = operations[slot];
  io_uring_sqe* const entry = io_uring_get_sqe(&ring);
  const auto bytes = static_cast<unsigned>(options.request_bytes);
  const auto index = static_cast<int>(slot);
  if (is_read) {
    io_uring_prep_read_fixed(entry, 0, slot_memory(slot), bytes, offset, index);
  } else {
    io_uring_prep_write_fixed(entry, 0, slot_memory(slot), bytes, offset, index);
  }
  entry->flags |= IOSQE_FIXED_FILE;
  entry->user_data = slot;
}

Result<> RawIo::State::run_ring(std::uint64_t requests) {
  std::uint64_t started = std::min<std::uint64_t>(requests, options.depth);
  for (unsigned slot = 0; slot < started; ++slot) prepare(slot);
  Result<> result;
  for (std::uint64_t finished = 0; finished < started;) {
    const int submitted = io_uring_submit_and_wait(&ring, 1);
    if (submitted < 0 && submitted != -EINTR) {
      return fail(ORLOP_IO_ERROR, "raw loop: wait: {}", describe_errno(-submitted));
    }
    unsigned head = 0;
    unsigned seen = 0;
    io_uring_cqe* entry = nullptr;
    io_uring_for_each_cqe(&ring, head, entry) {
      const auto slot = static_cast<unsigned>(entry->user_data);
      const bool is_whole = entry->res == static_cast<std::int64_t>(options.request_bytes);
      if (!is_whole && result) result = failed_request(options, operations[slot], entry->res);
      ++seen;
      if (result && started < requests) {
        prepare(slot);
        ++started;
      }
    }
    io_uring_cq_advance(&ring, seen);
    finished += seen;
  }
  return result;
}

#endif

Result<> RawIo::State::work(std::uint64_t first, std::uint64_t end, std::uint64_t step, unsigned slot,
                            const std::vector<Operation>& all) const {
  std::byte* const at = slot_memory(slot);
  for (auto i = first; i < end; i += step) {
    const auto offset = static_cast<off_t>(all[i].offset);
    const auto moved = all[i].is_read ? ::pread(fd.get(), at, options.request_bytes, offset)
                                      : ::pwrite(fd.get(), at, options.request_bytes, offset);
    if (moved == static_cast<ssize_t>(options.request_bytes)) continue;
    return failed_request(options, all[i], moved < 0 ? -errno : moved);
  }
  return {};
}

Result<> RawIo::State::run_threads(std::uint64_t requests) {
  std::vector<Operation> all(requests);
  for (auto& operation : all) operation = sequence.next();
  const auto count = std::min(options.depth, kMostThreads);
  std::vector<Result<>> results(count);
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < count; ++i) {
    threads.emplace_back([&, i] { results[i] = work(i, requests, count, i, all); });
  }
  for (auto& thread : threads) thread.join();
  for (auto& result : results) TRY(std::move(result));
  return {};
}

RawIo::RawIo(std::unique_ptr<State> state) : state_(std::move(state)) {}
RawIo::RawIo(RawIo&&) noexcept = default;
RawIo& RawIo::operator=(RawIo&&) noexcept = default;
RawIo::~RawIo() = default;

Result<RawIo> RawIo::open(const RawIoOptions& options) {
  const bool is_valid = options.depth > 0 && options.request_bytes > 0 &&
                        options.request_bytes % kSector == 0 && options.request_bytes <= kLargestPinned &&
                        options.request_bytes <= options.region_bytes;
  if (!is_valid) {
    return fail(ORLOP_INVALID_ARGUMENT,
                "raw loop: requests of {} bytes at depth {} in {} bytes of file: must be multiples of "
                "{} bytes that fit",
                options.request_bytes, options.depth, options.region_bytes, kSector);
  }
  TRY_ASSIGN(auto memory, HugeMemory::create(options.depth * options.request_bytes));
  auto state = std::make_unique<State>(options, std::move(memory));
  TRY(state->open_file());
#ifdef ORLOP_HAVE_URING
  state->set_up_ring();  // otherwise threads; engine() says which
#endif
  return RawIo(std::move(state));
}

Result<IoRate> RawIo::run(double read_fraction, std::uint64_t bytes) {
  auto& state = *state_;
  state.sequence.set_read_fraction(read_fraction);
  const auto requests = std::max<std::uint64_t>(1, bytes / state.options.request_bytes);
  const double cpu_before = process_cpu_seconds();
  const double begin = seconds_now();
#ifdef ORLOP_HAVE_URING
  TRY(state.has_ring ? state.run_ring(requests) : state.run_threads(requests));
#else
  TRY(state.run_threads(requests));
#endif
  return IoRate{requests * state.options.request_bytes, seconds_now() - begin,
                process_cpu_seconds() - cpu_before};
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
