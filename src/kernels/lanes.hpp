// Kernels of 16 prompts at once, one in each virtual lane: no sum crosses lanes but in `collect`.
#pragma once
#include "kernels/row.hpp"

namespace lamina::kernels {
namespace {

// Row i of an array [n, 16], as parts.
template <class T>
LAMINA_INLINE Lanes<T> load_lanes(const T* x, int64_t i) {
  Lanes<T> row;
  unroll<parts<T>>([&](int p) LAMINA_INLINE_LAMBDA { row.part[p] = load(x + i * lanes + p * width<T>); });
  return row;
}
template <class T>
LAMINA_INLINE void store_lanes(T* x, int64_t i, const Lanes<T>& row) {
  unroll<parts<T>>([&](int p) LAMINA_INLINE_LAMBDA { store(x + i * lanes + p * width<T>, row.part[p]); });
}

// How many of `count` elements stand in part p.
template <class T>
LAMINA_INLINE int64_t in_part(int64_t count, int p) {
  const int64_t left = count - p * width<T>;
  return left < 0 ? 0 : left < width<T> ? left : width<T>;
}

template <class T>
void spread(int64_t n, const T* value, int64_t first, int64_t count, T* x) {
  unroll<parts<T>>([&](int p) LAMINA_INLINE_LAMBDA {
    const int64_t here = in_part<T>(count, p);
    if (here == 0) return;
    const Tail<T> tail(here);
    T* to = x + first + p * width<T>;
    for (int64_t i = 0; i < n; ++i) store(to + i * lanes, splat(value[i]), tail);
  });
}

template <class T>
void collect(int64_t n, const T* x, int64_t first, int64_t count, T* sum) {
  for (int64_t i = 0; i < n; ++i) {
    Lanes<T> row = zero_lanes<T>();
    unroll<parts<T>>([&](int p) LAMINA_INLINE_LAMBDA {
      const int64_t here = in_part<T>(count, p);
      if (here > 0) row.part[p] = load(x + i * lanes + first + p * width<T>, Tail<T>(here));
    });
    sum[i] = fold_sum(row);
  }
}

template <class T>
void cross_entropies(int64_t n, const T* x, const T* label, T absent, const T* weight, T* loss, T* r) {
  const Batch<T> zero = splat(T(0)), one = splat(T(1));
  for (int p = 0; p < parts<T>; ++p) {  // no parts of code: it is long
    const auto at = [&](int64_t j) LAMINA_INLINE_LAMBDA { return j * lanes + p * width<T>; };
    const Batch<T> own = load(label + p * width<T>);
    // 1. M = max x, and the label's logit.
    Batch<T> top = absent > 0 ? zero : splat(-Numbers<T>::infinity), x_label = zero;
    for (int64_t j = 0; j < n; ++j) {
      const Batch<T> z = load(x + at(j));
      top = greater(z, top);
      x_label = select(own == splat(static_cast<T>(j)), z, x_label);
    }
    // 2. E = exp(x - M) into r, and O, the sum of all but the label's.
    Batch<T> sum[4] = {zero, zero, zero, zero};
    const auto one_logit = [&](int64_t j, int chain) LAMINA_INLINE_LAMBDA {
      const Batch<T> e = exp(load(x + at(j)) - top);
      store(r + at(j), e);
      sum[chain] = sum[chain] + select(own == splat(static_cast<T>(j)), zero, e);
    };
    int64_t j = 0;
    for (; j + 4 <= n; j += 4) unroll<4>([&](int chain) LAMINA_INLINE_LAMBDA { one_logit(j + chain, chain); });
    unroll<3>([&](int chain) LAMINA_INLINE_LAMBDA {
      if (j + chain < n) one_logit(j + chain, chain);
    });
    Batch<T> others = (sum[0] + sum[1]) + (sum[2] + sum[3]);
    if (absent > 0) others = others + splat(absent) * exp(zero - top);
    const Mask<T> first = x_label == top;
    const Batch<T> total = select(first, one, exp(x_label - top)) + others;
    // 3. The residual.
    const Batch<T> scale = load(weight + p * width<T>) / total, r_label = zero - others * scale;
    for (int64_t i = 0; i < n; ++i)
      store(r + at(i), select(own == splat(static_cast<T>(i)), r_label, load(r + at(i)) * scale));
    store(loss + p * width<T>, select(first, log1p(others), log(total) + (top - x_label)));
  }
}

}  // namespace
}  // namespace lamina::kernels
