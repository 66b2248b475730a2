// Snapshot: writing a checkpoint while training goes on.
//
// A thread copies what no store holds into the data file, block by block in the order in which the next update will
// want them; an update waits only for the block it is about to change. Then everything is synced, and the manifest,
// renamed into place, makes the checkpoint exist.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "swap/states.hpp"
#include "zero3/background.hpp"
#include "zero3/data_file.hpp"
#include "zero3/flat_buffers.hpp"
#include "zero3/manifest.hpp"

namespace orlop::zero3 {

struct SnapshotOptions {
  std::string directory;              // is there
  std::vector<std::string> replaced;  // directories of checkpoints to remove, with all they hold, once this one exists
  std::string latest_file;             // gets the directory's name before those are removed; may be empty
  std::vector<std::string> manifest_links;  // other names for the manifest
  std::uint64_t bytes_per_second = 0;  // at most, while nobody waits; 0: as fast as possible
};

class Snapshot {
 public:
  // Begins at once. The manifest lacks the sums of what is copied. Flat buffers and states outlive the snapshot.
  static Result<std::unique_ptr<Snapshot>> begin(Manifest manifest, SnapshotOptions options, const FlatBuffers& buffers,
                                                 swap::States& states, const std::atomic<bool>& cancel);

  // From any thread: return once the manifest's block, or all of them, may change.
  void await_copied(std::size_t block);
  void await_all_copied();
  // Returns once the snapshot has ended: whether the checkpoint exists.
  bool await_end();

  // The outcome, once; nothing while it is under way after timeout_ms (-1: for ever).
  std::optional<Result<>> wait(int timeout_ms);

  [[nodiscard]] const std::string& id() const { return manifest_.id; }

 private:
  Snapshot(Manifest manifest, SnapshotOptions options, const FlatBuffers& buffers, swap::States& states,
           const std::atomic<bool>& cancel);

  Result<> run();
  Result<> write();
  Result<> copy_blocks();
  Result<> copy_block(SavedBlock& block, std::uint32_t index);
  Result<> copy_plane(const std::byte* from, std::uint64_t elements, std::uint32_t element_bytes,
                      std::vector<std::uint64_t>& sums);
  void hold_to_rate();
  void note_copied(std::size_t blocks);
  void note_end(bool has_succeeded);
  template <typename Condition>
  void await(const Condition& condition);
  Result<> commit();
  void remove_replaced() const;

  Manifest manifest_;
  SnapshotOptions options_;
  const FlatBuffers& buffers_;
  swap::States& states_;
  const std::atomic<bool>& cancel_;
  std::unique_ptr<DataFileWriter> data_;
  std::int64_t begin_ns_ = 0;
  std::uint64_t copied_bytes_ = 0;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::size_t copied_blocks_ = 0;
  std::optional<bool> has_succeeded_;  // set at the end
  int waiting_ = 0;
  Background background_{"orlop-save"};  // last: its thread uses what is above
};

}  // namespace orlop::zero3
