// What veneer.hpp takes from AVX2 and AVX-512 directly, on bare registers: where xsimd has no such operation, or another one.
#pragma once
#include <immintrin.h>

#include <cstdint>
#include <utility>

namespace lamina::kernels {
namespace {

LAMINA_INLINE __m256 native_fma(__m256 x, __m256 y, __m256 z) {
  return _mm256_fmadd_ps(x, y, z);
}
LAMINA_INLINE __m256d native_fma(__m256d x, __m256d y, __m256d z) {
  return _mm256_fmadd_pd(x, y, z);
}

LAMINA_INLINE __m256 native_greater(__m256 x, __m256 y) {
  return _mm256_max_ps(x, y);
}
LAMINA_INLINE __m256d native_greater(__m256d x, __m256d y) {
  return _mm256_max_pd(x, y);
}
LAMINA_INLINE __m256 native_smaller(__m256 x, __m256 y) {
  return _mm256_min_ps(x, y);
}
LAMINA_INLINE __m256d native_smaller(__m256d x, __m256d y) {
  return _mm256_min_pd(x, y);
}

// Transposition by halves: of registers a and b whose rows differ by `step`, the elements with i & step = 0, and the others.
template <int step, int width, class Register, int... i>
LAMINA_INLINE void native_exchange(Register& a, Register& b, std::integer_sequence<int, i...>) {
  const Register low = __builtin_shufflevector(a, b, ((i & step) != 0 ? width + i - step : i)...);
  b = __builtin_shufflevector(a, b, ((i & step) != 0 ? width + i : i + step)...);
  a = low;
}

LAMINA_INLINE float native_fold_sum(__m256 x) {
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
LAMINA_INLINE double native_fold_sum(__m256d x) {
  const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(x), _mm256_extractf128_pd(x, 1));
  return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}
LAMINA_INLINE float native_fold_greater(__m256 x) {
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}
LAMINA_INLINE double native_fold_greater(__m256d x) {
  const __m128d two = _mm_max_pd(_mm256_castpd256_pd128(x), _mm256_extractf128_pd(x, 1));
  return _mm_cvtsd_f64(_mm_max_sd(two, _mm_unpackhi_pd(two, two)));
}

// y[f] = row(i)[f] over the elements i of a register, for the f that 16 bytes hold: registers of 16-byte pieces, one row in
// each, are transposed within the pieces.
template <class Row>
LAMINA_INLINE void native_columns(const Row& row, __m256 (&y)[4]) {
  const auto rows = [&](int k) LAMINA_INLINE_LAMBDA {
    return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(row(k))), _mm_loadu_ps(row(k + 4)), 1);
  };
  const __m256 a = rows(0), b = rows(1), c = rows(2), d = rows(3);
  const __m256d ab = _mm256_castps_pd(_mm256_unpacklo_ps(a, b)), cd = _mm256_castps_pd(_mm256_unpacklo_ps(c, d));
  const __m256d ab2 = _mm256_castps_pd(_mm256_unpackhi_ps(a, b)), cd2 = _mm256_castps_pd(_mm256_unpackhi_ps(c, d));
  y[0] = _mm256_castpd_ps(_mm256_unpacklo_pd(ab, cd)), y[1] = _mm256_castpd_ps(_mm256_unpackhi_pd(ab, cd));
  y[2] = _mm256_castpd_ps(_mm256_unpacklo_pd(ab2, cd2)), y[3] = _mm256_castpd_ps(_mm256_unpackhi_pd(ab2, cd2));
}
template <class Row>
LAMINA_INLINE void native_columns(const Row& row, __m256d (&y)[2]) {
  const auto rows = [&](int k) LAMINA_INLINE_LAMBDA {
    return _mm256_insertf128_pd(_mm256_castpd128_pd256(_mm_loadu_pd(row(k))), _mm_loadu_pd(row(k + 2)), 1);
  };
  const __m256d a = rows(0), b = rows(1);
  y[0] = _mm256_unpacklo_pd(a, b), y[1] = _mm256_unpackhi_pd(a, b);
}

#if defined(__AVX512F__)

