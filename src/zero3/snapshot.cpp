#include "zero3/snapshot.hpp"

#include <unistd.h>

#include <chrono>
#include <exception>
#include <filesystem>
#include <limits>
#include <utility>

#include "base/clock.hpp"
#include "base/durable_file.hpp"
#include "base/log.hpp"

namespace orlop::zero3 {
namespace {

namespace fs = std::filesystem;

std::string data_path(const SnapshotOptions& options, const Manifest& manifest) {
  return (fs::path(options.directory) / manifest.data_file).string();
}

// Data files of checkpoints that were in this directory before, or that were never completed.
void remove_stale(const SnapshotOptions& options, const Manifest& manifest) {
  const std::string prefix = fmt::format("rank{}-", manifest.rank);
  std::error_code error;
  for (fs::directory_iterator it(options.directory, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    std::error_code ignored;
    if (name.starts_with(prefix) && name.ends_with(".states") && name != manifest.data_file) fs::remove(it->path(), ignored);
  }
}

}  // namespace

Snapshot::Snapshot(Manifest manifest, SnapshotOptions options, const FlatBuffers& buffers, swap::States& states,
                   const std::atomic<bool>& cancel)
    : manifest_(std::move(manifest)),
      options_(std::move(options)),
      buffers_(buffers),
      states_(states),
      cancel_(cancel) {}

Result<std::unique_ptr<Snapshot>> Snapshot::begin(Manifest manifest, SnapshotOptions options,
                                                  const FlatBuffers& buffers, swap::States& states,
                                                  const std::atomic<bool>& cancel) {
  std::unique_ptr<Snapshot> snapshot(new Snapshot(std::move(manifest), std::move(options), buffers, states, cancel));
  Snapshot& s = *snapshot;
  TRY_ASSIGN(s.data_, DataFileWriter::create(data_path(s.options_, s.manifest_), s.manifest_.data_bytes));
  s.begin_ns_ = now_ns();
  s.background_.start([&s] { return s.run(); });
  return snapshot;
}

// Whatever happens, nobody is left waiting.
Result<> Snapshot::run() {
  Result<> written;
  try {
    written = write();
  } catch (const std::exception& e) {
    written = fail(ORLOP_INTERNAL, "checkpoint: on {}: {}", options_.directory, e.what());
  }
  data_.reset();
  if (!written) ::unlink(data_path(options_, manifest_).c_str());
  note_end(written.has_value());
  return written;
}

Result<> Snapshot::write() {
  TRY(copy_blocks());
  TRY(data_->finish());
  TRY(states_.sync());
  TRY(commit());
  remove_stale(options_, manifest_);
  remove_replaced();
  return {};
}

// ---- Copying ----

Result<> Snapshot::copy_blocks() {
  for (std::uint32_t i = 0; i < manifest_.blocks.size(); ++i) {
    if (cancel_) return fail(ORLOP_CANCELLED, "checkpoint: on {}: cancelled", options_.directory);
    TRY(copy_block(manifest_.blocks[i], i));
    note_copied(i + 1);
  }
  return {};
}

Result<> Snapshot::copy_block(SavedBlock& block, std::uint32_t index) {
  const auto param_bytes = static_cast<std::uint32_t>(bytes_of(manifest_.units[block.unit]));
  if (block.home == Home::memory) {
    TRY(copy_plane(buffers_.host_params(block.unit) + block.range.begin * param_bytes, block.range.size(), param_bytes,
                   block.param_sums));
  }
  const swap::PlaneSet planes = block.in_file().planes;
  if (planes.empty()) return {};
  const swap::BlockMemory memory = states_.resident(index);
  block.state_sums.resize(swap::chunk_count(block.spec()));
  for (const swap::Plane plane : swap::kPlanes) {
    if (!planes.contains(plane)) continue;
    std::vector<std::uint64_t> sums;
    TRY(copy_plane(memory.as<std::byte>(plane), block.range.size(), element_bytes(plane), sums));
    for (std::size_t i = 0; i < sums.size(); ++i) block.state_sums[i][static_cast<std::size_t>(plane)] = sums[i];
  }
  return {};
}

Result<> Snapshot::copy_plane(const std::byte* from, std::uint64_t elements, std::uint32_t element_bytes,
                              std::vector<std::uint64_t>& sums) {
  const std::uint64_t bytes = elements * element_bytes;
  for (std::uint64_t at = 0; at < bytes; at += kCopyBytes) {
    const std::uint64_t part = std::min(kCopyBytes, bytes - at);
    TRY(data_->append(from + at, part, swap::kChunkElements * element_bytes, sums));
    copied_bytes_ += part;
    hold_to_rate();
  }
  return {};
}

void Snapshot::hold_to_rate() {
  if (options_.bytes_per_second == 0) return;
  const double due = static_cast<double>(copied_bytes_) / static_cast<double>(options_.bytes_per_second);
  const double ahead = due - seconds_of_ns(now_ns() - begin_ns_);
  if (ahead <= 0) return;
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, std::chrono::duration<double>(ahead), [&] { return waiting_ > 0 || cancel_; });
}

// ---- Who waits ----

void Snapshot::note_copied(std::size_t blocks) {
  {
    const std::lock_guard lock(mutex_);
    copied_blocks_ = blocks;
  }
  changed_.notify_all();
}

// After an error nobody is to wait for blocks any longer.
void Snapshot::note_end(bool has_succeeded) {
  note_copied(std::numeric_limits<std::size_t>::max());
  {
    const std::lock_guard lock(mutex_);
    has_succeeded_ = has_succeeded;
  }
  changed_.notify_all();
}

template <typename Condition>
void Snapshot::await(const Condition& condition) {
  std::unique_lock lock(mutex_);
  ++waiting_;
  changed_.notify_all();
  changed_.wait(lock, condition);
  --waiting_;
}

void Snapshot::await_copied(std::size_t block) {
  await([&] { return copied_blocks_ > block; });
}

void Snapshot::await_all_copied() { await_copied(manifest_.blocks.size() - 1); }

bool Snapshot::await_end() {
  await([&] { return has_succeeded_.has_value(); });
  return *has_succeeded_;
}

std::optional<Result<>> Snapshot::wait(int timeout_ms) {
  if (timeout_ms != 0) {
    const std::lock_guard lock(mutex_);
    ++waiting_;
    changed_.notify_all();
  }
  auto outcome = background_.wait(timeout_ms);
  if (timeout_ms != 0) {
    const std::lock_guard lock(mutex_);
    --waiting_;
  }
  return outcome;
}

// ---- Making it exist ----

Result<> Snapshot::commit() {
  if (cancel_) return fail(ORLOP_CANCELLED, "checkpoint: on {}: cancelled", options_.directory);
  TRY(sync_directory(options_.directory));
  TRY(sync_directory(fs::path(options_.directory).parent_path().string()));
  TRY(write_durably(manifest_path(options_.directory, manifest_.rank), encode_manifest(manifest_),
                    options_.manifest_links));
  if (options_.latest_file.empty()) return {};
  const auto named = write_durably(options_.latest_file, fs::path(options_.directory).filename().string());
  if (named) return {};
  options_.replaced.clear();  // it still names one of them
  log_warning("checkpoint: {} is complete, but not noted as the latest: {}", options_.directory, named.error().message);
  return {};
}

// The manifest goes first: half a directory is no checkpoint.
void Snapshot::remove_replaced() const {
  for (const std::string& directory : options_.replaced) {
    std::error_code error;
    fs::remove(manifest_path(directory, manifest_.rank), error);
    if (!error) fs::remove_all(directory, error);
    if (error) log_warning("checkpoint: remove {}: {}", directory, error.message());
  }
}

}  // namespace orlop::zero3
