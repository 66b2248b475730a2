// AVX2 with FMA and F16C. Includes only intrinsics and private headers: an inline function of the standard library
// compiled here could become the whole program's copy of it.
#include <immintrin.h>

#include "cpu_adam/vector_program.hpp"
#include "kernels/element.hpp"

#if !defined(__AVX2__) || !defined(__FMA__) || !defined(__F16C__)
#error "compiled without its own instruction set: see meson.build"
#endif

namespace orlop::cpu_adam {
namespace {

struct Avx2 {
  using Float = __m256;
  using Int = __m256i;
  static constexpr std::size_t kWidth = 8;

  static Float set(float value) { return _mm256_set1_ps(value); }
  static Int all(int value) { return _mm256_set1_epi32(value); }
  static Int bits(Float value) { return _mm256_castps_si256(value); }
  static Float floats(Int bits) { return _mm256_castsi256_ps(bits); }

  static Float load(const float* from) { return _mm256_loadu_ps(from); }
  static void store(float* to, Float value) { _mm256_storeu_ps(to, value); }
  static void store(std::uint16_t* to, Int packed) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), packed); }
  static Int load_16(const std::uint16_t* from) { return _mm256_cvtepu16_epi32(half_load(from)); }
  static Int load_signed_16(const std::int16_t* from) { return _mm256_cvtepi16_epi32(half_load(from)); }
  static void store_16(std::uint16_t* to, Int lower) {
    half_store(to, _mm_packus_epi32(_mm256_castsi256_si128(lower), _mm256_extracti128_si256(lower, 1)));
  }
  static Float load_f16(const std::uint16_t* from) { return _mm256_cvtph_ps(half_load(from)); }
  static void store_f16(std::uint16_t* to, Float value) { half_store(to, f16_of(value)); }
  static Float rounded_to_f16(Float value) { return _mm256_cvtph_ps(f16_of(value)); }

  static Float add(Float a, Float b) { return _mm256_add_ps(a, b); }
  static Float mul(Float a, Float b) { return _mm256_mul_ps(a, b); }
  static Float div(Float a, Float b) { return _mm256_div_ps(a, b); }
  static Float sqrt(Float a) { return _mm256_sqrt_ps(a); }
  static Float sign_of(Float a) {
    const Float one = _mm256_or_ps(_mm256_and_ps(a, floats(all(static_cast<int>(0x80000000u)))), set(1));
    return _mm256_blendv_ps(a, one, _mm256_cmp_ps(a, _mm256_setzero_ps(), _CMP_NEQ_OQ));
  }
  static Float fma(Float a, Float b, Float c) { return _mm256_fmadd_ps(a, b, c); }    // a * b + c
  static Float fnma(Float a, Float b, Float c) { return _mm256_fnmadd_ps(a, b, c); }  // -a * b + c

  static Int add(Int a, Int b) { return _mm256_add_epi32(a, b); }
  static Int bit_and(Int a, Int b) { return _mm256_and_si256(a, b); }
  static Int upper(Int a) { return _mm256_slli_epi32(a, 16); }  // lower halves to upper halves
  static Int lower(Int a) { return _mm256_srli_epi32(a, 16); }  // upper halves to lower halves
  static Int pack_16(Int a, Int b) {                            // values that fit into 16 bits
    return _mm256_permute4x64_epi64(_mm256_packus_epi32(a, b), _MM_SHUFFLE(3, 1, 2, 0));
  }

  static bool any_nan(Float a) { return _mm256_movemask_ps(_mm256_cmp_ps(a, a, _CMP_UNORD_Q)) != 0; }
  static bool any_nan(Float a, Float b, Float c, Float d) {
    return _mm256_movemask_ps(_mm256_or_ps(_mm256_cmp_ps(a, b, _CMP_UNORD_Q), _mm256_cmp_ps(c, d, _CMP_UNORD_Q))) != 0;
  }
  static Float canonical(Float a) {
    return _mm256_blendv_ps(a, floats(all(kernels::kCanonicalNan)), _mm256_cmp_ps(a, a, _CMP_UNORD_Q));
  }

  struct Lanes {
    __m256d lanes[4];  // 0-3, 4-7, 8-11, 12-15
  };
  static void add_squares(Lanes& to, std::size_t first_lane, Float value) {
    const __m256d low = _mm256_cvtps_pd(_mm256_castps256_ps128(value));
    const __m256d high = _mm256_cvtps_pd(_mm256_extractf128_ps(value, 1));
    __m256d* lanes = to.lanes + first_lane / 4;
    lanes[0] = _mm256_fmadd_pd(low, low, lanes[0]);
    lanes[1] = _mm256_fmadd_pd(high, high, lanes[1]);
  }
  static double sum(const Lanes& from) {
    const __m256d four = _mm256_add_pd(_mm256_add_pd(from.lanes[0], from.lanes[2]),
                                       _mm256_add_pd(from.lanes[1], from.lanes[3]));
    const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
    return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
  }

 private:
  static __m128i half_load(const void* from) { return _mm_loadu_si128(static_cast<const __m128i*>(from)); }
  static void half_store(void* to, __m128i value) { _mm_storeu_si128(static_cast<__m128i*>(to), value); }
  static __m128i f16_of(Float value) { return _mm256_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
};

}  // namespace

constinit const KernelTable kAvx2Kernels = make_table<Vectors<Avx2>>(Isa::avx2);

}  // namespace orlop::cpu_adam
