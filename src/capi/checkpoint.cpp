// The calls on checkpoints: argument checks and conversions, nothing else.
#include <algorithm>
#include <vector>

#include "base/bytes.hpp"
#include "capi/handle.hpp"
#include "swap/run_directory.hpp"
#include "zero3/saved_checkpoint.hpp"

using namespace orlop;
using capi::dtype_of;
using capi::not_null;
using capi::plane_of;
using capi::with_engine;

struct orlop_checkpoint {
  std::unique_ptr<zero3::SavedCheckpoint> saved;
};

namespace {

zero3::Progress progress_of(orlop_progress progress, void* user) {
  return [=](std::uint64_t done, std::uint64_t total) { return progress == nullptr || progress(user, done, total) == 0; };
}

struct ReadRequest {
  std::uint32_t param;
  zero3::Plane plane;
  zero3::Range range;
  zero3::Dtype dtype;
  void* destination;
};

Result<> check_request(const zero3::Manifest& manifest, const ReadRequest& request) {
  constexpr const char* kCall = "read checkpoint";
  if (request.param >= manifest.params.size()) {
    return fail(ORLOP_INVALID_ARGUMENT, "{}: on parameter {}: it has {}", kCall, request.param, manifest.params.size());
  }
  const zero3::SavedParam& param = manifest.params[request.param];
  if (request.range.end > param.numel) {
    return fail(ORLOP_INVALID_ARGUMENT, "{}: on \"{}\" (elements {} to {}): it has {}", kCall, param.name,
                request.range.begin, request.range.end, param.numel);
  }
  const bool is_frozen = param.training == zero3::Training::frozen;
  const bool is_moment = request.plane == zero3::Plane::exp_avg || request.plane == zero3::Plane::exp_avg_sq;
  if (request.plane == zero3::Plane::grad || (is_frozen && request.plane != zero3::Plane::param) ||
      (is_moment && !manifest.has_states) || !has_plane(manifest.optimizer, request.plane)) {
    return fail(ORLOP_INVALID_ARGUMENT, "{}: on \"{}\": that plane was not saved", kCall, param.name);
  }
  return {};
}

zero3::Dtype stored_dtype(const zero3::Manifest& manifest, const ReadRequest& request) {
  return request.plane == zero3::Plane::param ? manifest.params[request.param].dtype : zero3::Dtype::f32;
}

Result<> read_stored(zero3::SavedCheckpoint& saved, const ReadRequest& request, zero3::Range range, void* into) {
  switch (request.plane) {
    case zero3::Plane::master:
      return saved.read_master(request.param, range, static_cast<float*>(into));
    case zero3::Plane::param:
      return saved.read(request.param, zero3::kSavedParam, range, into);
    case zero3::Plane::exp_avg:
      return saved.read(request.param, zero3::saved_plane(swap::Plane::exp_avg), range, into);
    default:
      return saved.read(request.param, zero3::saved_plane(swap::Plane::exp_avg_sq), range, into);
  }
}

// Piece by piece, so that conversion takes little memory. Bits stay as they are where the type does.
Result<> read_converted(zero3::SavedCheckpoint& saved, const ReadRequest& request) {
  TRY(check_request(saved.manifest(), request));
  constexpr std::uint64_t kPiece = 1 << 18;
  const zero3::Dtype stored = stored_dtype(saved.manifest(), request);
  if (stored == request.dtype) return read_stored(saved, request, request.range, request.destination);
  std::vector<std::byte> piece(std::min(kPiece, request.range.size()) * bytes_of(stored));
  TRY_ASSIGN(const cpu_adam::Isa isa, cpu_adam::select_isa());
  auto* to = static_cast<std::byte*>(request.destination);
  for (std::uint64_t at = request.range.begin; at < request.range.end; at += kPiece) {
    const zero3::Range part{at, std::min(at + kPiece, request.range.end)};
    TRY(read_stored(saved, request, part, piece.data()));
    cpu_adam::grad_intake(isa, cpu_adam::Intake::store, grad_type_of(request.dtype), to, grad_type_of(stored),
                          piece.data(), part.size(), nullptr);
    to += part.size() * bytes_of(request.dtype);
  }
  return {};
}

Result<zero3::SaveOptions> options_of(const orlop_save_params& given) {
  constexpr const char* kCall = "save checkpoint";
  TRY(not_null(kCall, "its directory", given.directory));
  zero3::SaveOptions options;
  options.directory = given.directory;
  if ((given.flags & ~static_cast<uint32_t>(ORLOP_SAVE_TRAINED_ONLY)) != 0) {
    return fail(ORLOP_INVALID_ARGUMENT, "{}: on {} (flags {:#x}): only ORLOP_SAVE_TRAINED_ONLY (1) is known", kCall,
                given.directory, given.flags);
  }
  if ((given.flags & ORLOP_SAVE_TRAINED_ONLY) != 0) options.what = zero3::SaveWhat::trained;
  if (given.client_json != nullptr) options.client_json = given.client_json;
  if (given.replaced_count != 0) TRY(not_null(kCall, "the list of replaced directories", given.replaced_directories));
  for (uint64_t i = 0; i < given.replaced_count; ++i) {
    TRY(not_null(kCall, "a replaced directory", given.replaced_directories[i]));
    options.replaced.emplace_back(given.replaced_directories[i]);
  }
  if (given.latest_file != nullptr) options.latest_file = given.latest_file;
  options.bytes_per_second = given.bytes_per_second;
  return options;
}

Result<zero3::Match> match_of(const char* call, const orlop_load_params& given) {
  constexpr uint32_t kKnown = ORLOP_LOAD_PARAMS_ONLY | ORLOP_LOAD_REGISTERED_ONLY | ORLOP_LOAD_COMMON_ONLY;
  if ((given.flags & ~kKnown) != 0) {
    return fail(ORLOP_INVALID_ARGUMENT, "{}: on {} (flags {:#x}): only ORLOP_LOAD_PARAMS_ONLY (1), "
                "ORLOP_LOAD_REGISTERED_ONLY (2) and ORLOP_LOAD_COMMON_ONLY (4) are known", call, given.directory, given.flags);
  }
  if ((given.flags & ORLOP_LOAD_COMMON_ONLY) != 0) return zero3::Match::common;
  return (given.flags & ORLOP_LOAD_REGISTERED_ONLY) != 0 ? zero3::Match::registered : zero3::Match::all;
}

}  // namespace

