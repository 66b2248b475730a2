// Manifest: what a checkpoint is made of. The file `rank<r>.manifest` in its directory; the checkpoint is complete when,
// and only when, it is there.
//
//     swap::CheckpointHeader | u64 bytes of JSON | JSON | u64 words of table | table | u64 XXH3 of all before
//
// The JSON says what was trained and where its bytes are; the table has, for every block in order, the generation and
// the runs of its extent in the store (when it is in one), and the sums of its chunks: those of the parameters, then
// those of the state planes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "kernels/optimizer.hpp"
#include "swap/states.hpp"
#include "zero3/loss_scaler.hpp"
#include "zero3/param.hpp"
#include "zero3/partition.hpp"

namespace orlop::zero3 {

struct SavedParam {
  std::string name;
  Dtype dtype = Dtype::f32;
  std::uint64_t numel = 0;
  Training training = Training::trainable;
  std::uint32_t unit = 0;
  std::uint64_t offset = 0;  // in elements of the unit
};

// A range of a unit, and where its planes are: in the store, or in the data file: parameters first, the other planes behind
// them as swap::extent_layout lays them.
struct SavedBlock {
  std::uint32_t unit = 0;
  Range range;
  Home home = Home::memory;
  swap::PlaneSet planes;  // of frozen units only the parameter, if it is in the store
  bool is_adopted = true;
  std::uint64_t file_offset = 0;
  swap::StoredBlock stored;
  std::vector<std::uint64_t> param_sums;    // per chunk; empty where the parameter is one of the planes
  std::vector<swap::ChunkSums> state_sums;  // per chunk; empty for frozen units

  [[nodiscard]] swap::BlockSpec spec() const { return {range.size(), planes}; }
  [[nodiscard]] swap::BlockSpec in_store() const { return {range.size(), stored.planes}; }
  [[nodiscard]] swap::BlockSpec in_file() const { return {range.size(), planes - stored.planes}; }
};

struct Manifest {
  std::string id;
  std::string created;  // UTC, ISO 8601
  int rank = 0;
  int world_size = 1;
  std::uint64_t steps = 0;
  std::uint64_t skipped_steps = 0;
  LossScalerState scaler;
  kernels::Optimizer optimizer = kernels::Optimizer::adam;
  std::vector<kernels::HyperParams> groups;
  std::vector<Dtype> units;
  std::vector<SavedParam> params;  // in order of id
  std::vector<SavedBlock> blocks;
  std::vector<swap::StoreRef> stores;   // the store's files, by drive; none: all planes are in the data file
  std::string data_file;                // its name in the checkpoint's directory
  std::uint64_t data_bytes = 0;
  bool has_states = true;               // false: parameters alone, from elsewhere; whether they are trained is open
  nlohmann::json client;                // of whoever embeds the engine

  [[nodiscard]] bool has_store() const { return !stores.empty(); }

  // Everything but blocks and sums, for people and tools.
  [[nodiscard]] nlohmann::json to_json() const;
};

// The JSON object that a caller gave; {} for "". `call` begins the sentence of an error.
Result<nlohmann::json> client_of(std::string_view call, const std::string& text);

// What the data file holds of a block.
std::uint64_t data_bytes_of(const Manifest& manifest, const SavedBlock& block);

// Says where each block's bytes are in the data file, one behind the other, and how many there are.
void place_in_file(Manifest& manifest);

// Bytes per element of a block's parameters in the data file; 0 where they are one of its planes.
std::uint64_t param_bytes_beside(const Manifest& manifest, const SavedBlock& block);

std::string manifest_path(const std::string& directory, int rank);
std::string encode_manifest(const Manifest& manifest);

// Errors: ORLOP_NOT_FOUND when the directory holds no checkpoint, ORLOP_CORRUPT when the manifest is damaged,
// ORLOP_UNSUPPORTED when a later version wrote it.
Result<Manifest> read_manifest(const std::string& directory, int rank);
Result<Manifest> decode_manifest(std::string_view bytes, const std::string& path);

}  // namespace orlop::zero3
