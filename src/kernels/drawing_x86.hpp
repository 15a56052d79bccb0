// What the drawing of data takes from AVX2 and AVX-512 directly, beside instructions_x86.hpp: elements packed side by side, roots, and
// look-ups of all lanes at once.
#pragma once
#include <immintrin.h>

#include <cstdint>

#include "kernels/veneer.hpp"

namespace lamina::kernels {
namespace {

LAMINA_INLINE __m256d native_sqrt(__m256d x) {
  return _mm256_sqrt_pd(x);
}

#if !defined(__AVX512F__)
// Which halves of doubles go first, and how many doubles they are, for each mask of four.
struct Packing {
  uint8_t half[16][8], count[16];
};
inline constexpr Packing packing = [] {
  Packing p{};
  for (int mask = 0; mask < 16; ++mask)
    for (int i = 0; i < 4; ++i) {
      if ((mask >> i & 1) == 0) continue;
      const int to = p.count[mask]++;
      p.half[mask][2 * to] = static_cast<uint8_t>(2 * i), p.half[mask][2 * to + 1] = static_cast<uint8_t>(2 * i + 1);
    }
  return p;
}();
LAMINA_INLINE int64_t native_pack(__m256d mask, __m256d x, uint64_t* p) {
  const int bits = _mm256_movemask_pd(mask);
  const __m256i order = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(packing.half[bits])));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_permutevar8x32_epi32(_mm256_castpd_si256(x), order));
  return packing.count[bits];
}
#else
LAMINA_INLINE __m512d native_sqrt(__m512d x) {
  return _mm512_sqrt_pd(x);
}
LAMINA_INLINE int64_t native_pack(__mmask8 mask, __m512d x, uint64_t* p) {
  _mm512_storeu_si512(p, _mm512_castpd_si512(_mm512_maskz_compress_pd(mask, x)));
  return __builtin_popcount(mask);
}
#endif

// One halving of drawing.hpp, all lanes. The bits of a count's table are the exponent of the count as a float; of count 0 they are
// negative, and a shift by so many gives 0.
LAMINA_INLINE void native_halve(const uint64_t* words, int half, const uint32_t* laws, int bits, int32_t* lower, int32_t* upper) {
  const __m256 a = _mm256_loadu_ps(reinterpret_cast<const float*>(words)), b = _mm256_loadu_ps(reinterpret_cast<const float*>(words + 4));
  const __m256 mixed = half == 0 ? _mm256_shuffle_ps(a, b, 0x88) : _mm256_shuffle_ps(a, b, 0xdd);
  const __m256i word = _mm256_permute4x64_epi64(_mm256_castps_si256(mixed), 0xd8);
  const __m256i n = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(lower)), ones = _mm256_set1_epi32(-1);
  const __m256i exponent = _mm256_srli_epi32(_mm256_castps_si256(_mm256_cvtepi32_ps(n)), 23);
  const __m256i down = _mm256_sub_epi32(_mm256_set1_epi32(158), exponent), used = _mm256_sub_epi32(exponent, _mm256_set1_epi32(126));
  const __m256i column = _mm256_srlv_epi32(word, down), mask = _mm256_srlv_epi32(ones, down);
  const __m256i rest = _mm256_or_si256(_mm256_sllv_epi32(word, used), mask);
  const __m256i place = _mm256_add_epi32(_mm256_sll_epi32(n, _mm_cvtsi32_si128(bits)), column);
  const __m256i entry = _mm256_i32gather_epi32(reinterpret_cast<const int*>(laws), place, 4);
  const __m256i other = _mm256_cmpeq_epi32(_mm256_max_epu32(rest, entry), rest);  // rest >= entry: the alias
  const __m256i drawn = _mm256_blendv_epi8(column, _mm256_and_si256(entry, mask), other);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(upper), _mm256_sub_epi32(n, drawn));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(lower), drawn);
}

}  // namespace
}  // namespace lamina::kernels
