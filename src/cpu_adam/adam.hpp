// The optimizer's arithmetic over spans of memory. kernels/adam_element.hpp defines one element; the scalar code here
// is that definition in a loop, AVX2 and AVX-512 equal it bit for bit, so that results depend on neither the
// machine, the number of threads nor where the bytes live.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "kernels/adam_element.hpp"

namespace orlop::cpu_adam {

enum class Isa : std::uint8_t { scalar, avx2, avx512 };

// The best of what the CPU and OS offer, or what ORLOP_CPU=scalar|avx2|avx512 forces. Error: ORLOP_UNSUPPORTED when
// the forced one cannot run here, ORLOP_INVALID_ARGUMENT when it is no such name.
Result<Isa> select_isa();
std::string_view name_of(Isa isa);
std::vector<Isa> usable_isas();

// How a parameter and its fp32 master are stored.
enum class Master : std::uint8_t {
  itself,    // fp32 parameter: `param` is the master
  split,     // bf16 parameter: master = (param << 16) + lo (see kernels/adam_element.hpp)
  separate,  // fp16 parameter: `master` in fp32, `param` rounded to nearest even from it
};

enum class GradType : std::uint8_t { f32, bf16, f16 };

// Pointers to one range of elements of a block's planes. Ranges start at multiples of 1024 elements of the block.
// Unused planes are null.
struct AdamSpan {
  void* param;          // float*, bf16 or fp16 bits as uint16_t*
  std::int16_t* lo;     // Master::split
  float* master;        // Master::separate
  float* exp_avg;
  float* exp_avg_sq;
  const void* grad;
  std::size_t count;
};

// XXH3_64bits of the state planes of one chunk (those which the store holds; 0 for planes that are null above).
struct ChunkSums {
  std::uint64_t lo = 0;
  std::uint64_t master = 0;
  std::uint64_t exp_avg = 0;
  std::uint64_t exp_avg_sq = 0;
  friend bool operator==(const ChunkSums&, const ChunkSums&) = default;
};

// A stretch of equal hyper-parameters inside a span; stretches follow each other and cover it, lengths in multiples of
// 1024 elements except the last.
struct AdamStretch {
  std::size_t count;
  const kernels::AdamConstants* constants;
};

// Updates one chunk in place in one pass. When `before` is given it receives the sums of the states as they were read,
// `after` those as they were written, both computed tile by tile while the tile is in cache.
void adam_chunk(Isa isa, Master master, GradType grad, const AdamSpan& span,
                std::span<const AdamStretch> stretches, ChunkSums* before, ChunkSums* after);

// The sums alone, for states that no arithmetic touches.
ChunkSums chunk_sums(Isa isa, const AdamSpan& span);

// Gradient intake: one pass that converts or adds and finds the squared norm and finiteness on the way.
enum class Intake : std::uint8_t { store, add };

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

// Runs body(begin, end) over [0, count) in pieces that are multiples of `grain` (but the last), on all of the
// process's worker threads (oneTBB), NUMA-local where memory is; each thread computes with denormals (MXCSR without
// FTZ/DAZ, round to nearest), restored afterwards.
class Workers {
 public:
  explicit Workers(int thread_count);  // 0: every processor this process may use
  ~Workers();
  Workers(Workers&&) noexcept;
  Workers& operator=(Workers&&) noexcept;

  template <typename Body>
  void parallel_for(std::size_t count, std::size_t grain, const Body& body) const {
    run(count, grain, [](const void* b, std::size_t begin, std::size_t end) {
      (*static_cast<const Body*>(b))(begin, end);
    }, &body);
  }
  [[nodiscard]] int thread_count() const;

 private:
  using Call = void (*)(const void* body, std::size_t begin, std::size_t end);
  void run(std::size_t count, std::size_t grain, Call call, const void* body) const;
  struct Arena;
  Arena* arena_;
};

}  // namespace orlop::cpu_adam
