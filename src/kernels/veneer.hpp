// The vocabulary of the kernels: Batch<T>, as many numbers as one register of this instruction set holds, and the few
// operations on it. The only file that includes xsimd; where xsimd's versions differ, or its operation is not the instruction
// that it names, the operation is spelt out here. Without LAMINA_ARCH a Batch is one number: that is the reference.
#pragma once
#include <cstdint>

#if defined(LAMINA_ARCH)
#include <xsimd/xsimd.hpp>
#if defined(__x86_64__)
#define LAMINA_X86 1
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif
#endif

// Kernels of different sets may share no function: everything is inlined and of internal linkage (a test reads the objects).
// Lambdas too, because a function that takes a register by value leaves the upper halves dirty for the host (another test).
#define LAMINA_INLINE inline __attribute__((always_inline))
#define LAMINA_INLINE_LAMBDA __attribute__((always_inline))

#if defined(LAMINA_X86)
#include "kernels/instructions_x86.hpp"
#endif

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

// The register inside a Batch.
template <class T>
LAMINA_INLINE auto reg(Batch<T> x) {
#if defined(LAMINA_ARCH)
  return static_cast<typename Native<T>::register_type>(x.v);
#else
  return x.v;
#endif
}

// The real fused multiply-add, x y + z with one rounding: xsimd 8.1 multiplies and then adds on AVX-512.
LAMINA_INLINE float native_fma(float x, float y, float z) {
  return __builtin_fmaf(x, y, z);
}
LAMINA_INLINE double native_fma(double x, double y, double z) {
  return __builtin_fma(x, y, z);
}
#if defined(LAMINA_ARCH) && defined(__aarch64__)
LAMINA_INLINE float32x4_t native_fma(float32x4_t x, float32x4_t y, float32x4_t z) {
  return vfmaq_f32(z, x, y);
}
LAMINA_INLINE float64x2_t native_fma(float64x2_t x, float64x2_t y, float64x2_t z) {
  return vfmaq_f64(z, x, y);
}
#endif
template <class T>
LAMINA_INLINE Batch<T> fma(Batch<T> x, Batch<T> y, Batch<T> z) {
#if defined(LAMINA_FMA_FROM_XSIMD)
  return {xsimd::fma(x.v, y.v, z.v)};  // defined only by the test that must then fail
#else
  return {native_fma(reg(x), reg(y), reg(z))};
#endif
}

// x > y ? x : y and x < y ? x : y, so y where either is NaN.
template <class T>
LAMINA_INLINE Batch<T> greater(Batch<T> x, Batch<T> y) {
#if defined(LAMINA_X86)
  return {native_greater(reg(x), reg(y))};
#else
  return select(x > y, x, y);
#endif
}
template <class T>
LAMINA_INLINE Batch<T> smaller(Batch<T> x, Batch<T> y) {
#if defined(LAMINA_X86)
  return {native_smaller(reg(x), reg(y))};
#else
  return select(x < y, x, y);
#endif
}

// Memory, at any address.
template <class T>
LAMINA_INLINE Batch<T> load(const T* p) {
#if defined(LAMINA_ARCH)
  return {Native<T>::load_unaligned(p)};
#else
  return {*p};
#endif
}
template <class T>
LAMINA_INLINE Bits<T> load_bits(const typename Word<T>::Type* p) {
#if defined(LAMINA_ARCH)
  return {Native<typename Word<T>::Type>::load_unaligned(p)};
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

// Elements x[i*row + f] of batch f, for the few f of `columns`: a piece of a transposed matrix. Rows past the last repeat it.
template <class T>
inline constexpr int columns = 16 / static_cast<int>(sizeof(T));
template <class T>
LAMINA_INLINE void load_columns(const T* x, int64_t row, int64_t last, Batch<T> (&y)[columns<T>]) {
  const auto at = [&](int64_t i) LAMINA_INLINE_LAMBDA { return x + (i < last ? i : last) * row; };
#if defined(LAMINA_X86)
  decltype(reg(y[0])) part[columns<T>];
  native_columns(at, part);
  unroll<columns<T>>([&](int f) LAMINA_INLINE_LAMBDA { y[f] = {part[f]}; });
#else
  for (int f = 0; f < columns<T>; ++f) {
    T part[width<T>];
    for (int i = 0; i < width<T>; ++i) part[i] = at(i)[f];
    y[f] = load(part);
  }
#endif
}

// The first `count` elements of a batch, 0 <= count <= width: a load or store touches no other, and a load gives 0 in the
// others, as does keep.
#if defined(LAMINA_X86)
template <class T>
struct Tail {
  explicit LAMINA_INLINE Tail(int64_t count) : mask(native_tail<T>(count)) {}
  NativeTail<T> mask;
};
template <class T>
LAMINA_INLINE Batch<T> load(const T* p, Tail<T> tail) {
  return {native_load(p, tail.mask)};
}
template <class T>
LAMINA_INLINE void store(T* p, Batch<T> x, Tail<T> tail) {
  native_store(p, reg(x), tail.mask);
}
template <class T>
LAMINA_INLINE Batch<T> keep(Batch<T> x, Tail<T> tail) {
  return {native_keep(reg(x), tail.mask)};
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
template <class T>
LAMINA_INLINE Batch<T> keep(Batch<T> x, Tail<T> tail) {
  T part[width<T>] = {};
  store(part, x, tail);
  return load(part);
}
#endif
template <class T>
LAMINA_INLINE Batch<T> keep(Batch<T> x) {
  return x;
}

// Row l of a square of batches becomes its column l.
template <class T, int half = width<T> / 2>
LAMINA_INLINE void transpose(Batch<T> (&x)[width<T>]) {
#if defined(LAMINA_X86)
  if constexpr (half > 0) {
    unroll<width<T>>([&](int r) LAMINA_INLINE_LAMBDA {
      if ((r & half) != 0) return;
      auto a = reg(x[r]), b = reg(x[r + half]);
      native_exchange<half, width<T>>(a, b, std::make_integer_sequence<int, width<T>>());
      x[r] = {a}, x[r + half] = {b};
    });
    transpose<T, half / 2>(x);
  }
#else
  T part[width<T>][width<T>];
  for (int r = 0; r < width<T>; ++r) store(part[r], x[r]);
  for (int r = 0; r < width<T>; ++r)
    for (int c = 0; c < r; ++c) {
      const T y = part[r][c];
      part[r][c] = part[c][r], part[c][r] = y;
    }
  for (int r = 0; r < width<T>; ++r) x[r] = load(part[r]);
#endif
}

// Counts as numbers, exact in both types.
template <class T, class Count>
LAMINA_INLINE Batch<T> load_counts(const Count* p) {
#if defined(LAMINA_X86)
  return {native_counts(p, T(0))};
#else
  T part[width<T>];
  for (int i = 0; i < width<T>; ++i) part[i] = static_cast<T>(p[i]);
  return load(part);
#endif
}

// Element i with element i + width/2, and so on down to one.
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
#if defined(LAMINA_X86)
  return native_fold_sum(reg(x));
#else
  return fold(x, [](T a, T b) { return a + b; });
#endif
}
template <class T>
LAMINA_INLINE T fold_greater(Batch<T> x) {
#if defined(LAMINA_X86)
  return native_fold_greater(reg(x));
#else
  return fold(x, [](T a, T b) { return a > b ? a : b; });
#endif
}

}  // namespace
}  // namespace lamina::kernels
