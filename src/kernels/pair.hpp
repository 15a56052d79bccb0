// Attention of one query over a prompt in token space: kernels on the grid of pair counts n[i,j], previous token i, current
// token j.
#pragma once
#include "kernels/row.hpp"

namespace lamina::kernels {
namespace {

// n > 0 ? x : 0, so that nothing of a position that does not exist can leak.
template <class T>
LAMINA_INLINE Batch<T> where_seen(Batch<T> n, Batch<T> x) {
  return select(n > splat(T(0)), x, splat(T(0)));
}

// Passes over the grid: body(i, j, p) for row i and the batch of columns from j, of part p, returns the summand of both
// marginals.
template <class T, class Body>
LAMINA_INLINE void marginals(int64_t rows, int64_t stride, T* current, T* previous, Body body) {
  for (int64_t j = 0; j < stride; j += width<T>) store(current + j, splat(T(0)));
  for (int64_t i = 0; i < rows; ++i) {
    Lanes<T> sum = zero_lanes<T>();
    for (int64_t j0 = 0; j0 < stride; j0 += lanes)
      for (int p = 0; p < parts<T>; ++p) {
        const int64_t j = j0 + p * width<T>;
        const Batch<T> x = body(i, j, p);
        store(current + j, load(current + j) + x);
        sum.part[p] = sum.part[p] + x;
      }
    previous[i] = fold_sum(sum);
  }
}

template <class T>
void pair_forward(Map map, int64_t rows, int64_t stride, const uint16_t* n, const T* u, const T* v, T* a, T* c_current,
                  T* c_previous) {
  const Batch<T> zero = splat(T(0));
  if (map != Map::softmax) {
    const bool clip = map == Map::relu;
    marginals(rows, stride, c_current, c_previous, [&](int64_t i, int64_t j, int) LAMINA_INLINE_LAMBDA {
      const Batch<T> count = load_counts<T>(n + i * stride + j);
      const Batch<T> s = load(u + j) + splat(v[i]);
      const Batch<T> x = where_seen(count, count * (clip ? select(s < zero, zero, s) : s));
      store(a + i * stride + j, x);
      return x;
    });
    return;
  }
  // 1. The largest score that is seen.
  Batch<T> largest = splat(-Numbers<T>::infinity);
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < stride; j += width<T>) {
      const Batch<T> count = load_counts<T>(n + i * stride + j);
      const Batch<T> s = load(u + j) + splat(v[i]);
      largest = greater(select(count > zero, s, largest), largest);
    }
  const Batch<T> top = splat(fold_greater(largest));
  // 2. Weights n exp(S - M) and their sum.
  Lanes<T> sum = zero_lanes<T>();
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j0 = 0; j0 < stride; j0 += lanes)
      for (int p = 0; p < parts<T>; ++p) {
        const int64_t j = j0 + p * width<T>;
        const Batch<T> count = load_counts<T>(n + i * stride + j);
        const Batch<T> x = where_seen(count, count * exp((load(u + j) + splat(v[i])) - top));
        store(a + i * stride + j, x);
        sum.part[p] = sum.part[p] + x;
      }
  const T total = fold_sum(sum);
  // 3. A and its marginals; an empty grid gives 0.
  const Batch<T> factor = splat(total == T(0) ? T(0) : T(1) / total);
  marginals(rows, stride, c_current, c_previous, [&](int64_t i, int64_t j, int) LAMINA_INLINE_LAMBDA {
    const Batch<T> x = load(a + i * stride + j) * factor;
    store(a + i * stride + j, x);
    return x;
  });
}

template <class T>
void pair_backward(Map map, int64_t rows, int64_t stride, const uint16_t* n, const T* u, const T* v, const T* a,
                   const T* d_current, const T* d_previous, T* g_current, T* g_previous) {
  const Batch<T> zero = splat(T(0));
  if (map != Map::softmax) {
    const bool clip = map == Map::relu;
    marginals(rows, stride, g_current, g_previous, [&](int64_t i, int64_t j, int) LAMINA_INLINE_LAMBDA {
      const Batch<T> count = load_counts<T>(n + i * stride + j);
      const Batch<T> x = count * (load(d_current + j) + splat(d_previous[i]));
      return where_seen(count, clip ? select(load(u + j) + splat(v[i]) >= zero, x, zero) : x);
    });
    return;
  }
  // 1. The mean of dA under A.
  Lanes<T> sum = zero_lanes<T>();
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j0 = 0; j0 < stride; j0 += lanes)
      for (int p = 0; p < parts<T>; ++p) {
        const int64_t j = j0 + p * width<T>;
        const Batch<T> count = load_counts<T>(n + i * stride + j);
        const Batch<T> d = where_seen(count, load(d_current + j) + splat(d_previous[i]));
        sum.part[p] = fma(load(a + i * stride + j), d, sum.part[p]);
      }
  const Batch<T> mean = splat(fold_sum(sum));
  // 2. dS and its marginals.
  marginals(rows, stride, g_current, g_previous, [&](int64_t i, int64_t j, int) LAMINA_INLINE_LAMBDA {
    const Batch<T> count = load_counts<T>(n + i * stride + j);
    const Batch<T> d = load(d_current + j) + splat(d_previous[i]);
    return where_seen(count, load(a + i * stride + j) * (d - mean));
  });
}

}  // namespace
}  // namespace lamina::kernels
