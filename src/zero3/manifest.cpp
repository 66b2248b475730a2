#include "zero3/manifest.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>

#include "base/bytes.hpp"
#include "swap/layout.hpp"
#include "swap/sums.hpp"

namespace orlop::zero3 {
namespace {

using nlohmann::json;

constexpr std::uint32_t kFormat = 2;

// A run in the table: its first grain, then (where the store is on several drives) 8 bits of the drive, then its length.
constexpr unsigned kLengthBits = 24;

std::uint64_t sum_of(std::string_view bytes) { return swap::sum_of(std::as_bytes(std::span(bytes))); }

std::uint64_t chunks_of(const SavedBlock& block) { return swap::chunk_count(block.spec()); }

// ---- Writing ----

json groups_of(const Manifest& manifest) {
  json groups = json::array();
  for (const auto& g : manifest.groups) {
    groups.push_back({{"lr", g.lr},
                      {"beta1", g.beta1},
                      {"beta2", g.beta2},
                      {"eps", g.eps},
                      {"weight_decay", g.weight_decay},
                      {"decoupled", g.decoupled},
                      {"bias_correction", g.bias_correction},
                      {"lr_decay", g.lr_decay}});
  }
  return groups;
}

json params_of(const Manifest& manifest) {
  json params = json::array();
  for (const SavedParam& p : manifest.params) {
    params.push_back({{"name", p.name},
                      {"dtype", name_of(p.dtype)},
                      {"numel", p.numel},
                      {"trainable", p.training == Training::trainable},
                      {"unit", p.unit},
                      {"offset", p.offset}});
  }
  return params;
}

json blocks_of(const Manifest& manifest) {
  json blocks = json::array();
  for (const SavedBlock& b : manifest.blocks) {
    blocks.push_back({b.unit, b.range.begin, b.range.end, b.is_adopted ? 1 : 0, b.file_offset,
                      b.home == Home::store ? 1 : 0, b.stored.planes.bits()});
  }
  return blocks;
}

// The first version knew no parameters in the store and wrote four sums.
std::ptrdiff_t sums_of(const SavedBlock& block) {
  return block.planes.contains(swap::Plane::param) ? swap::kPlaneCount : swap::kPlaneCount - 1;
}

std::uint64_t word_of(const swap::GrainRun& run) {
  return std::uint64_t{run.first_grain} << 32 | std::uint64_t{run.drive} << kLengthBits | run.grain_count;
}

json json_of(const swap::StoreRef& store) {
  return {{"directory", store.directory},
          {"run_id", store.run_id},
          {"opening", store.opening},
          {"rank", store.rank},
          {"drive", store.drive}};
}

json stores_of(const Manifest& manifest) {
  if (manifest.stores.empty()) return nullptr;
  if (manifest.stores.size() == 1) return json_of(manifest.stores.front());
  json stores = json::array();
  for (const swap::StoreRef& store : manifest.stores) stores.push_back(json_of(store));
  return stores;
}

std::vector<std::uint64_t> table_of(const Manifest& manifest) {
  std::vector<std::uint64_t> table;
  for (const SavedBlock& block : manifest.blocks) {
    table.push_back(block.stored.generation);
    table.push_back(block.stored.extent.runs.size());
    for (const auto& run : block.stored.extent.runs) table.push_back(word_of(run));
    table.insert(table.end(), block.param_sums.begin(), block.param_sums.end());
    for (const auto& sums : block.state_sums) table.insert(table.end(), sums.begin(), sums.begin() + sums_of(block));
  }
  return table;
}

void append(std::string& out, const void* bytes, std::size_t count) {
  out.append(static_cast<const char*>(bytes), count);
}

void append_word(std::string& out, std::uint64_t word) { append(out, &word, sizeof word); }

// ---- Reading ----

class Reader {
 public:
  explicit Reader(std::string_view bytes) : bytes_(bytes) {}
  std::optional<std::uint64_t> word() {
    const auto found = take(sizeof(std::uint64_t));
    if (!found) return std::nullopt;
    std::uint64_t word = 0;
    std::memcpy(&word, found->data(), sizeof word);
    return word;
  }
  std::optional<std::string_view> take(std::uint64_t count) {
    if (count > bytes_.size()) return std::nullopt;
    const auto taken = bytes_.substr(0, count);
    bytes_.remove_prefix(count);
    return taken;
  }
  [[nodiscard]] bool is_at_end() const { return bytes_.empty(); }

