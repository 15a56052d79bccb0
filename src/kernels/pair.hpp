// Attention of one query over prompts in token space, 16 prompts at once: kernels on grids of pair counts n[i,j], previous
// token i, current token j.
#pragma once
#include "kernels/lanes.hpp"

namespace lamina::kernels {
namespace {

// out[k] = m[k] x[k] + sum_l n[k * k_step + l * l_step] y[l], k, l < tokens; a term whose vector is NULL is left out.
template <class T>
struct CountProduct {
  int64_t tokens;
  const uint8_t* n;
  int64_t k_step, l_step;
  const uint16_t* m;
  const T *x, *y;
  T* out;
};

// Rows first..first+height-1: their chains hide each other's latency.
template <int height, class T>
__attribute__((noinline)) void count_rows(const CountProduct<T>& p, int64_t first) {
  Lanes<T> sum[height];
  const auto for_each_sum = [](const auto& body) LAMINA_INLINE_LAMBDA {
    unroll<height>([&](int k) LAMINA_INLINE_LAMBDA { unroll<parts<T>>([&](int q) LAMINA_INLINE_LAMBDA { body(k, q); }); });
  };
  for_each_sum([&](int k, int q) LAMINA_INLINE_LAMBDA { sum[k].part[q] = splat(T(0)); });
  if (p.x)
    for_each_sum([&](int k, int q) LAMINA_INLINE_LAMBDA {
      const int64_t at = (first + k) * lanes + q * width<T>;
      sum[k].part[q] = load_counts<T>(p.m + at) * load(p.x + at);
    });
  const uint8_t* n = p.n + first * p.k_step;
  for (int64_t l = 0; p.y && l < p.tokens; ++l, n += p.l_step) {
    const Lanes<T> y = load_lanes(p.y, l);
    for_each_sum([&](int k, int q) LAMINA_INLINE_LAMBDA {
      sum[k].part[q] = fma(load_counts<T>(n + k * p.k_step + q * width<T>), y.part[q], sum[k].part[q]);
    });
  }
  unroll<height>([&](int k) LAMINA_INLINE_LAMBDA { store_lanes(p.out, first + k, sum[k]); });
}

template <int height, class T>
void count_product(const CountProduct<T>& p, int64_t first) {
  for (; first + height <= p.tokens; first += height) count_rows<height>(p, first);
  if constexpr (height > 1) {
    if (first < p.tokens) count_product<height / 2>(p, first);
  }
}

// Both marginals of n (u + v): the same map takes scores to sums and cotangents back.
template <class T>
void linear_marginals(const PairGrid& grid, const T* u, const T* v, T* current, T* previous) {
  constexpr int height = parts<T> >= 8 ? 1 : 8 / parts<T>;
  const int64_t L = grid.tokens;
  count_product<height>(CountProduct<T>{L, grid.n, lanes, L * lanes, grid.n_current, u, v, current}, 0);
  if (previous) count_product<height>(CountProduct<T>{L, grid.n, L * lanes, lanes, grid.n_previous, v, u, previous}, 0);
}

// n > 0 ? x : 0, so that nothing of a position that does not exist can leak.
template <class T>
LAMINA_INLINE Batch<T> where_seen(Batch<T> n, Batch<T> x) {
  return select(n > splat(T(0)), x, splat(T(0)));
}

template <class T>
struct Cells {
  const PairGrid& grid;
  const T *u, *v, *du, *dv;  // [L, 16]; v and dv are 0 in row L, dv also where it is NULL

  static LAMINA_INLINE int64_t at(int64_t i, int p) { return i * lanes + p * width<T>; }
  LAMINA_INLINE int64_t cell(int64_t i, int64_t j, int p) const { return at(i * grid.tokens + j, p); }
  LAMINA_INLINE Batch<T> count(int64_t i, int64_t j, int p) const { return load_counts<T>(grid.n + cell(i, j, p)); }
  LAMINA_INLINE Batch<T> sum(const T* x, const T* y, int64_t i, int64_t j, int p) const {
    return y && i < grid.tokens ? load(x + at(j, p)) + load(y + at(i, p)) : load(x + at(j, p));
  }
  LAMINA_INLINE Batch<T> score(int64_t i, int64_t j, int p) const { return sum(u, v, i, j, p); }
  LAMINA_INLINE Batch<T> da(int64_t i, int64_t j, int p) const { return sum(du, dv, i, j, p); }

  template <class Body>
  LAMINA_INLINE void for_each(const Body& body) const {
    for (int64_t i = 0; i <= grid.tokens; ++i)
      for (int64_t j = 0; j < grid.tokens; ++j) unroll<parts<T>>([&](int p) LAMINA_INLINE_LAMBDA { body(i, j, p); });
  }

