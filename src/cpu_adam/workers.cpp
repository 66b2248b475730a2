#include <algorithm>
#include <cassert>
#include <optional>
#include <utility>
#include <vector>

#include <oneapi/tbb/blocked_range.h>
#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/info.h>
#include <oneapi/tbb/parallel_for.h>
#include <oneapi/tbb/task_arena.h>

#include "base/bytes.hpp"
#include "base/log.hpp"
#include "cpu_adam/adam.hpp"
#include "kernels/float_environment.hpp"
#include "cpu_adam/node_arena.hpp"

namespace orlop::cpu_adam {
namespace {

std::optional<numa::Topology> detect_topology() {
  auto topology = numa::Topology::detect();
  if (topology) return std::move(*topology);
  log_warning("workers: {}; threads are not bound to NUMA nodes", topology.error().message);
  return std::nullopt;
}

int count_threads(int wanted, const std::optional<numa::Topology>& topology) {
  if (wanted > 0) return wanted;
  return topology ? topology->processor_count() : tbb::info::default_concurrency();
}

// TBB makes no more threads in a process than it has processors, unless told so.
std::unique_ptr<tbb::global_control> allow_threads(int thread_count) {
  const auto kind = tbb::global_control::max_allowed_parallelism;
  const auto wanted = static_cast<std::size_t>(thread_count);
  if (wanted <= tbb::global_control::active_value(kind)) return nullptr;
  return std::make_unique<tbb::global_control>(kind, wanted);
}

// One arena for each node that has processors, threads in proportion to them; none when there are fewer than two
// such nodes, or not a thread for each.
std::vector<NodeArena> make_node_arenas(const numa::Topology& topology, int thread_count) {
  std::vector<NodeArena> arenas;
  const auto& nodes = topology.nodes();
  const auto count = std::count_if(nodes.begin(), nodes.end(), [](const auto& node) { return !node.processors.empty(); });
  const auto shares = numa::split_over_nodes(topology, static_cast<std::uint64_t>(thread_count), 1);
  if (count < 2 || shares.size() != static_cast<std::size_t>(count)) return arenas;
  for (const numa::NodeRange& share : shares) {
    arenas.emplace_back(topology, share.node, static_cast<int>(share.end - share.begin), arenas.empty() ? 1 : 0);
  }
  return arenas;
}

}  // namespace

struct Workers::Arenas {
  Arenas(int wanted, std::optional<numa::Topology> given)
      : topology(std::move(given)),
        thread_count(count_threads(wanted, topology)),
        more_threads(allow_threads(thread_count)),
        whole(thread_count, 1) {
    if (topology) nodes = make_node_arenas(*topology, thread_count);
  }

  std::optional<numa::Topology> topology;
  int thread_count;
  std::unique_ptr<tbb::global_control> more_threads;
  tbb::task_arena whole;
  std::vector<NodeArena> nodes;  // when not empty, used instead of `whole`
};

Workers::Workers(int thread_count) : arenas_(std::make_unique<Arenas>(thread_count, detect_topology())) {}
Workers::Workers(int thread_count, numa::Topology topology)
    : arenas_(std::make_unique<Arenas>(thread_count, std::move(topology))) {}
Workers::~Workers() = default;
Workers::Workers(Workers&&) noexcept = default;
Workers& Workers::operator=(Workers&&) noexcept = default;

int Workers::thread_count() const { return arenas_->thread_count; }

void Workers::run(std::size_t count, std::size_t grain, Call call, void* task) const {
  assert(grain != 0);
  const std::size_t pieces = divide_up(count, grain);
  const auto run_pieces = [=](std::size_t begin, std::size_t end) {
    const kernels::FloatEnvironment environment;
    call(task, begin * grain, std::min(end * grain, count));
  };
  const auto run_parallel = [&](std::size_t begin, std::size_t end) {
    tbb::parallel_for(tbb::blocked_range<std::size_t>(begin, end),
                      [&](const tbb::blocked_range<std::size_t>& range) { run_pieces(range.begin(), range.end()); });
  };
  if (pieces == 0) return;
  if (pieces == 1 || arenas_->thread_count == 1) {
    run_pieces(0, pieces);
  } else if (arenas_->nodes.empty()) {
    arenas_->whole.execute([&] { run_parallel(0, pieces); });
  } else {
    run_over_nodes(arenas_->nodes, numa::split_over_nodes(*arenas_->topology, pieces, 1), run_parallel);
  }
}

}  // namespace orlop::cpu_adam
