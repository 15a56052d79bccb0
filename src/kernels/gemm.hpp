// Matrix products by register tiles: `height` rows of A times `vectors` batches of columns of B, so that every element of C is
// one chain of fused multiply-adds over k ascending whatever the tile, and tiles at the edges give the bits of those inside.
#pragma once
#include "kernels/veneer.hpp"

namespace lamina::kernels {
namespace {

// The largest tile: accumulators, one row of B and one element of A fit the registers, and hide the latency of fma.
inline constexpr int tile_height = width<double> == 1 ? 2 : 6;
inline constexpr int tile_vectors = width<double> == 1 ? 2 : width<double> == 4 ? 2 : 4;

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
  int64_t tail;  // columns of the last batch, if it is partial
};

// One tile at p.a, p.b, p.c. If partial, the last batch of columns has only p.tail columns.
template <class T, int height, int vectors, bool partial>
__attribute__((noinline)) void gemm_tile(const Product<T>& p) {
  const Tail<T> tail(p.tail);
  constexpr int w = width<T>;
  const auto load_row = [&](const T* row, int j) LAMINA_INLINE_LAMBDA {
    return partial && j == vectors - 1 ? load(row + j * w, tail) : load(row + j * w);
  };
  Batch<T> sum[height][vectors];
  for (int i = 0; i < height; ++i)
    for (int j = 0; j < vectors; ++j) sum[i][j] = p.accumulate ? load_row(p.c + i * p.c_row, j) : splat(T(0));

  const T* a = p.a;
  const T* b = p.b;
  const int64_t a_row = p.a_row, a_col = p.a_col, b_row = p.b_row;
  for (int64_t l = p.k; l > 0; --l) {
    Batch<T> row[vectors];
    for (int j = 0; j < vectors; ++j) row[j] = load_row(b, j);
    for (int i = 0; i < height; ++i) {
      const Batch<T> x = splat(a[i * a_row]);
      for (int j = 0; j < vectors; ++j) sum[i][j] = fma(x, row[j], sum[i][j]);
    }
    a += a_col;
    b += b_row;
  }

  for (int i = 0; i < height; ++i)
    for (int j = 0; j < vectors; ++j) {
      T* c = p.c + i * p.c_row + j * w;
      if (partial && j == vectors - 1)
        store(c, sum[i][j], tail);
      else
        store(c, sum[i][j]);
    }
}

// All rows of one panel of columns, by the tallest tiles and then a shorter one.
template <class T, int height, int vectors, bool partial>
void gemm_rows(int64_t m, Product<T> p) {
  for (; m >= height; m -= height) {
    gemm_tile<T, height, vectors, partial>(p);
    p.a += height * p.a_row;
    p.c += height * p.c_row;
  }
  if constexpr (height > 1) gemm_rows<T, height - 1, vectors, partial>(m, p);
}

// The last panel: `vectors` batches or fewer, of which the last may be partial.
template <class T, int vectors>
void gemm_last_panel(int64_t m, int64_t columns, Product<T> p) {
  if constexpr (vectors > 0) {
    p.tail = columns - (vectors - 1) * width<T>;
    if (p.tail == width<T>)
      gemm_rows<T, tile_height, vectors, false>(m, p);
    else if (p.tail > 0)
      gemm_rows<T, tile_height, vectors, true>(m, p);
    else
      gemm_last_panel<T, vectors - 1>(m, columns, p);
  }
}

template <class T>
void gemm(int64_t m, int64_t n, int64_t k, const T* a, int64_t a_row, int64_t a_col, const T* b, int64_t b_row, T* c,
          int64_t c_row, bool accumulate) {
  constexpr int64_t panel = tile_vectors * width<T>;
  Product<T> p{k, a, a_row, a_col, b, b_row, c, c_row, accumulate, 0};
  for (; n > panel; n -= panel) {
    gemm_rows<T, tile_height, tile_vectors, false>(m, p);
    p.b += panel;
    p.c += panel;
  }
  gemm_last_panel<T, tile_vectors>(m, n, p);
}

}  // namespace
}  // namespace lamina::kernels
