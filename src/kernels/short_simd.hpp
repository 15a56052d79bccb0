// Attention with one sequence a lane (short_table.hpp), once per instruction set. All five products are one primitive, a tile
// of `rows` x `cols` registers over the visible part of the sum; between them each row of scores is worked on in place.
#pragma once
#include "kernels/attention_simd.hpp"
#include "kernels/interleave.hpp"
#include "kernels/short_table.hpp"

namespace lamina::kernels {
namespace {

// Tile: its sums, a row of B and one element of A fit the registers, and the sums hide the latency of fma.
inline constexpr int short_height = width<double> == 8 ? 4 : 2;
inline constexpr int short_cols = 4;
static_assert(short_rows % short_height == 0 && short_rows % short_cols == 0);

// Part of the sum of a tile's row r: lo[r] <= k < hi[r].
template <int height>
struct Spans {
  int64_t lo[height], hi[height];
  int64_t common_lo, common_hi;  // what all rows have, if anything

  // Rows first_row + r < rows of the bounds; others are empty.
  LAMINA_INLINE Spans(const int32_t* first, const int32_t* last, int64_t first_row, int64_t rows) {
    common_lo = 0, common_hi = INT32_MAX;
    for (int r = 0; r < height; ++r) {
      const bool real = first_row + r < rows;
      lo[r] = real ? first[first_row + r] : lo[r - 1];
      hi[r] = real ? last[first_row + r] : hi[r - 1];
      common_lo = lo[r] > common_lo ? lo[r] : common_lo;
      common_hi = hi[r] < common_hi ? hi[r] : common_hi;
    }
    common_hi = common_hi > common_lo ? common_hi : common_lo;
  }
};

// A matrix of registers; strides in registers.
template <class T, class Pointer = T*>
struct Interleaved {
  Pointer data;
  int64_t row, col;
  LAMINA_INLINE Interleaved(Pointer x, int64_t r, int64_t c) : data(x), row(r * width<T>), col(c * width<T>) {}
  LAMINA_INLINE Pointer at(int64_t r, int64_t c) const { return data + r * row + c * col; }
};
template <class T>
using Source = Interleaved<T, const T*>;

// Which lanes see the pair (query, key): choose(query, key, x, y) is x there, y elsewhere.
template <class T, bool ragged>
struct Visible {
  const ShortHeads<T>& x;
  LAMINA_INLINE Batch<T> choose(int64_t i, int64_t j, Batch<T> yes, Batch<T> no) const {
    if constexpr (ragged) {
      const Batch<T> key = splat(static_cast<T>(j));
      return select(key < load(x.lane_last + i * width<T>), select(key >= load(x.lane_first + i * width<T>), yes, no), no);
    } else {
      return yes;
    }
  }
};

// What lanes take part in C(r, c) += A(r, k) B(k, c): all, or those that see query first + r and key k, or the reverse.
enum class Part { all, query_rows, key_rows };

// C(r, c) = (accumulate ? C : 0) + sum over the span of row r of A(r, k) B(k, c), k ascending: one chain of fma; then times
// scale[r], if there is one.
template <class T>
struct ShortProduct {
  Spans<short_height> span;
  Source<T> a, b;
  Interleaved<T> c;
  bool accumulate;
  const Batch<T>* scale;
  const ShortHeads<T>* heads;
  int64_t first;
};

template <class T, Part part>
LAMINA_INLINE Batch<T> take_part(const ShortProduct<T>& p, int r, int64_t k, Batch<T> more, Batch<T> old) {
  if constexpr (part == Part::query_rows) return Visible<T, true>{*p.heads}.choose(p.first + r, k, more, old);
  if constexpr (part == Part::key_rows) return Visible<T, true>{*p.heads}.choose(k, p.first + r, more, old);
  return more;
}

template <class T, int cols, Part part>
LAMINA_INLINE void short_tile(const ShortProduct<T>& p) {
  constexpr int height = short_height;
  const Spans<height>& span = p.span;
  const Source<T> a = p.a, b = p.b;
  const Interleaved<T> c = p.c;
  Batch<T> sum[height][cols];
  const auto each = [](const auto& body) LAMINA_INLINE_LAMBDA {
    unroll<height>([&](int r) LAMINA_INLINE_LAMBDA { unroll<cols>([&](int j) LAMINA_INLINE_LAMBDA { body(r, j); }); });
  };
  each([&](int r, int j) LAMINA_INLINE_LAMBDA { sum[r][j] = splat(T(0)); });
  if (p.accumulate) each([&](int r, int j) LAMINA_INLINE_LAMBDA { sum[r][j] = load(c.at(r, j)); });
  const auto step = [&](int r, int64_t k, int j, Batch<T> x, Batch<T> y)
                        LAMINA_INLINE_LAMBDA { sum[r][j] = take_part<T, part>(p, r, k, fma(x, y, sum[r][j]), sum[r][j]); };
  const auto row_alone = [&](int r, int64_t from, int64_t to) LAMINA_INLINE_LAMBDA {
    for (int64_t k = from; k < to; ++k) {
      const Batch<T> x = load(a.at(r, k));
      unroll<cols>([&](int j) LAMINA_INLINE_LAMBDA { step(r, k, j, x, load(b.at(k, j))); });
    }
  };
  unroll<height>(
      [&](int r) LAMINA_INLINE_LAMBDA { row_alone(r, span.lo[r], span.hi[r] < span.common_lo ? span.hi[r] : span.common_lo); });
  for (int64_t k = span.common_lo; k < span.common_hi; ++k) {
    Batch<T> row[cols];
    unroll<cols>([&](int j) LAMINA_INLINE_LAMBDA { row[j] = load(b.at(k, j)); });
    unroll<height>([&](int r) LAMINA_INLINE_LAMBDA {
      const Batch<T> x = load(a.at(r, k));
      unroll<cols>([&](int j) LAMINA_INLINE_LAMBDA { step(r, k, j, x, row[j]); });
    });
  }
  unroll<height>(
      [&](int r) LAMINA_INLINE_LAMBDA { row_alone(r, span.lo[r] > span.common_hi ? span.lo[r] : span.common_hi, span.hi[r]); });
  if (p.scale) each([&](int r, int j) LAMINA_INLINE_LAMBDA { sum[r][j] = sum[r][j] * p.scale[r]; });
  each([&](int r, int j) LAMINA_INLINE_LAMBDA { store(c.at(r, j), sum[r][j]); });
}

// All columns of the rows of a tile.
template <class T, Part part>
__attribute__((noinline)) void short_row_tiles(int64_t cols, ShortProduct<T> p) {
  int64_t j = 0;
  for (; j + short_cols <= cols; j += short_cols) {
    short_tile<T, short_cols, part>(p);
    p.b.data += short_cols * p.b.col, p.c.data += short_cols * p.c.col;
  }
  for (; j < cols; ++j) {
    short_tile<T, 1, part>(p);
    p.b.data += p.b.col, p.c.data += p.c.col;
  }
}

// sum of term(lane so far, key) over keys first <= j < last in 4 lanes by j mod 4, (0 + 2) + (1 + 3), as sum_keys.
template <class T, class Step>
LAMINA_INLINE Batch<T> short_sum(int64_t first, int64_t last, Step step) {
  Batch<T> lane[4];
  unroll<4>([&](int l) LAMINA_INLINE_LAMBDA { lane[l] = splat(T(0)); });
  for (int64_t j = first & ~int64_t{3}; j < last; j += 4)
    unroll<4>([&](int l) LAMINA_INLINE_LAMBDA {
      if (j + l >= first && j + l < last) lane[l] = step(lane[l], j + l);
    });
  return splat(T(0)) + ((lane[0] + lane[2]) + (lane[1] + lane[3]));
}

// The keys that some row of a tile sees, in whole columns of tiles.
struct KeySpan {
  int64_t from, to;
  LAMINA_INLINE explicit KeySpan(const Spans<short_height>& span) : from(span.lo[0]), to(span.hi[0]) {
    for (int r = 1; r < short_height; ++r) {
      from = span.lo[r] < from ? span.lo[r] : from;
      to = span.hi[r] > to ? span.hi[r] : to;
    }
    from = from & ~int64_t{short_cols - 1};
    to = (to + short_cols - 1) & ~int64_t{short_cols - 1};
  }
};

// t of queries i0 <= i < i0 + height into x.s, and G = dO V^T into x.g if it is wanted.
template <class T>
void short_scores(const ShortHeads<T>& x, int64_t i0, KeySpan keys, const T* query) {
  const int64_t pitch = short_padded(x.keys), w = width<T>, at = (i0 * pitch + keys.from) * w;
  const auto all_of = [](int64_t n) {
    const int32_t zero = 0, end = static_cast<int32_t>(n);
    return Spans<short_height>(&zero, &end, 0, 1);
  };
  short_row_tiles<T, Part::all>(
      keys.to - keys.from,
      {all_of(x.d), {query, x.d, 1}, {x.k + keys.from * x.d * w, 1, x.d}, {x.s + at, pitch, 1}, false, nullptr, nullptr, 0});
  if (x.g)
    short_row_tiles<T, Part::all>(keys.to - keys.from, {all_of(x.d_v),
                                                        {x.d_o + i0 * x.d_v * w, x.d_v, 1},
                                                        {x.v + keys.from * x.d_v * w, 1, x.d_v},
                                                        {x.g + at, pitch, 1},
                                                        false,
                                                        nullptr,
                                                        nullptr,
                                                        0});
}

// Of one row of t: m, P unnormalised in its place, and its sum (softmax; else as the normaliser wants).
template <class T>
struct ShortRow {
  Batch<T> m, sum, seen;
};
template <class T, bool ragged>
LAMINA_INLINE ShortRow<T> short_weights(const ShortHeads<T>& x, int64_t i, T* s) {
  constexpr int64_t w = width<T>;
  const Visible<T, ragged> visible{x};
  const int64_t first = x.first[i], last = x.last[i];
  const Batch<T> zero = splat(T(0));
  ShortRow<T> row{splat(-Numbers<T>::infinity), zero, splat(static_cast<T>(last > first ? last - first : 0))};
  if constexpr (ragged) row.seen = load(x.lane_last + i * w) - load(x.lane_first + i * w);
  if (x.map == Map::softmax) {
    Batch<T> m[4];  // four chains: a maximum is the same in any order, but for the sign of 0, which no result shows
    unroll<4>([&](int l) LAMINA_INLINE_LAMBDA { m[l] = row.m; });
    for (int64_t j = first; j < last; j += 4)
      unroll<4>([&](int l) LAMINA_INLINE_LAMBDA {
        if (j + l < last) m[l] = visible.choose(i, j + l, greater(load(s + (j + l) * w), m[l]), m[l]);
      });
    row.m = greater(greater(m[0], m[1]), greater(m[2], m[3]));
    const Batch<T> point = reference_point(row.m);
    row.sum = short_sum<T>(first, last, [&](Batch<T> lane, int64_t j) LAMINA_INLINE_LAMBDA {
      const Batch<T> p = visible.choose(i, j, exp2(load(s + j * w) - point), zero);
      store(s + j * w, p);
      return lane + p;
    });
  } else {
    const bool relu = x.map == Map::relu;
    const bool keep_scores = x.g != nullptr;  // backward wants the slope too
    row.sum = short_sum<T>(first, last, [&](Batch<T> lane, int64_t j) LAMINA_INLINE_LAMBDA {
      const Batch<T> p = visible.choose(i, j, map_value(relu, load(s + j * w)), zero);
      if (!keep_scores) store(s + j * w, p);
      return lane + p;
    });
  }
  return row;
}

// Softmax: scale = 1/N; else divisor = N. dead = 1 where the output is 0 whatever the sum is, else 0.
template <class T, class Options>
LAMINA_INLINE void short_divisor(const Options& x, const ShortRow<T>& row, Batch<T>& scale, Batch<T>& divisor,
                                 Batch<T>& dead) {
  const Batch<T> zero = splat(T(0)), one = splat(T(1));
  scale = divisor = one;
  dead = select(row.seen == zero, one, zero);
  if (x.map == Map::softmax) {
    scale = select(row.seen == zero, one, one / row.sum);
    return;
  }
  if (x.normaliser == Normaliser::row_sum) divisor = row.sum;
  if (x.normaliser == Normaliser::visible) divisor = row.seen;
  if (x.map == Map::relu && x.normaliser == Normaliser::row_sum) dead = select(row.sum == zero, one, dead);
  divisor = select(dead == one, one, divisor);
}

template <class T, bool ragged>
void short_forward_rows(const ShortHeads<T>& x) {
  constexpr int height = short_height;
  constexpr int64_t w = width<T>;
  const int64_t pitch = short_padded(x.keys);
  const bool softmax = x.map == Map::softmax;
  const Batch<T> zero = splat(T(0)), one = splat(T(1));
  for (int64_t i0 = 0; i0 < x.queries; i0 += height) {
    const Spans<height> span(x.first, x.last, i0, x.queries);
    const KeySpan keys(span);
    if (keys.from < keys.to) short_scores(x, i0, keys, x.q + i0 * x.d * w);
    Batch<T> scale[height];
    Batch<T> divisor[height];
    Batch<T> dead[height];  // 1 where the row's output is 0
    unroll<height>([&](int r) LAMINA_INLINE_LAMBDA {
      scale[r] = divisor[r] = one;
      dead[r] = zero;
      const int64_t i = i0 + r;
      if (i >= x.queries) return;
      const ShortRow<T> row = short_weights<T, ragged>(x, i, x.s + i * pitch * w);
      short_divisor(x, row, scale[r], divisor[r], dead[r]);
      if (x.lse) store(x.lse + i * w, select(row.seen == zero, splat(-Numbers<T>::infinity), natural(row.m, log(row.sum))));
    });
    T* const o = x.o + i0 * x.d_v * w;
    short_row_tiles<T, ragged ? Part::query_rows : Part::all>(
        x.d_v,
        {span, {x.s + i0 * pitch * w, pitch, 1}, {x.v, x.d_v, 1}, {o, x.d_v, 1}, false, softmax ? scale : nullptr, &x, i0});
    if (!softmax && x.normaliser != Normaliser::none)
      unroll<height>([&](int r) LAMINA_INLINE_LAMBDA {
        for (int64_t f = 0; f < x.d_v; ++f) {
          T* const at = o + (r * x.d_v + f) * w;
          store(at, select(dead[r] == one, zero, load(at) / divisor[r]));
        }
      });
  }
}

// P and dS of a score from S (softmax: P N) and G, as one row has them: P (G - D + dlse), or w'(S) (G - D) / N.
template <class T>
struct RowGradient {
  bool softmax, relu, summed, divided;
  T relu_at_zero;
  Batch<T> shift = splat(T(0)), divisor = splat(T(1));  // D - dlse; N, of softmax 1/N

