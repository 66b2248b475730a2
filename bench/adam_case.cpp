#include "bench/adam_case.hpp"

#include <algorithm>
#include <array>
#include <ctime>
#include <limits>
#include <span>

#include "base/bytes.hpp"
#include "base/clock.hpp"
#include "bench/adam_roof.hpp"
#include "bench/statistics.hpp"
#include "kernels/element.hpp"
#include "numa/arena.hpp"

namespace orlop::bench {
namespace {

using cpu_adam::PlaneSpan;

constexpr std::uint64_t kChunkElements = 256 * 1024;  // as the store's chunks
constexpr std::uint64_t kDefaultArrayBytes = 1280_MiB;
constexpr std::uint64_t kStaggerBytes = 17408;  // arrays at equal offsets modulo 4 KiB get into each other's way in L1

struct PlaneSizes {
  std::uint32_t param, lo, exp_avg, exp_avg_sq, grad;
};
constexpr PlaneSizes plane_sizes(AdamLayout layout) {
  return layout == AdamLayout::fp32 ? PlaneSizes{4, 0, 4, 4, 4} : PlaneSizes{2, 2, 4, 4, 2};
}
constexpr std::uint32_t array_bytes_per_param(AdamLayout layout) {
  const PlaneSizes sizes = plane_sizes(layout);
  return sizes.param + sizes.lo + sizes.exp_avg + sizes.exp_avg_sq + sizes.grad;
}
constexpr std::uint32_t hashed_bytes_per_param(AdamLayout layout) { return layout == AdamLayout::fp32 ? 8 : 10; }

struct Arrays {
  std::byte* param;
  std::byte* lo;  // null: fp32
  std::byte* exp_avg;
  std::byte* exp_avg_sq;
  std::byte* grad;
};

std::uint64_t arena_bytes(AdamLayout layout, std::uint64_t elements) {
  return elements * array_bytes_per_param(layout) + 5 * (kStaggerBytes + 4096);
}

Result<Arrays> take_arrays(numa::Arena& arena, AdamLayout layout, std::uint64_t elements) {
  const PlaneSizes sizes = plane_sizes(layout);
  const auto take = [&](std::uint32_t element_bytes) -> Result<std::byte*> {
    if (element_bytes == 0) return nullptr;
    TRY_ASSIGN(const std::span<std::byte> memory, arena.take(elements * element_bytes + kStaggerBytes, 64));
    return memory.data();
  };
  Arrays arrays = {};
  TRY_ASSIGN(arrays.param, take(sizes.param));
  TRY_ASSIGN(arrays.lo, take(sizes.lo));
  TRY_ASSIGN(arrays.exp_avg, take(sizes.exp_avg));
  TRY_ASSIGN(arrays.exp_avg_sq, take(sizes.exp_avg_sq));
  TRY_ASSIGN(arrays.grad, take(sizes.grad));
  return arrays;
}

PlaneSpan chunk_of(const Arrays& arrays, AdamLayout layout, std::uint64_t first, std::uint64_t count) {
  const PlaneSizes sizes = plane_sizes(layout);
  return {
      .param = arrays.param + first * sizes.param,
      .lo = arrays.lo == nullptr ? nullptr : reinterpret_cast<std::int16_t*>(arrays.lo) + first,
      .master = nullptr,
      .exp_avg = reinterpret_cast<float*>(arrays.exp_avg) + first,
      .exp_avg_sq = reinterpret_cast<float*>(arrays.exp_avg_sq) + first,
      .grad = arrays.grad + first * sizes.grad,
      .count = count,
  };
}

// Weights of about 0.02, gradients of about 1e-3, moments as after some steps of them.
void fill(const PlaneSpan& span, AdamLayout layout, std::uint64_t first) {
  for (std::size_t i = 0; i != span.count; ++i) {
    const std::uint64_t random = (first + i + 1) * 0x9e3779b97f4a7c15ull;
    const float weight = static_cast<float>(static_cast<std::int32_t>(random >> 32)) * (0.02f / 2147483648.0f);
    const float grad = static_cast<float>(static_cast<std::int32_t>(random)) * (1e-3f / 2147483648.0f);
    span.exp_avg[i] = 0.5f * grad;
    span.exp_avg_sq[i] = grad * grad + 1e-8f;
    if (layout == AdamLayout::fp32) {
      static_cast<float*>(span.param)[i] = weight;
      const_cast<float*>(static_cast<const float*>(span.grad))[i] = grad;
    } else {
      const kernels::SplitMaster split = kernels::split_master(weight);
      static_cast<std::uint16_t*>(span.param)[i] = split.param;
      span.lo[i] = split.lo;
      const_cast<std::uint16_t*>(static_cast<const std::uint16_t*>(span.grad))[i] = kernels::bf16_of_float(grad);
    }
  }
}

// Which of these moves memory fastest depends on the processor, not on the kernel that is measured.
std::vector<Roof> roofs_of(cpu_adam::Isa isa, AdamLayout layout) {
  std::vector<const Roofs*> tables;
#if defined(ORLOP_X86_ROOFS)
  if (isa == cpu_adam::Isa::avx512) tables.push_back(&kRoofs64);
  if (isa != cpu_adam::Isa::scalar) tables.push_back(&kRoofs32);
#else
  (void)isa;
#endif
  if (tables.empty()) tables.push_back(&kRoofs16);
  std::vector<Roof> roofs;
  for (const Roofs* table : tables) {
    for (const Roof roof : layout == AdamLayout::fp32 ? table->fp32 : table->split) roofs.push_back(roof);
  }
  return roofs;
}

std::int64_t process_cpu_ns() {
  timespec time = {};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return time.tv_sec * 1'000'000'000 + time.tv_nsec;
}

struct Timing {
  double seconds;
  double cpu_seconds;
};

template <typename Body>
Timing timed(const Body& body) {
  const std::int64_t cpu = process_cpu_ns();
  const std::int64_t start = now_ns();
  body();
  return {seconds_of_ns(now_ns() - start), seconds_of_ns(process_cpu_ns() - cpu)};
}

class AdamRun {
 public:
  AdamRun(const AdamCaseOptions& options, const Arrays& arrays, std::uint64_t elements)
      : isa_(options.isa), layout_(options.layout), arrays_(arrays), elements_(elements) {}

