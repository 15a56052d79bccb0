// Steps of attention on a tile of scores (formulas: attention_table.hpp), once per instruction set. Queries are the lanes of
// the vectors, so every operation is element by element and the bits do not depend on the width.
#pragma once
#include "kernels/attention_product.hpp"
#include "kernels/attention_visible.hpp"
#include "kernels/elementary.hpp"
#include "kernels/kernels.hpp"
#include "kernels/rows_simd.hpp"

namespace lamina::kernels {
namespace {

template <class T>
LAMINA_INLINE Mask<T> load_visible(const uint8_t* visible) {
  return load_counts<T>(visible) > splat(T(0));
}

// The maximum that exponents are taken relative to: a row with nothing above -inf takes 0, so that exp2 gives 0 and not NaN.
template <class T>
LAMINA_INLINE Batch<T> reference_point(Batch<T> m) {
  return select(m == splat(-Numbers<T>::infinity), splat(T(0)), m);
}

// Steps over a panel: body(at) for the batch at j*16 + i of every key, in columns of one batch, so that what belongs to a query
// stays in a register; start(i) before, finish(i) after each.
template <class T, class Start, class Body>
LAMINA_INLINE void for_each_score(int64_t keys, Start start, Body body) {
  for (int64_t i = 0; i < lanes; i += width<T>) {
    start(i);
    for (int64_t at = i; at < keys * lanes; at += lanes) body(at);
  }
}

// The same where a sum over keys is made: body(at, l), l = j mod 4 the lane of the sum. Four chains hide the latency of an
// addition and fit the registers of every set.
template <class T, class Start, class Body, class Finish>
LAMINA_INLINE void for_each_score(int64_t keys, Start start, Body body, Finish finish) {
  for (int64_t i = 0; i < lanes; i += width<T>) {
    start(i);
    int64_t j = 0;
    for (; j + 4 <= keys; j += 4) unroll<4>([&](int l) LAMINA_INLINE_LAMBDA { body((j + l) * lanes + i, l); });
    unroll<3>([&](int l) LAMINA_INLINE_LAMBDA {
      if (j + l < keys) body((j + l) * lanes + i, l);
    });
    finish(i);
  }
}

// The four lanes of a sum.
template <class T>
struct Four {
  Batch<T> lane[4];
  LAMINA_INLINE void clear() {
    unroll<4>([&](int l) LAMINA_INLINE_LAMBDA { lane[l] = splat(T(0)); });
  }
  LAMINA_INLINE void add_to(T* sum) const { store(sum, load(sum) + ((lane[0] + lane[2]) + (lane[1] + lane[3]))); }
};

template <class T>
void attention_transpose(int64_t rows, int64_t cols, T factor, const T* x, int64_t x_row, int64_t x_col, T* y) {
  int64_t f = 0;
  if (rows == lanes && x_col == 1)
    for (; f + columns<T> <= cols; f += columns<T>, y += columns<T> * lanes)
      for (int64_t i = 0; i < lanes; i += width<T>) {
        Batch<T> part[columns<T>];
        load_columns(x + i * x_row + f, x_row, width<T> - 1, part);
        unroll<columns<T>>([&](int c) LAMINA_INLINE_LAMBDA { store(y + c * lanes + i, part[c] * splat(factor)); });
      }
  for (; f < cols; ++f, y += lanes) {
    for (int64_t i = 0; i < rows; ++i) y[i] = factor * x[i * x_row + f * x_col];
    for (int64_t i = rows; i < lanes; ++i) y[i] = 0;
  }
}

// take(l, part), l < 4 by turns, for all of x[i*x_row + f] in registers; in the last of a row 0 past its end.
template <class T, class Take>
LAMINA_INLINE void for_each_register(int64_t rows, int64_t cols, const T* x, int64_t x_row, const Take& take) {
  if (x_row == cols) cols *= rows, rows = rows > 0 ? 1 : 0;
  for (int64_t i = 0; i < rows; ++i, x += x_row) {
    int64_t f = 0;
    for (; f + 4 * width<T> <= cols; f += 4 * width<T>)
      unroll<4>([&](int l) LAMINA_INLINE_LAMBDA { take(l, load(x + f + l * width<T>)); });
    for (; f < cols; f += width<T>) take(0, load(x + f, Tail<T>(cols - f < width<T> ? cols - f : width<T>)));
  }
}

template <class T>
bool attention_finite(int64_t rows, int64_t cols, const T* x, int64_t x_row) {
  Four<T> sum;  // of x - x: 0, or NaN as soon as one x is not finite
  sum.clear();
  for_each_register(rows, cols, x, x_row,
                    [&](int l, Batch<T> part) LAMINA_INLINE_LAMBDA { sum.lane[l] = sum.lane[l] + (part - part); });
  return fold_sum((sum.lane[0] + sum.lane[2]) + (sum.lane[1] + sum.lane[3])) == T(0);
}

// The bits of |x| have the order of its values, with NaN above infinity. Shifted down by one they are finite numbers of this
// order, so that a maximum misses no NaN; less one, those of 0 are a NaN, which a minimum passes over.
template <class T>
Magnitudes<T> attention_magnitudes(int64_t rows, int64_t cols, const T* x, int64_t x_row) {
  using W = typename Word<T>::Type;
  const Bits<T> ones = splat_bits<T>(~W(0)), no_sign = splat_bits<T>(~W(0) >> 1);
  Batch<T> least[4], largest[4];
  unroll<4>([&](int l) LAMINA_INLINE_LAMBDA { least[l] = splat(Numbers<T>::infinity), largest[l] = splat(T(0)); });
  for_each_register(rows, cols, x, x_row, [&](int l, Batch<T> part) LAMINA_INLINE_LAMBDA {
    const Bits<T> size = bits(part) & no_sign;
    least[l] = smaller(batch(size + ones), least[l]);
    largest[l] = greater(batch(size >> 1), largest[l]);
  });
  T low[width<T>], high[width<T>];
  store(low, smaller(smaller(least[0], least[1]), smaller(least[2], least[3])));
  store(high, greater(greater(largest[0], largest[1]), greater(largest[2], largest[3])));
  T below = low[0], half = high[0];
  for (int i = 1; i < width<T>; ++i) {
    below = low[i] < below ? low[i] : below;
    half = high[i] > half ? high[i] : half;
  }
  const bool none = below == Numbers<T>::infinity;
  const auto number = [](W of) { return __builtin_bit_cast(T, of); };
  return {none ? below : number(__builtin_bit_cast(W, below) + 1),
          none && half == T(0) ? half : number(__builtin_bit_cast(W, half) << 1 | 1)};
}

// A bias is read in vectors where keys are contiguous, four a load, or queries are; else it is added first.
template <class T>
void attention_score(int64_t rows, int64_t keys, const T* bias, int64_t bias_row, int64_t bias_col, const uint8_t* visible,
                     T hidden, T* s, T* m) {
  const Batch<T> absent = splat(hidden);
  const bool by_query = bias_row == 1 && rows == lanes;
  const int64_t by_columns = bias && bias_col == 1 ? keys / columns<T> * columns<T> : 0;
  if (bias && !by_query)
    for (int64_t j = by_columns; j < keys; ++j)
      for (int64_t i = 0; i < rows; ++i) s[j * lanes + i] += bias[opaque(i) * bias_row + j * bias_col];
  for (int64_t i = 0; i < lanes; i += width<T>) {
    Batch<T> top = m ? load(m + i) : absent;
    const auto put = [&](int64_t j, Batch<T> x) LAMINA_INLINE_LAMBDA {
      if (visible) x = select(load_visible<T>(visible + j * lanes + i), x, absent);
      store(s + j * lanes + i, x);
      top = greater(x, top);
    };
    const int64_t first = i < rows ? i : rows - 1;
    int64_t j = 0;
    for (; j < by_columns; j += columns<T>) {
      Batch<T> part[columns<T>];
      load_columns(bias + first * bias_row + j, bias_row, rows - 1 - first, part);
      unroll<columns<T>>([&](int c) LAMINA_INLINE_LAMBDA { put(j + c, load(s + (j + c) * lanes + i) + part[c]); });
    }
    if (bias && by_query)
      for (; j < keys; ++j) put(j, load(s + j * lanes + i) + load(bias + i + j * bias_col));
    for (; j < keys; ++j) put(j, load(s + j * lanes + i));
    if (m) store(m + i, top);
  }
}

template <bool with_g, class T>
LAMINA_INLINE void softmax_panel(int64_t keys, const T* m, T* s, T* sum, const T* g, T* d) {
  Batch<T> point;
  Four<T> p_sum, d_sum;
  for_each_score<T>(
      keys,
      [&](int64_t i) LAMINA_INLINE_LAMBDA {
        point = reference_point(load(m + i));
        p_sum.clear(), d_sum.clear();
      },
      [&](int64_t at, int l) LAMINA_INLINE_LAMBDA {
        const Batch<T> p = exp2(load(s + at) - point);
        store(s + at, p);
        p_sum.lane[l] = p_sum.lane[l] + p;
        if constexpr (with_g) d_sum.lane[l] = fma(p, load(g + at), d_sum.lane[l]);
      },
      [&](int64_t i) LAMINA_INLINE_LAMBDA {
        p_sum.add_to(sum + i);
        if constexpr (with_g) d_sum.add_to(d + i);
      });
}

template <class T>
LAMINA_INLINE Batch<T> map_value(bool relu, Batch<T> s) {
  const Batch<T> zero = splat(T(0));
  return relu ? select(s < zero, zero, s) : s;  // a NaN stays
}

template <class T>
void attention_map(Map map, int64_t keys, const T* s, T* p, T* sum, const T* g, T* d) {
  const bool relu = map == Map::relu;
  if (!sum) {
    for (int64_t at = 0; at < keys * lanes; at += width<T>) store(p + at, map_value(relu, load(s + at)));
    return;
  }
  Four<T> p_sum, d_sum;
  for_each_score<T>(
      keys, [&](int64_t) LAMINA_INLINE_LAMBDA { p_sum.clear(), d_sum.clear(); },
      [&](int64_t at, int l) LAMINA_INLINE_LAMBDA {
        const Batch<T> x = map_value(relu, load(s + at));
        if (p) store(p + at, x);
        p_sum.lane[l] = p_sum.lane[l] + x;
        if (g) d_sum.lane[l] = fma(x, load(g + at), d_sum.lane[l]);
      },
      [&](int64_t i) LAMINA_INLINE_LAMBDA {
        p_sum.add_to(sum + i);
        if (g) d_sum.add_to(d + i);
      });
}

// With natural units in two passes: exp has too many constants to leave registers for eight sums.
template <class T>
void attention_softmax(bool natural, int64_t keys, const T* m, T* s, T* sum, const T* g, T* d) {
  if (!natural) return g ? softmax_panel<true>(keys, m, s, sum, g, d) : softmax_panel<false>(keys, m, s, sum, g, d);
  Batch<T> point;
  for_each_score<T>(
      keys, [&](int64_t i) LAMINA_INLINE_LAMBDA { point = reference_point(load(m + i)); },
      [&](int64_t at) LAMINA_INLINE_LAMBDA { store(s + at, exp(load(s + at) - point)); });
  attention_map<T>(Map::linear, keys, s, nullptr, sum, g, d);
}

template <class T>
void attention_rescale(bool natural, int64_t queries, const T* m_old, const T* m, T* factor, T* sum) {
  for (int64_t i = 0; i < queries; i += width<T>) {
    const Batch<T> x = load(m_old + i) - reference_point(load(m + i)), f = natural ? exp(x) : exp2(x);
    store(factor + i, f);
    store(sum + i, load(sum + i) * f);
  }
}

// y = f(x row i, y row i, i) along contiguous rows.
template <class T, class Function>
LAMINA_INLINE void each_row(int64_t rows, int64_t cols, const T* x, int64_t x_row, T* y, int64_t y_row, Function function) {
  for (int64_t i = 0; i < rows; ++i, x += x_row, y += y_row) {
    int64_t f = 0;
    for (; f + width<T> <= cols; f += width<T>) store(y + f, function(i, load(x + f), load(y + f)));
    if (f < cols) {
      const Tail<T> tail(cols - f);
      store(y + f, function(i, load(x + f, tail), load(y + f, tail)), tail);
    }
  }
}

template <class T>
void attention_scale_add(int64_t rows, int64_t cols, const T* factor, const T* x, int64_t x_row, T* y, int64_t y_row) {
  if (factor)
    each_row(rows, cols, x, x_row, y, y_row,
             [&](int64_t i, Batch<T> add, Batch<T> old) LAMINA_INLINE_LAMBDA { return fma(old, splat(factor[i]), add); });
  else
    each_row(rows, cols, x, x_row, y, y_row,
             [](int64_t, Batch<T> add, Batch<T> old) LAMINA_INLINE_LAMBDA { return old + add; });
}

template <class T>
void attention_divide(int64_t rows, int64_t cols, bool inverse, const T* n, const T* x, int64_t x_row, T* y, int64_t y_row) {
  if (inverse)
    each_row(rows, cols, x, x_row, y, y_row,
             [&](int64_t i, Batch<T> value, Batch<T>) LAMINA_INLINE_LAMBDA { return value * splat(n[i]); });
  else
    each_row(rows, cols, x, x_row, y, y_row,
             [&](int64_t i, Batch<T> value, Batch<T>) LAMINA_INLINE_LAMBDA { return value / splat(n[i]); });
}

// 0 where not visible.
template <class T>
LAMINA_INLINE void store_gradients(const uint8_t* visible, int64_t at, Batch<T> weight, Batch<T> gradient, T* p, T* g) {
  if (visible) {
    const Mask<T> seen = load_visible<T>(visible + at);
    weight = select(seen, weight, splat(T(0)));
    gradient = select(seen, gradient, splat(T(0)));
  }
  store(p + at, weight);
  store(g + at, gradient);
}

template <class T>
void attention_softmax_gradient(int64_t keys, const uint8_t* visible, const T* inverse, const T* shift, T* p, T* g) {
  Batch<T> factor, center;
  for_each_score<T>(
      keys,
      [&](int64_t i) LAMINA_INLINE_LAMBDA {
        factor = load(inverse + i);
        center = load(shift + i);
      },
      [&](int64_t at) LAMINA_INLINE_LAMBDA {
        const Batch<T> weight = load(p + at) * factor;
        store_gradients(visible, at, weight, weight * (load(g + at) - center), p, g);
      });
}

// P and dS of one score: x, G = gradient (formulas: map_gradient in attention_table.hpp).
template <class T>
struct Slope {
  Batch<T> weight, gradient;
};
template <class T>
LAMINA_INLINE Slope<T> map_slope(bool relu, T at_zero, bool shifted, bool divided, Batch<T> x, Batch<T> gradient,
                                 Batch<T> shift, Batch<T> divisor) {
  const Batch<T> zero = splat(T(0));
  Batch<T> weight = map_value(relu, x);
  if (shifted) gradient = gradient - shift;
  if (relu) {
    const Batch<T> kink = at_zero == T(0) ? zero : splat(at_zero) * gradient;
    gradient = select(x > zero, gradient, select(x < zero, zero, select(x == zero, kink, x)));  // x is NaN: NaN
  }
  if (divided) {
    weight = weight / divisor;
    gradient = gradient / divisor;
  }
  if (divided && relu) {
    const Mask<T> dead = divisor == zero;
    weight = select(dead, zero, weight);
    gradient = select(dead, zero, gradient);
  }
  return {weight, gradient};
}

template <class T>
void attention_map_gradient(Map map, int64_t keys, const uint8_t* visible, T at_zero, const T* divisor, const T* shift, T* s,
                            T* g) {
  const Batch<T> zero = splat(T(0)), one = splat(T(1));
  Batch<T> by, center;
  for_each_score<T>(
      keys,
      [&](int64_t i) LAMINA_INLINE_LAMBDA {
        by = divisor ? load(divisor + i) : one;
        center = shift ? load(shift + i) : zero;
      },
      [&](int64_t at) LAMINA_INLINE_LAMBDA {
        const Slope<T> y =
            map_slope(map == Map::relu, at_zero, shift != nullptr, divisor != nullptr, load(s + at), load(g + at), center, by);
        store_gradients(visible, at, y.weight, y.gradient, s, g);
      });
}

template <class T>
constexpr AttentionTable<T> attention_table = {
    .keys_by_queries = keys_by_queries<T>,
    .queries_by_features = queries_by_features<T>,
    .keys_by_features = keys_by_features<T>,
    .transpose = attention_transpose<T>,
    .finite = attention_finite<T>,
    .magnitudes = attention_magnitudes<T>,
    .visible = attention_visible<T>,
    .score = attention_score<T>,
    .softmax = attention_softmax<T>,
    .map = attention_map<T>,
    .rescale = attention_rescale<T>,
    .scale_add = attention_scale_add<T>,
    .divide = attention_divide<T>,
    .rows_by_keys = rows_by_keys<T>,
    .rows_by_features = rows_by_features<T>,
    .row_sums = row_sums<T>,
    .softmax_gradient = attention_softmax_gradient<T>,
    .map_gradient = attention_map_gradient<T>,
};

}  // namespace
}  // namespace lamina::kernels
