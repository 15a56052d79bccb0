// The three products of attention, between tiles of scores and rows of features (attention_table.hpp has the formulas). Each is
// made of register tiles as gemm.hpp is: `height` rows of numbers spread over a register, times `vectors` registers that stand
// in memory as they are read, so that nothing is packed but Q^T and dO^T, once per block. 6 x 4 sums (AVX-512; 6 x 2 on AVX2)
// need 10 loads for 24 multiply-adds and leave registers for one row of B and one number of A. Every sum is one chain of
// fused multiply-adds, wherever it is interrupted.
#pragma once
#include "kernels/gemm.hpp"
#include "kernels/kernels.hpp"

namespace lamina::kernels {
namespace {

// Where the v-th register of a row stands, in panels of 16 numbers that are `panel` apart.
template <class T>
LAMINA_INLINE int64_t place(int v, int64_t panel) {
  return v * width<T> / lanes * panel + v * width<T> % lanes;
}

// x, which the compiler cannot know: addresses made of it are computed where they are needed. Computed ahead of a loop they
// would take the registers that its sums need.
LAMINA_INLINE int64_t opaque(int64_t x) {
  __asm__ volatile("" : "+r"(x));
  return x;
}

// body(i, v) for every sum of a tile.
template <int height, int vectors, class Body>
LAMINA_INLINE void for_each_sum(const Body& body) {
  unroll<height>([&](int i) LAMINA_INLINE_LAMBDA { unroll<vectors>([&](int v) LAMINA_INLINE_LAMBDA { body(i, v); }); });
}

// sum[i][v] += sum_l A[i,l] B[l,v], l < k ascending; A[i,l] at a[i*a_row + l*a_col]. tail: of the last register of a row.
template <int height, int vectors, class T, class... Tails>
LAMINA_INLINE void add_products(Batch<T> (&sum)[height][vectors], int64_t k, const T* a, int64_t a_row, int64_t a_col,
                                const T* b, int64_t b_row, int64_t b_panel, Tails... tail) {
#pragma GCC unroll 4  // so that the end of the loop is foreseen
  for (; k > 0; --k, a += a_col, b += b_row) {
    Batch<T> row[vectors];
    unroll<vectors>([&](int v) LAMINA_INLINE_LAMBDA {
      row[v] = v == vectors - 1 ? load(b + place<T>(v, b_panel), tail...) : load(b + place<T>(v, b_panel));
    });
    unroll<height>([&](int i) LAMINA_INLINE_LAMBDA {
      const Batch<T> x = splat(a[i * a_row]);
      unroll<vectors>([&](int v) LAMINA_INLINE_LAMBDA { sum[i][v] = fma(x, row[v], sum[i][v]); });
    });
  }
}

// Rows of a tile in memory, c_row apart.
template <int height, int vectors, class T, class... Tails>
LAMINA_INLINE void load_rows(Batch<T> (&sum)[height][vectors], const T* c, int64_t c_row, Tails... tail) {
  unroll<height>([&](int i) LAMINA_INLINE_LAMBDA {
    unroll<vectors>([&](int v) LAMINA_INLINE_LAMBDA {
      sum[i][v] = v == vectors - 1 ? load(c + v * width<T>, tail...) : load(c + v * width<T>);
    });
    c += c_row;
  });
}
template <int height, int vectors, class T, class... Tails>
LAMINA_INLINE void store_rows(const Batch<T> (&sum)[height][vectors], T* c, int64_t c_row, Tails... tail) {
  unroll<height>([&](int i) LAMINA_INLINE_LAMBDA {
    unroll<vectors>([&](int v) LAMINA_INLINE_LAMBDA {
      v == vectors - 1 ? store(c + v * width<T>, sum[i][v], tail...) : store(c + v * width<T>, sum[i][v]);
    });
    c += c_row;
  });
}

// Tiles of Product<height, vectors> for m rows: as few as there can be, and equal to within a row, so that each has sums enough
// to hide the latency (16 rows are 6 + 5 + 5, not 6 + 6 + 4).
template <template <class, int, int> class Product, class T, int vectors, int height = tile_height>
LAMINA_INLINE void run_tiles(int64_t rows, int64_t tiles, Product<T, 0, 0>& p) {
  if (rows == height)
    Product<T, height, vectors>::run(tiles, p);
  else if constexpr (height > 1)
    run_tiles<Product, T, vectors, height - 1>(rows, tiles, p);
}
template <template <class, int, int> class Product, class T, int vectors>
void for_rows(int64_t m, Product<T, 0, 0> p) {
  if (m <= 0) return;
  const int64_t tiles = (m + tile_height - 1) / tile_height, taller = m % tiles;
  if (taller > 0) run_tiles<Product, T, vectors>(m / tiles + 1, taller, p);
  run_tiles<Product, T, vectors>(m / tiles, tiles - taller, p);
}
// The same for a number of registers in a row, 1 to tile_vectors.
template <template <class, int, int> class Product, class T, int vectors = tile_vectors>
LAMINA_INLINE void for_tiles(int64_t m, int64_t registers, const Product<T, 0, 0>& p) {
  if (registers == vectors)
    for_rows<Product, T, vectors>(m, p);
  else if constexpr (vectors > 1)
    for_tiles<Product, T, vectors - 1>(m, registers, p);
}
// And for all columns, whose last register holds `tail` of them.
template <template <class, int, int> class Product, class T>
LAMINA_INLINE void for_columns(int64_t m, int64_t cols, Product<T, 0, 0> p) {
  for (; cols > 0; cols -= panel<T>) {
    const int64_t now = cols < panel<T> ? cols : panel<T>, registers = (now + width<T> - 1) / width<T>;
    p.tail = now - (registers - 1) * width<T>;
    for_tiles<Product, T>(m, registers, p);
    p.next_columns(panel<T>);
  }
}

// 1. C[j,i] = sum_f A[j,f] B[f,i] of keys by queries: the queries of several panels are the registers.
template <class T, int height, int vectors>
struct KeysByQueries;
template <class T>
struct KeysByQueries<T, 0, 0> {
  int64_t depth;
  const T* a;
  int64_t a_row, a_col;
  const T* b;
  int64_t b_panel;
  T* c;
  int64_t c_panel;
  T* m;