  void fill_arrays(const cpu_adam::Workers& workers) const {
    for_each_chunk(workers, [&](const PlaneSpan& span, std::uint64_t first) { fill(span, layout_, first); });
  }

  Timing adam(const cpu_adam::Workers& workers, Sums sums) const {
    const kernels::StepConstants constants = kernels::make_constants(
        {.lr = 1e-4, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0.01, .decoupled = true,
         .bias_correction = true},
        100, 1.0);
    const auto master = layout_ == AdamLayout::fp32 ? cpu_adam::Master::itself : cpu_adam::Master::split;
    const auto grad = layout_ == AdamLayout::fp32 ? cpu_adam::GradType::f32 : cpu_adam::GradType::bf16;
    return timed([&] {
      for_each_chunk(workers, [&](const PlaneSpan& span, std::uint64_t) {
        const cpu_adam::Stretch stretch = {span.count, &constants};
        cpu_adam::ChunkSums before, after;
        cpu_adam::update_chunk(isa_, master, grad, span, {&stretch, 1}, sums == Sums::before_and_after ? &before : nullptr,
                             sums == Sums::none ? nullptr : &after);
      });
    });
  }

  // Of the fastest roof.
  double roof_seconds(const cpu_adam::Workers& workers) const {
    const volatile std::uint32_t mask = 0;
    double least = std::numeric_limits<double>::infinity();
    for (const Roof roof : roofs_of(isa_, layout_)) {
      const Timing timing = timed([&] {
        for_each_chunk(workers, [&](const PlaneSpan& span, std::uint64_t) {
          roof({span.param, span.lo, span.exp_avg, span.exp_avg_sq, span.grad, span.count}, mask);
        });
      });
      least = std::min(least, timing.seconds);
    }
    return least;
  }

