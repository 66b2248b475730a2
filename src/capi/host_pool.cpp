// The calls on host pools: argument checks and conversions, nothing else.
#include "zero3/host_pool.hpp"

#include "capi/handle.hpp"

using namespace orlop;
using capi::not_null;

struct orlop_host_pool {
  std::unique_ptr<zero3::HostPool> pool;
  pid_t owner;
};

namespace {

Result<zero3::HostPoolOptions> options_of(const orlop_host_pool_params& given) {
  constexpr const char* kCall = "open host pool";
  zero3::HostPoolOptions options;
  TRY_ASSIGN(options.device, capi::device_kind_of(kCall, given.device_kind));
  options.device_index = given.device_index;
  if (given.limit_bytes != 0) options.limit_bytes = given.limit_bytes;
  if ((given.flags & ~static_cast<uint32_t>(ORLOP_HOST_POOL_LOCKED)) != 0) {
    return fail(ORLOP_INVALID_ARGUMENT, "{}: on flags {:#x}: only ORLOP_HOST_POOL_LOCKED is known", kCall, given.flags);
  }
  if ((given.flags & ORLOP_HOST_POOL_LOCKED) != 0) options.locking = zero3::Locking::locked;
  return options;
}

template <typename Body>
orlop_status with_pool(const char* call, orlop_host_pool* handle, const Body& body) noexcept {
  return capi::guarded([&]() -> Result<> {
    TRY(capi::check_owner(call, handle));
    return body(*handle->pool);
  });
}

}  // namespace

extern "C" {

orlop_status orlop_host_pool_open(const orlop_host_pool_params* params, orlop_host_pool** pool) {
  constexpr const char* kCall = "open host pool";
  return capi::guarded([&]() -> Result<> {
    TRY(not_null(kCall, "where to put the handle", pool));
    *pool = nullptr;
    TRY_ASSIGN(const orlop_host_pool_params given, capi::read_struct(kCall, params));
    TRY_ASSIGN(const zero3::HostPoolOptions options, options_of(given));
    TRY_ASSIGN(auto opened, zero3::HostPool::open(options));
    *pool = new orlop_host_pool{std::move(opened), ::getpid()};
    return {};
  });
}

orlop_status orlop_host_pool_take(orlop_host_pool* pool, uint64_t bytes, void** memory) {
  return with_pool("take from host pool", pool, [&](zero3::HostPool& p) -> Result<> {
    TRY(not_null("take from host pool", "where to put the address", memory));
    TRY_ASSIGN(*memory, p.take(bytes));
    return {};
  });
}

orlop_status orlop_host_pool_give_back(orlop_host_pool* pool, void* memory) {
  return with_pool("give back to host pool", pool,
                   [&](zero3::HostPool& p) { return p.give_back(static_cast<const std::byte*>(memory)); });
}

orlop_status orlop_host_pool_look(orlop_host_pool* pool, orlop_host_pool_use* use) {
  return with_pool("look at host pool", pool, [&](zero3::HostPool& p) {
    const zero3::HostPoolUse found = p.use();
    orlop_host_pool_use out{};
    out.limit_bytes = found.limit_bytes == UINT64_MAX ? 0 : found.limit_bytes;
    out.host_bytes = found.host_bytes;
    out.used_bytes = found.used_bytes;
    out.peak_bytes = found.peak_bytes;
    return capi::fill_struct("look at host pool", use, out);
  });
}

orlop_status orlop_host_pool_close(orlop_host_pool** pool) {
  if (pool == nullptr || *pool == nullptr) return ORLOP_OK;
  return capi::guarded([&]() -> Result<> {
    orlop_host_pool* const handle = std::exchange(*pool, nullptr);
    if (handle->owner != ::getpid()) static_cast<void>(handle->pool.release());  // a child does not have its memory
    delete handle;
    return {};
  });
}

}  // extern "C"
