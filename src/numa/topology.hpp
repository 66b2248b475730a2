// Topology: cores, NUMA nodes and where GPUs and drives hang, by hwloc.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "base/result.hpp"

struct hwloc_topology;

namespace orlop::numa {

struct Node {
  int os_index = 0;
  std::uint64_t memory_bytes = 0;
  std::vector<int> processors;  // OS indexes of its processing units that this process may use
};

class Topology {
 public:
  static Result<Topology> detect();
  // "numa:2 core:4 pu:1": hwloc's synthetic notation; for tests. Binding is a no-op on these.
  static Result<Topology> synthetic(std::string_view description);

  Topology(Topology&&) noexcept;
  Topology& operator=(Topology&&) noexcept;
  ~Topology();

  // At least one node, even on machines that report none.
  [[nodiscard]] const std::vector<Node>& nodes() const { return nodes_; }
  [[nodiscard]] int processor_count() const;  // usable by this process (affinity mask and cgroup cpu quota)
  [[nodiscard]] bool is_this_machine() const { return is_this_machine_; }
  [[nodiscard]] hwloc_topology* handle() const { return handle_; }

  // The node nearest to a block device ("nvme0n1") or a PCI address ("0000:3b:00.0"); node 0 when unknown.
  [[nodiscard]] int node_of_block_device(std::string_view name) const;
  [[nodiscard]] int node_of_pci(std::string_view address) const;

 private:
  Topology(hwloc_topology* handle, bool is_this_machine);

  hwloc_topology* handle_ = nullptr;
  bool is_this_machine_ = false;
  std::vector<Node> nodes_;
};

// Cuts [0, count) into one contiguous range per node, in proportion to its processors, at multiples of `grain`.
struct NodeRange {
  int node;
  std::uint64_t begin;
  std::uint64_t end;
};
std::vector<NodeRange> split_over_nodes(const Topology& topology, std::uint64_t count, std::uint64_t grain);

// Binds the calling thread to a node's processors. ORLOP_UNSUPPORTED where the system refuses; carry on then.
Result<> bind_current_thread(const Topology& topology, int node);

}  // namespace orlop::numa
