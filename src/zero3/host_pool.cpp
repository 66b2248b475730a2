#include "zero3/host_pool.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <utility>

#include "base/bytes.hpp"
#include "base/log.hpp"
#include "numa/pages.hpp"

namespace orlop::zero3 {

HostPool::HostPool(const HostPoolOptions& options, numa::Topology topology, std::unique_ptr<device::Device> device)
    : options_(options),
      topology_(std::move(topology)),
      device_(std::move(device)),
      node_(device_->pci_address().empty() ? -1 : topology_.node_of_pci(device_->pci_address())) {}

Result<std::unique_ptr<HostPool>> HostPool::open(const HostPoolOptions& options) {
  const bool is_cuda = options.device == device::DeviceKind::cuda;
  TRY_ASSIGN(auto device, is_cuda ? device::make_cuda_device(options.device_index) : device::make_host_device());
  TRY_ASSIGN(auto topology, numa::Topology::detect());
  return std::unique_ptr<HostPool>(new HostPool(options, std::move(topology), std::move(device)));
}

HostPool::~HostPool() {
  for (const Region& region : regions_) device_->unregister_host(region.arena.memory());
}

Result<std::byte*> HostPool::take(std::uint64_t bytes) {
  if (bytes == 0) return fail(ORLOP_INVALID_ARGUMENT, "host pool: on 0 bytes: take at least one");
  TRY(checked_add(bytes, numa::kHugePageBytes));
  const std::uint64_t whole = align_up(bytes, kPieceBytes);
  const std::lock_guard lock(mutex_);
  std::byte* memory = take_free(whole);
  if (memory == nullptr) {
    TRY(grow(whole));
    memory = take_free(whole);
  }
  used_bytes_ += whole;
  peak_bytes_ = std::max(peak_bytes_, used_bytes_);
  return memory;
}

// From the smallest free piece that is large enough.
std::byte* HostPool::take_free(std::uint64_t bytes) {
  std::size_t region = 0;
  std::pair<std::byte*, std::uint64_t> best{nullptr, UINT64_MAX};
  for (std::size_t i = 0; i < regions_.size(); ++i) {
    for (const auto& [memory, free] : regions_[i].free) {
      if (free < bytes || free >= best.second) continue;
      best = {memory, free};
      region = i;
    }
  }
  if (best.first == nullptr) return nullptr;
  regions_[region].free.erase(best.first);
  if (best.second > bytes) regions_[region].free.emplace(best.first + bytes, best.second - bytes);
  lent_.emplace(best.first, Lent{region, bytes});
  return best.first;
}

Result<> HostPool::grow(std::uint64_t bytes) {
  const std::uint64_t needed = align_up(bytes, numa::kHugePageBytes);
  const std::uint64_t left = options_.limit_bytes - host_bytes_;
  if (needed > left) {
    return fail(ORLOP_NO_MEMORY,
                "host pool: on {} bytes (of a limit of {}, {} are taken and {} of them lent): {} bytes too many; raise "
                "orlop.memory.activations, or the limit the pool was opened with",
                bytes, options_.limit_bytes, host_bytes_, used_bytes_, needed - left);
  }
  const std::uint64_t wanted = std::min(std::max(needed, kGrowthBytes), align_down(left, numa::kHugePageBytes));
  TRY_ASSIGN(numa::Arena arena, numa::Arena::create(topology_, wanted, {.node = node_}));
  make_fast(arena.memory());
  host_bytes_ += wanted;
  regions_.push_back({std::move(arena), {}});
  regions_.back().free.emplace(regions_.back().arena.memory().data(), wanted);
  return {};
}

// What the system refuses costs speed, nothing else.
void HostPool::make_fast(std::span<std::byte> memory) {
  if (const auto registered = device_->register_host(memory); !registered) {
    log_warning("host pool: {}", registered.error().message);
  }
  if (options_.locking == Locking::locked && ::mlock(memory.data(), memory.size()) != 0) {
    log_warning("host pool: on {} that are to stay in memory: mlock: {}; they may be swapped out (see ulimit -l)",
                format_bytes(memory.size()), describe_errno(errno));
  }
}

Result<> HostPool::give_back(const std::byte* memory) {
  const std::lock_guard lock(mutex_);
  const auto found = lent_.extract(memory);
  if (!found) {
    return fail(ORLOP_INVALID_ARGUMENT, "host pool: on memory at {}: it is not lent; give back what was taken, once",
                static_cast<const void*>(memory));
  }
  const Lent lent = found.mapped();
  used_bytes_ -= lent.bytes;
  auto& free = regions_[lent.region].free;
  const auto [at, added] = free.emplace(const_cast<std::byte*>(memory), lent.bytes);
  const auto next = std::next(at);
  if (next != free.end() && at->first + at->second == next->first) {
    at->second += next->second;
    free.erase(next);
  }
  if (at == free.begin()) return {};
  const auto before = std::prev(at);
  if (before->first + before->second != at->first) return {};
  before->second += at->second;
  free.erase(at);
  return {};
}

HostPoolUse HostPool::use() const {
  const std::lock_guard lock(mutex_);
  return {options_.limit_bytes, host_bytes_, used_bytes_, peak_bytes_};
}

}  // namespace orlop::zero3
