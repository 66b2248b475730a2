#include "zero3/import.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <unordered_set>
#include <utility>

#include "base/bytes.hpp"
#include "base/stamp.hpp"
#include "zero3/blocks.hpp"

namespace orlop::zero3 {
namespace {

constexpr const char* kCall = "import";
constexpr std::uint64_t kMaximumElements = 1ull << 48;

Result<> check_params(const ImportOptions& options) {
  if (options.params.empty()) {
    return fail(ORLOP_INVALID_ARGUMENT, "{}: on {} (0 parameters): there is nothing to import", kCall, options.directory);
  }
  std::unordered_set<std::string> names;
  for (const ParamSpec& param : options.params) {
    if (param.name.empty() || !names.insert(param.name).second) {
      return fail(ORLOP_INVALID_ARGUMENT, "{}: on \"{}\": names must be unique and not empty", kCall, param.name);
    }
    if (param.numel == 0 || param.numel >= kMaximumElements) {
      return fail(ORLOP_INVALID_ARGUMENT, "{}: on \"{}\" ({} elements): must have from 1 to 2^48 - 1", kCall, param.name,
                  param.numel);
    }
  }
  return {};
}

// Every parameter is a unit of its own, so that values can be written in the order in which they come.
Manifest manifest_of(const std::vector<ParamSpec>& params) {
  Manifest manifest;
  manifest.id = random_uuid();
  manifest.created = utc_now();
  manifest.data_file = fmt::format("rank{}-{}.states", manifest.rank, manifest.id);
  manifest.has_states = false;
  std::vector<Block> blocks;
  for (const ParamSpec& param : params) {
    const auto unit = static_cast<std::uint32_t>(manifest.units.size());
    manifest.units.push_back(param.dtype);
    manifest.params.push_back({param.name, param.dtype, param.numel, Training::trainable, unit, 0});
    cut_range(unit, {0, align_up(param.numel, kShardGrain)}, kBlockElements, blocks);
  }
  for (const Block& block : blocks) {
    SavedBlock saved;
    saved.unit = block.unit;
    saved.range = block.range;
    manifest.blocks.push_back(std::move(saved));
  }
  return manifest;
}

// The bits that are all set in an infinity, or a NaN, of 16 bits.
constexpr std::uint16_t exponent_of(Dtype dtype) { return dtype == Dtype::bf16 ? 0x7f80 : 0x7c00; }

std::uint16_t half_at(const std::byte* values, std::uint64_t i) {
  std::uint16_t value = 0;
  std::memcpy(&value, values + i * sizeof value, sizeof value);
  return value;
}

bool is_finite(Dtype dtype, const std::byte* values, std::uint64_t i) {
  if (dtype != Dtype::f32) return (half_at(values, i) & exponent_of(dtype)) != exponent_of(dtype);
  float value = 0;
  std::memcpy(&value, values + i * sizeof value, sizeof value);
  return std::isfinite(value);
}

bool are_all_finite(Dtype dtype, const std::byte* values, std::uint64_t count) {
  bool are_finite = true;
  for (std::uint64_t i = 0; i < count; ++i) are_finite &= is_finite(dtype, values, i);
  return are_finite;
}

// The first element that was finite and is not any more.
std::optional<std::uint64_t> first_overflow(Dtype to, const std::byte* converted, Dtype from, const std::byte* source,
                                            std::uint64_t count) {
  if (to == Dtype::f32 || are_all_finite(to, converted, count)) return std::nullopt;
  for (std::uint64_t i = 0; i < count; ++i) {
    if (!is_finite(to, converted, i) && is_finite(from, source, i)) return i;
  }
  return std::nullopt;
}

}  // namespace

Import::Import(std::unique_ptr<StandaloneWriter> out, AlignedBytes buffer, cpu_adam::Isa isa)
    : out_(std::move(out)), buffer_(std::move(buffer)), isa_(isa) {}

Result<std::unique_ptr<Import>> Import::open(const ImportOptions& options) {
  TRY(check_params(options));
  Manifest manifest = manifest_of(options.params);
  TRY_ASSIGN(manifest.client, client_of(kCall, options.client_json));
  TRY_ASSIGN(const cpu_adam::Isa isa, cpu_adam::select_isa());
  TRY_ASSIGN(AlignedBytes buffer, AlignedBytes::allocate(kCopyBytes));
  TRY_ASSIGN(auto out, StandaloneWriter::create(kCall, options.directory, std::move(manifest)));
  return std::unique_ptr<Import>(new Import(std::move(out), std::move(buffer), isa));
}

Result<> Import::write(std::uint32_t param, Range elements, Dtype dtype, const void* source) {
  if (failure_) return tl::unexpected(*failure_);
  TRY(check_next(param, elements));
  auto written = write_next(elements, dtype, static_cast<const std::byte*>(source));
  if (!written) failure_ = written.error();
  return written;
}

Result<> Import::check_next(std::uint32_t number, Range elements) const {
  const auto& params = out_->manifest().params;
  if (param_ == params.size()) return fail(ORLOP_OUT_OF_ORDER, "{}: all parameters have been written", kCall);
  if (number != param_ || elements.begin != element_) {
    return fail(ORLOP_OUT_OF_ORDER, "{}: on parameter {} (element {}): element {} of parameter {} (\"{}\") comes next",
                kCall, number, elements.begin, element_, param_, param().name);
  }
  if (elements.end <= param().numel) return {};
  return fail(ORLOP_INVALID_ARGUMENT, "{}: on \"{}\" (elements {} to {}): it has {}", kCall, param().name,
              elements.begin, elements.end, param().numel);
}

Result<> Import::write_next(Range elements, Dtype dtype, const std::byte* source) {
  const std::uint64_t capacity = kCopyBytes / bytes_of(param().dtype);
  while (!elements.empty()) {
    const std::uint64_t end = std::min(block().range.end, param().numel);
    const std::uint64_t count = std::min({elements.size(), capacity - buffered_, end - element_});
    TRY(convert(count, dtype, source));
    buffered_ += count;
    element_ += count;
    elements.begin += count;
    source += count * bytes_of(dtype);
    if (buffered_ == capacity || element_ == end) TRY(flush());
  }
  return {};
}

// Into the buffer. Bits stay as they are where the type does.
Result<> Import::convert(std::uint64_t count, Dtype dtype, const std::byte* source) {
  const Dtype to = param().dtype;
  std::byte* const into = buffer_.data() + buffered_ * bytes_of(to);
  if (dtype == to) {
    std::memcpy(into, source, count * bytes_of(to));
    return {};
  }
  cpu_adam::grad_intake(isa_, cpu_adam::Intake::store, grad_type_of(to), into, grad_type_of(dtype), source, count,
                        nullptr);
  const auto overflow = first_overflow(to, into, dtype, source, count);
  if (!overflow) return {};
  return fail(ORLOP_INVALID_ARGUMENT, "{}: on \"{}\" (element {}): its value is too large for {}; choose bf16 or fp32",
              kCall, param().name, element_ + *overflow, name_of(to));
}

// To the file; behind a parameter's end there are zeros up to the end of its block.
Result<> Import::flush() {
  const bool ends_param = element_ == param().numel;
  const bool ends_block = ends_param || element_ == block().range.end;
  const std::uint64_t element_bytes = bytes_of(param().dtype);
  const std::uint64_t padding = ends_param ? block().range.end - element_ : 0;
  std::memset(buffer_.data() + buffered_ * element_bytes, 0, padding * element_bytes);
  TRY(out_->append(buffer_.data(), buffered_ + padding, element_bytes, block().param_sums));
  buffered_ = 0;
  if (ends_block) ++block_;
  if (ends_param) {
    ++param_;
    element_ = 0;
  }
  return {};
}

Result<> Import::complete() {
  if (failure_) return tl::unexpected(*failure_);
  if (param_ != out_->manifest().params.size()) {
    return fail(ORLOP_OUT_OF_ORDER, "{}: on \"{}\": it has not been written from element {} on", kCall, param().name,
                element_);
  }
  auto completed = out_->complete();
  if (!completed) failure_ = completed.error();
  return completed;
}

}  // namespace orlop::zero3
