// NodeArena: TBB threads that compute for one NUMA node, bound to its processors while they do.
#pragma once

#include <functional>
#include <memory>
#include <span>

#include <oneapi/tbb/task_arena.h>

#include "numa/topology.hpp"

namespace orlop::cpu_adam {

class NodeArena {
 public:
  // `topology` must outlive the arena. Of the slots, `reserved` are kept for threads that call execute.
  NodeArena(const numa::Topology& topology, int node, int threads, unsigned reserved);
  NodeArena(NodeArena&&) noexcept;
  ~NodeArena();

  [[nodiscard]] tbb::task_arena& arena() const { return *arena_; }
  [[nodiscard]] int node() const { return node_; }

 private:
  class Binding;
  int node_;
  std::unique_ptr<tbb::task_arena> arena_;
  std::unique_ptr<Binding> binding_;
};

// Runs body(begin, end) over each range in its node's arena, all of them at once, and waits. Every range's node has
// an arena.
void run_over_nodes(std::span<const NodeArena> arenas, std::span<const numa::NodeRange> ranges,
                    const std::function<void(std::size_t begin, std::size_t end)>& body);

}  // namespace orlop::cpu_adam
