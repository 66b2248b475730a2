// What the tests of this folder share: a directory of their own, block lists, a visitor that changes every element,
// and a model of the states in plain vectors.
#pragma once

#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/log.hpp"
#include "swap/nvme_states.hpp"
#include "swap/states.hpp"
#include "swap/sums.hpp"

namespace orlop::swap::testing {

namespace fs = std::filesystem;

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string name = (fs::temp_directory_path() / "orlop-swap-XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  ~TemporaryDirectory() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  [[nodiscard]] std::string path() const { return path_.string(); }
  [[nodiscard]] std::string operator/(const char* name) const { return (path_ / name).string(); }
  [[nodiscard]] bool is_empty() const { return fs::is_empty(path_); }

 private:
  fs::path path_;
};

// Collects what the library logs while it lives.
class CapturedLog {
 public:
  CapturedLog() { (void)set_log_callback(&CapturedLog::take, this, ORLOP_LOG_INFO); }
  ~CapturedLog() { (void)set_log_callback(nullptr, nullptr, ORLOP_LOG_OFF); }
  [[nodiscard]] const std::string& text() const { return text_; }

 private:
  static void take(void* self, int, const char* line) { static_cast<CapturedLog*>(self)->text_.append(line).append("\n"); }
  std::string text_;
};

inline const numa::Topology& topology() {
  static const auto* const found = new numa::Topology(numa::Topology::detect().value());
  return *found;
}

inline constexpr PlaneSet kSplit = {Plane::lo, Plane::exp_avg, Plane::exp_avg_sq};
inline constexpr PlaneSet kSeparate = {Plane::master, Plane::exp_avg, Plane::exp_avg_sq};
inline constexpr PlaneSet kFloat = {Plane::exp_avg, Plane::exp_avg_sq};
inline constexpr PlaneSet kStored = {Plane::lo, Plane::exp_avg, Plane::exp_avg_sq, Plane::param};

// Sizes from the smallest there is to several chunks with a tail, all kinds of planes.
inline std::vector<BlockSpec> random_blocks(std::mt19937_64& random, std::size_t count) {
  constexpr PlaneSet kSets[] = {kSplit, kSeparate, kFloat, kStored};
  std::vector<BlockSpec> blocks;
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint64_t largest = random() % 3 == 0 ? 200 : 20;
    blocks.push_back({(1 + random() % largest) * 2048, kSets[random() % std::size(kSets)]});
  }
  blocks.front().elements = 2048;
  blocks.back().elements = kChunkElements + 2048;
  return blocks;
}

inline std::vector<BlockSpec> equal_blocks(std::size_t count, std::uint64_t elements) {
  return std::vector<BlockSpec>(count, BlockSpec{elements, kSplit});
}

inline std::vector<std::uint32_t> forward_order(std::size_t count) {
  std::vector<std::uint32_t> order(count);
  std::iota(order.begin(), order.end(), 0u);
  return order;
}

inline std::uint64_t planes_bytes(std::span<const BlockSpec> blocks) {
  std::uint64_t bytes = 0;
  for (const auto& block : blocks) bytes += block.elements * block.planes.bytes_per_element();
  return bytes;
}

// Bytes of a plane of a chunk.
inline std::span<std::byte> chunk_bytes(const BlockSpec& spec, const BlockMemory& memory, Plane plane,
                                        std::uint64_t chunk) {
  return {memory.as<std::byte>(plane) + chunk * kChunkElements * element_bytes(plane),
          chunk_elements(spec, chunk) * element_bytes(plane)};
}

// Any change will do, as long as it depends on everything that was there.
inline void change(std::span<std::byte> bytes, std::uint32_t salt) {
  for (std::size_t i = 0; i < bytes.size(); i += 2) {
    std::uint16_t value = 0;
    std::memcpy(&value, bytes.data() + i, 2);
    value = static_cast<std::uint16_t>(value * 31u + salt + i);
    std::memcpy(bytes.data() + i, &value, 2);
  }
}

