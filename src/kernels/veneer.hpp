// The vocabulary of the kernels: Batch<T>, as many numbers as one register of this instruction set holds, and the few
// operations on it. The only file that includes xsimd; where xsimd's versions differ, or its operation is not the instruction
// that it names, the operation is spelt out here. Without LAMINA_ARCH a Batch is one number: that is the reference.
#pragma once
#include <cstdint>
#include <cstring>

#if defined(LAMINA_ARCH)
#include <xsimd/xsimd.hpp>
#endif
#if defined(LAMINA_ARCH) && (defined(__x86_64__) || defined(__i386__))
#define LAMINA_X86 1
#include <immintrin.h>
#elif defined(LAMINA_ARCH) && defined(__aarch64__)
#include <arm_neon.h>
#endif

// Kernels of different sets may share no function: everything is inlined and of internal linkage (a test reads the objects).
// Lambdas too, because a function that takes a register by value leaves the upper halves dirty for the host (another test).
#define LAMINA_INLINE inline __attribute__((always_inline))
#define LAMINA_INLINE_LAMBDA __attribute__((always_inline))

namespace lamina::kernels {
namespace {

// body(0), ..., body(count - 1), unrolled before the compiler looks for registers: arrays of batches stay out of memory.
template <int count, int first = 0, class Body>
LAMINA_INLINE void unroll(const Body& body) {
  if constexpr (first < count) {
    body(first);
    unroll<count, first + 1>(body);
  }
}

#if defined(LAMINA_ARCH)
template <class T>
using Native = xsimd::batch<T, LAMINA_ARCH>;
template <class T>
using NativeMask = xsimd::batch_bool<T, LAMINA_ARCH>;
template <class T>
inline constexpr int width = static_cast<int>(Native<T>::size);
#else
template <class T>
using Native = T;
template <class T>
using NativeMask = bool;
template <class T>
inline constexpr int width = 1;
#endif

template <class T>
struct Word;  // the unsigned integer of T's size
template <>
struct Word<float> {
  using Type = uint32_t;
};
template <>
struct Word<double> {
  using Type = uint64_t;
};

template <class T>
struct Batch {
  Native<T> v;
};
template <class T>
struct Mask {
  NativeMask<T> v;
};
// The bits of a Batch<T>, element by element.
template <class T>
struct Bits {
  Native<typename Word<T>::Type> v;
};

// Arithmetic and comparison, element by element.
template <class T>
LAMINA_INLINE Batch<T> splat(T x) {
  return {Native<T>(x)};
}
template <class T>
LAMINA_INLINE Batch<T> operator+(Batch<T> x, Batch<T> y) {
  return {x.v + y.v};
}
template <class T>
LAMINA_INLINE Batch<T> operator-(Batch<T> x, Batch<T> y) {
  return {x.v - y.v};
}
template <class T>
LAMINA_INLINE Batch<T> operator*(Batch<T> x, Batch<T> y) {
  return {x.v * y.v};
}
template <class T>
LAMINA_INLINE Batch<T> operator/(Batch<T> x, Batch<T> y) {
  return {x.v / y.v};
}
template <class T>
LAMINA_INLINE Mask<T> operator<(Batch<T> x, Batch<T> y) {
  return {x.v < y.v};
}
template <class T>
LAMINA_INLINE Mask<T> operator>(Batch<T> x, Batch<T> y) {
  return {x.v > y.v};
}
template <class T>
LAMINA_INLINE Mask<T> operator>=(Batch<T> x, Batch<T> y) {
  return {x.v >= y.v};
}
template <class T>
LAMINA_INLINE Mask<T> operator==(Batch<T> x, Batch<T> y) {
  return {x.v == y.v};
}
// mask ? x : y
template <class T>
LAMINA_INLINE Batch<T> select(Mask<T> mask, Batch<T> x, Batch<T> y) {
#if defined(LAMINA_ARCH)
  return {xsimd::select(mask.v, x.v, y.v)};
#else
  return {mask.v ? x.v : y.v};
#endif
}

// Bits.
template <class T>
LAMINA_INLINE Bits<T> bits(Batch<T> x) {
  return __builtin_bit_cast(Bits<T>, x);
}
template <class T>
LAMINA_INLINE Batch<T> batch(Bits<T> x) {
  return __builtin_bit_cast(Batch<T>, x);
}
template <class T>
LAMINA_INLINE Bits<T> splat_bits(typename Word<T>::Type x) {
  return {Native<typename Word<T>::Type>(x)};
}
template <class T>
LAMINA_INLINE Bits<T> operator+(Bits<T> x, Bits<T> y) {
  return {x.v + y.v};
}
template <class T>
LAMINA_INLINE Bits<T> operator&(Bits<T> x, Bits<T> y) {
  return {x.v & y.v};
}
template <class T>
LAMINA_INLINE Bits<T> operator|(Bits<T> x, Bits<T> y) {
  return {x.v | y.v};
}
template <class T>
LAMINA_INLINE Bits<T> operator<<(Bits<T> x, int n) {
  return {x.v << n};
}
template <class T>
LAMINA_INLINE Bits<T> operator>>(Bits<T> x, int n) {
  return {x.v >> n};
}

// The real fused multiply-add, x y + z with one rounding: xsimd 8.1 multiplies and then adds on AVX-512.
LAMINA_INLINE float native_fma(float x, float y, float z) {
  return __builtin_fmaf(x, y, z);
}
LAMINA_INLINE double native_fma(double x, double y, double z) {
  return __builtin_fma(x, y, z);
}
#if defined(LAMINA_X86)
LAMINA_INLINE __m256 native_fma(__m256 x, __m256 y, __m256 z) {
  return _mm256_fmadd_ps(x, y, z);
}
LAMINA_INLINE __m256d native_fma(__m256d x, __m256d y, __m256d z) {
  return _mm256_fmadd_pd(x, y, z);
}
#if defined(__AVX512F__)
LAMINA_INLINE __m512 native_fma(__m512 x, __m512 y, __m512 z) {
  return _mm512_fmadd_ps(x, y, z);
}
LAMINA_INLINE __m512d native_fma(__m512d x, __m512d y, __m512d z) {
  return _mm512_fmadd_pd(x, y, z);
}
#endif
#elif defined(LAMINA_ARCH) && defined(__aarch64__)
LAMINA_INLINE float32x4_t native_fma(float32x4_t x, float32x4_t y, float32x4_t z) {
  return vfmaq_f32(z, x, y);
}
LAMINA_INLINE float64x2_t native_fma(float64x2_t x, float64x2_t y, float64x2_t z) {
  return vfmaq_f64(z, x, y);
}
#endif

// The register inside a Batch.
#if defined(LAMINA_ARCH)
template <class T>
using Register = typename Native<T>::register_type;
#else
template <class T>
using Register = T;
#endif
template <class T>
LAMINA_INLINE Register<T> reg(Batch<T> x) {
  return x.v;
}

template <class T>
LAMINA_INLINE Batch<T> fma(Batch<T> x, Batch<T> y, Batch<T> z) {
#if defined(LAMINA_FMA_FROM_XSIMD)
  return {xsimd::fma(x.v, y.v, z.v)};  // defined only by the test that this must fail
#else
  return {native_fma(reg(x), reg(y), reg(z))};
#endif
}

// x > y ? x : y, so y where either is NaN.
template <class T>
LAMINA_INLINE Batch<T> greater(Batch<T> x, Batch<T> y) {
  return select(x > y, x, y);
}
// x < y ? x : y, so y where either is NaN.
template <class T>
LAMINA_INLINE Batch<T> smaller(Batch<T> x, Batch<T> y) {
  return select(x < y, x, y);
}

// Memory. Only the first `count` elements of a partial load or store are touched; a partial load gives 0 in the others.
template <class T>
LAMINA_INLINE Batch<T> load(const T* p) {
#if defined(LAMINA_ARCH)
  return {Native<T>::load_unaligned(p)};
#else
  return {*p};
#endif
}
template <class T>
LAMINA_INLINE void store(T* p, Batch<T> x) {
#if defined(LAMINA_ARCH)
  x.v.store_unaligned(p);
#else
  *p = x.v;
#endif
}

#if defined(LAMINA_X86) && defined(__AVX512F__)
template <class T>
struct Tail;
template <>
struct Tail<float> {
  explicit LAMINA_INLINE Tail(int64_t count) : mask(static_cast<__mmask16>((1u << count) - 1)) {}
  __mmask16 mask;
};
template <>
struct Tail<double> {
  explicit LAMINA_INLINE Tail(int64_t count) : mask(static_cast<__mmask8>((1u << count) - 1)) {}
  __mmask8 mask;
};
LAMINA_INLINE Batch<float> load(const float* p, Tail<float> tail) {
  return {_mm512_maskz_loadu_ps(tail.mask, p)};
}
LAMINA_INLINE Batch<double> load(const double* p, Tail<double> tail) {
  return {_mm512_maskz_loadu_pd(tail.mask, p)};
}
LAMINA_INLINE void store(float* p, Batch<float> x, Tail<float> tail) {
  _mm512_mask_storeu_ps(p, tail.mask, x.v);
}
LAMINA_INLINE void store(double* p, Batch<double> x, Tail<double> tail) {
  _mm512_mask_storeu_pd(p, tail.mask, x.v);
}
#elif defined(LAMINA_X86)
template <class T>
struct Tail;
template <>
struct Tail<float> {
  explicit LAMINA_INLINE Tail(int64_t count)
      : mask(_mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))) {}
  __m256i mask;
};
template <>
struct Tail<double> {
  explicit LAMINA_INLINE Tail(int64_t count)
      : mask(_mm256_cmpgt_epi64(_mm256_set1_epi64x(count), _mm256_setr_epi64x(0, 1, 2, 3))) {}
  __m256i mask;
};
LAMINA_INLINE Batch<float> load(const float* p, Tail<float> tail) {
  return {_mm256_maskload_ps(p, tail.mask)};
}
LAMINA_INLINE Batch<double> load(const double* p, Tail<double> tail) {
  return {_mm256_maskload_pd(p, tail.mask)};
}
LAMINA_INLINE void store(float* p, Batch<float> x, Tail<float> tail) {
  _mm256_maskstore_ps(p, tail.mask, x.v);
}
LAMINA_INLINE void store(double* p, Batch<double> x, Tail<double> tail) {
  _mm256_maskstore_pd(p, tail.mask, x.v);
}
#else
template <class T>
struct Tail {
  explicit LAMINA_INLINE Tail(int64_t n) : count(n) {}
  int64_t count;
};
template <class T>
LAMINA_INLINE Batch<T> load(const T* p, Tail<T> tail) {
  T part[width<T>] = {};
  for (int64_t i = 0; i < tail.count; ++i) part[i] = p[i];
  return load(part);
}
template <class T>
LAMINA_INLINE void store(T* p, Batch<T> x, Tail<T> tail) {
  T part[width<T>];
  store(part, x);
  for (int64_t i = 0; i < tail.count; ++i) p[i] = part[i];
}
#endif

