#include <algorithm>

#include "comm/communicator.hpp"

namespace orlop::comm {
namespace {

class SelfCommunicator final : public Communicator {
 public:
  [[nodiscard]] int rank() const override { return 0; }
  [[nodiscard]] int world_size() const override { return 1; }

  Result<> all_gather(std::span<const std::byte> shard, std::span<std::byte> whole) override {
    return copy("all-gather", shard, whole);
  }
  Result<> all_reduce_sum(std::span<std::int64_t>) override { return {}; }
  Result<> reduce_scatter_sum(std::span<const float> whole, std::span<float> shard) override {
    return copy("reduce-scatter", whole, shard);
  }
  Result<> broadcast(std::span<std::byte> bytes, int root) override {
    if (root == 0) return {};
    return fail(ORLOP_INVALID_ARGUMENT, "broadcast: on {} bytes from rank {}: there is only rank 0", bytes.size(), root);
  }
  Result<> barrier() override { return {}; }

 private:
  template <typename T>
  static Result<> copy(const char* what, std::span<const T> from, std::span<T> to) {
    if (from.size() != to.size()) {
      return fail(ORLOP_INVALID_ARGUMENT, "{}: on 1 rank (from {} elements to {}): sizes differ", what, from.size(),
                  to.size());
    }
    std::copy(from.begin(), from.end(), to.begin());
    return {};
  }
};

}  // namespace

std::unique_ptr<Communicator> make_self_communicator() { return std::make_unique<SelfCommunicator>(); }

}  // namespace orlop::comm
