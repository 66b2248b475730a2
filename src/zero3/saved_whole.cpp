// What is done with a whole checkpoint: verifying it, writing it out so that it stands alone.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <filesystem>
#include <mutex>
#include <thread>

#include "base/stamp.hpp"
#include "zero3/saved_checkpoint.hpp"
#include "zero3/standalone_writer.hpp"

namespace orlop::zero3 {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kReaders = 4;  // enough requests in flight for a drive's speed, at 1 MiB each
constexpr std::chrono::milliseconds kProgressEvery{100};

std::uint64_t bytes_of_block(const Manifest& manifest, const SavedBlock& block) {
  return block.range.size() * (param_bytes_beside(manifest, block) + block.planes.bytes_per_element());
}

std::uint64_t total_bytes(const Manifest& manifest) {
  std::uint64_t bytes = 0;
  for (const SavedBlock& block : manifest.blocks) bytes += bytes_of_block(manifest, block);
  return bytes;
}

tl::unexpected<Error> stopped(const std::string& directory) {
  return fail(ORLOP_CANCELLED, "checkpoint: on {}: stopped", directory);
}

// Readers take blocks in turn; the calling thread reports progress meanwhile.
class Verification {
 public:
  Verification(const std::string& directory, int rank, const Manifest& manifest)
      : directory_(directory), rank_(rank), manifest_(manifest) {}

  Result<> run(const Progress& progress) {
    std::vector<std::thread> readers;
    running_ = std::min(kReaders, manifest_.blocks.size());
    for (std::size_t i = running_; i > 0; --i) readers.emplace_back([this] { read(); });
    report(progress);
    for (std::thread& reader : readers) reader.join();
    if (failure_) return tl::unexpected(*failure_);
    return {};
  }

 private:
  void read() {
    Result<> outcome;
    if (auto saved = SavedCheckpoint::open(directory_, rank_)) {
      for (std::size_t i = next_++; i < manifest_.blocks.size() && outcome && !stop_; i = next_++) {
        outcome = (*saved)->verify_block(static_cast<std::uint32_t>(i));
        done_ += bytes_of_block(manifest_, manifest_.blocks[i]);
      }
    } else {
      outcome = tl::unexpected(std::move(saved.error()));
    }
    const std::lock_guard lock(mutex_);
    if (!outcome && !failure_) failure_ = std::move(outcome.error());
    if (!outcome) stop_ = true;
    --running_;
    ended_.notify_all();
  }

  void report(const Progress& progress) {
    std::unique_lock lock(mutex_);
    while (!ended_.wait_for(lock, kProgressEvery, [&] { return running_ == 0; })) {
      lock.unlock();
      const bool goes_on = progress(done_, total_bytes(manifest_));
      lock.lock();
      if (goes_on || stop_) continue;
      stop_ = true;
      if (!failure_) failure_ = stopped(directory_).value();
    }
    if (!failure_) progress(done_, total_bytes(manifest_));
  }

  const std::string& directory_;
  const int rank_;
  const Manifest& manifest_;
  std::atomic<std::size_t> next_{0};
  std::atomic<std::uint64_t> done_{0};
  std::atomic<bool> stop_{false};
  std::mutex mutex_;
  std::condition_variable ended_;
  std::size_t running_ = 0;
  std::optional<Error> failure_;
};

// The same blocks, all in the data file.
Manifest standing_alone(const Manifest& manifest) {
  Manifest whole = manifest;
  whole.id = random_uuid();  // another checkpoint: the store is to keep nothing for it
  whole.stores.clear();
  for (SavedBlock& block : whole.blocks) block.stored = {};
  return whole;
}

class Export {
 public:
  Export(SavedCheckpoint& saved, StandaloneWriter& out, const Progress& progress)
      : saved_(saved), out_(out), whole_(out.manifest()), progress_(progress) {}

  Result<> run() {
    TRY_ASSIGN(buffer_, AlignedBytes::allocate(kCopyBytes));
    for (std::uint32_t i = 0; i < whole_.blocks.size(); ++i) TRY(copy_block(i));
    return out_.complete();
  }

 private:
  Result<> copy_block(std::uint32_t index) {
    const SavedBlock& block = whole_.blocks[index];
    for (std::size_t plane = 0; plane < kSavedPlanes; ++plane) {
      if (has_saved_plane(block, plane)) TRY(copy_plane(index, plane));
    }
    return {};
  }

  Result<> copy_plane(std::uint32_t index, std::size_t plane) {
    const SavedBlock& block = whole_.blocks[index];
    SavedPlanes& planes = saved_.planes();
    const std::uint64_t element = planes.element_bytes(index, plane);
    std::vector<std::uint64_t> sums;  // those of the manifest, with which what is read has been compared
    for (std::uint64_t at = 0; at < block.range.size(); at += kCopyBytes / element) {
      const Range part{at, std::min(at + kCopyBytes / element, block.range.size())};
      TRY(planes.read(index, plane, part, buffer_.data()));
      TRY(out_.append(buffer_.data(), part.size(), element, sums));
      done_ += part.size() * element;
      if (!progress_(done_, whole_.data_bytes)) return stopped(saved_.directory());
    }
    return {};
  }

  SavedCheckpoint& saved_;
  StandaloneWriter& out_;
  const Manifest& whole_;
  const Progress& progress_;
  AlignedBytes buffer_;
  std::uint64_t done_ = 0;
};

// Tensors of the client, whose names the manifest's client JSON has.
Result<> copy_other_files(const Manifest& manifest, const std::string& directory, const std::string& target) {
  const auto name = manifest.client.find("tensors");
  if (name == manifest.client.end() || !name->is_string()) return {};
  std::error_code error;
  const fs::path file = name->get<std::string>();
  fs::copy_file(fs::path(directory) / file.filename(), fs::path(target) / file.filename(), error);
  if (!error) return {};
  return fail(status_of_errno(error.value()), "export: on {}: {}", (fs::path(directory) / file).string(), error.message());
}

}  // namespace

Result<> verify_checkpoint(const std::string& directory, int rank, const Progress& progress) {
  TRY_ASSIGN(const Manifest manifest, read_manifest(directory, rank));
  return Verification(directory, rank, manifest).run(progress);
}

Result<> export_checkpoint(const std::string& directory, int rank, const std::string& target, const Progress& progress) {
  TRY_ASSIGN(const auto saved, SavedCheckpoint::open(directory, rank));
  TRY_ASSIGN(const auto out, StandaloneWriter::create("export", target, standing_alone(saved->manifest())));
  TRY(copy_other_files(saved->manifest(), directory, target));
  return Export(*saved, *out, progress).run();
}

}  // namespace orlop::zero3
