// Import: a checkpoint made of parameters from elsewhere. It has no states: whoever loads it begins with masters equal
// to the parameters and moments of zero, and says which parameters are trained.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cpu_adam/adam.hpp"
#include "zero3/param.hpp"
#include "zero3/standalone_writer.hpp"

namespace orlop::zero3 {

struct ImportOptions {
  std::string directory;          // new or empty
  std::string client_json;        // an object, or empty
  std::vector<ParamSpec> params;  // names, dtypes and sizes
};

class Import {
 public:
  // Errors: ORLOP_INVALID_ARGUMENT, and those of StandaloneWriter::create.
  static Result<std::unique_ptr<Import>> open(const ImportOptions& options);

  // Elements of a parameter, converted (round to nearest even). They come in order. After an error it can only be
  // destroyed. Errors: ORLOP_OUT_OF_ORDER, ORLOP_INVALID_ARGUMENT (too large for the parameter's dtype), I/O errors.
  Result<> write(std::uint32_t param, Range elements, Dtype dtype, const void* source);

  // The checkpoint exists. ORLOP_OUT_OF_ORDER unless every element has been written.
  Result<> complete();

 private:
  Import(std::unique_ptr<StandaloneWriter> out, AlignedBytes buffer, cpu_adam::Isa isa);
  Result<> check_next(std::uint32_t param, Range elements) const;
  Result<> write_next(Range elements, Dtype dtype, const std::byte* source);
  Result<> convert(std::uint64_t count, Dtype dtype, const std::byte* source);
  Result<> flush();
  [[nodiscard]] const SavedParam& param() const { return out_->manifest().params[param_]; }
  [[nodiscard]] SavedBlock& block() { return out_->manifest().blocks[block_]; }

  std::unique_ptr<StandaloneWriter> out_;
  AlignedBytes buffer_;         // the next part of the block
  std::uint64_t buffered_ = 0;  // elements in it
  cpu_adam::Isa isa_;
  std::uint32_t param_ = 0;  // what comes next: this element of this parameter, in this block
  std::uint64_t element_ = 0;
  std::size_t block_ = 0;
  std::optional<Error> failure_;
};

}  // namespace orlop::zero3
