// FaultyCommunicator: any Communicator, but its k-th collective fails on this rank. For tests of what is
// above; ranks that go on without it hang, so all of them are told to fail.
#pragma once

#include <cstdint>

#include "comm/communicator.hpp"

namespace orlop::comm {

class FaultyCommunicator final : public Communicator {
 public:
  // Counted from 0.
  FaultyCommunicator(Communicator& inner, std::uint64_t fails_at) : inner_(inner), fails_at_(fails_at) {}

  [[nodiscard]] int rank() const override { return inner_.rank(); }
  [[nodiscard]] int world_size() const override { return inner_.world_size(); }

  Result<> all_gather(std::span<const std::byte> shard, std::span<std::byte> whole) override {
    TRY(count("all-gather"));
    return inner_.all_gather(shard, whole);
  }
  Result<> all_reduce_sum(std::span<std::int64_t> values) override {
    TRY(count("all-reduce"));
    return inner_.all_reduce_sum(values);
  }
  Result<> reduce_scatter_sum(std::span<const float> whole, std::span<float> shard) override {
    TRY(count("reduce-scatter"));
    return inner_.reduce_scatter_sum(whole, shard);
  }
  Result<> broadcast(std::span<std::byte> bytes, int root) override {
    TRY(count("broadcast"));
    return inner_.broadcast(bytes, root);
  }
  Result<> barrier() override {
    TRY(count("barrier"));
    return inner_.barrier();
  }

 private:
  Result<> count(const char* collective) {
    const std::uint64_t number = calls_++;
    if (number != fails_at_) return {};
    return fail(ORLOP_DEVICE_ERROR, "{}: on rank {} of {}: collective {} was told to fail", collective,
                rank(), world_size(), number);
  }

  Communicator& inner_;
  std::uint64_t fails_at_;
  std::uint64_t calls_ = 0;
};

}  // namespace orlop::comm
