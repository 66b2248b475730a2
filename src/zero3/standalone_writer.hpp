// StandaloneWriter: a checkpoint that needs no store, written into a directory of its own: complete, or not there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "zero3/data_file.hpp"
#include "zero3/manifest.hpp"

namespace orlop::zero3 {

class StandaloneWriter {
 public:
  // Makes the directory, which must be empty or not there yet, and takes the room at once. The manifest lacks the
  // places and the sums of its blocks. `call` begins the sentences of errors. Errors: ORLOP_INVALID_ARGUMENT (not
  // empty), ORLOP_NO_SPACE (with the shortfall).
  static Result<std::unique_ptr<StandaloneWriter>> create(const char* call, const std::string& directory,
                                                          Manifest manifest);
  StandaloneWriter(const StandaloneWriter&) = delete;
  StandaloneWriter& operator=(const StandaloneWriter&) = delete;
  // Removes the directory and all it holds, unless the checkpoint is complete.
  ~StandaloneWriter();

  [[nodiscard]] Manifest& manifest() { return manifest_; }

  // Planes of the manifest's blocks in order, as DataFileWriter appends them; of whole chunks but at a plane's end.
  Result<> append(const std::byte* from, std::uint64_t elements, std::uint64_t element_bytes,
                  std::vector<std::uint64_t>& sums);
  // Everything has been appended: the checkpoint exists.
  Result<> complete();

 private:
  StandaloneWriter(std::string directory, Manifest manifest)
      : directory_(std::move(directory)), manifest_(std::move(manifest)) {}
  Result<> create_data_file(const char* call);

  std::string directory_;
  Manifest manifest_;
  std::unique_ptr<DataFileWriter> data_;
  bool is_complete_ = false;
};

}  // namespace orlop::zero3
