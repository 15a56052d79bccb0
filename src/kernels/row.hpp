// Kernels of one row: the sum in 16 virtual lanes, and the cross-entropy of logits.
#pragma once
#include "kernels/elementary.hpp"
#include "kernels/kernels.hpp"

namespace lamina::kernels {
namespace {

// The 16 virtual lanes of a sum: lane i of part p stands for elements p * width + i (mod 16).
template <class T>
inline constexpr int parts = static_cast<int>(lanes) / width<T>;

template <class T>
struct Lanes {
  Batch<T> part[parts<T>];
};
template <class T>
LAMINA_INLINE Lanes<T> zero_lanes() {
  Lanes<T> sum;
  unroll<parts<T>>([&](int p) LAMINA_INLINE_LAMBDA { sum.part[p] = splat(T(0)); });
  return sum;
}
// sum16: lane i with lane i + 8, then i + 4, i + 2, i + 1.
template <class T>
LAMINA_INLINE T fold_sum(Lanes<T> sum) {
  for (int half = parts<T> / 2; half > 0; half /= 2)
    for (int p = 0; p < half; ++p) sum.part[p] = sum.part[p] + sum.part[p + half];
  return fold_sum(sum.part[0]);
}

// body(p, i) for each whole batch of x[0..n-1], i its first element and p its part; body(p, i, tail) for the last.
template <class T, class Body>
LAMINA_INLINE void for_each_batch(int64_t n, Body body) {
  constexpr int64_t w = width<T>;
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) unroll<parts<T>>([&](int p) LAMINA_INLINE_LAMBDA { body(p, i + p * w); });
  unroll<parts<T>>([&](int p) LAMINA_INLINE_LAMBDA {
    if (i + w <= n)
      body(p, i);
    else if (i < n)
      body(p, i, Tail<T>(n - i));
    i += w;
  });
}

template <class T>
T sum_row(int64_t n, const T* x) {
  Lanes<T> sum = zero_lanes<T>();
  for_each_batch<T>(
      n, [&](int p, int64_t i, auto... tail) LAMINA_INLINE_LAMBDA { sum.part[p] = sum.part[p] + load(x + i, tail...); });
  return fold_sum(sum);
}

template <class T>
T cross_entropy(int64_t n, const T* x, int64_t label, T* r) {
  constexpr int64_t w = width<T>;
  const T x_label = x[label];
  // 1. M = max x; a NaN is passed over here and met again in its own exponential. The last batch may overlap the one before.
  T maximum = x_label;
  if (n >= w) {
    Batch<T> largest = load(x + n - w);
    for (int64_t i = 0; i + w < n; i += w) largest = greater(load(x + i), largest);
    maximum = fold_greater(greater(largest, splat(x_label)));
  } else {
    for (int64_t i = 0; i < n; ++i) maximum = x[i] > maximum ? x[i] : maximum;
  }

  // 2. E = exp(x - M) into r, and O, the sum of all but the label's.
  const Batch<T> top = splat(maximum);
  Lanes<T> others_lanes = zero_lanes<T>();
  T label_batch[w];
  for_each_batch<T>(n, [&](int p, int64_t i, auto... tail) LAMINA_INLINE_LAMBDA {
    Batch<T> e = keep(exp(load(x + i, tail...) - top), tail...);
    if (r) store(r + i, e, tail...);
    if (label - i >= 0 && label - i < w) {
      store(label_batch, e);
      label_batch[label - i] = 0;
      e = load(label_batch);
    }
    others_lanes.part[p] = others_lanes.part[p] + e;
  });
  const T others = fold_sum(others_lanes);
  const T e_label =
      x_label == maximum ? T(1) : one_of<T>(x_label - maximum, [](Batch<T> z) LAMINA_INLINE_LAMBDA { return exp(z); });
  const T total = e_label + others;

  // 3. The residual.
  if (r) {
    const T scale = T(1) / total;
    for_each_batch<T>(n, [&](int, int64_t i, auto... tail)
                             LAMINA_INLINE_LAMBDA { store(r + i, load(r + i, tail...) * splat(scale), tail...); });
    r[label] = T(0) - others * scale;
  }
  if (x_label == maximum) return one_of<T>(others, [](Batch<T> z) LAMINA_INLINE_LAMBDA { return log1p(z); });
  return one_of<T>(total, [](Batch<T> z) LAMINA_INLINE_LAMBDA { return log(z); }) + (maximum - x_label);
}

}  // namespace
}  // namespace lamina::kernels
