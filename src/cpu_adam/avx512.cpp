// AVX-512 (F, BW, VL, DQ). Includes only intrinsics and private headers: an inline function of the standard library
// compiled here could become the whole program's copy of it.
#include <immintrin.h>

#include "cpu_adam/stripe_sums.hpp"
#include "kernels/element.hpp"

#if !defined(__AVX512F__) || !defined(__AVX512BW__) || !defined(__AVX512VL__) || !defined(__AVX512DQ__)
#error "compiled without its own instruction set: see meson.build"
#endif

namespace orlop::cpu_adam {
namespace {

struct Avx512 {
  using Float = __m512;
  using Int = __m512i;
  static constexpr std::size_t kWidth = 16;

  static Float set(float value) { return _mm512_set1_ps(value); }
  static Int all(int value) { return _mm512_set1_epi32(value); }
  static Int bits(Float value) { return _mm512_castps_si512(value); }
  static Float floats(Int bits) { return _mm512_castsi512_ps(bits); }

  static Float load(const float* from) { return _mm512_loadu_ps(from); }
  static void store(float* to, Float value) { _mm512_storeu_ps(to, value); }
  static void store(std::uint16_t* to, Int packed) { _mm512_storeu_si512(to, packed); }
  static Int load_16(const std::uint16_t* from) { return _mm512_cvtepu16_epi32(half_load(from)); }
  static Int load_signed_16(const std::int16_t* from) { return _mm512_cvtepi16_epi32(half_load(from)); }
  static void store_16(std::uint16_t* to, Int lower) { half_store(to, _mm512_cvtepi32_epi16(lower)); }
  static Float load_f16(const std::uint16_t* from) { return _mm512_cvtph_ps(half_load(from)); }
  static void store_f16(std::uint16_t* to, Float value) { half_store(to, f16_of(value)); }
  static Float rounded_to_f16(Float value) { return _mm512_cvtph_ps(f16_of(value)); }

  static Float add(Float a, Float b) { return _mm512_add_ps(a, b); }
  static Float mul(Float a, Float b) { return _mm512_mul_ps(a, b); }
  static Float div(Float a, Float b) { return _mm512_div_ps(a, b); }
  static Float sqrt(Float a) { return _mm512_sqrt_ps(a); }
  static Float sign_of(Float a) {
    const Float one = _mm512_or_ps(_mm512_and_ps(a, floats(all(static_cast<int>(0x80000000u)))), set(1));
    return _mm512_mask_mov_ps(a, _mm512_cmp_ps_mask(a, _mm512_setzero_ps(), _CMP_NEQ_OQ), one);
  }
  static Float fma(Float a, Float b, Float c) { return _mm512_fmadd_ps(a, b, c); }    // a * b + c
  static Float fnma(Float a, Float b, Float c) { return _mm512_fnmadd_ps(a, b, c); }  // -a * b + c

  static Int add(Int a, Int b) { return _mm512_add_epi32(a, b); }
  static Int bit_and(Int a, Int b) { return _mm512_and_si512(a, b); }
  static Int upper(Int a) { return _mm512_slli_epi32(a, 16); }      // lower halves to upper halves
  static Int lower(Int a) { return _mm512_srli_epi32(a, 16); }      // upper halves to lower halves
  static Int pack_16(Int a, Int b) {                                // values that fit into 16 bits
    return _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7), _mm512_packus_epi32(a, b));
  }

  static bool any_nan(Float a) { return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q) != 0; }
  static bool any_nan(Float a, Float b, Float c, Float d) {
    return (_mm512_cmp_ps_mask(a, b, _CMP_UNORD_Q) | _mm512_cmp_ps_mask(c, d, _CMP_UNORD_Q)) != 0;
  }
  static Float canonical(Float a) {
    return _mm512_mask_mov_ps(a, _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q), floats(all(kernels::kCanonicalNan)));
  }

  // XXH3's steps for one stripe.
  static Int load_stripe(const void* from) { return _mm512_loadu_si512(from); }
  static void store_stripe(void* to, Int stripe) { _mm512_storeu_si512(to, stripe); }
  static Int add_stripe(Int sum, Int stripe, Int key) {
    const Int keyed = _mm512_xor_si512(stripe, key);
    const Int product = _mm512_mul_epu32(keyed, _mm512_shuffle_epi32(keyed, _MM_PERM_DDBB));
    const Int swapped = _mm512_shuffle_epi32(stripe, _MM_PERM_BADC);
    return _mm512_add_epi64(_mm512_add_epi64(sum, swapped), product);
  }
  static Int scramble(Int sum, Int key) {
    const Int prime = _mm512_set1_epi64(0x9E3779B1);
    const Int mixed = _mm512_xor_si512(_mm512_xor_si512(sum, _mm512_srli_epi64(sum, 47)), key);
    const Int high = _mm512_mul_epu32(_mm512_srli_epi64(mixed, 32), prime);
    return _mm512_add_epi64(_mm512_mul_epu32(mixed, prime), _mm512_slli_epi64(high, 32));
  }

  struct Lanes {
    __m512d lanes[2];  // 0-7, 8-15
  };
  static void add_squares(Lanes& to, std::size_t /*first lane*/, Float value) {
    const __m512d low = _mm512_cvtps_pd(_mm512_castps512_ps256(value));
    const __m512d high = _mm512_cvtps_pd(_mm512_extractf32x8_ps(value, 1));
    to.lanes[0] = _mm512_fmadd_pd(low, low, to.lanes[0]);
    to.lanes[1] = _mm512_fmadd_pd(high, high, to.lanes[1]);
  }
  static double sum(const Lanes& from) {
    const __m512d eight = _mm512_add_pd(from.lanes[0], from.lanes[1]);
    const __m256d four = _mm256_add_pd(_mm512_castpd512_pd256(eight), _mm512_extractf64x4_pd(eight, 1));
    const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
    return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
  }

 private:
  static __m256i half_load(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }
  static void half_store(void* to, __m256i value) { _mm256_storeu_si256(static_cast<__m256i*>(to), value); }
  static __m256i f16_of(Float value) { return _mm512_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
};

}  // namespace

constinit const KernelTable kAvx512Kernels = make_table<SummingVectors<Avx512>>(Isa::avx512);

}  // namespace orlop::cpu_adam
