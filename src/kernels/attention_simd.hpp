// Steps of attention on a tile of scores (formulas: attention_table.hpp), once per instruction set. Queries are the lanes of
// the vectors, so every operation is element by element and the bits do not depend on the width.
#pragma once
#include "kernels/elementary.hpp"
#include "kernels/kernels.hpp"

namespace lamina::kernels {
namespace {

template <class T>
LAMINA_INLINE Mask<T> load_visible(const uint16_t* visible) {
  return load_counts<T>(visible) > splat(T(0));
}

// The maximum that exponents are taken relative to: a row with nothing above -inf takes 0, so that exp2 gives 0 and not NaN.
template <class T>
LAMINA_INLINE Batch<T> reference_point(Batch<T> m) {
  return select(m == splat(-Numbers<T>::infinity), splat(T(0)), m);
}

// Adds to sum[i] the 4 lanes of term(j, i) over the keys: lane l sums keys j = l mod 4 ascending, then (0 + 2) + (1 + 3). Four
// chains hide the latency of an addition and fit the registers of every set.
template <class T, class Start, class Step>
LAMINA_INLINE void sum_keys(int64_t keys, int64_t stride, T* sum, Start start, Step step) {
  for (int64_t i = 0; i < stride; i += width<T>) {
    start(i);
    Batch<T> lane[4];
    for (int l = 0; l < 4; ++l) lane[l] = splat(T(0));
    int64_t j = 0;
    for (; j + 4 <= keys; j += 4) unroll<4>([&](int l) LAMINA_INLINE_LAMBDA { lane[l] = step(lane[l], j + l, i); });
    unroll<3>([&](int l) LAMINA_INLINE_LAMBDA {
      if (j + l < keys) lane[l] = step(lane[l], j + l, i);
    });
    store(sum + i, load(sum + i) + ((lane[0] + lane[2]) + (lane[1] + lane[3])));
  }
}

template <class T>
void attention_transpose(int64_t rows, int64_t cols, T factor, const T* x, int64_t x_row, int64_t x_col, T* y, int64_t stride) {
  constexpr int64_t block = 16;
  for (int64_t f0 = 0; f0 < cols; f0 += block) {
    const int64_t f1 = f0 + block < cols ? f0 + block : cols;
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t f = f0; f < f1; ++f) y[f * stride + i] = factor * x[i * x_row + f * x_col];
    for (int64_t f = f0; f < f1; ++f)
      for (int64_t i = rows; i < stride; ++i) y[f * stride + i] = 0;
  }
}

template <class T>
bool attention_finite(int64_t rows, int64_t cols, const T* x, int64_t x_row) {
  for (int64_t i = 0; i < rows; ++i) {
    Batch<T> sum = splat(T(0));  // of x - x: 0, or NaN as soon as one x is not finite
    const T* row = x + i * x_row;
    int64_t f = 0;
    for (; f + width<T> <= cols; f += width<T>) sum = sum + (load(row + f) - load(row + f));
    T rest = fold_sum(sum);
    for (; f < cols; ++f) rest += row[f] - row[f];
    if (!(rest == T(0))) return false;
  }
  return true;
}

template <bool with_bias, bool with_visible, class T>
LAMINA_INLINE void score_tile(int64_t keys, int64_t stride, const T* bias, T unit, const uint16_t* visible, T* s, T* m) {
  const Batch<T> factor = splat(unit), hidden = splat(-Numbers<T>::infinity);
  for (int64_t i = 0; i < stride; i += width<T>) {
    Batch<T> top = load(m + i);
    for (int64_t j = 0; j < keys; ++j) {
      const int64_t at = j * stride + i;
      Batch<T> x = load(s + at);
      if constexpr (with_bias) x = fma(load(bias + at), factor, x);
      if constexpr (with_visible) x = select(load_visible<T>(visible + at), x, hidden);
      store(s + at, x);
      top = greater(x, top);
    }
    store(m + i, top);
  }
}
template <class T>
void attention_score(int64_t keys, int64_t stride, const T* bias, T unit, const uint16_t* visible, T* s, T* m) {
  if (bias && visible)
    score_tile<true, true>(keys, stride, bias, unit, visible, s, m);
  else if (bias)
    score_tile<true, false>(keys, stride, bias, unit, visible, s, m);
  else if (visible)
    score_tile<false, true>(keys, stride, bias, unit, visible, s, m);
  else
    score_tile<false, false>(keys, stride, bias, unit, visible, s, m);
}

template <class T>
void attention_softmax(int64_t keys, int64_t stride, const T* m, T* s, T* sum) {
  Batch<T> point;
  sum_keys(
      keys, stride, sum, [&](int64_t i) LAMINA_INLINE_LAMBDA { point = reference_point(load(m + i)); },
      [&](Batch<T> lane, int64_t j, int64_t i) LAMINA_INLINE_LAMBDA {
        const Batch<T> p = exp2(load(s + j * stride + i) - point);
        store(s + j * stride + i, p);
        return lane + p;
      });
}

template <class T>
LAMINA_INLINE Batch<T> map_value(bool relu, Batch<T> s) {
  const Batch<T> zero = splat(T(0));
  return relu ? select(s < zero, zero, s) : s;  // a NaN stays
}

template <class T>
void attention_map(Map map, int64_t keys, int64_t stride, const uint16_t* visible, const T* s, T* p, T* sum) {
  const bool relu = map == Map::relu;
  const auto value = [&](int64_t at) LAMINA_INLINE_LAMBDA {
    Batch<T> x = map_value(relu, load(s + at));
    if (visible) x = select(load_visible<T>(visible + at), x, splat(T(0)));
    if (p) store(p + at, x);
    return x;
  };
  if (sum)
    sum_keys(
        keys, stride, sum, [](int64_t) LAMINA_INLINE_LAMBDA {},
        [&](Batch<T> lane, int64_t j, int64_t i) LAMINA_INLINE_LAMBDA { return lane + value(j * stride + i); });
  else
    for (int64_t at = 0; at < keys * stride; at += width<T>) value(at);
}

template <class T>
void attention_rescale(int64_t stride, const T* m_old, const T* m, T* factor, T* sum) {
  for (int64_t i = 0; i < stride; i += width<T>) {
    const Batch<T> f = exp2(load(m_old + i) - reference_point(load(m + i)));
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

template <class T>
void attention_dot(Map map, int64_t keys, int64_t stride, const uint16_t* visible, const T* s, const T* g, T* sum) {
  const bool relu = map == Map::relu;
  sum_keys(
      keys, stride, sum, [](int64_t) LAMINA_INLINE_LAMBDA {},
      [&](Batch<T> lane, int64_t j, int64_t i) LAMINA_INLINE_LAMBDA {
        const int64_t at = j * stride + i;
        const Batch<T> more = fma(map_value(relu, load(s + at)), load(g + at), lane);
        return visible ? select(load_visible<T>(visible + at), more, lane) : more;
      });
}

template <class T>
void attention_softmax_gradient(int64_t keys, int64_t stride, const uint16_t* visible, const T* inverse, const T* shift, T* p,
                                T* g) {
  const Batch<T> zero = splat(T(0));
  for (int64_t i = 0; i < stride; i += width<T>) {
    const Batch<T> factor = load(inverse + i), center = load(shift + i);
    for (int64_t j = 0; j < keys; ++j) {
      const int64_t at = j * stride + i;
      Batch<T> weight = load(p + at) * factor;
      Batch<T> gradient = weight * (load(g + at) - center);
      if (visible) {
        const Mask<T> seen = load_visible<T>(visible + at);
        weight = select(seen, weight, zero);
        gradient = select(seen, gradient, zero);
      }
      store(p + at, weight);
      store(g + at, gradient);
    }
  }
}

template <class T>
void attention_map_gradient(Map map, int64_t keys, int64_t stride, const uint16_t* visible, T at_zero, const T* divisor,
                            const T* shift, T* s, T* g) {
  const Batch<T> zero = splat(T(0)), one = splat(T(1));
  const bool relu = map == Map::relu;
  for (int64_t i = 0; i < stride; i += width<T>) {
    const Batch<T> by = divisor ? load(divisor + i) : one, center = shift ? load(shift + i) : zero;
    for (int64_t j = 0; j < keys; ++j) {
      const int64_t at = j * stride + i;
      const Batch<T> x = load(s + at);
      Batch<T> weight = map_value(relu, x), gradient = load(g + at);
      if (shift) gradient = gradient - center;
      if (relu) {
        const Batch<T> kink = at_zero == T(0) ? zero : splat(at_zero) * gradient;
        gradient = select(x > zero, gradient, select(x < zero, zero, select(x == zero, kink, x)));  // x is NaN: NaN
      }
      if (divisor) {
        weight = weight / by;
        gradient = gradient / by;
      }
      if (divisor && relu) {
        const Mask<T> dead = by == zero;
        weight = select(dead, zero, weight);
        gradient = select(dead, zero, gradient);
      }
      if (visible) {
        const Mask<T> seen = load_visible<T>(visible + at);
        weight = select(seen, weight, zero);
        gradient = select(seen, gradient, zero);
      }
      store(s + at, weight);
      store(g + at, gradient);
    }
  }
}

template <class T>
constexpr AttentionTable<T> attention_table = {attention_transpose<T>,        attention_finite<T>,      attention_score<T>,
                                               attention_softmax<T>,          attention_map<T>,         attention_rescale<T>,
                                               attention_scale_add<T>,        attention_divide<T>,      attention_dot<T>,
                                               attention_softmax_gradient<T>, attention_map_gradient<T>};

}  // namespace
}  // namespace lamina::kernels
