// Handle: what an orlop_engine* is, and what every call on one does first.
#pragma once

#include <unistd.h>

#include <memory>

#include "capi/boundary.hpp"
#include "zero3/engine.hpp"

struct orlop_engine {
  std::unique_ptr<orlop::zero3::Engine> engine;
  pid_t owner;
};

namespace orlop::capi {

// Threads and memory that a handle stands for do not cross fork().
template <typename Handle>
Result<> check_owner(const char* call, const Handle* handle) {
  if (handle == nullptr) return fail(ORLOP_INVALID_ARGUMENT, "{}: on a handle that is NULL: open one first", call);
  if (handle->owner == ::getpid()) return {};
  return fail(ORLOP_FORKED, "{}: on what process {} opened, in its child {}: it does not cross fork(); open one in the "
              "child", call, handle->owner, ::getpid());
}

// The engine behind a handle, unless a fork came in between.
inline Result<zero3::Engine*> engine_of(const char* call, const orlop_engine* handle) {
  if (handle == nullptr) return fail(ORLOP_INVALID_ARGUMENT, "{}: on engine NULL: open one first", call);
  if (handle->owner != ::getpid()) {
    return fail(ORLOP_FORKED, "{}: on an engine of process {} in its child {}: engines do not cross fork(); open one "
                "in the child", call, handle->owner, ::getpid());
  }
  return handle->engine.get();
}

template <typename Body>
orlop_status with_engine(const char* call, orlop_engine* handle, const Body& body) noexcept {
  return guarded([&]() -> Result<> {
    TRY_ASSIGN(zero3::Engine* const engine, engine_of(call, handle));
    return body(*engine);
  });
}

inline Result<> not_null(const char* call, const char* what, const void* pointer) {
  if (pointer != nullptr) return {};
  return fail(ORLOP_INVALID_ARGUMENT, "{}: on {}: the pointer is NULL", call, what);
}

inline Result<device::DeviceKind> device_kind_of(const char* call, int32_t kind) {
  if (kind == ORLOP_DEVICE_HOST) return device::DeviceKind::host;
  if (kind == ORLOP_DEVICE_CUDA) return device::DeviceKind::cuda;
  return fail(ORLOP_INVALID_ARGUMENT, "{}: on device kind {}: must be ORLOP_DEVICE_HOST (0) or ORLOP_DEVICE_CUDA (1)",
              call, kind);
}

inline Result<zero3::Dtype> dtype_of(const char* call, int32_t dtype) {
  if (dtype >= ORLOP_F32 && dtype <= ORLOP_F16) return static_cast<zero3::Dtype>(dtype);
  return fail(ORLOP_INVALID_ARGUMENT, "{}: on dtype {}: must be ORLOP_F32 (0), ORLOP_BF16 (1) or ORLOP_F16 (2)", call,
              dtype);
}

inline Result<zero3::Plane> plane_of(const char* call, int32_t plane) {
  if (plane >= ORLOP_PLANE_PARAM && plane <= ORLOP_PLANE_GRAD) return static_cast<zero3::Plane>(plane);
  return fail(ORLOP_INVALID_ARGUMENT, "{}: on plane {}: must be from ORLOP_PLANE_PARAM (0) to ORLOP_PLANE_GRAD (4)",
              call, plane);
}

}  // namespace orlop::capi
