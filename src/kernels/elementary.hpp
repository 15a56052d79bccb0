// exp, exp2, log, log1p and expm1 of a Batch: lamina's own, so that the bits depend neither on the CPU nor on the C library.
// Made of
// +, -, *, /, fma, comparison and bit operations only. At most 2 units in the last place from the truth (tests/kernels).
#pragma once
#include "kernels/veneer.hpp"

namespace lamina::kernels {
namespace {

// exp2_series: 2^r = 1 + r P(r), |r| <= 1/2 (Remez, for the relative error); exp_series: P in e^r = 1 + r + r^2 P(r), |r| <=
// ln(2)/2; log_series: R in log((1+s)/(1-s)) = 2s + s^3 R(s^2), m = (1+s)/(1-s) in [sqrt(1/2), sqrt(2)]; Chebyshev fits,
// rounded. ln2_high has trailing zeros enough for exact products with any exponent.
template <class T>
struct Numbers;
template <>
struct Numbers<double> {
  static constexpr int mantissa = 52;
  static constexpr double shift = 0x1.8p52;  // adding it rounds to an integer, which then stands in the low bits
  static constexpr double log2e = 0x1.71547652b82fep+0, ln2_high = 0x1.62e42fefa3000p-1, ln2_low = 0x1.3de6af278ece6p-42;
  static constexpr double exp_lowest = -0x1.6232bdd7abcd2p+9, exp_highest = 0x1.62e42fefa39efp+9;  // results normal and finite
  static constexpr double expm1_lowest = -40;                                                      // there expm1 is -1
  static constexpr double smallest = 0x1p-1022, tiny = 0x1p-54, infinity = __builtin_inf(), nan = __builtin_nan("");
  static constexpr double exp_series[] = {0x1.0000000000000p-1,  0x1.5555555555557p-3,  0x1.5555555555556p-5,
                                          0x1.11111111100dcp-7,  0x1.6c16c16c162d4p-10, 0x1.a01a01abe7fe1p-13,
                                          0x1.a01a01a6d889cp-16, 0x1.71de0231960ebp-19, 0x1.27e4db646b17ep-22,
                                          0x1.af4de97ca4194p-26, 0x1.1f730349868cep-29};
  static constexpr double exp2_lowest = -1022;
  static constexpr double exp2_series[] = {0x1.62e42fefa39f3p-1,  0x1.ebfbdff82c598p-3,  0x1.c6b08d7048f31p-5,
                                           0x1.3b2ab6fba1e1cp-7,  0x1.5d87fe7bbbe07p-10, 0x1.4309130961163p-13,
                                           0x1.ffcbee3b0af8cp-17, 0x1.62bfd49ed0adfp-20, 0x1.b54167a0b9061p-24,
                                           0x1.e605f979c7a5dp-28, 0x1.c0638527edf34p-32};
  static constexpr double log_series[] = {0x1.5555555555558p-1, 0x1.99999999952d7p-2, 0x1.2492492df281ap-2,
                                          0x1.c71c62e3f11e6p-3, 0x1.7462b51cb66b1p-3, 0x1.39fe51a7c18f9p-3,
                                          0x1.2b5900de53b32p-3};
  static constexpr uint64_t one = 0x3ff0000000000000, sqrt_half = 0x3fe6a09e667f3bcd, integer = 0x4330000000000000;
};
template <>
struct Numbers<float> {
  static constexpr int mantissa = 23;
  static constexpr float shift = 0x1.8p23f;
  static constexpr float log2e = 0x1.715476p+0f, ln2_high = 0x1.62ep-1f, ln2_low = 0x1.0bfbe8p-15f;
  static constexpr float exp_lowest = -0x1.5d589ep+6f, exp_highest = 0x1.62e42ep+6f;
  static constexpr float expm1_lowest = -20;
  static constexpr float smallest = 0x1p-126f, tiny = 0x1p-25f, infinity = __builtin_inff(), nan = __builtin_nanf("");
  static constexpr float exp_series[] = {0x1.000000p-1f, 0x1.555556p-3f,  0x1.5554eap-5f,
                                         0x1.1110e0p-7f, 0x1.6d4324p-10f, 0x1.a124f2p-13f};
  static constexpr float exp2_lowest = -126;
  static constexpr float exp2_series[] = {0x1.62e432p-1f, 0x1.ebfbe2p-3f,  0x1.c6ae72p-5f,
                                          0x1.3b270ep-7f, 0x1.5f7276p-10f, 0x1.470b4ap-13f};
  static constexpr float log_series[] = {0x1.555556p-1f, 0x1.9999ecp-2f, 0x1.245c40p-2f, 0x1.ddcf72p-3f};
  static constexpr uint32_t one = 0x3f800000, sqrt_half = 0x3f3504f3, integer = 0x4b000000;
};

// sum c_i x^i: even and odd powers apart (x2 = x^2), which halves the chain of dependent operations.
template <class T, int count>
LAMINA_INLINE Batch<T> polynomial(Batch<T> x, Batch<T> x2, const T (&c)[count]) {
  constexpr int even_top = (count - 1) / 2 * 2, odd_top = (count - 2) / 2 * 2 + 1;
  Batch<T> even = splat(c[even_top]), odd = splat(c[odd_top]);
  for (int i = even_top - 2; i >= 0; i -= 2) even = fma(even, x2, splat(c[i]));
  for (int i = odd_top - 2; i >= 0; i -= 2) odd = fma(odd, x2, splat(c[i]));
  return fma(odd, x, even);
}

// p 2^n for shifted = n + Numbers::shift, p in (1/2, 2) and a normal result.
template <class T>
LAMINA_INLINE Batch<T> scale(Batch<T> p, Batch<T> shifted) {
  return batch(bits(p) + (bits(shifted) << Numbers<T>::mantissa));
}

// exp(x) = 2^n e^r, n the integer nearest to x / ln 2.
template <class T>
LAMINA_INLINE Batch<T> exp(Batch<T> x) {
  using N = Numbers<T>;
  const Batch<T> z = smaller(splat(N::exp_highest + 1), x);  // else r = inf - inf
  const Batch<T> shifted = fma(z, splat(N::log2e), splat(N::shift));
  const Batch<T> n = shifted - splat(N::shift);
  const Batch<T> r = fma(n, splat(-N::ln2_low), fma(n, splat(-N::ln2_high), z));
  const Batch<T> r2 = r * r;
  const Batch<T> p = splat(T(1)) + fma(r2, polynomial(r, r2, N::exp_series), r);
#if defined(LAMINA_X86) && defined(__AVX512F__)
  const Batch<T> y = {native_scale(reg(p), reg(n))};  // the same bits, with overflow and NaN as they should be
#else
  Batch<T> y = select(x > splat(N::exp_highest), splat(N::infinity), scale(p, shifted));
  y = select(x == x, y, x);
#endif
  return select(x < splat(N::exp_lowest), splat(T(0)), y);
}

// 2^x = 2^n 2^r, n the integer nearest to x: r is exact. For x at most the largest exponent, or NaN: those of a
// softmax are at most 0. One chain of fma: neighbouring batches hide its latency, and nothing is spent on powers of r. The product
// with 2^n is exact, and NaN stays NaN in it.
template <class T>
LAMINA_INLINE Batch<T> exp2(Batch<T> x) {
  using N = Numbers<T>;
  constexpr int top = sizeof(N::exp2_series) / sizeof(T) - 1;
  const Batch<T> shifted = x + splat(N::shift);
  const Batch<T> n = shifted - splat(N::shift);
  const Batch<T> r = x - n;
  Batch<T> p = splat(N::exp2_series[top]);
  unroll<top>([&](int i) LAMINA_INLINE_LAMBDA { p = fma(p, r, splat(N::exp2_series[top - 1 - i])); });
  p = fma(p, r, splat(T(1)));
#if defined(LAMINA_X86) && defined(__AVX512F__)
  return {native_scale_above(reg(p), reg(n), reg(x), reg(splat(N::exp2_lowest)))};
#else
  return select(x < splat(N::exp2_lowest), splat(T(0)), p * scale(splat(T(1)), shifted));
#endif
}

// expm1(x) = 2^n e^r - 1 = 2 (h r + (h - 1/2) + h r^2 P(r)), h = 2^(n-1), with r in two parts.
template <class T>
LAMINA_INLINE Batch<T> expm1(Batch<T> x) {
  using N = Numbers<T>;
  const Batch<T> low = splat(N::expm1_lowest), high = splat(N::exp_highest);
  const Batch<T> z = select(x < low, low, select(x > high, high, x));
  const Batch<T> shifted = fma(z, splat(N::log2e), splat(N::shift));
  const Batch<T> n = shifted - splat(N::shift);
  const Batch<T> a = fma(n, splat(-N::ln2_high), z);
  const Batch<T> r = fma(n, splat(-N::ln2_low), a);
  const Batch<T> r_low = fma(n, splat(-N::ln2_low), a - r);
  const Batch<T> r2 = r * r;
  const Batch<T> q = fma(r2, polynomial(r, r2, N::exp_series), fma(r, r_low, r_low));
  const Batch<T> h = scale(splat(T(1)), shifted - splat(T(1)));
  const Batch<T> half = fma(h, q, fma(h, r, h - splat(T(0.5))));
  Batch<T> y = half + half;
  y = select(x > high, splat(N::infinity), y);
  const Batch<T> size = greater(x, splat(T(0)) - x);
  y = select(size < splat(N::tiny), x, y);
  y = select(size < splat(N::smallest), x * splat(T(0)), y);
  return select(x == x, y, x);
}

// x = 2^k m with m in [sqrt(1/2), sqrt(2)), for normal positive x.
template <class T>
struct Parts {
  Batch<T> k, m;
};
template <class T>
LAMINA_INLINE Parts<T> split(Batch<T> x) {
  using N = Numbers<T>;
  using W = typename Word<T>::Type;
  constexpr W exponent_bias = N::one >> N::mantissa;
  const Bits<T> moved = bits(x) + splat_bits<T>(N::one - N::sqrt_half);
  const Batch<T> k = batch((moved >> N::mantissa) | splat_bits<T>(N::integer)) -
                     splat(static_cast<T>(T(W(1) << N::mantissa) + T(exponent_bias)));
  const Bits<T> m = (moved & splat_bits<T>((W(1) << N::mantissa) - 1)) + splat_bits<T>(N::sqrt_half);
  return {k, batch(m)};
}

// k ln 2 + log(1 + f) + c, |c| tiny: with s = f / (2 + f), log(1 + f) = f - f^2/2 + s (f^2/2 + s^2 R(s^2)).
template <class T>
LAMINA_INLINE Batch<T> log_of_parts(Batch<T> k, Batch<T> f, Batch<T> c) {
  using N = Numbers<T>;
  const Batch<T> s = f / (splat(T(2)) + f);
  const Batch<T> z = s * s;
  const Batch<T> tail = z * polynomial(z, z * z, N::log_series);
  const Batch<T> half_square = splat(T(0.5)) * f * f;
  const Batch<T> small = fma(s, half_square + tail, fma(k, splat(N::ln2_low), c));
  return fma(k, splat(N::ln2_high), f - (half_square - small));
}

template <class T>
LAMINA_INLINE Batch<T> log(Batch<T> x) {
  using N = Numbers<T>;
  const T up = T(typename Word<T>::Type(1) << N::mantissa);
  const Mask<T> subnormal = x < splat(N::smallest);
  const Parts<T> parts = split(select(subnormal, x * splat(up), x));
  const Batch<T> k = select(subnormal, parts.k - splat(T(N::mantissa)), parts.k);
  Batch<T> y = log_of_parts(k, parts.m - splat(T(1)), splat(T(0)));
  y = select(x == splat(N::infinity), x, y);
  y = select(x == splat(T(0)), splat(-N::infinity), y);
  y = select(x < splat(T(0)), splat(N::nan), y);
  return select(x == x, y, x);
}

// m ln 2 + rest, with ln 2 in two parts.
template <class T>
LAMINA_INLINE Batch<T> natural(Batch<T> m, Batch<T> rest) {
  constexpr T high = static_cast<T>(sizeof(T) == 4 ? 0x1.62e42ep-1 : 0x1.62e42fefa39efp-1);
  constexpr T low = static_cast<T>(sizeof(T) == 4 ? 0x1.efa39ep-25 : 0x1.abc9e3b39803fp-56);
  return fma(m, splat(high), fma(m, splat(low), rest));
}

// log(u) + (x - (u - 1)) / u with u = 1 + x rounded; x itself is f while u needs no power of 2.
template <class T>
LAMINA_INLINE Batch<T> log1p(Batch<T> x) {
  using N = Numbers<T>;
  const Batch<T> one = splat(T(1)), zero = splat(T(0));
  const Batch<T> u = one + x;
  const Batch<T> lost = select(x < one, x - (u - one), one - (u - x));
  const Parts<T> parts = split(u);
  const Mask<T> near = parts.k == zero;
  const Batch<T> f = select(near, x, parts.m - one);
  Batch<T> y = log_of_parts(parts.k, f, select(near, zero, lost / u));
  y = select(x == splat(N::infinity), x, y);
  y = select(u == zero, splat(-N::infinity), y);
  y = select(x < zero - one, splat(N::nan), y);
  const Batch<T> size = greater(x, zero - x);
  y = select(size < splat(N::tiny), x, y);
  y = select(size < splat(N::smallest), x * zero, y);
  return select(x == x, y, x);
}

template <class T, class Function>
LAMINA_INLINE void map_row(int64_t n, const T* x, T* y, Function f) {
  constexpr int together = 4;  // chains of dependent operations side by side
  int64_t i = 0;
  for (; i + together * width<T> <= n; i += together * width<T>) {
    Batch<T> z[together];
    unroll<together>([&](int j) LAMINA_INLINE_LAMBDA { z[j] = f(load(x + i + j * width<T>)); });
    unroll<together>([&](int j) LAMINA_INLINE_LAMBDA { store(y + i + j * width<T>, z[j]); });
  }
  for (; i + width<T> <= n; i += width<T>) store(y + i, f(load(x + i)));
  if (i < n) store(y + i, f(load(x + i, Tail<T>(n - i))), Tail<T>(n - i));
}
template <class T>
void exp_row(int64_t n, const T* x, T* y) {
  map_row(n, x, y, [](Batch<T> z) LAMINA_INLINE_LAMBDA { return exp(z); });
}
template <class T>
void exp2_row(int64_t n, const T* x, T* y) {
  map_row(n, x, y, [](Batch<T> z) LAMINA_INLINE_LAMBDA { return exp2(z); });
}
template <class T>
void log_row(int64_t n, const T* x, T* y) {
  map_row(n, x, y, [](Batch<T> z) LAMINA_INLINE_LAMBDA { return log(z); });
}
template <class T>
void log1p_row(int64_t n, const T* x, T* y) {
  map_row(n, x, y, [](Batch<T> z) LAMINA_INLINE_LAMBDA { return log1p(z); });
}
template <class T>
void expm1_row(int64_t n, const T* x, T* y) {
  map_row(n, x, y, [](Batch<T> z) LAMINA_INLINE_LAMBDA { return expm1(z); });
}

// f of one number with the bits of the table's.
template <class T, class Function>
LAMINA_INLINE T one_of(T x, Function f) {
  T part[width<T>] = {x};
  store(part, f(load(part)));
  return part[0];
}

}  // namespace
}  // namespace lamina::kernels