  LAMINA_INLINE void next_rows(int64_t rows) { a += rows * a_row, c += rows * lanes; }
};
template <class T, int height, int vectors>
struct KeysByQueries {
  static __attribute__((noinline)) void run(int64_t tiles, KeysByQueries<T, 0, 0>& shared) {
    KeysByQueries<T, 0, 0> p = shared;
    for (; tiles > 0; --tiles) {
      Batch<T> sum[height][vectors];
      for_each_sum<height, vectors>([&](int i, int v) LAMINA_INLINE_LAMBDA { sum[i][v] = splat(T(0)); });
      add_products(sum, p.depth, p.a, opaque(p.a_row), opaque(p.a_col), p.b, lanes, opaque(p.b_panel));
      const int64_t c_panel = opaque(p.c_panel);
      unroll<vectors>([&](int v) LAMINA_INLINE_LAMBDA {
        T* c = p.c + place<T>(v, c_panel);
        unroll<height>([&](int i) LAMINA_INLINE_LAMBDA { store(c + i * lanes, sum[i][v]); });
      });
      if (p.m)
        unroll<vectors>([&](int v) LAMINA_INLINE_LAMBDA {
          Batch<T> top = load(p.m + v * width<T>);
          unroll<height>([&](int i) LAMINA_INLINE_LAMBDA { top = greater(sum[i][v], top); });
          store(p.m + v * width<T>, top);
        });
      p.next_rows(height);
    }
    shared = p;
  }
};
template <class T>
void keys_by_queries(int64_t keys, int64_t panels, int64_t depth, const T* a, int64_t a_row, int64_t a_col, const T* b,
                     int64_t b_panel, T* c, int64_t c_panel, T* m) {
  constexpr int64_t per_panel = lanes / width<T>, all = tile_vectors;
  KeysByQueries<T, 0, 0> p{depth, a, a_row, a_col, b, b_panel, c, c_panel, m};
  for (int64_t first = 0; first < panels * per_panel; first += all) {
    const int64_t left = panels * per_panel - first;
    p.b = b + first / per_panel * b_panel + first % per_panel * width<T>;
    p.c = c + first / per_panel * c_panel + first % per_panel * width<T>;
    p.m = m ? m + first * width<T> : nullptr;
    for_tiles<KeysByQueries, T>(keys, left < all ? left : all, p);
  }
}

// 2. C[i,f] = sum_j A[j,i] B[j,f] of the queries of one panel by features.
template <class T, int height, int vectors>
struct QueriesByFeatures;
template <class T>
struct QueriesByFeatures<T, 0, 0> {
  int64_t keys;
  const T *a, *b;
  int64_t b_row;
  T* c;
  int64_t c_row;
  bool go_on;
  const T* factor;
  int64_t tail;

