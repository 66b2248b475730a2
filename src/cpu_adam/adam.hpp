// The optimizer's arithmetic over spans of memory. kernels/update_element.hpp defines one element; the scalar code here
// is that definition in a loop, AVX2 and AVX-512 equal it bit for bit, so that results depend on neither the
// machine, the number of threads nor where the bytes live.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "base/thread_sanitizer.hpp"
#include "cpu_adam/spans.hpp"
#include "numa/topology.hpp"

namespace orlop::cpu_adam {

// The best of what the CPU and OS offer, or what ORLOP_CPU=scalar|avx2|avx512 forces. Error: ORLOP_UNSUPPORTED when
// the forced one cannot run here, ORLOP_INVALID_ARGUMENT when it is no such name.
Result<Isa> select_isa();
std::string_view name_of(Isa isa);
std::vector<Isa> usable_isas();

// Updates one chunk in place in one pass, as the stretches' constants say. All are of one optimizer, whose states the span
// has and no others. When `before` is given it receives the sums of the states as they were read,
// `after` those as they were written, both computed tile by tile while the tile is in cache.
void update_chunk(Isa isa, Master master, GradType grad, const PlaneSpan& span,
                std::span<const Stretch> stretches, ChunkSums* before, ChunkSums* after);

// The sums alone, for states that no arithmetic touches.
ChunkSums chunk_sums(Isa isa, const PlaneSpan& span);

// Gradient intake: one pass that converts or adds and finds the squared norm and finiteness on the way.

// The exact sum of squares, so that neither the order of arrival, threads nor ranks change a bit: each block of 1024
// elements gives a double of defined shape (16 lanes, then a fixed tree), and doubles are added here without
// rounding (a superaccumulator: Neal, "Fast exact summation using small and large superaccumulators", 2015).
class ExactSum {
 public:
  void add(double value);  // finite and not negative
  void add(const ExactSum& other);
  [[nodiscard]] double round() const;  // nearest double
  void clear() { *this = ExactSum(); }

 private:
  static constexpr std::size_t kDigits = 68;  // 32-bit digits of a 2176-bit fixed-point number, in 64 bits each
  std::int64_t digits_[kDigits] = {};
  std::uint32_t adds_since_carry_ = 0;
  void carry();
};

struct GradSummary {
  ExactSum sum_of_squares;
  bool finite = true;
};

// Stores source into, or adds it to, destination (count elements); with `summary` the squares of the result are added
// to it. Source and destination may have different types; sums are rounded to the destination's type.
void grad_intake(Isa isa, Intake intake, GradType destination_type, void* destination, GradType source_type,
                 const void* source, std::size_t count, GradSummary* summary);

// The squares of what is already there.
void grad_summarize(Isa isa, GradType type, const void* gradient, std::size_t count, GradSummary* summary);

// Runs body(begin, end) over [0, count) in pieces that are multiples of `grain` (but the last) on worker threads (oneTBB).
// Every thread computes with denormals (MXCSR without FTZ/DAZ, round to nearest), its own settings restored afterwards.
// On a machine with several NUMA nodes the range is cut over them in proportion to their processors, the same way every
// time, and each part is done by threads bound to its node, so that what they touched first stays near.
//
// Threads: parallel_for may be called from any thread, also concurrently. The calling thread takes part.
class Workers {
 public:
  explicit Workers(int thread_count);  // 0: every processor this process may use
  Workers(int thread_count, numa::Topology topology);
  ~Workers();
  Workers(Workers&&) noexcept;
  Workers& operator=(Workers&&) noexcept;

  template <typename Body>
  void parallel_for(std::size_t count, std::size_t grain, const Body& body) const {
    Task<Body> task{body};
    hand_over(&task.begun);
    run(count, grain, do_part<Body>, &task);
    take_over(&task.done);
  }
  [[nodiscard]] int thread_count() const;

 private:
  template <typename Body>
  struct Task {
    const Body& body;
    char begun = 0;  // places to hand over at
    char done = 0;
  };
  template <typename Body>
  static void do_part(void* of, std::size_t begin, std::size_t end) {
    auto& task = *static_cast<Task<Body>*>(of);
    take_over(&task.begun);
    task.body(begin, end);
    hand_over(&task.done);
  }
  using Call = void (*)(void* task, std::size_t begin, std::size_t end);
  void run(std::size_t count, std::size_t grain, Call call, void* task) const;
  struct Arenas;
  std::unique_ptr<Arenas> arenas_;
};

}  // namespace orlop::cpu_adam
