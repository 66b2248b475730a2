// The calls that belong to no engine.
#include <nlohmann/json.hpp>

#include "aio/queue.hpp"
#include "base/config.hpp"
#include "base/log.hpp"
#include "capi/boundary.hpp"
#include "cpu_adam/adam.hpp"
#include "device/device.hpp"

namespace {

using namespace orlop;

std::string build_info() {
  nlohmann::json queues = nlohmann::json::array();
  for (const auto kind : {aio::QueueKind::uring, aio::QueueKind::aio, aio::QueueKind::threads}) {
    if (aio::make_queue(kind, {})) queues.push_back(aio::name_of(kind));
  }
  const auto isa = cpu_adam::select_isa();
  return nlohmann::json{
      {"version", fmt::format("{}.{}.{}", ORLOP_VERSION_MAJOR, ORLOP_VERSION_MINOR, ORLOP_VERSION_PATCH)},
      {"compiler", __VERSION__},
      {"queues", queues},
      {"isa", isa ? std::string(cpu_adam::name_of(*isa)) : isa.error().message},
      {"cuda", device::is_built_with_cuda()},
      {"cuda_devices", device::cuda_device_count()}}
      .dump();
}

}  // namespace

extern "C" {

uint32_t orlop_version(void) {
  return (ORLOP_VERSION_MAJOR << 16) | (ORLOP_VERSION_MINOR << 8) | ORLOP_VERSION_PATCH;
}

const char* orlop_build_info(void) {
  try {
    static const std::string info = build_info();
    return info.c_str();
  } catch (const std::exception&) {
    return "{}";
  }
}

const char* orlop_last_error(void) { return capi::last_error().c_str(); }

const char* orlop_status_name(orlop_status status) {
  switch (status) {
#define ORLOP_STATUS_CASE(name) \
  case name:                    \
    return #name
    ORLOP_STATUS_CASE(ORLOP_OK);
    ORLOP_STATUS_CASE(ORLOP_INVALID_ARGUMENT);
    ORLOP_STATUS_CASE(ORLOP_INVALID_CONFIG);
    ORLOP_STATUS_CASE(ORLOP_OUT_OF_ORDER);
    ORLOP_STATUS_CASE(ORLOP_NOT_FOUND);
    ORLOP_STATUS_CASE(ORLOP_NO_PERMISSION);
    ORLOP_STATUS_CASE(ORLOP_NO_SPACE);
    ORLOP_STATUS_CASE(ORLOP_NO_MEMORY);
    ORLOP_STATUS_CASE(ORLOP_IO_ERROR);
    ORLOP_STATUS_CASE(ORLOP_CORRUPT);
    ORLOP_STATUS_CASE(ORLOP_BUSY);
    ORLOP_STATUS_CASE(ORLOP_UNSUPPORTED);
    ORLOP_STATUS_CASE(ORLOP_TIMEOUT);
    ORLOP_STATUS_CASE(ORLOP_CANCELLED);
    ORLOP_STATUS_CASE(ORLOP_FORKED);
    ORLOP_STATUS_CASE(ORLOP_DEVICE_ERROR);
    ORLOP_STATUS_CASE(ORLOP_INTERNAL);
#undef ORLOP_STATUS_CASE
    default:
      return "ORLOP_UNKNOWN";
  }
}

orlop_status orlop_log_set(orlop_log_callback callback, void* user, int32_t level) {
  return capi::guarded([&] { return set_log_callback(callback, user, level); });
}

orlop_status orlop_config_resolve(const char* config_json, int32_t world_size, char* buffer, size_t capacity_bytes,
                                  size_t* needed_bytes) {
  return capi::guarded([&]() -> Result<> {
    TRY_ASSIGN(const Config config, resolve_config(config_json == nullptr ? "{}" : config_json,
                                                 world_size == 0 ? 1 : world_size));
    return capi::fill_text("resolve config", config.to_json().dump(), buffer, capacity_bytes, needed_bytes);
  });
}

}  // extern "C"