  // current[j] = sum_i x[i,j] and previous[i] = sum_j x[i,j] of x = body(i, j, p).
  template <class Body>
  LAMINA_INLINE void marginals(T* current, T* previous, const Body& body) const {
    const int64_t L = grid.tokens;
    for (int64_t j = 0; j < L; ++j) store_lanes(current, j, zero_lanes<T>());
    for (int64_t i = 0; i <= L; ++i) {
      Lanes<T> row = zero_lanes<T>();
      for (int64_t j = 0; j < L; ++j)
        unroll<parts<T>>([&](int p) LAMINA_INLINE_LAMBDA {
          const Batch<T> x = body(i, j, p);
          row.part[p] = row.part[p] + x;
          store(current + at(j, p), load(current + at(j, p)) + x);
        });
      if (i < L) store_lanes(previous, i, row);
    }
  }
};

template <class T>
void relu_forward(const Cells<T>& cells, T* a, T* c_current, T* c_previous) {
  const Batch<T> zero = splat(T(0));
  cells.marginals(c_current, c_previous, [&](int64_t i, int64_t j, int p) LAMINA_INLINE_LAMBDA {
    const Batch<T> n = cells.count(i, j, p), s = cells.score(i, j, p);
    const Batch<T> x = where_seen(n, n * select(s < zero, zero, s));
    store(a + cells.cell(i, j, p), x);
    return x;
  });
}

template <class T>
void softmax_forward(const Cells<T>& cells, T* a, T* c_current, T* c_previous) {
  const Batch<T> zero = splat(T(0));
  // 1. The largest score that is seen.
  Lanes<T> top, sum = zero_lanes<T>();
  unroll<parts<T>>([&](int p) LAMINA_INLINE_LAMBDA { top.part[p] = splat(-Numbers<T>::infinity); });
  cells.for_each([&](int64_t i, int64_t j, int p) LAMINA_INLINE_LAMBDA {
    top.part[p] = greater(select(cells.count(i, j, p) > zero, cells.score(i, j, p), top.part[p]), top.part[p]);
  });
  // 2. Weights n exp(S - M) and their sum.
  cells.for_each([&](int64_t i, int64_t j, int p) LAMINA_INLINE_LAMBDA {
    const Batch<T> n = cells.count(i, j, p);
    const Batch<T> x = where_seen(n, n * exp(cells.score(i, j, p) - top.part[p]));
    store(a + cells.cell(i, j, p), x);
    sum.part[p] = sum.part[p] + x;
  });
  // 3. A and its marginals; an empty grid gives 0.
  unroll<parts<T>>([&](int p) LAMINA_INLINE_LAMBDA {
    sum.part[p] = select(sum.part[p] == zero, zero, splat(T(1)) / sum.part[p]);
  });
  cells.marginals(c_current, c_previous, [&](int64_t i, int64_t j, int p) LAMINA_INLINE_LAMBDA {
    const Batch<T> x = load(a + cells.cell(i, j, p)) * sum.part[p];
    store(a + cells.cell(i, j, p), x);
    return x;
  });
}

template <class T>
void softmax_backward(const Cells<T>& cells, const T* a, T* g_current, T* g_previous) {
  // 1. The mean of dA under A.
  Lanes<T> mean = zero_lanes<T>();
  cells.for_each([&](int64_t i, int64_t j, int p) LAMINA_INLINE_LAMBDA {
    const Batch<T> d = where_seen(cells.count(i, j, p), cells.da(i, j, p));
    mean.part[p] = fma(load(a + cells.cell(i, j, p)), d, mean.part[p]);
  });
  // 2. dS and its marginals.
  cells.marginals(g_current, g_previous, [&](int64_t i, int64_t j, int p) LAMINA_INLINE_LAMBDA {
    return where_seen(cells.count(i, j, p), load(a + cells.cell(i, j, p)) * (cells.da(i, j, p) - mean.part[p]));
  });
}

template <class T>
void relu_backward(const Cells<T>& cells, T* g_current, T* g_previous) {
  const Batch<T> zero = splat(T(0));
  cells.marginals(g_current, g_previous, [&](int64_t i, int64_t j, int p) LAMINA_INLINE_LAMBDA {
    const Batch<T> n = cells.count(i, j, p);
    return where_seen(n, select(cells.score(i, j, p) >= zero, n * cells.da(i, j, p), zero));
  });
}

template <class T>
void pair_forward(Map map, const PairGrid& grid, const T* u, const T* v, T* a, T* c_current, T* c_previous) {
  if (map == Map::linear) return linear_marginals(grid, u, v, c_current, c_previous);
  const Cells<T> cells{grid, u, v, nullptr, nullptr};
  if (map == Map::relu) return relu_forward(cells, a, c_current, c_previous);
  softmax_forward(cells, a, c_current, c_previous);
}

template <class T>
void pair_backward(Map map, const PairGrid& grid, const T* u, const T* v, const T* a, const T* d_current, const T* d_previous,
                   T* g_current, T* g_previous) {
  if (map == Map::linear) return linear_marginals(grid, d_current, d_previous, g_current, g_previous);
  const Cells<T> cells{grid, u, v, d_current, d_previous};
  if (map == Map::relu) return relu_backward(cells, g_current, g_previous);
  softmax_backward(cells, a, g_current, g_previous);
}

}  // namespace
}  // namespace lamina::kernels
