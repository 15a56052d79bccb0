// Attention of one query, or a few, against many keys (attention_table.hpp), once per instruction set: scores have a key in each
// lane, so that K is turned in registers as it is read, outputs a feature. Every sum has the order that it has by tiles.
#pragma once
#include "kernels/attention_product.hpp"

namespace lamina::kernels {
namespace {

// K and V come from far: a tile of keys asks for the next one, V for what comes two times `ahead` keys later. What is asked for
// past the end of an array is not read.
inline constexpr int64_t line = 64, ahead = 16;  // bytes; keys

// Scores of `rows` queries with `registers` registers of keys, of which the last real key is `last`.
template <class T, int rows, int registers>
struct RowsByKeys {
  template <class Last>
  static LAMINA_INLINE void tile(int64_t depth, const T* q, int64_t q_row, const T* k, int64_t k_row, Last last, T* s,
                                 int64_t s_row) {
    Batch<T> sum[rows][registers];
    for_each_sum<rows, registers>([&](int r, int v) LAMINA_INLINE_LAMBDA { sum[r][v] = splat(T(0)); });
    // columns first .. columns<T> - 1 of those at f
    const auto add = [&](int64_t f, int64_t first) LAMINA_INLINE_LAMBDA {
      unroll<registers>([&](int v) LAMINA_INLINE_LAMBDA {
        Batch<T> part[columns<T>];
        load_columns(k + v * width<T> * k_row + f, k_row, last, part);
        unroll<columns<T>>([&](int c) LAMINA_INLINE_LAMBDA {
          if (c < first) return;
          unroll<rows>([&](int r) LAMINA_INLINE_LAMBDA { sum[r][v] = fma(splat(q[r * q_row + f + c]), part[c], sum[r][v]); });
        });
      });
    };
    int64_t f = 0;
#pragma GCC unroll 1
    for (; f + columns<T> <= depth; f += columns<T>) {
      if (f * int64_t{sizeof(T)} % line == 0)
        for (int64_t j = registers * width<T>; j < 2 * registers * width<T>; ++j) __builtin_prefetch(k + j * k_row + f);
      add(f, 0);
    }
    if (f < depth) add(depth - columns<T>, f + columns<T> - depth);
    for_each_sum<rows, registers>([&](int r, int v) LAMINA_INLINE_LAMBDA { store(s + r * s_row + v * width<T>, sum[r][v]); });
  }
  static __attribute__((noinline)) void run(int64_t tiles, int64_t depth, const T* q, int64_t q_row, const T* k, int64_t k_row,
                                            int64_t last, T* s, int64_t s_row) {
    for (; tiles > 0; --tiles, k += registers * width<T> * k_row, s += registers * width<T>) {
      if constexpr (registers > 1)
        tile(depth, q, q_row, k, k_row, width<T> - 1, s, s_row);
      else
        tile(depth, q, q_row, k, k_row, tiles == 1 ? last : width<T> - 1, s, s_row);
    }
  }
};

template <class T, int rows>
LAMINA_INLINE void few_rows_by_keys(int64_t keys, int64_t depth, const T* q, int64_t q_row, const T* k, int64_t k_row, T* s,
                                    int64_t s_row) {
  // Chains enough to hide the latency of a multiply-add, where the code is short.
  constexpr int registers = rows > 1 ? 1 : width<double> == 4 ? 4 : width<double> == 8 ? 2 : 1;
  int64_t j = 0;
  if constexpr (registers > 1) {
    const int64_t tiles = keys / (registers * width<T>);
    RowsByKeys<T, rows, registers>::run(tiles, depth, q, q_row, k, k_row, width<T> - 1, s, s_row);
    j = tiles * registers * width<T>;
  }
  const int64_t tiles = (keys - j + width<T> - 1) / width<T>;
  RowsByKeys<T, rows, 1>::run(tiles, depth, q, q_row, k + j * k_row, k_row, keys - j - (tiles - 1) * width<T> - 1, s + j, s_row);
}

template <int count>
struct FewRows {
  static constexpr int value = count;
};
// body(FewRows<count>, first row) for all rows, four or one at a time.
template <class Body>
LAMINA_INLINE void by_few_rows(int64_t rows, const Body& body) {
  int64_t r = 0;
  for (; r + 4 <= rows; r += 4) body(FewRows<4>(), r);
  for (; r < rows; ++r) body(FewRows<1>(), r);
}

template <class T>
void rows_by_keys(int64_t rows, int64_t keys, int64_t depth, const T* q, int64_t q_row, const T* k, int64_t k_row, T* s,
                  int64_t s_row) {
  if (depth < columns<T>) {
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t j = 0; j < keys; ++j) {
        T sum = 0;
        for (int64_t f = 0; f < depth; ++f) sum = native_fma(q[r * q_row + f], k[j * k_row + f], sum);
        s[r * s_row + j] = sum;
      }
    return;
  }
  by_few_rows(rows, [&](auto few, int64_t r) LAMINA_INLINE_LAMBDA {
    few_rows_by_keys<T, decltype(few)::value>(keys, depth, q + r * q_row, q_row, k, k_row, s + r * s_row, s_row);
  });
}

template <class T, int rows, int registers>
struct RowsByFeatures {
  static __attribute__((noinline)) void run(int64_t keys, const T* p, int64_t p_row, const T* b, int64_t b_row, T* c,
                                            int64_t c_row, int64_t last) {
    const Tail<T> tail(last);
    Batch<T> sum[rows][registers];
    for_each_sum<rows, registers>([&](int r, int v) LAMINA_INLINE_LAMBDA { sum[r][v] = splat(T(0)); });
#pragma GCC unroll 1
    for (int64_t j = 0; j < keys; ++j, b += b_row) {
      const T* const far = b + 2 * ahead * b_row;
      unroll<registers>([&](int v) LAMINA_INLINE_LAMBDA {
        if (v * width<T> * int64_t{sizeof(T)} % line == 0) __builtin_prefetch(far + v * width<T>);
      });
      Batch<T> row[registers];
      unroll<registers>([&](int v) LAMINA_INLINE_LAMBDA {
        row[v] = v == registers - 1 ? load(b + v * width<T>, tail) : load(b + v * width<T>);
      });
      unroll<rows>([&](int i) LAMINA_INLINE_LAMBDA {
        const Batch<T> x = splat(p[i * p_row + j]);
        unroll<registers>([&](int v) LAMINA_INLINE_LAMBDA { sum[i][v] = fma(x, row[v], sum[i][v]); });
      });
    }
    store_rows(sum, c, c_row, tail);
  }
};

// As many registers as give 8 chains, which hide the latency of a multiply-add, while there are so many.
template <class T, int rows, int registers = 8 / rows>
LAMINA_INLINE void few_rows_by_features(int64_t cols, int64_t keys, const T* p, int64_t p_row, const T* b, int64_t b_row, T* c,
                                        int64_t c_row) {
  constexpr int64_t now = registers * width<T>;
  while (cols > now - width<T>) {
    RowsByFeatures<T, rows, registers>::run(keys, p, p_row, b, b_row, c, c_row,
                                            cols < now ? cols - (registers - 1) * width<T> : width<T>);
    cols -= now, b += now, c += now;
  }
  if constexpr (registers > 1)
    if (cols > 0) few_rows_by_features<T, rows, registers / 2>(cols, keys, p, p_row, b, b_row, c, c_row);
}

template <class T>
void rows_by_features(int64_t rows, int64_t cols, int64_t keys, const T* p, int64_t p_row, const T* b, int64_t b_row, T* c,
                      int64_t c_row) {
  by_few_rows(rows, [&](auto few, int64_t r) LAMINA_INLINE_LAMBDA {
    few_rows_by_features<T, decltype(few)::value>(cols, keys, p + r * p_row, p_row, b, b_row, c + r * c_row, c_row);
  });
}

// The four lanes of a sum are the first four of a register, wherever it has more.
template <class T>
void row_sums(int64_t keys, const T* p, const T* g, T* sum, T* d) {
  constexpr int parts = width<T> < 4 ? 4 / width<T> : 1;
  Batch<T> p_sum[parts], d_sum[parts];
  unroll<parts>([&](int l) LAMINA_INLINE_LAMBDA { p_sum[l] = d_sum[l] = splat(T(0)); });
  for (int64_t j = 0; j < keys; j += 4)
    unroll<parts>([&](int l) LAMINA_INLINE_LAMBDA {
      const Batch<T> x = load(p + j + l * width<T>);
      p_sum[l] = p_sum[l] + x;
      if (g) d_sum[l] = fma(x, load(g + j + l * width<T>), d_sum[l]);
    });
  const auto fold_four = [](const Batch<T>(&x)[parts]) LAMINA_INLINE_LAMBDA {
    T lane[parts * width<T>];
    unroll<parts>([&](int l) LAMINA_INLINE_LAMBDA { store(lane + l * width<T>, x[l]); });
    return (lane[0] + lane[2]) + (lane[1] + lane[3]);
  };
  *sum += fold_four(p_sum);
  if (g) *d += fold_four(d_sum);
}

}  // namespace
}  // namespace lamina::kernels
