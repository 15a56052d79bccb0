// Attention with one query a lane (FewQueries in short_table.hpp), once per instruction set. Scores are a matrix of keys by
// lanes, so that a row of scores is worked on as in short_simd.hpp; Q and dO are transposed in registers, and all else is read
// and written where it stands. The products are one primitive: up to 8 rows of numbers times one register, as many chains as
// hide the latency of a multiply-add.
#pragma once
#include "kernels/attention_simd.hpp"
#include "kernels/short_simd.hpp"

namespace lamina::kernels {
namespace {

// C[r,c] = (accumulate ? C[r,c] : 0) + sum_k A[r,k] B[k,c], k ascending, one chain of fma; then times scale[r] or divided by
// divisor[r], if there are such. A[r,k] at a[r*a_row + k*a_col], rows of B and C contiguous. If `apart`, row r sums over r -
// before <= k <= r + after alone.
template <class T>
struct FewProduct {
  int64_t rows, cols, depth;
  const T* a;
  int64_t a_row, a_col;
  const T* b;
  int64_t b_row;
  T* c;
  int64_t c_row;
  bool accumulate = false;
  const T *scale = nullptr, *divisor = nullptr;
  bool apart = false;
  int64_t before = 0, after = 0;
};

LAMINA_INLINE int64_t clamped(int64_t x, int64_t most) {
  return x < 0 ? 0 : x < most ? x : most;
}

template <class T, int height, class... Tails>
LAMINA_INLINE void few_tile(const FewProduct<T>& p, int64_t r, int64_t c, Tails... tail) {
  Batch<T> sum[height][1];
  T* const to = p.c + r * p.c_row + c;
  for_each_sum<height, 1>([&](int i, int) LAMINA_INLINE_LAMBDA { sum[i][0] = splat(T(0)); });
  if (p.accumulate) load_rows<height, 1>(sum, to, p.c_row, tail...);
  int64_t first = 0, last = p.depth;
  if (p.apart) {
    first = clamped(r - p.before, p.depth);
    last = clamped(r + p.after + 1, p.depth);
  }
  add_products(sum, last - first, p.a + r * p.a_row + first * p.a_col, p.a_row, p.a_col, p.b + first * p.b_row + c, p.b_row, 0,
               tail...);
  if (p.scale) for_each_sum<height, 1>([&](int i, int) LAMINA_INLINE_LAMBDA { sum[i][0] = sum[i][0] * splat(p.scale[r + i]); });
  if (p.divisor)
    for_each_sum<height, 1>([&](int i, int) LAMINA_INLINE_LAMBDA { sum[i][0] = sum[i][0] / splat(p.divisor[r + i]); });
  store_rows<height, 1>(sum, to, p.c_row, tail...);
}

// Whole registers have no tail: masked loads of K and V are slow where they come from memory.
template <class T, class... Tails>
LAMINA_INLINE void few_column(const FewProduct<T>& p, int64_t c, Tails... tail) {
  int64_t r = 0;
  for (; r + 8 <= p.rows && !p.apart; r += 8) few_tile<T, 8>(p, r, c, tail...);
  for (; r + 4 <= p.rows && !p.apart; r += 4) few_tile<T, 4>(p, r, c, tail...);
  for (; r < p.rows; ++r) few_tile<T, 1>(p, r, c, tail...);
}
template <class T>
__attribute__((noinline)) void few_product(const FewProduct<T>& p) {
  int64_t c = 0;
  for (; c + width<T> <= p.cols; c += width<T>) few_column(p, c);
  if (c < p.cols) few_column(p, c, Tail<T>(p.cols - c));
}

// y = factor X^T, one register a feature; lanes past the last row repeat it.
template <class T>
LAMINA_INLINE void few_transpose(int64_t rows, int64_t cols, T factor, Strided<T> x, T* y) {
  int64_t f = 0;
  if (x.col == 1)
    for (; f + columns<T> <= cols; f += columns<T>) {
      Batch<T> part[columns<T>];
      load_columns(x.data + f, x.row, rows - 1, part);
      unroll<columns<T>>([&](int c) LAMINA_INLINE_LAMBDA { store(y + (f + c) * width<T>, part[c] * splat(factor)); });
    }
  for (; f < cols; ++f)
    for (int64_t l = 0; l < width<T>; ++l) y[f * width<T> + l] = factor * x.data[(l < rows ? l : rows - 1) * x.row + f * x.col];
}

// The keys from <= j < to that some lane sees, and the row of scores that all lanes are at, for the steps of short_simd.hpp.
template <class T>
struct FewRow {
  int64_t from, to;
  bool ragged;  // not all lanes see all of them
  T lane_first[width<T>], lane_last[width<T>];
  int32_t first, last;
  ShortHeads<T> heads;  // what those steps read

