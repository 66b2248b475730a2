// ThreadWorld: N ranks as threads of one process. For tests of what shards, without MPI or a second process.
#pragma once

#include <barrier>
#include <cstring>
#include <functional>
#include <thread>
#include <vector>

#include "comm/communicator.hpp"
#include "comm/sizes.hpp"

namespace orlop::comm {

class ThreadWorld {
 public:
  explicit ThreadWorld(int size) : posted_(static_cast<std::size_t>(size)), barrier_(size) {}

  // Runs `body` once per rank, each on its thread, until all have returned.
  void run(const std::function<void(Communicator&)>& body) {
    std::vector<std::thread> threads;
    for (int rank = 0; rank < size(); ++rank) {
      threads.emplace_back([this, rank, &body] {
        Rank communicator(*this, rank);
        body(communicator);
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
  [[nodiscard]] int size() const { return static_cast<int>(posted_.size()); }

 private:
  // A collective is: post what the others shall read, meet, read it into own memory, meet again; only then is
  // what was posted written to or left.
  class Rank final : public Communicator {
   public:
    Rank(ThreadWorld& world, int rank) : world_(world), rank_(rank) {}

    [[nodiscard]] int rank() const override { return rank_; }
    [[nodiscard]] int world_size() const override { return world_.size(); }

    Result<> all_gather(std::span<const std::byte> shard, std::span<std::byte> whole) override {
      TRY(check_shards("all-gather", "B", shard.size(), whole.size(), world_size()));
      std::vector<std::byte> gathered(whole.size());
      exchange(shard.data(), [&] {
        for (int rank = 0; rank < world_size(); ++rank) {
          copy(gathered.data() + static_cast<std::size_t>(rank) * shard.size(), posted<std::byte>(rank),
               shard.size());
        }
      });
      copy(whole.data(), gathered.data(), gathered.size());
      return {};
    }

    Result<> all_reduce_sum(std::span<std::int64_t> values) override {
      std::vector<std::int64_t> sums(values.size());
      exchange(values.data(), [&] {
        for (std::size_t i = 0; i < values.size(); ++i) sums[i] = sum_of_ranks<std::int64_t>(i);
      });
      copy(values.data(), sums.data(), values.size_bytes());
      return {};
    }

    Result<> reduce_scatter_sum(std::span<const float> whole, std::span<float> shard) override {
      TRY(check_shards("reduce-scatter", "elements", shard.size(), whole.size(), world_size()));
      std::vector<float> sums(shard.size());
      exchange(whole.data(), [&] {
        const std::size_t begin = static_cast<std::size_t>(rank_) * shard.size();
        for (std::size_t i = 0; i < shard.size(); ++i) sums[i] = sum_of_ranks<float>(begin + i);
      });
      copy(shard.data(), sums.data(), shard.size_bytes());
      return {};
    }

    Result<> broadcast(std::span<std::byte> bytes, int root) override {
      TRY(check_root(root, world_size()));
      exchange(bytes.data(), [&] {
        if (rank_ != root) copy(bytes.data(), posted<std::byte>(root), bytes.size());
      });
      return {};
    }

    Result<> barrier() override {
      world_.barrier_.arrive_and_wait();
      return {};
    }

   private:
    template <typename Read>
    void exchange(const void* data, Read read) {
      world_.posted_[static_cast<std::size_t>(rank_)] = data;
      world_.barrier_.arrive_and_wait();
      read();
      world_.barrier_.arrive_and_wait();
    }
    template <typename T>
    [[nodiscard]] const T* posted(int rank) const {
      return static_cast<const T*>(world_.posted_[static_cast<std::size_t>(rank)]);
    }
    template <typename T>
    [[nodiscard]] T sum_of_ranks(std::size_t i) const {
      T sum = posted<T>(0)[i];
      for (int rank = 1; rank < world_size(); ++rank) sum = add(sum, posted<T>(rank)[i]);
      return sum;
    }
    static float add(float a, float b) { return a + b; }
    static std::int64_t add(std::int64_t a, std::int64_t b) {
      return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) + static_cast<std::uint64_t>(b));
    }
    static void copy(void* destination, const void* source, std::size_t bytes) {
      if (bytes != 0) std::memcpy(destination, source, bytes);
    }

    ThreadWorld& world_;
    int rank_;
  };

  std::vector<const void*> posted_;
  std::barrier<> barrier_;
};

}  // namespace orlop::comm