template <class Row>
LAMINA_INLINE void native_columns(const Row& row, __m512 (&y)[4]) {
  const auto rows = [&](int k) LAMINA_INLINE_LAMBDA {
    __m512 z = _mm512_castps128_ps512(_mm_loadu_ps(row(k)));
    z = _mm512_insertf32x4(z, _mm_loadu_ps(row(k + 4)), 1);
    z = _mm512_insertf32x4(z, _mm_loadu_ps(row(k + 8)), 2);
    return _mm512_insertf32x4(z, _mm_loadu_ps(row(k + 12)), 3);
  };
  const __m512 a = rows(0), b = rows(1), c = rows(2), d = rows(3);
  const __m512d ab = _mm512_castps_pd(_mm512_unpacklo_ps(a, b)), cd = _mm512_castps_pd(_mm512_unpacklo_ps(c, d));
  const __m512d ab2 = _mm512_castps_pd(_mm512_unpackhi_ps(a, b)), cd2 = _mm512_castps_pd(_mm512_unpackhi_ps(c, d));
  y[0] = _mm512_castpd_ps(_mm512_unpacklo_pd(ab, cd)), y[1] = _mm512_castpd_ps(_mm512_unpackhi_pd(ab, cd));
  y[2] = _mm512_castpd_ps(_mm512_unpacklo_pd(ab2, cd2)), y[3] = _mm512_castpd_ps(_mm512_unpackhi_pd(ab2, cd2));
}
template <class Row>
LAMINA_INLINE void native_columns(const Row& row, __m512d (&y)[2]) {
  const auto rows = [&](int k) LAMINA_INLINE_LAMBDA {
    __m512d z = _mm512_castpd128_pd512(_mm_loadu_pd(row(k)));
    z = _mm512_insertf64x2(z, _mm_loadu_pd(row(k + 2)), 1);
    z = _mm512_insertf64x2(z, _mm_loadu_pd(row(k + 4)), 2);
    return _mm512_insertf64x2(z, _mm_loadu_pd(row(k + 6)), 3);
  };
  const __m512d a = rows(0), b = rows(1);
  y[0] = _mm512_unpacklo_pd(a, b), y[1] = _mm512_unpackhi_pd(a, b);
}

LAMINA_INLINE __m512 native_fma(__m512 x, __m512 y, __m512 z) {
  return _mm512_fmadd_ps(x, y, z);
}
LAMINA_INLINE __m512d native_fma(__m512d x, __m512d y, __m512d z) {
  return _mm512_fmadd_pd(x, y, z);
}

LAMINA_INLINE __m512 native_greater(__m512 x, __m512 y) {
  return _mm512_max_ps(x, y);
}
LAMINA_INLINE __m512d native_greater(__m512d x, __m512d y) {
  return _mm512_max_pd(x, y);
}
LAMINA_INLINE __m512 native_smaller(__m512 x, __m512 y) {
  return _mm512_min_ps(x, y);
}
LAMINA_INLINE __m512d native_smaller(__m512d x, __m512d y) {
  return _mm512_min_pd(x, y);
}

LAMINA_INLINE float native_fold_sum(__m512 x) {
  return native_fold_sum(_mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1)));
}
LAMINA_INLINE double native_fold_sum(__m512d x) {
  return native_fold_sum(_mm256_add_pd(_mm512_castpd512_pd256(x), _mm512_extractf64x4_pd(x, 1)));
}
LAMINA_INLINE float native_fold_greater(__m512 x) {
  return native_fold_greater(_mm256_max_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1)));
}
LAMINA_INLINE double native_fold_greater(__m512d x) {
  return native_fold_greater(_mm256_max_pd(_mm512_castpd512_pd256(x), _mm512_extractf64x4_pd(x, 1)));
}

// x 2^n for integer n, with every special case as in real arithmetic.
LAMINA_INLINE __m512 native_scale(__m512 x, __m512 n) {
  return _mm512_scalef_ps(x, n);
}
LAMINA_INLINE __m512d native_scale(__m512d x, __m512d n) {
  return _mm512_scalef_pd(x, n);
}

// The same, but 0 where x < lowest.
LAMINA_INLINE __m512 native_scale_above(__m512 p, __m512 n, __m512 x, __m512 lowest) {
  return _mm512_maskz_scalef_ps(_mm512_cmp_ps_mask(x, lowest, _CMP_NLT_UQ), p, n);
}
LAMINA_INLINE __m512d native_scale_above(__m512d p, __m512d n, __m512d x, __m512d lowest) {
  return _mm512_maskz_scalef_pd(_mm512_cmp_pd_mask(x, lowest, _CMP_NLT_UQ), p, n);
}