  LAMINA_INLINE explicit FewRow(const FewQueries<T>& x)
      : from(clamped(-x.before, x.keys)),
        to(clamped(x.queries + x.after, x.keys)),
        ragged(x.queries - 1 - x.before > from || x.after + 1 < to) {
    if (to < from) to = from;
    first = static_cast<int32_t>(from), last = static_cast<int32_t>(to);
    heads.map = x.map, heads.normaliser = x.normaliser, heads.relu_at_zero = x.relu_at_zero;
    heads.first = &first, heads.last = &last, heads.g = nullptr, heads.d_lse = nullptr;
    if (!ragged) return;
    for (int64_t l = 0; l < width<T>; ++l) {
      const int64_t low = clamped(l - x.before, x.keys), high = clamped(l + x.after + 1, x.keys);
      lane_first[l] = static_cast<T>(low);
      lane_last[l] = static_cast<T>(high > low ? high : low);
    }
    heads.lane_first = lane_first, heads.lane_last = lane_last;
  }

  // S or G of keys by lanes: rows of X times registers of features.
  LAMINA_INLINE void keys_by_lanes(int64_t features, Strided<T> x, const T* y_t, T* c) const {
    few_product<T>(
        {to - from, width<T>, features, x.data + from * x.row, x.row, x.col, y_t, width<T>, c + from * width<T>, width<T>});
  }
  // W B of lanes by features, rows of B keys, and W^T B of keys by features, rows of B queries; where a number of B is not
  // finite, each row takes what it sees only.
  LAMINA_INLINE FewProduct<T> lanes_by_features(const FewQueries<T>& x, int64_t features, const T* w, const T* b, int64_t b_row,
                                                T* c, int64_t c_row) const {
    b += from * b_row;
    FewProduct<T> p{x.queries, features, to - from, w + from * width<T>, 1, width<T>, b, b_row, c, c_row};
    p.apart = ragged && !attention_finite(to - from, features, b, b_row);
    p.before = x.before + from, p.after = x.after - from;
    return p;
  }
  LAMINA_INLINE FewProduct<T> keys_by_features(const FewQueries<T>& x, int64_t features, const T* w, const T* b, int64_t b_row,
                                               T* c, int64_t c_row) const {
    FewProduct<T> p{to - from, features, x.queries, w + from * width<T>, width<T>, 1, b, b_row, c + from * c_row, c_row, true};
    p.apart = ragged && !attention_finite(x.queries, features, b, b_row);
    p.before = x.after - from, p.after = x.before + from;
    return p;
  }
};

template <class T>
void few_forward(const FewQueries<T>& x) {
  const FewRow<T> row(x);
  few_transpose(x.queries, x.d, x.query_factor, x.q, x.q_t);
  row.keys_by_lanes(x.d, x.k, x.q_t, x.s);
  const ShortRow<T> sums = row.ragged ? short_weights<T, true>(row.heads, 0, x.s) : short_weights<T, false>(row.heads, 0, x.s);
  Batch<T> scale, divisor, dead;
  short_divisor(row.heads, sums, scale, divisor, dead);
  T scales[width<T>], divisors[width<T>], zero[width<T>];
  FewProduct<T> p = row.lanes_by_features(x, x.d_v, x.s, x.v_rows, x.v_row, x.o, x.o_row);
  if (x.map == Map::softmax) {
    store(scales, scale);
    p.scale = scales;
  } else if (x.normaliser != Normaliser::none) {
    store(divisors, divisor);
    p.divisor = divisors;
  }
  few_product(p);
  if (x.map == Map::relu && x.normaliser == Normaliser::row_sum) {  // 0, and not 0 times what is not finite
    store(zero, dead);
    for (int64_t i = 0; i < x.queries; ++i)
      for (int64_t f = 0; f < x.d_v && zero[i] != T(0); ++f) x.o[i * x.o_row + f] = 0;
  }
  if (x.lse) store(x.lse, select(sums.seen == splat(T(0)), splat(-Numbers<T>::infinity), natural(sums.m, log(sums.sum))));
}

template <class T>
void few_backward(const FewQueries<T>& x) {
  FewRow<T> row(x);
  row.heads.g = x.g, row.heads.d_lse = x.d_lse;
  few_transpose(x.queries, x.d, x.query_factor, x.q, x.q_t);
  few_transpose(x.queries, x.d_v, T(1), x.d_o, x.do_t);
  row.keys_by_lanes(x.d, x.k, x.q_t, x.s);
  row.keys_by_lanes(x.d_v, x.v, x.do_t, x.g);
  row.ragged ? short_gradient_row<T, true>(row.heads, 0, x.s, x.g) : short_gradient_row<T, false>(row.heads, 0, x.s, x.g);
  if (x.dq) few_product(row.lanes_by_features(x, x.d, x.g, x.k_rows, x.k_row, x.dq, x.dq_row));
  if (x.dk) few_product(row.keys_by_features(x, x.d, x.g, x.q_rows, x.q_row, x.dk, x.dk_row));
  if (x.dv) few_product(row.keys_by_features(x, x.d_v, x.s, x.d_o_rows, x.d_o_row, x.dv, x.dv_row));
}

template <class T>
constexpr ShortTable<T> short_table = {
    .entries = width<T>,
    .interleave = short_interleave<T>,
    .separate = short_separate<T>,
    .forward = short_forward<T>,
    .backward = short_backward<T>,
    .few_forward = few_forward<T>,
    .few_backward = few_backward<T>,
};

}  // namespace
}  // namespace lamina::kernels
