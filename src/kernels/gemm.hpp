// Matrix products by register tiles: `height` rows of A times `vectors` batches of columns of B. Every element of C is one
// chain of fused multiply-adds over k ascending whatever the tile or the block of k, since a chain goes on from C without
// rounding.
#pragma once
#include "kernels/veneer.hpp"

namespace lamina::kernels {
namespace {

// The largest tile: its sums, one row of B and one element of A fit the registers, and the sums hide the latency of fma.
inline constexpr int tile_height = width<double> == 1 ? 2 : 6;
inline constexpr int tile_vectors = width<double> == 8 ? 4 : 2;

// A panel of B, `panel` columns and `panel_depth` rows, copied to the stack: aligned, without conflicts in the cache, with
// zeros past the last column. It takes two thirds of the first-level cache.
template <class T>
inline constexpr int64_t panel = tile_vectors* width<T>;
inline constexpr int64_t panel_bytes = 32768;
template <class T>
inline constexpr int64_t panel_depth = panel_bytes / (panel<T> * static_cast<int64_t>(sizeof(T)));

template <class T>
struct Product {
  int64_t k;
  const T* a;
  int64_t a_row, a_col;
  const T* b;
  int64_t b_row;
  T* c;
  int64_t c_row;
  bool accumulate;
  int64_t tail;  // columns of C in the last batch of a tile, 1 to width
};

// One tile at p.a, p.b, p.c. Rows of B are whole batches; C may have fewer columns in its last.
template <class T, int height, int vectors>
__attribute__((noinline)) void gemm_tile(const Product<T>& p) {
  constexpr int w = width<T>;
  const Tail<T> tail(p.tail);
  Batch<T> sum[height][vectors];
  const auto for_each_sum = [](const auto& body) LAMINA_INLINE_LAMBDA {
    unroll<height>([&](int i) LAMINA_INLINE_LAMBDA { unroll<vectors>([&](int j) LAMINA_INLINE_LAMBDA { body(i, j); }); });
  };
  for_each_sum([&](int i, int j) LAMINA_INLINE_LAMBDA { sum[i][j] = splat(T(0)); });
  if (p.accumulate)
    for_each_sum([&](int i, int j) LAMINA_INLINE_LAMBDA {
      const T* c = p.c + i * p.c_row + j * w;
      sum[i][j] = j == vectors - 1 ? load(c, tail) : load(c);
    });

  const T* a = p.a;
  const T* b = p.b;
  const int64_t a_row = p.a_row, a_col = p.a_col, b_row = p.b_row;
  for (int64_t l = p.k; l > 0; --l) {
    Batch<T> row[vectors];
    unroll<vectors>([&](int j) LAMINA_INLINE_LAMBDA { row[j] = load(b + j * w); });
    unroll<height>([&](int i) LAMINA_INLINE_LAMBDA {
      const Batch<T> x = splat(a[i * a_row]);
      unroll<vectors>([&](int j) LAMINA_INLINE_LAMBDA { sum[i][j] = fma(x, row[j], sum[i][j]); });
    });
    a += a_col;
    b += b_row;
  }

  for_each_sum([&](int i, int j) LAMINA_INLINE_LAMBDA {
    T* c = p.c + i * p.c_row + j * w;
    if (j == vectors - 1)
      store(c, sum[i][j], tail);
    else
      store(c, sum[i][j]);
  });
}

// All rows of one panel, by the tallest tiles and then a shorter one.
template <class T, int height, int vectors>
void gemm_rows(int64_t m, Product<T> p) {
  for (; m >= height; m -= height) {
    gemm_tile<T, height, vectors>(p);
    p.a += height * p.a_row;
    p.c += height * p.c_row;
  }
  if constexpr (height > 1) {
    if (m > 0) gemm_rows<T, height - 1, vectors>(m, p);
  }
}

// One panel of `columns` columns, at most `vectors` batches.
template <class T, int vectors>
void gemm_panel(int64_t m, int64_t columns, Product<T> p) {
  p.tail = columns - (vectors - 1) * width<T>;
  if (p.tail > 0)
    gemm_rows<T, tile_height, vectors>(m, p);
  else if constexpr (vectors > 1)
    gemm_panel<T, vectors - 1>(m, columns, p);
}

template <class T>
void copy_panel(int64_t k, int64_t columns, const T* b, int64_t b_row, T* copy) {
  for (int64_t l = 0; l < k; ++l, b += b_row, copy += panel<T>)
    for (int64_t j = 0; j < panel<T>; j += width<T>) {
      if (columns >= j + width<T>)
        store(copy + j, load(b + j));
      else if (columns > j)
        store(copy + j, load(b + j, Tail<T>(columns - j)));
    }
}

template <class T>
void gemm(int64_t m, int64_t n, int64_t k, const T* a, int64_t a_row, int64_t a_col, const T* b, int64_t b_row, T* c,
          int64_t c_row, bool accumulate) {
  alignas(64) T copy[panel_depth<T> * panel<T>];
  for (int64_t j = 0; j < n; j += panel<T>) {
    const int64_t columns = n - j < panel<T> ? n - j : panel<T>;
    for (int64_t l = 0; l < k || l == 0; l += panel_depth<T>) {
      const int64_t depth = k - l < panel_depth<T> ? k - l : panel_depth<T>;
      Product<T> p{depth, a + l * a_col, a_row, a_col, b + l * b_row + j, b_row, c + j, c_row, accumulate || l > 0, 0};
      // Too few rows pay for no copy; but a batch past the end of B must not be read.
      if (m > tile_height || columns % width<T> != 0) {
        copy_panel(depth, columns, p.b, b_row, copy);
        p.b = copy;
        p.b_row = panel<T>;
      }
      gemm_panel<T, tile_vectors>(m, columns, p);
    }
  }
}

}  // namespace
}  // namespace lamina::kernels