 private:
  template <typename Body>
  void for_each_chunk(const cpu_adam::Workers& workers, const Body& body) const {
    workers.parallel_for(elements_, kChunkElements, [&](std::size_t begin, std::size_t end) {
      for (std::size_t first = begin; first < end; first += kChunkElements) {
        body(chunk_of(arrays_, layout_, first, std::min<std::size_t>(kChunkElements, end - first)), first);
      }
    });
  }

  cpu_adam::Isa isa_;
  AdamLayout layout_;
  Arrays arrays_;
  std::uint64_t elements_;
};

constexpr std::array kSums = {Sums::none, Sums::after, Sums::before_and_after};

// One thread count's figures, a round at a time.
struct Series {
  std::vector<double> roof;
  std::array<std::vector<double>, kSums.size()> rate, fraction, hash_cpu;

  void add_round(const AdamRun& run, const cpu_adam::Workers& workers, AdamLayout layout, std::uint64_t elements) {
    const double gparams = static_cast<double>(elements) * 1e-9;
    const double roof_rate = gparams / run.roof_seconds(workers);
    roof.push_back(roof_rate);
    double bare_cpu = 0;
    for (std::size_t i = 0; i != kSums.size(); ++i) {
      const Timing timing = run.adam(workers, kSums[i]);
      rate[i].push_back(gparams / timing.seconds);
      fraction[i].push_back(rate[i].back() / roof_rate);
      if (i == 0) bare_cpu = timing.cpu_seconds;
      const double hashed_gb = gparams * hashed_bytes_per_param(layout) * static_cast<double>(i);
      hash_cpu[i].push_back(i == 0 ? 0 : (timing.cpu_seconds - bare_cpu) / hashed_gb);
    }
  }

  void report(AdamLayout layout, int threads, std::vector<AdamCase>& cases) const {
    for (std::size_t i = 0; i != kSums.size(); ++i) {
      cases.push_back({layout, kSums[i], threads, quantiles_of(rate[i]), quantiles_of(roof), quantiles_of(fraction[i]),
                       median_of(hash_cpu[i])});
    }
  }
};

}  // namespace

Result<AdamReport> measure_adam(const AdamCaseOptions& options) {
  const std::uint64_t wanted =
      options.elements != 0 ? options.elements : kDefaultArrayBytes / array_bytes_per_param(options.layout);
  const std::uint64_t elements = align_up(wanted, kChunkElements);
  TRY_ASSIGN(const numa::Topology topology, numa::Topology::detect());
  TRY_ASSIGN(numa::Arena arena, numa::Arena::create(topology, arena_bytes(options.layout, elements)));
  TRY_ASSIGN(const Arrays arrays, take_arrays(arena, options.layout, elements));

  const AdamRun run(options, arrays, elements);
  const cpu_adam::Workers one(1);
  const cpu_adam::Workers all(options.threads);
  run.fill_arrays(all);
  Series on_one, on_all;
  for (int round = 0; round != options.rounds; ++round) {
    if (options.on_round && !options.on_round(round)) return fail(ORLOP_CANCELLED, "adam: cancelled in round {}", round);
    on_one.add_round(run, one, options.layout, elements);
    if (all.thread_count() > 1) on_all.add_round(run, all, options.layout, elements);
  }
  AdamReport report = {options.isa, elements, elements * array_bytes_per_param(options.layout), {}};
  on_one.report(options.layout, 1, report.cases);
  if (all.thread_count() > 1) on_all.report(options.layout, all.thread_count(), report.cases);
  return report;
}

}  // namespace orlop::bench
