// Attention of one query over a prompt in token space: kernels on the grid of pair counts n[i,j], previous token i, current
// token j.
#pragma once
#include "kernels/row.hpp"

namespace lamina::kernels {
namespace {

// The counts n[rows, stride]. Keeping a row's sums in registers for the usual strides was measured, and gains nothing.
template <class T>
struct Grid {
  int64_t rows, stride;
  const uint16_t* n;

  // body(i, j, p) for each batch of columns, j its first and p its part of the 16 lanes.
  template <class Body>
  LAMINA_INLINE void for_each_of_row(int64_t i, const Body& body) const {
    for (int64_t j = 0; j < stride; j += lanes)
      unroll<parts<T>>([&](int p) LAMINA_INLINE_LAMBDA { body(i, j + p * width<T>, p); });
  }
  template <class Body>
  LAMINA_INLINE void for_each(const Body& body) const {
    for (int64_t i = 0; i < rows; ++i) for_each_of_row(i, body);
  }

  // current[j] = sum_i x[i,j] and previous[i] = sum16_j x[i,j] of x = body(i, j).
  template <class Body>
  LAMINA_INLINE void marginals(T* current, T* previous, const Body& body) const {
    for (int64_t j = 0; j < stride; j += width<T>) store(current + j, splat(T(0)));
    for (int64_t i = 0; i < rows; ++i) {
      Lanes<T> sum = zero_lanes<T>();
      for_each_of_row(i, [&](int64_t, int64_t j, int p) LAMINA_INLINE_LAMBDA {
        const Batch<T> x = body(i, j);
        sum.part[p] = sum.part[p] + x;
        store(current + j, load(current + j) + x);
      });
      previous[i] = fold_sum(sum);
    }
  }
};

// n > 0 ? x : 0, so that nothing of a position that does not exist can leak.
template <class T>
LAMINA_INLINE Batch<T> where_seen(Batch<T> n, Batch<T> x) {
  return select(n > splat(T(0)), x, splat(T(0)));
}

template <Map map, class T>
void forward_on(const Grid<T>& grid, const T* u, const T* v, T* a, T* c_current, T* c_previous) {
  const Batch<T> zero = splat(T(0));
  const auto count = [&](int64_t i, int64_t j) LAMINA_INLINE_LAMBDA { return load_counts<T>(grid.n + i * grid.stride + j); };
  const auto score = [&](int64_t i, int64_t j) LAMINA_INLINE_LAMBDA { return load(u + j) + splat(v[i]); };
  if constexpr (map == Map::softmax) {
    // 1. The largest score that is seen.
    Lanes<T> largest;
    unroll<parts<T>>([&](int p) LAMINA_INLINE_LAMBDA { largest.part[p] = splat(-Numbers<T>::infinity); });
    grid.for_each([&](int64_t i, int64_t j, int p) LAMINA_INLINE_LAMBDA {
      largest.part[p] = greater(select(count(i, j) > zero, score(i, j), largest.part[p]), largest.part[p]);
    });
    unroll<parts<T>>([&](int p) LAMINA_INLINE_LAMBDA { largest.part[0] = greater(largest.part[p], largest.part[0]); });
    const Batch<T> top = splat(fold_greater(largest.part[0]));
    // 2. Weights n exp(S - M) and their sum.
    Lanes<T> sum = zero_lanes<T>();
    grid.for_each([&](int64_t i, int64_t j, int p) LAMINA_INLINE_LAMBDA {
      const Batch<T> n = count(i, j);
      const Batch<T> x = where_seen(n, n * exp(score(i, j) - top));
      store(a + i * grid.stride + j, x);
      sum.part[p] = sum.part[p] + x;
    });
    const T total = fold_sum(sum);
    // 3. A and its marginals; an empty grid gives 0.
    const Batch<T> factor = splat(total == T(0) ? T(0) : T(1) / total);
    grid.marginals(c_current, c_previous, [&](int64_t i, int64_t j) LAMINA_INLINE_LAMBDA {
      const Batch<T> x = load(a + i * grid.stride + j) * factor;
      store(a + i * grid.stride + j, x);
      return x;
    });
  } else {
    grid.marginals(c_current, c_previous, [&](int64_t i, int64_t j) LAMINA_INLINE_LAMBDA {
      const Batch<T> n = count(i, j);
      const Batch<T> s = score(i, j);
      const Batch<T> x = where_seen(n, n * (map == Map::relu ? select(s < zero, zero, s) : s));
      store(a + i * grid.stride + j, x);
      return x;
    });
  }
}

template <Map map, class T>
void backward_on(const Grid<T>& grid, const T* u, const T* v, const T* a, const T* d_current, const T* d_previous, T* g_current,
                 T* g_previous) {
  const Batch<T> zero = splat(T(0));
  const auto count = [&](int64_t i, int64_t j) LAMINA_INLINE_LAMBDA { return load_counts<T>(grid.n + i * grid.stride + j); };
  const auto score = [&](int64_t i, int64_t j) LAMINA_INLINE_LAMBDA { return load(u + j) + splat(v[i]); };
  const auto da = [&](int64_t i, int64_t j) LAMINA_INLINE_LAMBDA { return load(d_current + j) + splat(d_previous[i]); };
  if constexpr (map == Map::softmax) {
    // 1. The mean of dA under A.
    Lanes<T> sum = zero_lanes<T>();
    grid.for_each([&](int64_t i, int64_t j, int p) LAMINA_INLINE_LAMBDA {
      sum.part[p] = fma(load(a + i * grid.stride + j), where_seen(count(i, j), da(i, j)), sum.part[p]);
    });
    const Batch<T> mean = splat(fold_sum(sum));
    // 2. dS and its marginals.
    grid.marginals(g_current, g_previous, [&](int64_t i, int64_t j) LAMINA_INLINE_LAMBDA {
      return where_seen(count(i, j), load(a + i * grid.stride + j) * (da(i, j) - mean));
    });
  } else {
    grid.marginals(g_current, g_previous, [&](int64_t i, int64_t j) LAMINA_INLINE_LAMBDA {
      const Batch<T> n = count(i, j);
      const Batch<T> x = n * da(i, j);
      return where_seen(n, map == Map::relu ? select(score(i, j) >= zero, x, zero) : x);
    });
  }
}

template <class T>
void pair_forward(Map map, int64_t rows, int64_t stride, const uint16_t* n, const T* u, const T* v, T* a, T* c_current,
                  T* c_previous) {
  const Grid<T> grid{rows, stride, n};
  if (map == Map::softmax) forward_on<Map::softmax>(grid, u, v, a, c_current, c_previous);
  if (map == Map::linear) forward_on<Map::linear>(grid, u, v, a, c_current, c_previous);
  if (map == Map::relu) forward_on<Map::relu>(grid, u, v, a, c_current, c_previous);
}

template <class T>
void pair_backward(Map map, int64_t rows, int64_t stride, const uint16_t* n, const T* u, const T* v, const T* a,
                   const T* d_current, const T* d_previous, T* g_current, T* g_previous) {
  const Grid<T> grid{rows, stride, n};
  if (map == Map::softmax) backward_on<Map::softmax>(grid, u, v, a, d_current, d_previous, g_current, g_previous);
  if (map == Map::linear) backward_on<Map::linear>(grid, u, v, a, d_current, d_previous, g_current, g_previous);
  if (map == Map::relu) backward_on<Map::relu>(grid, u, v, a, d_current, d_previous, g_current, g_previous);
}

}  // namespace
}  // namespace lamina::kernels
