// Attention on many short sequences: the lanes of a register run across sequences, so that a register is full however short
// they are, and a pair (query, key) that nobody sees is skipped. A group is `entries` key heads, one a lane; an interleaved
// matrix [rows, cols] has element (r, c) of entry l at (r * cols + c) * entries + l. Formulas and order of summation of each
// element are those of attention_table.hpp and gemm, so the bits are too.
#pragma once
#include <cstdint>

#include "kernels/attention_table.hpp"

namespace lamina::kernels {

// Rows of queries and of keys are padded to multiples of this in every interleaved matrix.
inline constexpr int64_t short_rows = 4;
inline constexpr int64_t short_padded(int64_t n) {
  return (n + short_rows - 1) / short_rows * short_rows;
}

// One head of every entry of a group. All matrices are interleaved.
template <class T>
struct ShortHeads {
  Map map;
  Normaliser normaliser;
  T query_factor;  // t = (query_factor Q) K^T
  T relu_at_zero;
  int64_t queries, keys, d, d_v;
  const int32_t *first, *last;              // [queries]: some entry sees no other keys than first <= j < last
  const int32_t *first_query, *last_query;  // [keys]: the same by keys
  const T *lane_first, *lane_last;          // [queries]: of each entry, first <= last; nullptr: as first, last
  const T *q, *k, *v;                       // [queries, d], [keys, d], [keys, d_v]
  T* s;                                     // room [queries, padded keys]: P in backward
  T* query;                                 // room [short_rows, d]
  // forward
  T* o;    // [queries, d_v]
  T* lse;  // [queries], or nullptr
  // backward
  const T *d_o, *d_lse;  // [queries, d_v], [queries] or nullptr
  T* g;                  // room [queries, padded keys]: dS
  T *dq, *dk, *dv;       // dS K, and dS^T Q and P^T dO added to what is there; nullptr: not wanted
};

// A matrix with element (r, c) at data + r * row + c * col.
template <class T>
struct Strided {
  const T* data;
  int64_t row, col;
};

// Queries of one head, one a lane: query i sees the keys i - before <= j <= i + after. Matrices stand as they are in memory;
// those of rows have contiguous features.
template <class T>
struct FewQueries {
  Map map;
  Normaliser normaliser;
  T query_factor, relu_at_zero;
  int64_t queries, keys, d, d_v;
  int64_t before, after;
  Strided<T> q, k, v;
  T *q_t, *s;  // room: [d, 2 entries] and [keys to a multiple of 4, 2 entries]
  // forward
  const T* v_rows;  // row v_row: these are rows as well
  int64_t v_row;
  T* o;
  int64_t o_row;
  T* lse;  // [queries to a multiple of 2 entries], or nullptr
  // backward
  Strided<T> d_o;
  const T* d_lse;                       // [queries to a multiple of 2 entries], or nullptr
  T *do_t, *g;                          // room: [d_v, 2 entries], as s
  const T *q_rows, *k_rows, *d_o_rows;  // not read where the product is not wanted
  int64_t q_row, k_row, d_o_row;
  T *dq, *dk, *dv;  // dq_factor dS K; dS^T Q and P^T dO added to what is there; nullptr: not wanted
  int64_t dq_row, dk_row, dv_row;
  T dq_factor;
  // Every query sees every key: the first of the heads that share keys adds dS^T Q and P^T dO to 0 and not to what is there,
  // and the last multiplies all of dk by dk_factor.
  bool whole, first, last;
  T dk_factor;
};

template <class T>
struct ShortTable {
  int64_t entries;  // lanes of a register
  // y(r, c, l) = factor x[l][r * x_row + c * x_col];  x[l][...] = factor y(r, c, l) for l < count
  void (*interleave)(int64_t rows, int64_t cols, T factor, const T* const* x, int64_t x_row, int64_t x_col, T* y);
  void (*separate)(int64_t count, int64_t rows, int64_t cols, T factor, const T* y, T* const* x, int64_t x_row, int64_t x_col);
  void (*forward)(const ShortHeads<T>& x);
  void (*backward)(const ShortHeads<T>& x);
  void (*few_forward)(const FewQueries<T>& x);
  void (*few_backward)(const FewQueries<T>& x);
};

}  // namespace lamina::kernels
