// The calls on imports: argument checks and conversions, nothing else.
#include "base/bytes.hpp"
#include "capi/handle.hpp"
#include "zero3/import.hpp"

using namespace orlop;
using capi::dtype_of;
using capi::not_null;

struct orlop_import {
  std::unique_ptr<zero3::Import> import;
};

namespace {

constexpr const char* kCall = "import";

// One behind the other, each of the size that the first says.
Result<std::vector<zero3::ParamSpec>> params_of(const orlop_import_params& given) {
  std::vector<zero3::ParamSpec> params;
  if (given.param_count == 0) return params;
  TRY(not_null(kCall, "its parameters", given.params));
  const auto* const bytes = reinterpret_cast<const std::byte*>(given.params);
  for (uint64_t i = 0; i < given.param_count; ++i) {
    const auto* const at = reinterpret_cast<const orlop_param_desc*>(bytes + i * given.params->struct_size);
    TRY_ASSIGN(const orlop_param_desc desc, capi::read_struct(kCall, at));
    TRY(not_null(kCall, "a parameter's name", desc.name));
    TRY_ASSIGN(const zero3::Dtype dtype, dtype_of(kCall, desc.dtype));
    params.push_back({.name = desc.name, .dtype = dtype, .numel = desc.numel});
  }
  return params;
}

}  // namespace

extern "C" {

orlop_status orlop_import_open(const orlop_import_params* params, orlop_import** import) {
  return capi::guarded([&]() -> Result<> {
    TRY(not_null(kCall, "where to put the handle", import));
    *import = nullptr;
    TRY_ASSIGN(const orlop_import_params given, capi::read_struct(kCall, params));
    TRY(not_null(kCall, "its directory", given.directory));
    zero3::ImportOptions options;
    options.directory = given.directory;
    if (given.client_json != nullptr) options.client_json = given.client_json;
    TRY_ASSIGN(options.params, params_of(given));
    TRY_ASSIGN(auto opened, zero3::Import::open(options));
    *import = new orlop_import{std::move(opened)};
    return {};
  });
}

orlop_status orlop_import_write(orlop_import* import, uint32_t param, uint64_t first, uint64_t count, int32_t dtype,
                                const void* source) {
  return capi::guarded([&]() -> Result<> {
    TRY(not_null(kCall, "its handle", import));
    TRY(not_null(kCall, "its source", source));
    TRY_ASSIGN(const zero3::Dtype from, dtype_of(kCall, dtype));
    TRY_ASSIGN(const std::uint64_t end, checked_add(first, count));
    return import->import->write(param, {first, end}, from, source);
  });
}

orlop_status orlop_import_complete(orlop_import* import) {
  return capi::guarded([&]() -> Result<> {
    TRY(not_null(kCall, "its handle", import));
    return import->import->complete();
  });
}

orlop_status orlop_import_close(orlop_import** import) {
  if (import != nullptr) delete std::exchange(*import, nullptr);
  return ORLOP_OK;
}

}  // extern "C"