 private:
  std::string_view bytes_;
};

// Thrown and caught in this file only.
struct Damaged {
  std::string what;
};

void require(bool holds, std::string_view what) {
  if (!holds) throw Damaged{std::string(what)};
}

Dtype dtype_named(const std::string& name) {
  for (const auto dtype : {Dtype::f32, Dtype::bf16, Dtype::f16}) {
    if (name == name_of(dtype)) return dtype;
  }
  throw Damaged{fmt::format("a dtype \"{}\"", name)};
}

void read_params(const json& text, Manifest& manifest) {
  for (const json& unit : text.at("units")) manifest.units.push_back(dtype_named(unit));
  for (const json& p : text.at("params")) {
    manifest.params.push_back({p.at("name"), dtype_named(p.at("dtype")), p.at("numel"),
                               p.at("trainable").get<bool>() ? Training::trainable : Training::frozen, p.at("unit"),
                               p.at("offset")});
    const SavedParam& param = manifest.params.back();
    require(param.unit < manifest.units.size() && param.numel > 0 && param.numel < 1ull << 48 && param.offset < 1ull << 56,
            fmt::format("the place of \"{}\"", param.name));
    require(param.dtype == manifest.units[param.unit], fmt::format("the dtype of \"{}\"", param.name));
  }
}

kernels::Optimizer optimizer_named(const std::string& name) {
  using enum kernels::Optimizer;
  for (const auto optimizer : {adam, adagrad, lion, external}) {
    if (name == name_of(optimizer)) return optimizer;
  }
  throw Damaged{fmt::format("an optimizer \"{}\"", name)};
}

// Manifests of the first version know only Adam.
void read_groups(const json& text, Manifest& manifest) {
  manifest.optimizer = optimizer_named(text.value("optimizer", "Adam"));
  for (const json& g : text.at("groups")) {
    manifest.groups.push_back({.lr = g.at("lr"),
                               .beta1 = g.at("beta1"),
                               .beta2 = g.at("beta2"),
                               .eps = g.at("eps"),
                               .weight_decay = g.at("weight_decay"),
                               .decoupled = g.at("decoupled"),
                               .bias_correction = g.at("bias_correction"),
                               .optimizer = manifest.optimizer,
                               .lr_decay = g.value("lr_decay", 0.0)});
  }
}

// Those of a block that are in the store. In the first version all were, if any.
swap::PlaneSet stored_planes(const json& text, const Manifest& manifest, const SavedBlock& block) {
  if (!manifest.has_store()) return {};
  if (text.size() <= 6) return block.planes;
  const auto planes = swap::PlaneSet::of_bits(text.at(6).get<std::uint8_t>());
  require((planes - block.planes).empty(), fmt::format("the planes of block {}", manifest.blocks.size()));
  return planes;
}

// The planes follow from the unit's dtype and whether its parameters are trained; without states there are none.
void read_blocks(const json& text, Manifest& manifest) {
  std::vector<bool> is_trained(manifest.units.size(), false);
  for (const SavedParam& p : manifest.params) {
    if (p.training == Training::trainable) is_trained[p.unit] = true;
  }
  for (const json& b : text.at("blocks")) {
    SavedBlock block;
    block.unit = b.at(0);
    block.range = {b.at(1), b.at(2)};
    block.is_adopted = b.at(3).get<int>() != 0;
    block.file_offset = b.at(4);
    block.home = b.size() > 5 && b.at(5).get<int>() != 0 ? Home::store : Home::memory;
    require(block.unit < manifest.units.size() && block.range.begin < block.range.end &&
                block.range.size() % kShardGrain == 0 && block.range.size() < 1ull << 32 &&
                block.file_offset % swap::kPlaneAlignment == 0 && block.file_offset <= manifest.data_bytes,
            fmt::format("block {}", manifest.blocks.size()));
    block.planes = planes_of(UnitKind{manifest.units[block.unit], manifest.has_states && is_trained[block.unit], block.home},
                             manifest.optimizer);
    block.stored.planes = stored_planes(b, manifest, block);
    manifest.blocks.push_back(std::move(block));
  }
}

// A unit's blocks follow each other without a gap, and hold its parameters.
void check_cover(const Manifest& manifest) {
  std::vector<std::uint64_t> ends(manifest.units.size(), 0);
  for (std::size_t i = 0; i < manifest.blocks.size(); ++i) {
    const SavedBlock& block = manifest.blocks[i];
    require(block.range.begin == ends[block.unit] &&
                (block.range.begin == 0 || manifest.blocks[i - 1].unit == block.unit),
            fmt::format("the place of block {}", i));
    ends[block.unit] = block.range.end;
  }
  for (const SavedParam& param : manifest.params) {
    require(param.offset + param.numel <= ends[param.unit], fmt::format("the blocks of \"{}\"", param.name));
  }
}

// One, or a list of them.
void read_stores(const json& text, Manifest& manifest) {
  if (text.is_null()) return;
  for (const json& s : text.is_array() ? text : json::array({text})) {
    manifest.stores.push_back({s.at("directory"), s.at("run_id"), s.at("opening"), s.at("rank"), s.at("drive")});
  }
}

Manifest read_json(const json& text) {
  Manifest manifest;
  manifest.created = text.at("created");
  manifest.rank = text.at("rank");
  manifest.world_size = text.at("world_size");
  manifest.steps = text.at("steps");
  manifest.skipped_steps = text.at("skipped_steps");
  const json& scaler = text.at("loss_scaler");
  manifest.scaler = {scaler.at("scale"), scaler.at("good_steps"), scaler.at("overflows_left")};
  manifest.data_file = text.at("data_file");
  manifest.data_bytes = text.at("data_bytes");
  require(manifest.data_file.find('/') == std::string::npos, "the name of the data file");
  manifest.has_states = text.value("has_states", true);
  manifest.client = text.at("client");
  read_stores(text.at("store"), manifest);
  read_params(text, manifest);
  read_groups(text, manifest);
  read_blocks(text, manifest);
  check_cover(manifest);
  return manifest;
}

std::uint64_t need(std::optional<std::uint64_t> word) {
  require(word.has_value(), "its table, which ends too soon");
  return *word;
}

swap::GrainRun run_of(std::uint64_t word, std::size_t drive_count) {
  const auto first = static_cast<std::uint32_t>(word >> 32);
  const auto rest = static_cast<std::uint32_t>(word);
  if (drive_count <= 1) return {first, rest};
  const swap::GrainRun run{first, rest & ((1u << kLengthBits) - 1), rest >> kLengthBits};
  require(run.drive < drive_count, "the drive of an extent");
  return run;
}

void read_extent(Reader& table, std::size_t drive_count, SavedBlock& block) {
  block.stored.generation = need(table.word());
  const std::uint64_t runs = need(table.word());
  for (std::uint64_t i = 0; i < runs; ++i) {
    block.stored.extent.runs.push_back(run_of(need(table.word()), drive_count));
  }
}

void read_table(Reader& table, Manifest& manifest) {
  for (SavedBlock& block : manifest.blocks) {
    read_extent(table, manifest.stores.size(), block);
    if (block.home == Home::memory) {
      for (std::uint64_t i = 0; i < chunks_of(block); ++i) block.param_sums.push_back(need(table.word()));
    }
    if (block.planes == swap::PlaneSet{}) continue;
    for (std::uint64_t i = 0; i < chunks_of(block); ++i) {
      swap::ChunkSums sums = {};
      for (std::ptrdiff_t plane = 0; plane < sums_of(block); ++plane) sums[static_cast<std::size_t>(plane)] = need(table.word());
      block.state_sums.push_back(sums);
    }
    const std::uint64_t bytes = swap::extent_layout(block.in_store()).total_bytes;
    require(block.stored.extent.grain_count() >= swap::grains_of(bytes), "an extent, which is too short");
  }
  require(table.is_at_end(), "its table, which is too long");
}

tl::unexpected<Error> damaged(const std::string& path, std::string_view what) {
  return fail(ORLOP_CORRUPT, "checkpoint: on {}: the manifest is damaged: {} is wrong; load an older checkpoint", path,
              what);
}

Result<> check_frame(std::string_view bytes, const std::string& path) {
  swap::CheckpointHeader header;
  if (bytes.size() < sizeof header + 3 * sizeof(std::uint64_t)) return damaged(path, fmt::format("its size ({} bytes)", bytes.size()));
  std::memcpy(&header, bytes.data(), sizeof header);
  if (!header.has_magic()) return fail(ORLOP_CORRUPT, "checkpoint: on {}: it is no manifest of a checkpoint", path);
  if (header.format > kFormat) {
    return fail(ORLOP_UNSUPPORTED, "checkpoint: on {}: it has format {}, this version knows those up to {}; load it with "
                "the version that wrote it", path, header.format, kFormat);
  }
  std::uint64_t sum = 0;
  std::memcpy(&sum, bytes.data() + bytes.size() - sizeof sum, sizeof sum);
  if (sum != sum_of(bytes.substr(0, bytes.size() - sizeof sum))) return damaged(path, "its checksum");
  return {};
}

}  // namespace

json Manifest::to_json() const {
  json unit_names = json::array();
  for (const Dtype unit : units) unit_names.push_back(name_of(unit));
  return {{"id", id},
          {"created", created},
          {"rank", rank},
          {"world_size", world_size},
          {"steps", steps},
          {"skipped_steps", skipped_steps},
          {"loss_scaler",
           {{"scale", scaler.scale}, {"good_steps", scaler.good_steps}, {"overflows_left", scaler.overflows_left}}},
          {"optimizer", name_of(optimizer)},
          {"groups", groups_of(*this)},
          {"units", unit_names},
          {"params", params_of(*this)},
          {"store", stores_of(*this)},
          {"data_file", data_file},
          {"data_bytes", data_bytes},
          {"has_states", has_states},
          {"client", client}};
}

Result<json> client_of(std::string_view call, const std::string& text) {
  if (text.empty()) return json::object();
  json client = json::parse(text, nullptr, false);
  if (client.is_object()) return client;
  return fail(ORLOP_INVALID_ARGUMENT, "{}: on client_json ({} bytes): must be a JSON object", call, text.size());
}

std::uint64_t data_bytes_of(const Manifest& manifest, const SavedBlock& block) {
  return block.range.size() * (param_bytes_beside(manifest, block) + block.in_file().planes.bytes_per_element());
}

void place_in_file(Manifest& manifest) {
  manifest.data_bytes = 0;
  for (SavedBlock& block : manifest.blocks) {
    block.file_offset = manifest.data_bytes;
    manifest.data_bytes += data_bytes_of(manifest, block);
  }
}

std::uint64_t param_bytes_beside(const Manifest& manifest, const SavedBlock& block) {
  return block.home == Home::memory ? bytes_of(manifest.units[block.unit]) : 0;
}

std::string manifest_path(const std::string& directory, int rank) {
  return (std::filesystem::path(directory) / fmt::format("rank{}.manifest", rank)).string();
}

std::string encode_manifest(const Manifest& manifest) {
  json head = manifest.to_json();
  head["blocks"] = blocks_of(manifest);
  const std::string text = head.dump();
  const std::vector<std::uint64_t> table = table_of(manifest);
  const auto header = swap::CheckpointHeader::of(manifest.id, kFormat);
  std::string out;
  append(out, &header, sizeof header);
  append_word(out, text.size());
  out += text;
  append_word(out, table.size());
  append(out, table.data(), table.size() * sizeof(std::uint64_t));
  append_word(out, sum_of(out));
  return out;
}

Result<Manifest> decode_manifest(std::string_view bytes, const std::string& path) {
  TRY(check_frame(bytes, path));
  swap::CheckpointHeader header;
  std::memcpy(&header, bytes.data(), sizeof header);
  bytes.remove_suffix(sizeof(std::uint64_t));
  Reader reader(bytes.substr(sizeof header));
  try {
    const auto text = reader.take(need(reader.word()));
    require(text.has_value(), "its text, which ends too soon");
    Manifest manifest = read_json(json::parse(*text));
    manifest.id = header.id_text();
    const std::uint64_t words = need(reader.word());
    const auto table = words < 1ull << 60 ? reader.take(words * sizeof(std::uint64_t)) : std::nullopt;
    require(table.has_value() && reader.is_at_end(), "the length of its table");
    Reader table_reader(*table);
    read_table(table_reader, manifest);
    return manifest;
  } catch (const Damaged& e) {
    return damaged(path, e.what);
  } catch (const json::exception& e) {
    return damaged(path, e.what());
  }
}

Result<Manifest> read_manifest(const std::string& directory, int rank) {
  const std::string path = manifest_path(directory, rank);
  std::error_code error;
  if (!std::filesystem::is_directory(directory, error)) {
    return fail(ORLOP_NOT_FOUND, "checkpoint: on {}: there is no such directory", directory);
  }
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    const int code = errno;
    return fail(code == ENOENT ? ORLOP_NOT_FOUND : status_of_errno(code),
                "checkpoint: on {}: {}: it holds no complete checkpoint of Orlop", path, describe_errno(code));
  }
  const std::string bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  return decode_manifest(bytes, path);
}

}  // namespace orlop::zero3