LAMINA_INLINE __m512 native_counts(const uint16_t* p, float) {
  return _mm512_cvtepi32_ps(_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))));
}
LAMINA_INLINE __m512d native_counts(const uint16_t* p, double) {
  return _mm512_cvtepi32_pd(_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}

LAMINA_INLINE __m512 native_counts(const uint8_t* p, float) {
  return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
LAMINA_INLINE __m512d native_counts(const uint8_t* p, double) {
  return _mm512_cvtepi32_pd(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}

// The first elements of a register. Stores of all of them are plain ones: a masked store is many operations on some CPUs
// (vmaskmovps on Zen 4: a dozen cycles), and what it stored does not reach a load until it is in the cache.
template <class T>
using NativeTail = __mmask16;
template <class T>
LAMINA_INLINE __mmask16 native_tail(int64_t count) {
  return static_cast<__mmask16>((1u << count) - 1);
}
LAMINA_INLINE __m512 native_load(const float* p, __mmask16 tail) {
  return _mm512_maskz_loadu_ps(tail, p);
}
LAMINA_INLINE __m512d native_load(const double* p, __mmask16 tail) {
  return _mm512_maskz_loadu_pd(static_cast<__mmask8>(tail), p);
}
LAMINA_INLINE void native_store(float* p, __m512 x, __mmask16 tail) {
  if (tail == 0xffff)
    _mm512_storeu_ps(p, x);
  else
    _mm512_mask_storeu_ps(p, tail, x);
}
LAMINA_INLINE void native_store(double* p, __m512d x, __mmask16 tail) {
  if (tail == 0xff)
    _mm512_storeu_pd(p, x);
  else
    _mm512_mask_storeu_pd(p, static_cast<__mmask8>(tail), x);
}
LAMINA_INLINE __m512 native_keep(__m512 x, __mmask16 tail) {
  return _mm512_maskz_mov_ps(tail, x);
}
LAMINA_INLINE __m512d native_keep(__m512d x, __mmask16 tail) {
  return _mm512_maskz_mov_pd(static_cast<__mmask8>(tail), x);
}

#else

LAMINA_INLINE __m256 native_counts(const uint16_t* p, float) {
  return _mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
LAMINA_INLINE __m256d native_counts(const uint16_t* p, double) {
  return _mm256_cvtepi32_pd(_mm_cvtepu16_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
LAMINA_INLINE __m256 native_counts(const uint8_t* p, float) {
  return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
LAMINA_INLINE __m256d native_counts(const uint8_t* p, double) {
  int32_t four;
  __builtin_memcpy(&four, p, sizeof four);
  return _mm256_cvtepi32_pd(_mm_cvtepu8_epi32(_mm_cvtsi32_si128(four)));
}

template <class T>
using NativeTail = __m256i;
template <class T>
LAMINA_INLINE __m256i native_tail(int64_t count) {
  if constexpr (sizeof(T) == 4)
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  else
    return _mm256_cmpgt_epi64(_mm256_set1_epi64x(count), _mm256_setr_epi64x(0, 1, 2, 3));
}
LAMINA_INLINE __m256 native_load(const float* p, __m256i tail) {
  return _mm256_maskload_ps(p, tail);
}
LAMINA_INLINE __m256d native_load(const double* p, __m256i tail) {
  return _mm256_maskload_pd(p, tail);
}
LAMINA_INLINE void native_store(float* p, __m256 x, __m256i tail) {
  if (_mm256_movemask_ps(_mm256_castsi256_ps(tail)) == 0xff)
    _mm256_storeu_ps(p, x);
  else
    _mm256_maskstore_ps(p, tail, x);
}
LAMINA_INLINE void native_store(double* p, __m256d x, __m256i tail) {
  if (_mm256_movemask_pd(_mm256_castsi256_pd(tail)) == 0xf)
    _mm256_storeu_pd(p, x);
  else
    _mm256_maskstore_pd(p, tail, x);
}
LAMINA_INLINE __m256 native_keep(__m256 x, __m256i tail) {
  return _mm256_and_ps(x, _mm256_castsi256_ps(tail));
}
LAMINA_INLINE __m256d native_keep(__m256d x, __m256i tail) {
  return _mm256_and_pd(x, _mm256_castsi256_pd(tail));
}

#endif

}  // namespace
}  // namespace lamina::kernels
