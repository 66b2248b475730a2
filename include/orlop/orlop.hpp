// Orlop for C++20: ownership and exceptions over orlop.h, header-only. What a call does is said there.
//
// SPDX-License-Identifier: Apache-2.0
//
//   orlop::Engine engine(R"({"zero_optimization": {"stage": 3, "offload_optimizer": {"device": "nvme",
//                            "nvme_path": "/local_nvme"}}})");
//   const auto weight = engine.register_param("weight", ORLOP_BF16, 4096 * 4096);
//   engine.commit();
//   ...  engine.grad_ready(weight, gradient, ORLOP_BF16);
//   engine.backward_end();
//   const orlop_step_report report = engine.step();
#ifndef ORLOP_ORLOP_HPP
#define ORLOP_ORLOP_HPP

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "orlop/orlop.h"

namespace orlop {

// A call that failed: its status and the library's sentence.
class Exception : public std::runtime_error {
 public:
  explicit Exception(orlop_status status) : std::runtime_error(orlop_last_error()), status_(status) {}
  [[nodiscard]] orlop_status status() const noexcept { return status_; }

 private:
  orlop_status status_;
};

inline void check(orlop_status status) {
  if (status != ORLOP_OK) throw Exception(status);
}

// Owns an engine. Thread-safety: as orlop_engine.
class Engine {
 public:
  explicit Engine(const orlop_engine_params& params) { check(orlop_engine_open(&params, &handle_)); }
  explicit Engine(const std::string& config_json, const std::string& run_id = {}) {
    orlop_engine_params params{};
    params.struct_size = sizeof params;
    params.config_json = config_json.c_str();
    params.run_id = run_id.empty() ? nullptr : run_id.c_str();
    check(orlop_engine_open(&params, &handle_));
  }
  Engine(Engine&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Engine& operator=(Engine&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  // Closes; errors of write-back are lost here: call close() to see them.
  ~Engine() { orlop_engine_close(&handle_); }

  void close() { check(orlop_engine_close(&handle_)); }
  void cancel() noexcept { orlop_engine_cancel(handle_); }
  [[nodiscard]] orlop_engine* get() const noexcept { return handle_; }

  std::uint32_t register_param(const orlop_param_desc& desc) {
    std::uint32_t id = 0;
    check(orlop_param_register(handle_, &desc, &id));
    return id;
  }
  std::uint32_t register_param(const std::string& name, orlop_dtype dtype, std::uint64_t numel, int group = 0,
                               int module = 0) {
    orlop_param_desc desc{};
    desc.struct_size = sizeof desc;
    desc.name = name.c_str();
    desc.dtype = dtype;
    desc.numel = numel;
    desc.group = group;
    desc.module = module;
    return register_param(desc);
  }
  void commit() { check(orlop_engine_commit(handle_)); }

  template <typename T = void>
  [[nodiscard]] T* address(std::uint32_t id) const {
    void* address = nullptr;
    check(orlop_param_address(handle_, id, &address));
    return static_cast<T*>(address);
  }
  void read(std::uint32_t id, orlop_plane plane, std::uint64_t first, std::uint64_t count, orlop_dtype dtype,
            void* destination) const {
    check(orlop_param_read(handle_, id, plane, first, count, dtype, destination));
  }
  void write(std::uint32_t id, orlop_plane plane, std::uint64_t first, std::uint64_t count, orlop_dtype dtype,
             const void* source) {
    check(orlop_param_write(handle_, id, plane, first, count, dtype, source));
  }

  [[nodiscard]] orlop_unit unit(std::uint32_t number) const {
    orlop_unit info{};
    info.struct_size = sizeof info;
    check(orlop_unit_get(handle_, number, &info));
    return info;
  }
  // A parameter's unit, and the element in it that it begins at.
  [[nodiscard]] std::pair<std::uint32_t, std::uint64_t> place(std::uint32_t id) const {
    std::pair<std::uint32_t, std::uint64_t> place;
    check(orlop_param_unit(handle_, id, &place.first, &place.second));
    return place;
  }
  // Units whose memory the program is to free before it takes memory for this one.
  [[nodiscard]] std::vector<std::uint32_t> make_room(std::uint32_t unit) {
    constexpr std::uint32_t kAtOnce = 64;
    std::vector<std::uint32_t> units;
    for (std::uint32_t count = kAtOnce; count == kAtOnce;) {
      const std::size_t before = units.size();
      units.resize(before + kAtOnce);
      check(orlop_unit_room(handle_, unit, units.data() + before, kAtOnce, &count));
      units.resize(before + count);
    }
    return units;
  }
  void unshard(std::uint32_t unit, orlop_use use, void* destination, void* stream = nullptr) {
    check(orlop_unit_unshard(handle_, unit, use, destination, stream, nullptr));
  }
  bool reshard(std::uint32_t unit) {  // true: it stays
    std::int32_t stays = 0;
    check(orlop_unit_reshard(handle_, unit, &stays));
    return stays != 0;
  }
  void give_up(std::uint32_t unit) { check(orlop_unit_reshard(handle_, unit, nullptr)); }

  [[nodiscard]] orlop_group_params group(int index) const {
    orlop_group_params params{};
    params.struct_size = sizeof params;
    check(orlop_group_get(handle_, index, &params));
    return params;
  }
  void set_group(int index, const orlop_group_params& params) { check(orlop_group_set(handle_, index, &params)); }

  orlop_ticket grad_ready(std::uint32_t id, const void* gradient, orlop_dtype dtype, void* stream = nullptr) {
    orlop_ticket ticket = 0;
    check(orlop_grad_ready(handle_, id, gradient, dtype, stream, &ticket));
    return ticket;
  }
  void set_boundary(orlop_boundary boundary) { check(orlop_boundary_set(handle_, boundary)); }
  bool backward_end() {  // true at the boundary
    std::int32_t is_boundary = 0;
    check(orlop_backward_end(handle_, &is_boundary));
    return is_boundary != 0;
  }
  void grad_discard() { check(orlop_grad_discard(handle_)); }

  void step_begin() { check(orlop_step_begin(handle_, nullptr)); }
  // Nothing when the step is still under way after timeout_ms.
  std::optional<orlop_step_report> step_wait(int timeout_ms) {
    orlop_step_report report{};
    report.struct_size = sizeof report;
    const orlop_status status = orlop_step_wait(handle_, timeout_ms, &report);
    if (status == ORLOP_TIMEOUT) return std::nullopt;
    check(status);
    return report;
  }
  orlop_step_report step() {
    step_begin();
    return *step_wait(-1);
  }
  void drain() { check(orlop_drain(handle_, -1)); }

  void save_begin(const std::string& directory, const std::string& client_json = "{}") {
    orlop_save_params params{};
    params.struct_size = sizeof params;
    params.directory = directory.c_str();
    params.client_json = client_json.c_str();
    save_begin(params);
  }
  void save_begin(const orlop_save_params& params) { check(orlop_checkpoint_save_begin(handle_, &params)); }
  void load_begin(const std::string& directory, std::uint32_t flags = 0) {
    orlop_load_params params{};
    params.struct_size = sizeof params;
    params.directory = directory.c_str();
    params.flags = flags;
    check(orlop_checkpoint_load_begin(handle_, &params));
  }
  void checkpoint_wait() { check(orlop_checkpoint_wait(handle_, -1)); }
  void save(const std::string& directory, const std::string& client_json = "{}") {
    save_begin(directory, client_json);
    checkpoint_wait();
  }
  void load(const std::string& directory, std::uint32_t flags = 0) {
    load_begin(directory, flags);
    checkpoint_wait();
  }

  [[nodiscard]] orlop_stats stats() const {
    orlop_stats stats{};
    stats.struct_size = sizeof stats;
    check(orlop_engine_stats(handle_, &stats));
    return stats;
  }
  [[nodiscard]] std::string describe() const {
    std::size_t needed = 0;
    check(orlop_engine_describe(handle_, nullptr, 0, &needed));
    std::string text(needed, '\0');
    check(orlop_engine_describe(handle_, text.data(), text.size(), &needed));
    text.resize(needed - 1);
    return text;
  }
  [[nodiscard]] std::uint64_t digest() const {
    std::uint64_t digest = 0;
    check(orlop_engine_digest(handle_, &digest));
    return digest;
  }

 private:
  orlop_engine* handle_ = nullptr;
};

// Owns a checkpoint being made of parameters from elsewhere. Thread-safety: as orlop_import.
class Import {
 public:
  explicit Import(const orlop_import_params& params) { check(orlop_import_open(&params, &handle_)); }
  Import(const std::string& directory, const std::vector<orlop_param_desc>& params) {
    orlop_import_params given{};
    given.struct_size = sizeof given;
    given.directory = directory.c_str();
    given.params = params.data();
    given.param_count = params.size();
    check(orlop_import_open(&given, &handle_));
  }
  Import(Import&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Import& operator=(Import&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  // Nothing is left unless complete() has returned.
  ~Import() { orlop_import_close(&handle_); }

  void write(std::uint32_t param, std::uint64_t first, std::uint64_t count, orlop_dtype dtype, const void* source) {
    check(orlop_import_write(handle_, param, first, count, dtype, source));
  }
  void complete() { check(orlop_import_complete(handle_)); }

 private:
  orlop_import* handle_ = nullptr;
};

// Owns a pool of host memory. Thread-safety: as orlop_host_pool.
class HostPool {
 public:
  explicit HostPool(const orlop_host_pool_params& params) { check(orlop_host_pool_open(&params, &handle_)); }
  HostPool(HostPool&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  HostPool& operator=(HostPool&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  // Pieces that are lent go with it.
  ~HostPool() { orlop_host_pool_close(&handle_); }

  [[nodiscard]] void* take(std::uint64_t bytes) {
    void* memory = nullptr;
    check(orlop_host_pool_take(handle_, bytes, &memory));
    return memory;
  }
  void give_back(void* memory) { check(orlop_host_pool_give_back(handle_, memory)); }
  [[nodiscard]] orlop_host_pool_use use() const {
    orlop_host_pool_use use{};
    use.struct_size = sizeof use;
    check(orlop_host_pool_look(handle_, &use));
    return use;
  }

 private:
  orlop_host_pool* handle_ = nullptr;
};

// Owns a queue of moves of files. Thread-safety: as orlop_file_queue.
class FileQueue {
 public:
  explicit FileQueue(const orlop_file_queue_params& params) { check(orlop_file_queue_open(&params, &handle_)); }
  FileQueue(FileQueue&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  FileQueue& operator=(FileQueue&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  // Waits for every move.
  ~FileQueue() { orlop_file_queue_close(&handle_); }

  orlop_ticket read(const std::string& path, std::uint64_t offset, std::uint64_t bytes, void* destination) {
    orlop_ticket ticket = 0;
    check(orlop_file_queue_read(handle_, path.c_str(), offset, bytes, destination, &ticket));
    return ticket;
  }
  orlop_ticket write(const std::string& path, std::uint64_t offset, std::uint64_t bytes, const void* source) {
    orlop_ticket ticket = 0;
    check(orlop_file_queue_write(handle_, path.c_str(), offset, bytes, source, &ticket));
    return ticket;
  }
  void wait(orlop_ticket ticket) { check(orlop_file_queue_wait(handle_, ticket, -1)); }

 private:
  orlop_file_queue* handle_ = nullptr;
};

}  // namespace orlop

#endif