inline void change_chunk(const BlockSpec& spec, const BlockMemory& memory, std::uint64_t chunk, std::uint32_t salt) {
  for (const auto plane : kPlanes) {
    if (spec.planes.contains(plane)) change(chunk_bytes(spec, memory, plane, chunk), salt);
  }
}

inline ChunkSums sums_of_stored(const BlockSpec& spec, const Visit& visit, std::uint64_t chunk) {
  return chunk_sums({spec.elements, spec.planes & visit.stored}, visit.memory, chunk);
}

// The visitor's side of the contract: check each chunk, change it only if it is right, sum what was written.
inline Visitor changing_visitor(const std::vector<BlockSpec>& blocks, std::uint32_t salt) {
  return [&blocks, salt](const Visit& visit) -> Result<> {
    const BlockSpec& spec = blocks[visit.block];
    for (std::uint64_t chunk = 0; chunk < chunk_count(spec); ++chunk) {
      const bool is_checked = !visit.recorded.empty();
      if (is_checked) {
        visit.read[chunk] = sums_of_stored(spec, visit, chunk);
        if (visit.read[chunk] != visit.recorded[chunk]) continue;
      }
      change_chunk(spec, visit.memory, chunk, salt + visit.block);
      if (is_checked) visit.written[chunk] = sums_of_stored(spec, visit, chunk);
    }
    return {};
  };
}

// The definition: states in plain vectors.
class Model {
 public:
  explicit Model(const std::vector<BlockSpec>& blocks) : blocks_(blocks) {
    for (const auto& block : blocks) {
      auto& planes = content_.emplace_back();
      for (const auto plane : kPlanes) {
        if (block.planes.contains(plane)) planes[static_cast<std::size_t>(plane)].resize(block.elements * element_bytes(plane));
      }
    }
  }
  void change_block(std::uint32_t block, std::uint32_t salt) {
    for (std::uint64_t chunk = 0; chunk < chunk_count(blocks_[block]); ++chunk) {
      change_chunk(blocks_[block], memory_of(block), chunk, salt + block);
    }
  }
  void sweep(std::span<const std::uint32_t> order, std::uint32_t salt) {
    for (const auto block : order) change_block(block, salt);
  }
  // "" or where the first difference is.
  std::string difference(States& states) {
    for (std::uint32_t block = 0; block < blocks_.size(); ++block) {
      std::string found;
      const auto result = states.access(block, Change::none, [&](const BlockMemory& memory) -> Result<> {
        found = difference_of(block, memory);
        return {};
      });
      if (!result) return result.error().message;
      if (!found.empty()) return found;
    }
    return "";
  }

 private:
  BlockMemory memory_of(std::uint32_t block) {
    BlockMemory memory;
    for (std::size_t i = 0; i < kPlaneCount; ++i) memory.planes[i] = content_[block][i].data();
    return memory;
  }
  std::string difference_of(std::uint32_t block, const BlockMemory& memory) {
    for (const auto plane : kPlanes) {
      const auto& expected = content_[block][static_cast<std::size_t>(plane)];
      if (!expected.empty() && std::memcmp(expected.data(), memory.as<std::byte>(plane), expected.size()) != 0) {
        return fmt::format("block {} plane {} differs", block, name_of(plane));
      }
    }
    return "";
  }

  const std::vector<BlockSpec>& blocks_;
  std::vector<std::array<std::vector<std::byte>, kPlaneCount>> content_;
};

// Configured drive settings: nothing is measured.
inline NvmeOptions options_in(const TemporaryDirectory& directory, const std::string& run_id = "test") {
  NvmeOptions options;
  options.nvme_paths = {directory.path()};
  options.run_id = run_id;
  options.queue = aio::QueueKind::threads;
  options.overrides = {256 * 1024, 8};
  return options;
}

inline const std::atomic<bool> kNeverCancelled{false};

}  // namespace orlop::swap::testing
