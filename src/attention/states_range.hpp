// Whether all that states make of a key head's numbers stays in the range of the type, judged by the sizes of these numbers alone.
//
// Above: a sum of 2^n terms is less than 2^n times the largest; that is to be less than a quarter of the first number out of
// range, for the roundings.
// Below: x rounded is off by at most u max(|x|, m), u the unit roundoff, m the least normal number; sums below m are exact,
// products are not. Where no product of inputs that is not 0 (of two in a state or a tile, of three in a result) is less than m,
// u m is at most u times one of the terms, and the bound of states.hpp stands. Else at most 2^n such losses, each times
// scale and the numbers that multiply it, reach a result: together they are to be at most m / 8. A result has four steps at
// most, dO / N, the state, the tile and the last chain: m / 2 beside its bound.
#pragma once
#include <bit>
#include <cmath>
#include <limits>

#include "attention/states.hpp"

namespace lamina::attention {

// 2^low <= |x| < 2^high of all numbers that are not 0; without one, bounds that stay out of the way in any product.
struct Range {
  static constexpr int out_of_way = 1 << 20;
  int low = out_of_way, high = -out_of_way;

  template <class T>
  static Range of(const kernels::Magnitudes<T>& x) {
    if (!std::isfinite(x.largest)) return {-out_of_way, 4 * out_of_way};  // no product has it in range
    return x.largest == 0 ? Range() : Range{std::ilogb(x.least), std::ilogb(x.largest) + 1};
  }
  Range operator*(const Range& y) const { return {low + y.low, high + y.high}; }
  void take(const Range& y) { low = std::min(low, y.low), high = std::max(high, y.high); }
};

// Of Q of all heads that read the key head, of K, V and, in LAMINA_BACKWARD, dO.
struct Ranges {
  Range q, k, v, d_o;
};

// Of rows of x.
template <class T>
Range range_of(const Call<T>& call, const Matrix<const T>& x, int64_t first, int64_t rows, int64_t cols) {
  if (x.col == 1) return Range::of(call.step.magnitudes(rows, cols, x.at(first), x.row));
  if (x.row == 1) return Range::of(call.step.magnitudes(cols, rows, x.at(first), x.col));
  kernels::Magnitudes<T> all{infinity<T>, 0};
  for (int64_t i = first; i < first + rows; ++i)
    for (int64_t f = 0; f < cols; ++f) {
      const T value = *x.at(i, f), size = std::isfinite(value) ? std::fabs(value) : infinity<T>;
      if (size != 0) all.least = std::min(all.least, size);
      all.largest = std::max(all.largest, size);
    }
  return Range::of(all);
}

template <class T>
bool states_in_range(const Plan& plan, int32_t direction, int64_t queries, int64_t keys, const Ranges& x) {
  using Limits = std::numeric_limits<T>;
  constexpr int least_normal = Limits::min_exponent - 1;
  const auto log2 = [](int64_t n) { return static_cast<int>(std::bit_width(static_cast<uint64_t>(n - 1))); };  // rounded up
  const int64_t width = std::max(plan.d, plan.d_v);
  const int terms = log2(std::max(keys, plan.group * queries)) + log2(width);  // of a sum of sums
  const int terms_of_result = log2(width + plan.group * band_block);            // of its last chain: features, the tile
  const T factor = static_cast<T>(plan.scale);
  const Range scale = Range::of(kernels::Magnitudes<T>{std::fabs(factor), std::fabs(factor)});
  const bool divided = plan.normaliser == kernels::Normaliser::visible;
  const bool band = plan.causal != LAMINA_CAUSAL_NONE || plan.right >= 0;

  // Of one step. 2^gain: how many losses, times what multiplies them, but for scale; that less than 1 counts as 1, as in dscale.
  const auto holds = [&](const Range& product, int gain) {
    return product.high + terms < Limits::max_exponent - 1 &&
           (product.low >= least_normal || gain + std::max(scale.high, 0) <= Limits::digits - 3);
  };
  // C (A^T B), with the state A^T B, and in the tile (C A^T) B
  const auto result_holds = [&](const Range& a, const Range& b, const Range& c) {
    return holds(a * b, terms + c.high) && (!band || holds(c * a, terms + b.high)) && holds(a * b * c, terms_of_result);
  };
  const auto& [q, k, v, d_o] = x;
  if (direction == LAMINA_FORWARD)
    return result_holds(k, v, q) && (!divided || scale.low - log2(keys) >= least_normal);  // scale / N
  const int by_keys = divided ? log2(keys) : 0;
  const Range d{d_o.low - by_keys, d_o.high};  // dO / N
  const int others = std::max({(k * v).high, (q * v).high, (q * k).high});
  return result_holds(v, k, d) && result_holds(d, q, v) && result_holds(q, d, k) && (!divided || holds(d, terms + others));
}

}  // namespace lamina::attention
