// What forward and backward share: a call, a head of it, rows of its arrays, and the loop over its items.
#pragma once
#include <functional>
#include <limits>

#include "attention/arrays.hpp"
#include "attention/attention.hpp"
#include "attention/scratch.hpp"
#include "attention/visibility.hpp"

namespace lamina::attention {

template <class T>
size_t forward_workspace(const Plan& plan);
template <class T>
size_t backward_workspace(const Plan& plan);

template <class T>
inline constexpr T infinity = std::numeric_limits<T>::infinity();

template <class T>
struct Call {
  const Plan& plan;
  const lamina_attention_arrays& arrays;
  const kernels::Table<T>& kernel;
  const kernels::AttentionTable<T>& step;

  bool natural;    // softmax with a bias: t = S and p = exp(t - m); without: t = S log2 e and p = exp2(t - m), which is faster
  T query_factor;  // of Q in the scores

  Call(const Plan& p, const lamina_attention_arrays& a)
      : plan(p), arrays(a), kernel(p.isa->table<T>()), step(p.isa->table<T>().attention) {
    const double log2_e = 0x1.71547652b82fep+0;
    natural = p.has(LAMINA_WITH_BIAS);
    query_factor = static_cast<T>(p.map == kernels::Map::softmax && !natural ? p.scale * log2_e : p.scale);
  }

  // The places that sequence b has for queries and for keys, whether or not its lengths fill them.
  int64_t queries(int64_t b) const { return arrays.query_offsets ? places(arrays.query_offsets, b) : plan.L_q; }
  int64_t keys(int64_t b) const { return arrays.key_offsets ? places(arrays.key_offsets, b) : plan.L_k; }

  Band band(int64_t b) const {
    if (!plan.has(LAMINA_WITH_LENGTHS)) return {plan, queries(b), keys(b)};
    return {plan, arrays.query_lengths[b], arrays.key_lengths[b]};
  }

  // One head of an array of queries (q, o, lse and their kin), of keys (k, v).
  template <class Array>
  auto of_queries(const Array& x, int64_t b, int64_t h) const {
    return head<T>(x, b, h, arrays.query_offsets);
  }
  template <class Array>
  auto of_keys(const Array& x, int64_t b, int64_t h) const {
    return head<T>(x, b, h, arrays.key_offsets);
  }

 private:
  static int64_t places(const int64_t* offsets, int64_t b) { return offsets[b + 1] - offsets[b]; }
};

// One head of one sequence: what its scores are made of.
template <class T>
struct Head {
  Band band;
  Matrix<const T> q, k, v, bias;
  Matrix<const uint8_t> mask;

  Head(const Call<T>& call, int64_t b, int64_t h)
      : band(call.band(b)),
        q(call.of_queries(call.arrays.q, b, h)),
        k(call.of_keys(call.arrays.k, b, h / call.plan.group)),
        v(call.of_keys(call.arrays.v, b, h / call.plan.group)),
        bias(head<T>(call.arrays.bias, b, h)),
        mask(head<uint8_t>(call.arrays.mask, b, h)) {}
};

// Rows of a matrix with contiguous features: the matrix itself if its features are contiguous, else a copy.
template <class T>
struct Rows {
  const T* data;
  int64_t row;
};
template <class T>
Rows<T> contiguous(const Matrix<const T>& x, int64_t first, int64_t rows, int64_t cols, T* room) {
  if (x.col == 1 || cols == 1) return {x.at(first), x.row};
  const int64_t row = kernels::padded(cols);
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t f = 0; f < cols; ++f) room[i * row + f] = *x.at(first + i, f);
  return {room, row};
}

template <class T>
void fill(const Matrix<T>& x, int64_t first_row, int64_t rows, int64_t cols, T value) {
  for (int64_t i = first_row; i < first_row + rows; ++i)
    for (int64_t f = 0; f < cols; ++f) *x.at(i, f) = value;
}
// x[first_row + i, f] = factor * y[i, f]
template <class T>
void put_rows(const Matrix<T>& x, int64_t first_row, int64_t rows, int64_t cols, const T* y, int64_t y_row, T factor) {
  const int64_t col = x.col;
  for (int64_t i = 0; i < rows; ++i) {
    T* const row = x.at(first_row + i);
    if (col == 1)  // in registers
      for (int64_t f = 0; f < cols; ++f) row[f] = factor * y[i * y_row + f];
    else
      for (int64_t f = 0; f < cols; ++f) row[f * col] = factor * y[i * y_row + f];
  }
}
// body(item, slot) for every item; several items a chunk where each is little work. No chunking changes a bit.
template <class Body>
void for_each_item(const Plan& plan, int64_t items, const Body& body) {
  if (plan.slots == 1) {
    for (int64_t item = 0; item < items; ++item) body(item, 0);
    return;
  }
  const int64_t chunks = std::min<int64_t>(items, 32 * plan.slots);
  const auto chunk_body = [&](int64_t chunk, int slot) {
    const int64_t last = (chunk + 1) * (items / chunks) + std::min(chunk + 1, items % chunks);
    for (int64_t item = chunk * (items / chunks) + std::min(chunk, items % chunks); item < last; ++item) body(item, slot);
  };
  plan.team().for_each(chunks, std::cref(chunk_body));
}

}  // namespace lamina::attention
