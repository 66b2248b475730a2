#include "cpu_adam/node_arena.hpp"

#include <algorithm>
#include <cassert>
#include <deque>

#include <pthread.h>
#include <sched.h>

#include <oneapi/tbb/task_group.h>
#include <oneapi/tbb/task_scheduler_observer.h>

#include "base/log.hpp"

namespace orlop::cpu_adam {
namespace {

// Room for 8192 processors: pthread_getaffinity_np fails with EINVAL where the kernel's mask is longer than this.
struct Affinity {
  cpu_set_t sets[8];
  bool is_known = false;
};

// What the thread was bound to before it entered an arena; threads leave in the order in which they entered.
thread_local std::deque<Affinity> saved_affinities;

}  // namespace

class NodeArena::Binding : public tbb::task_scheduler_observer {
 public:
  Binding(tbb::task_arena& arena, const numa::Topology& topology, int node)
      : tbb::task_scheduler_observer(arena), topology_(topology), node_(node) {
    observe(true);
  }
  ~Binding() override { observe(false); }

  void on_scheduler_entry(bool /*is_worker*/) override {
    Affinity& saved = saved_affinities.emplace_back();
    if (!topology_.is_this_machine()) return;
    saved.is_known = pthread_getaffinity_np(pthread_self(), sizeof(saved.sets), saved.sets) == 0;
    if (!saved.is_known) return;  // it could not be undone
    if (const auto bound = numa::bind_current_thread(topology_, node_); !bound) {
      log_debug("workers: {}", bound.error().message);
    }
  }

  void on_scheduler_exit(bool /*is_worker*/) override {
    if (saved_affinities.empty()) return;
    const Affinity saved = saved_affinities.back();
    saved_affinities.pop_back();
    if (!saved.is_known) return;
    if (const int error = pthread_setaffinity_np(pthread_self(), sizeof(saved.sets), saved.sets); error != 0) {
      log_warning("workers: a thread stays bound to node {}: {}", node_, describe_errno(error));
    }
  }

 private:
  const numa::Topology& topology_;
  int node_;
};

NodeArena::NodeArena(const numa::Topology& topology, int node, int threads, unsigned reserved)
    : node_(node),
      arena_(std::make_unique<tbb::task_arena>(threads, reserved)),
      binding_(std::make_unique<Binding>(*arena_, topology, node)) {}
NodeArena::NodeArena(NodeArena&&) noexcept = default;
NodeArena::~NodeArena() = default;

void run_over_nodes(std::span<const NodeArena> arenas, std::span<const numa::NodeRange> ranges,
                    const std::function<void(std::size_t begin, std::size_t end)>& body) {
  const auto arena_of = [&](int node) -> tbb::task_arena& {
    const auto found = std::find_if(arenas.begin(), arenas.end(), [&](const auto& a) { return a.node() == node; });
    assert(found != arenas.end());
    return found->arena();
  };
  std::deque<tbb::task_group> groups(ranges.size());
  for (std::size_t i = 0; i != ranges.size(); ++i) {
    arena_of(ranges[i].node).execute([&, i] {
      groups[i].run([&, i] { body(ranges[i].begin, ranges[i].end); });
    });
  }
  for (std::size_t i = 0; i != ranges.size(); ++i) {
    arena_of(ranges[i].node).execute([&, i] { groups[i].wait(); });
  }
}

}  // namespace orlop::cpu_adam
