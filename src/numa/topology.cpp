#include "numa/topology.hpp"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <memory>
#include <string>
#include <utility>

#include <hwloc.h>

#include "base/bytes.hpp"
#include "base/log.hpp"
#include "numa/cgroup.hpp"
#include "numa/locality.hpp"

namespace orlop::numa {
namespace {

struct FreeBitmap {
  void operator()(hwloc_bitmap_t bitmap) const { hwloc_bitmap_free(bitmap); }
};
using Bitmap = std::unique_ptr<hwloc_bitmap_s, FreeBitmap>;

tl::unexpected<Error> fail_hwloc(std::string_view call, std::string_view subject) {
  return fail(ORLOP_UNSUPPORTED, "topology: {}: {}: {}", subject, call, describe_errno(errno));
}

Result<Bitmap> make_bitmap() {
  Bitmap bitmap(hwloc_bitmap_alloc());
  if (!bitmap) return fail(ORLOP_NO_MEMORY, "topology: bitmap: {}", describe_errno(ENOMEM));
  return bitmap;
}

Result<Bitmap> make_bitmap(std::span<const int> indexes) {
  TRY_ASSIGN(Bitmap bitmap, make_bitmap());
  for (const int index : indexes) {
    if (index < 0 || hwloc_bitmap_set(bitmap.get(), static_cast<unsigned>(index)) != 0) {
      return fail(ORLOP_INVALID_ARGUMENT, "topology: processor {}: not a processor", index);
    }
  }
  return bitmap;
}

// The union over the process's threads: a runtime may have bound the calling one to a single core, while a
// mask set from outside (taskset, a batch system) holds for all of them.
Result<Bitmap> processors_of_process(hwloc_topology_t handle) {
  TRY_ASSIGN(Bitmap usable, make_bitmap());
  if (hwloc_get_cpubind(handle, usable.get(), HWLOC_CPUBIND_PROCESS) != 0) {
    log_info("topology: the affinity mask of this process cannot be read ({}): taken to be all processors",
             describe_errno(errno));
    hwloc_bitmap_fill(usable.get());
  }
  return usable;
}

}  // namespace

Result<Topology> Topology::detect() {
  hwloc_topology_t handle = nullptr;
  if (hwloc_topology_init(&handle) != 0) return fail_hwloc("hwloc_topology_init", "this machine");
  Topology topology(handle, true);
  if (hwloc_topology_load(handle) != 0) return fail_hwloc("hwloc_topology_load", "this machine");
  topology.is_this_machine_ = hwloc_topology_is_thissystem(handle) != 0;  // HWLOC_XMLFILE may say otherwise
  TRY_ASSIGN(const Bitmap usable, processors_of_process(handle));
  topology.find_nodes(usable.get());
  topology.quota_ = processor_quota("");
  return topology;
}

Result<Topology> Topology::synthetic(std::string_view description, std::span<const int> processors) {
  hwloc_topology_t handle = nullptr;
  if (hwloc_topology_init(&handle) != 0) return fail_hwloc("hwloc_topology_init", description);
  Topology topology(handle, false);
  const std::string text(description);
  if (hwloc_topology_set_synthetic(handle, text.c_str()) != 0) {
    return fail(ORLOP_INVALID_ARGUMENT, "topology: '{}': not hwloc's synthetic notation", description);
  }
  if (hwloc_topology_load(handle) != 0) return fail_hwloc("hwloc_topology_load", description);
  TRY_ASSIGN(const Bitmap usable, make_bitmap(processors));
  if (processors.empty()) hwloc_bitmap_fill(usable.get());
  topology.find_nodes(usable.get());
  return topology;
}

Topology::Topology(Topology&& other) noexcept
    : handle_(std::exchange(other.handle_, nullptr)),
      is_this_machine_(other.is_this_machine_),
      quota_(other.quota_),
      nodes_(std::move(other.nodes_)) {}

Topology& Topology::operator=(Topology&& other) noexcept {
  std::swap(handle_, other.handle_);
  std::swap(is_this_machine_, other.is_this_machine_);
  std::swap(quota_, other.quota_);
  std::swap(nodes_, other.nodes_);
  return *this;
}

Topology::~Topology() {
  if (handle_ != nullptr) hwloc_topology_destroy(handle_);
}

// Several nodes may be local to one processor (HBM beside DRAM): the first in hwloc's order has it.
void Topology::find_nodes(const hwloc_bitmap_s* usable) {
  const Bitmap left(hwloc_bitmap_dup(usable));
  for (hwloc_obj_t object = nullptr;
       (object = hwloc_get_next_obj_by_type(handle_, HWLOC_OBJ_NUMANODE, object)) != nullptr;) {
    Node node{static_cast<int>(object->os_index), object->attr->numanode.local_memory, {}};
    unsigned index = 0;
    hwloc_bitmap_foreach_begin(index, object->cpuset) {
      if (hwloc_bitmap_isset(left.get(), index) == 0) continue;
      node.processors.push_back(static_cast<int>(index));
      hwloc_bitmap_clr(left.get(), index);
    }
    hwloc_bitmap_foreach_end();
    nodes_.push_back(std::move(node));
  }
  if (nodes_.empty()) nodes_.push_back(Node{0, 0, {0}});
}

int Topology::processor_count() const {
  std::size_t count = 0;
  for (const Node& node : nodes_) count += node.processors.size();
  if (quota_) count = std::min(count, static_cast<std::size_t>(std::ceil(*quota_)));
  return std::max(1, static_cast<int>(count));
}

int Topology::index_of_os_node(std::optional<int> os_index) const {
  if (!os_index) return 0;
  const auto found = std::find_if(nodes_.begin(), nodes_.end(),
                                  [&](const Node& node) { return node.os_index == *os_index; });
  return found == nodes_.end() ? 0 : static_cast<int>(found - nodes_.begin());
}

int Topology::node_of_block_device(std::string_view name) const {
  return is_this_machine_ ? index_of_os_node(os_node_of_block_device("", name)) : 0;
}

int Topology::node_of_pci(std::string_view address) const {
  return is_this_machine_ ? index_of_os_node(os_node_of_pci("", address)) : 0;
}

std::vector<NodeRange> split_over_nodes(const Topology& topology, std::uint64_t count, std::uint64_t grain) {
  std::uint64_t processors = 0;
  for (const Node& node : topology.nodes()) processors += node.processors.size();
  if (processors == 0) return count == 0 ? std::vector<NodeRange>{} : std::vector{NodeRange{0, 0, count}};

  // In whole grains, at floor(grains x processors so far / processors), so that no error adds up; the product
  // itself could overflow.
  const std::uint64_t grains = divide_up(count, grain);
  const auto grains_of = [&](std::uint64_t part) {
    return grains / processors * part + grains % processors * part / processors;
  };
  std::vector<NodeRange> ranges;
  std::uint64_t before = 0;
  std::uint64_t begin = 0;
  for (std::size_t i = 0; i < topology.nodes().size(); ++i) {
    before += topology.nodes()[i].processors.size();
    const std::uint64_t end = before == processors ? count : grains_of(before) * grain;
    if (end > begin) ranges.push_back(NodeRange{static_cast<int>(i), begin, end});
    begin = end;
  }
  return ranges;
}

Result<> bind_current_thread(const Topology& topology, int node) {
  if (node < 0 || static_cast<std::size_t>(node) >= topology.nodes().size()) {
    return fail(ORLOP_INVALID_ARGUMENT, "bind thread: node {}: this topology has nodes 0 to {}", node,
                topology.nodes().size() - 1);
  }
  const std::vector<int>& processors = topology.nodes()[static_cast<std::size_t>(node)].processors;
  if (processors.empty()) {
    return fail(ORLOP_UNSUPPORTED, "bind thread: node {}: it has no processors that this process may use",
                node);
  }
  if (!topology.is_this_machine()) return {};
  TRY_ASSIGN(const Bitmap bitmap, make_bitmap(processors));
  if (hwloc_set_cpubind(topology.handle(), bitmap.get(), HWLOC_CPUBIND_THREAD) != 0) {
    return fail(ORLOP_UNSUPPORTED, "bind thread: node {} ({} processors): {}", node, processors.size(),
                describe_errno(errno));
  }
  return {};
}

}  // namespace orlop::numa
