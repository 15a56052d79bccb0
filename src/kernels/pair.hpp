// Attention of one query over a prompt in token space: kernels on the grid of pair counts n[i,j], previous token i, current
// token j.
#pragma once
#include "kernels/row.hpp"

namespace lamina::kernels {
namespace {

// A grid whose rows are `blocks` times 16 long, known when compiled so that a row's sums stay in registers; 0: of any length.
template <class T, int blocks>
struct Grid {
  static constexpr int batches = blocks * parts<T>;
  int64_t rows, stride;
  const uint16_t* n;

  LAMINA_INLINE int64_t at(int64_t i, int64_t j) const { return i * (blocks > 0 ? blocks * lanes : stride) + j; }

  // body(j, p) for each batch of a row, j its first column and p its part of the 16 lanes.
  template <class Body>
  LAMINA_INLINE void for_each_batch(const Body& body) const {
    if constexpr (blocks > 0) {
      unroll<batches>([&](int q) LAMINA_INLINE_LAMBDA { body(q * width<T>, q % parts<T>); });
    } else {
      for (int64_t j = 0; j < stride; j += lanes)
        unroll<parts<T>>([&](int p) LAMINA_INLINE_LAMBDA { body(j + p * width<T>, p); });
    }
  }
  template <class Body>
  LAMINA_INLINE void for_each(const Body& body) const {
    for (int64_t i = 0; i < rows; ++i) for_each_batch([&](int64_t j, int p) LAMINA_INLINE_LAMBDA { body(i, j, p); });
  }

  // current[j] = sum_i x[i,j] and previous[i] = sum16_j x[i,j] of x = body(i, j).
  template <class Body>
  LAMINA_INLINE void marginals(T* current, T* previous, const Body& body) const {
    Batch<T> column[blocks > 0 ? batches : 1];
    for_each_batch([&](int64_t j, int) LAMINA_INLINE_LAMBDA {
      if constexpr (blocks > 0)
        column[j / width<T>] = splat(T(0));
      else
        store(current + j, splat(T(0)));
    });
    for (int64_t i = 0; i < rows; ++i) {
      Lanes<T> sum = zero_lanes<T>();
      for_each_batch([&](int64_t j, int p) LAMINA_INLINE_LAMBDA {
        const Batch<T> x = body(i, j);
        sum.part[p] = sum.part[p] + x;
        if constexpr (blocks > 0)
          column[j / width<T>] = column[j / width<T>] + x;
        else
          store(current + j, load(current + j) + x);
      });
      previous[i] = fold_sum(sum);
    }
    if constexpr (blocks > 0)
      for_each_batch([&](int64_t j, int) LAMINA_INLINE_LAMBDA { store(current + j, column[j / width<T>]); });
  }
};

// f of the grid that fits the stride. A batch of one number has no registers to keep.
template <class T, class Function>
LAMINA_INLINE void with_grid(int64_t rows, int64_t stride, const uint16_t* n, const Function& f) {
  if constexpr (width < T >> 1) {
    if (stride == 1 * lanes) return f(Grid<T, 1>{rows, stride, n});
    if (stride == 2 * lanes) return f(Grid<T, 2>{rows, stride, n});
    if (stride == 3 * lanes) return f(Grid<T, 3>{rows, stride, n});
    if (stride == 4 * lanes) return f(Grid<T, 4>{rows, stride, n});
  }
  f(Grid<T, 0>{rows, stride, n});
}

// n > 0 ? x : 0, so that nothing of a position that does not exist can leak.
template <class T>
LAMINA_INLINE Batch<T> where_seen(Batch<T> n, Batch<T> x) {
  return select(n > splat(T(0)), x, splat(T(0)));
}

template <Map map, class T, int blocks>
void forward_on(Grid<T, blocks> grid, const T* u, const T* v, T* a, T* c_current, T* c_previous) {
  const Batch<T> zero = splat(T(0));
  const auto count = [&](int64_t i, int64_t j) LAMINA_INLINE_LAMBDA { return load_counts<T>(grid.n + grid.at(i, j)); };
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
      store(a + grid.at(i, j), x);
      sum.part[p] = sum.part[p] + x;
    });
    const T total = fold_sum(sum);
    // 3. A and its marginals; an empty grid gives 0.
    const Batch<T> factor = splat(total == T(0) ? T(0) : T(1) / total);
    grid.marginals(c_current, c_previous, [&](int64_t i, int64_t j) LAMINA_INLINE_LAMBDA {
      const Batch<T> x = load(a + grid.at(i, j)) * factor;
      store(a + grid.at(i, j), x);
      return x;
    });
  } else {
    grid.marginals(c_current, c_previous, [&](int64_t i, int64_t j) LAMINA_INLINE_LAMBDA {
      const Batch<T> n = count(i, j);
      const Batch<T> s = score(i, j);
      const Batch<T> x = where_seen(n, n * (map == Map::relu ? select(s < zero, zero, s) : s));
      store(a + grid.at(i, j), x);
      return x;
    });
  }
}

template <Map map, class T, int blocks>
void backward_on(Grid<T, blocks> grid, const T* u, const T* v, const T* a, const T* d_current, const T* d_previous,
                 T* g_current, T* g_previous) {
  const Batch<T> zero = splat(T(0));
  const auto count = [&](int64_t i, int64_t j) LAMINA_INLINE_LAMBDA { return load_counts<T>(grid.n + grid.at(i, j)); };
  const auto score = [&](int64_t i, int64_t j) LAMINA_INLINE_LAMBDA { return load(u + j) + splat(v[i]); };
  const auto da = [&](int64_t i, int64_t j) LAMINA_INLINE_LAMBDA { return load(d_current + j) + splat(d_previous[i]); };
  if constexpr (map == Map::softmax) {
    // 1. The mean of dA under A.
    Lanes<T> sum = zero_lanes<T>();
    grid.for_each([&](int64_t i, int64_t j, int p) LAMINA_INLINE_LAMBDA {
      sum.part[p] = fma(load(a + grid.at(i, j)), where_seen(count(i, j), da(i, j)), sum.part[p]);
    });
    const Batch<T> mean = splat(fold_sum(sum));
    // 2. dS and its marginals.
    grid.marginals(g_current, g_previous, [&](int64_t i, int64_t j) LAMINA_INLINE_LAMBDA {
      return where_seen(count(i, j), load(a + grid.at(i, j)) * (da(i, j) - mean));
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
  with_grid<T>(rows, stride, n, [&](auto grid) LAMINA_INLINE_LAMBDA {
    if (map == Map::softmax) forward_on<Map::softmax>(grid, u, v, a, c_current, c_previous);
    if (map == Map::linear) forward_on<Map::linear>(grid, u, v, a, c_current, c_previous);
    if (map == Map::relu) forward_on<Map::relu>(grid, u, v, a, c_current, c_previous);
  });
}

template <class T>
void pair_backward(Map map, int64_t rows, int64_t stride, const uint16_t* n, const T* u, const T* v, const T* a,
                   const T* d_current, const T* d_previous, T* g_current, T* g_previous) {
  with_grid<T>(rows, stride, n, [&](auto grid) LAMINA_INLINE_LAMBDA {
    if (map == Map::softmax) backward_on<Map::softmax>(grid, u, v, a, d_current, d_previous, g_current, g_previous);
    if (map == Map::linear) backward_on<Map::linear>(grid, u, v, a, d_current, d_previous, g_current, g_previous);
    if (map == Map::relu) backward_on<Map::relu>(grid, u, v, a, d_current, d_previous, g_current, g_previous);
  });
}

}  // namespace
}  // namespace lamina::kernels