extern "C" {

orlop_status orlop_checkpoint_save_begin(orlop_engine* engine, const orlop_save_params* params) {
  return with_engine("save checkpoint", engine, [&](zero3::Engine& e) -> Result<> {
    TRY_ASSIGN(const orlop_save_params given, capi::read_struct("save checkpoint", params));
    TRY_ASSIGN(const zero3::SaveOptions options, options_of(given));
    return e.save_begin(options);
  });
}

orlop_status orlop_checkpoint_load_begin(orlop_engine* engine, const orlop_load_params* params) {
  constexpr const char* kCall = "load checkpoint";
  return with_engine(kCall, engine, [&](zero3::Engine& e) -> Result<> {
    TRY_ASSIGN(const orlop_load_params given, capi::read_struct(kCall, params));
    TRY(not_null(kCall, "its directory", given.directory));
    TRY_ASSIGN(const zero3::Match match, match_of(kCall, given));
    const bool is_params_only = (given.flags & ORLOP_LOAD_PARAMS_ONLY) != 0;
    return e.load_begin(given.directory, is_params_only ? zero3::LoadWhat::parameters : zero3::LoadWhat::everything,
                        match);
  });
}

orlop_status orlop_checkpoint_wait(orlop_engine* engine, int32_t timeout_ms) {
  return with_engine("wait for checkpoint", engine, [&](zero3::Engine& e) { return e.checkpoint_wait(timeout_ms); });
}

orlop_status orlop_checkpoint_describe(const char* directory, char* buffer, size_t capacity_bytes,
                                       size_t* needed_bytes) {
  constexpr const char* kCall = "describe checkpoint";
  return capi::guarded([&]() -> Result<> {
    TRY(not_null(kCall, "its directory", directory));
    TRY_ASSIGN(const zero3::Manifest manifest, zero3::read_manifest(directory, 0));
    return capi::fill_text(kCall, manifest.to_json().dump(), buffer, capacity_bytes, needed_bytes);
  });
}

orlop_status orlop_checkpoint_verify(const char* directory, orlop_progress progress, void* user) {
  return capi::guarded([&]() -> Result<> {
    TRY(not_null("verify checkpoint", "its directory", directory));
    return zero3::verify_checkpoint(directory, 0, progress_of(progress, user));
  });
}

orlop_status orlop_checkpoint_export(const char* directory, const char* target, orlop_progress progress, void* user) {
  return capi::guarded([&]() -> Result<> {
    TRY(not_null("export checkpoint", "its directory", directory));
    TRY(not_null("export checkpoint", "its target", target));
    return zero3::export_checkpoint(directory, 0, target, progress_of(progress, user));
  });
}

orlop_status orlop_checkpoint_open(const char* directory, orlop_checkpoint** checkpoint) {
  return capi::guarded([&]() -> Result<> {
    TRY(not_null("open checkpoint", "where to put the handle", checkpoint));
    *checkpoint = nullptr;
    TRY(not_null("open checkpoint", "its directory", directory));
    TRY_ASSIGN(auto saved, zero3::SavedCheckpoint::open(directory, 0));
    *checkpoint = new orlop_checkpoint{std::move(saved)};
    return {};
  });
}

orlop_status orlop_checkpoint_close(orlop_checkpoint** checkpoint) {
  if (checkpoint != nullptr) delete std::exchange(*checkpoint, nullptr);
  return ORLOP_OK;
}

orlop_status orlop_checkpoint_read(orlop_checkpoint* checkpoint, uint32_t param, int32_t plane, uint64_t first,
                                   uint64_t count, int32_t dtype, void* destination) {
  constexpr const char* kCall = "read checkpoint";
  return capi::guarded([&]() -> Result<> {
    TRY(not_null(kCall, "its handle", checkpoint));
    TRY(not_null(kCall, "its destination", destination));
    TRY_ASSIGN(const zero3::Plane from, plane_of(kCall, plane));
    TRY_ASSIGN(const zero3::Dtype as, dtype_of(kCall, dtype));
    TRY_ASSIGN(const std::uint64_t end, checked_add(first, count));
    return read_converted(*checkpoint->saved, {param, from, {first, end}, as, destination});
  });
}

orlop_status orlop_store_reclaim(const char* nvme_path, uint32_t flags, uint64_t* bytes) {
  constexpr const char* kCall = "reclaim";
  return capi::guarded([&]() -> Result<> {
    TRY(not_null(kCall, "its path", nvme_path));
    if ((flags & ~static_cast<uint32_t>(ORLOP_RECLAIM_DRY_RUN)) != 0) {
      return fail(ORLOP_INVALID_ARGUMENT, "{}: on {} (flags {:#x}): only ORLOP_RECLAIM_DRY_RUN is known", kCall, nvme_path,
                  flags);
    }
    TRY(swap::check_directory(nvme_path));
    const bool is_dry = (flags & ORLOP_RECLAIM_DRY_RUN) != 0;
    const std::uint64_t found = is_dry ? swap::reclaimable_bytes(nvme_path) : swap::reclaim_leftovers(nvme_path);
    if (bytes != nullptr) *bytes = found;
    return {};
  });
}

}  // extern "C"
