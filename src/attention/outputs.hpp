// The last step of forward: log-sum-exp, normalisation, and O in its place.
#pragma once
#include <cmath>

#include "attention/call.hpp"

namespace lamina::attention {

template <class T>
inline constexpr T ln2 = static_cast<T>(0x1.62e42fefa39efp-1);

// m ln 2 + rest, with ln 2 in two parts.
template <class T>
T natural(T m, T rest) {
  constexpr T high = static_cast<T>(sizeof(T) == 4 ? 0x1.62e42ep-1 : 0x1.62e42fefa39efp-1);
  constexpr T low = static_cast<T>(sizeof(T) == 4 ? 0x1.efa39ep-25 : 0x1.abc9e3b39803fp-56);
  return std::fma(m, high, std::fma(m, low, rest));
}

// Of queries i0 .. i0 + rows - 1 of one head: the keys they see, the maximum and the sum of P, and o = sum P V, rows padded.
// places >= rows: those past the sequence's length as well.
template <class T>
struct Unnormalised {
  int64_t i0, rows, places;
  const int64_t* seen;
  const T* m;
  T *sum, *o;  // sum becomes N (softmax: 1/N)
};

// 5. lse = m ln 2 + log sum, m + log sum with a bias;  O = o / N. room: [rows].
template <class T>
void put_outputs(const Call<T>& call, const Unnormalised<T>& x, const Matrix<T>& o, const Matrix<T>& lse, T* room) {
  const Plan& plan = call.plan;
  const int64_t o_row = kernels::padded(plan.d_v);
  if (lse) {
    call.kernel.log(x.rows, x.sum, room);
    for (int64_t i = 0; i < x.rows; ++i)
      *lse.at(x.i0 + i) = x.seen[i] == 0 ? -infinity<T> : call.natural ? x.m[i] + room[i] : natural(x.m[i], room[i]);
    fill(lse, x.i0 + x.rows, x.places - x.rows, 1, -infinity<T>);
  }
  // N: 1 where the output is 0 whatever o is, and then o = 0.
  for (int64_t i = 0; i < x.rows; ++i) {
    if (plan.normaliser == Normaliser::visible) x.sum[i] = static_cast<T>(x.seen[i]);
    const bool dead = x.seen[i] == 0 || (plan.map == kernels::Map::relu && plan.normaliser == Normaliser::row_sum && x.sum[i] == 0);
    if (plan.map == kernels::Map::softmax) x.sum[i] = 1 / x.sum[i];
    if (plan.normaliser == Normaliser::none || dead) x.sum[i] = 1;
    if (dead) std::fill_n(x.o + i * o_row, plan.d_v, T(0));
  }
  const bool softmax = plan.map == kernels::Map::softmax, direct = o.col == 1;
  call.step.divide(x.rows, plan.d_v, softmax, x.sum, x.o, o_row, direct ? o.at(x.i0) : x.o, direct ? o.row : o_row);
  if (!direct) put_rows(o, x.i0, x.rows, plan.d_v, x.o, o_row, T(1));
  fill(o, x.i0 + x.rows, x.places - x.rows, plan.d_v, T(0));
}

}  // namespace lamina::attention