  // weights(): the row's ShortRow; dot(): its sum of P N G; d_lse: of its lanes, or nullptr.
  template <class Options, class Weights, class Dot>
  LAMINA_INLINE RowGradient(const Options& x, const T* d_lse, const Weights& weights, const Dot& dot)
      : softmax(x.map == Map::softmax),
        relu(x.map == Map::relu),
        summed(x.normaliser == Normaliser::row_sum),
        divided(x.normaliser != Normaliser::none),
        relu_at_zero(x.relu_at_zero) {
    if (!softmax && !divided) return;
    const ShortRow<T> row = weights();
    divisor = summed ? row.sum : row.seen;
    if (!summed) return;
    shift = dot() / row.sum;
    if (relu) shift = select(row.sum == splat(T(0)), splat(T(0)), shift);
    if (d_lse) shift = shift - load(d_lse);
    if (softmax) divisor = splat(T(1)) / row.sum;
  }
  LAMINA_INLINE Slope<T> operator()(Batch<T> s, Batch<T> g) const {
    if (!softmax) return map_slope(relu, relu_at_zero, summed, divided, s, g, shift, divisor);
    const Batch<T> p = s * divisor;
    return {p, p * (g - shift)};
  }
};

template <class T, bool ragged>
void short_gradient_row(const ShortHeads<T>& x, int64_t i, T* s, T* g) {
  constexpr int64_t w = width<T>;
  const int64_t first = x.first[i], last = x.last[i];
  if (first >= last) return;
  const Visible<T, ragged> visible{x};
  const RowGradient<T> gradient(
      x, x.d_lse ? x.d_lse + i * w : nullptr, [&]() LAMINA_INLINE_LAMBDA { return short_weights<T, ragged>(x, i, s); },
      [&]() LAMINA_INLINE_LAMBDA {
        return short_sum<T>(first, last, [&](Batch<T> lane, int64_t j) LAMINA_INLINE_LAMBDA {
          return visible.choose(i, j, fma(map_value(x.map == Map::relu, load(s + j * w)), load(g + j * w), lane), lane);
        });
      });
  for (int64_t j = first; j < last; ++j) {
    const Slope<T> y = gradient(load(s + j * w), load(g + j * w));
    store(s + j * w, visible.choose(i, j, y.weight, splat(T(0))));
    store(g + j * w, visible.choose(i, j, y.gradient, splat(T(0))));
  }
}

template <class T, bool ragged>
void short_backward_rows(const ShortHeads<T>& x) {
  constexpr int height = short_height;
  constexpr int64_t w = width<T>;
  const int64_t pitch = short_padded(x.keys);
  for (int64_t i0 = 0; i0 < x.queries; i0 += height) {
    const Spans<height> span(x.first, x.last, i0, x.queries);
    const KeySpan keys(span);
    if (keys.from < keys.to) {
      const Batch<T> factor = splat(x.query_factor);
      for (int64_t f = 0; f < height * x.d; ++f) store(x.query + f * w, factor * load(x.q + (i0 * x.d + f) * w));
      short_scores(x, i0, keys, x.query);
      for (int64_t i = i0; i < i0 + height && i < x.queries; ++i)
        short_gradient_row<T, ragged>(x, i, x.s + i * pitch * w, x.g + i * pitch * w);
    }
    if (x.dq)
      short_row_tiles<T, ragged ? Part::query_rows : Part::all>(
          x.d, {span, {x.g + i0 * pitch * w, pitch, 1}, {x.k, x.d, 1}, {x.dq + i0 * x.d * w, x.d, 1}, false, nullptr, &x, i0});
  }
  for (int64_t j0 = 0; j0 < x.keys; j0 += height) {
    const Spans<height> span(x.first_query, x.last_query, j0, x.keys);
    constexpr Part part = ragged ? Part::key_rows : Part::all;
    if (x.dv)
      short_row_tiles<T, part>(
          x.d_v, {span, {x.s + j0 * w, 1, pitch}, {x.d_o, x.d_v, 1}, {x.dv + j0 * x.d_v * w, x.d_v, 1}, true, nullptr, &x, j0});
    if (x.dk)
      short_row_tiles<T, part>(
          x.d, {span, {x.g + j0 * w, 1, pitch}, {x.q, x.d, 1}, {x.dk + j0 * x.d * w, x.d, 1}, true, nullptr, &x, j0});
  }
}

template <class T>
void short_forward(const ShortHeads<T>& x) {
  if (x.lane_first)
    short_forward_rows<T, true>(x);
  else
    short_forward_rows<T, false>(x);
}
template <class T>
void short_backward(const ShortHeads<T>& x) {
  if (x.lane_first)
    short_backward_rows<T, true>(x);
  else
    short_backward_rows<T, false>(x);
}

}  // namespace
}  // namespace lamina::kernels