  LAMINA_INLINE void next_columns(int64_t cols) { b += cols, c += cols; }
};
template <class T, int height, int vectors>
struct QueriesByFeatures {
  static __attribute__((noinline)) void run(int64_t tiles, QueriesByFeatures<T, 0, 0>& shared) {
    QueriesByFeatures<T, 0, 0> p = shared;
    const Tail<T> tail(p.tail);
    for (; tiles > 0; --tiles) {
      Batch<T> sum[height][vectors];
      for_each_sum<height, vectors>([&](int i, int v) LAMINA_INLINE_LAMBDA { sum[i][v] = splat(T(0)); });
      if (p.go_on) load_rows(sum, p.c, opaque(p.c_row), tail);
      add_products(sum, p.keys, p.a, 1, lanes, p.b, opaque(p.b_row), lanes, tail);
      if (p.factor) {
        const T* old = p.c;
        const int64_t c_row = opaque(p.c_row);
        unroll<height>([&](int i) LAMINA_INLINE_LAMBDA {
          unroll<vectors>([&](int v) LAMINA_INLINE_LAMBDA {
            const Batch<T> o = v == vectors - 1 ? load(old + v * width<T>, tail) : load(old + v * width<T>);
            sum[i][v] = fma(o, splat(p.factor[i]), sum[i][v]);
          });
          old += c_row;
        });
      }
      store_rows(sum, p.c, opaque(p.c_row), tail);
      p.a += height, p.c += height * p.c_row;
      if (p.factor) p.factor += height;
    }
    shared = p;
  }
};
template <class T>
void queries_by_features(int64_t queries, int64_t cols, int64_t keys, const T* a, const T* b, int64_t b_row, T* c,
                         int64_t c_row, bool go_on, const T* factor) {
  for_columns<QueriesByFeatures, T>(queries, cols, {keys, a, b, b_row, c, c_row, go_on, factor, 0});
}

// 3. C[j,f] += sum_i A[j,i] B[i,f] of keys by features, over the queries of several panels.
template <class T, int height, int vectors>
struct KeysByFeatures;
template <class T>
struct KeysByFeatures<T, 0, 0> {
  int64_t queries;
  const T* a;
  int64_t a_panel;
  const T* b;
  int64_t b_row;
  T* c;
  int64_t c_row;
  int64_t tail;

  LAMINA_INLINE void next_columns(int64_t cols) { b += cols, c += cols; }
};
template <class T, int height, int vectors>
struct KeysByFeatures {
  static __attribute__((noinline)) void run(int64_t tiles, KeysByFeatures<T, 0, 0>& shared) {
    KeysByFeatures<T, 0, 0> p = shared;
    const Tail<T> tail(p.tail);
    for (; tiles > 0; --tiles) {
      Batch<T> sum[height][vectors];
      load_rows(sum, p.c, opaque(p.c_row), tail);
      const T *a = p.a, *b = p.b;
      for (int64_t left = p.queries; left > 0; left -= lanes) {
        const int64_t b_row = opaque(p.b_row), now = opaque(left < lanes ? left : lanes);
        add_products(sum, now, a, lanes, 1, b, b_row, lanes, tail);
        a += p.a_panel, b += lanes * b_row;
      }
      store_rows(sum, p.c, opaque(p.c_row), tail);
      p.a += height * lanes, p.c += height * p.c_row;
    }
    shared = p;
  }
};
template <class T>
void keys_by_features(int64_t keys, int64_t cols, int64_t queries, const T* a, int64_t a_panel, const T* b, int64_t b_row, T* c,
                      int64_t c_row) {
  for_columns<KeysByFeatures, T>(keys, cols, {queries, a, a_panel, b, b_row, c, c_row, 0});
}

}  // namespace
}  // namespace lamina::kernels
