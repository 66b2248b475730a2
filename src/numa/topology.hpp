// Topology: cores, NUMA nodes and where GPUs and drives hang, by hwloc.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.hpp"

struct hwloc_topology;
struct hwloc_bitmap_s;

namespace orlop::numa {

struct Node {
  int os_index = 0;
  std::uint64_t memory_bytes = 0;
  // OS indexes of its processing units that this process may use. Each belongs to one node; a node of memory
  // alone (CXL, HBM) has none.
  std::vector<int> processors;
};

class Topology {
 public:
  static Result<Topology> detect();
  // "numa:2 core:4 pu:1": hwloc's synthetic notation; for tests. Binding is a no-op on these. `processors`
  // are the ones that the process may use; none given: all.
  static Result<Topology> synthetic(std::string_view description, std::span<const int> processors = {});

  Topology(Topology&&) noexcept;
  Topology& operator=(Topology&&) noexcept;
  ~Topology();

  // At least one node, even on machines that report none.
  [[nodiscard]] const std::vector<Node>& nodes() const { return nodes_; }
  // Usable by this process at once: those in the nodes, capped by the cgroup's cpu quota (rounded up).
  [[nodiscard]] int processor_count() const;
  [[nodiscard]] bool is_this_machine() const { return is_this_machine_; }
  [[nodiscard]] hwloc_topology* handle() const { return handle_; }

  // The node nearest to a block device ("nvme0n1") or a PCI address ("0000:3b:00.0"); node 0 when unknown.
  [[nodiscard]] int node_of_block_device(std::string_view name) const;
  [[nodiscard]] int node_of_pci(std::string_view address) const;

 private:
  Topology(hwloc_topology* handle, bool is_this_machine)
      : handle_(handle), is_this_machine_(is_this_machine) {}

  void find_nodes(const hwloc_bitmap_s* usable);
  [[nodiscard]] int index_of_os_node(std::optional<int> os_index) const;

  hwloc_topology* handle_ = nullptr;
  bool is_this_machine_ = false;
  std::optional<double> quota_;
  std::vector<Node> nodes_;
};

// Cuts [0, count) into one contiguous range per node, in proportion to its processors, at multiples of
// `grain`. Nodes that would get nothing are left out.
struct NodeRange {
  int node;
  std::uint64_t begin;
  std::uint64_t end;

  bool operator==(const NodeRange&) const = default;
};
std::vector<NodeRange> split_over_nodes(const Topology& topology, std::uint64_t count, std::uint64_t grain);

// Binds the calling thread to a node's processors. ORLOP_UNSUPPORTED where the system refuses or the node has
// none; carry on then.
Result<> bind_current_thread(const Topology& topology, int node);

}  // namespace orlop::numa
