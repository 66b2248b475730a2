#include "zero3/standalone_writer.hpp"

#include <filesystem>

#include "base/durable_file.hpp"
#include "base/log.hpp"

namespace orlop::zero3 {
namespace {

namespace fs = std::filesystem;

Result<std::string> make_directory(const char* call, const std::string& given) {
  std::error_code error;
  const std::string directory = fs::absolute(given, error).lexically_normal().string();
  if (!error) fs::create_directories(directory, error);
  if (error) return fail(status_of_errno(error.value()), "{}: on {}: {}", call, given, error.message());
  if (fs::is_empty(directory, error)) return directory;
  return fail(ORLOP_INVALID_ARGUMENT, "{}: on {}: it is not empty; name a new directory", call, given);
}

Result<> check_room(const char* call, const std::string& directory, std::uint64_t bytes) {
  TRY_ASSIGN(const std::uint64_t free, aio::free_bytes(directory));
  if (bytes <= free) return {};
  return fail(ORLOP_NO_SPACE, "{}: on {}: {} bytes are needed, {} too few are free", call, directory, bytes,
              bytes - free);
}

}  // namespace

Result<std::unique_ptr<StandaloneWriter>> StandaloneWriter::create(const char* call, const std::string& directory,
                                                                   Manifest manifest) {
  TRY_ASSIGN(std::string made, make_directory(call, directory));
  std::unique_ptr<StandaloneWriter> writer(new StandaloneWriter(std::move(made), std::move(manifest)));
  TRY(writer->create_data_file(call));
  return writer;
}

Result<> StandaloneWriter::create_data_file(const char* call) {
  place_in_file(manifest_);
  TRY(check_room(call, directory_, manifest_.data_bytes));
  const std::string path = (fs::path(directory_) / manifest_.data_file).string();
  TRY_ASSIGN(data_, DataFileWriter::create(path, manifest_.data_bytes));
  return {};
}

StandaloneWriter::~StandaloneWriter() {
  if (is_complete_) return;
  data_.reset();
  std::error_code error;
  fs::remove_all(directory_, error);
  if (error) log_warning("checkpoint: remove {}: {}", directory_, error.message());
}

Result<> StandaloneWriter::append(const std::byte* from, std::uint64_t elements, std::uint64_t element_bytes,
                                  std::vector<std::uint64_t>& sums) {
  return data_->append(from, elements * element_bytes, swap::kChunkElements * element_bytes, sums);
}

Result<> StandaloneWriter::complete() {
  TRY(data_->finish());
  TRY(sync_directory(directory_));
  TRY(sync_directory(fs::path(directory_).parent_path().string()));
  TRY(write_durably(manifest_path(directory_, manifest_.rank), encode_manifest(manifest_)));
  is_complete_ = true;
  return {};
}

}  // namespace orlop::zero3