// Counts, exact in both types.
template <class T>
LAMINA_INLINE Batch<T> load_counts(const uint16_t* p) {
#if defined(LAMINA_X86) && defined(__AVX512F__)
  if constexpr (sizeof(T) == 4)
    return {_mm512_cvtepi32_ps(_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))))};
  else
    return {_mm512_cvtepi32_pd(_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))))};
#elif defined(LAMINA_X86)
  if constexpr (sizeof(T) == 4)
    return {_mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))))};
  else
    return {_mm256_cvtepi32_pd(_mm_cvtepu16_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))))};
#else
  T part[width<T>];
  for (int i = 0; i < width<T>; ++i) part[i] = static_cast<T>(p[i]);
  return load(part);
#endif
}

// Reductions over the elements of one batch: element i with element i + width/2, and so on down to one.
template <class T, class Operation>
LAMINA_INLINE T fold(Batch<T> x, Operation operation) {
  T part[width<T>];
  store(part, x);
  for (int half = width<T> / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) part[i] = operation(part[i], part[i + half]);
  return part[0];
}
template <class T>
LAMINA_INLINE T fold_sum(Batch<T> x) {
  return fold(x, [](T a, T b) { return a + b; });
}
template <class T>
LAMINA_INLINE T fold_greater(Batch<T> x) {
  return fold(x, [](T a, T b) { return a > b ? a : b; });
}

}  // namespace
}  // namespace lamina::kernels
