// What forward and backward share: a call, a head of it, a block of queries, a tile of scores, and the two steps that hold all
// of attention's rules of visibility: score() and visible_product().
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

  T query_factor;  // of Q in the scores: t = S log2 e for softmax, else S
  T unit;          // t of S = 1

  Call(const Plan& p, const lamina_attention_arrays& a)
      : plan(p), arrays(a), kernel(p.isa->table<T>()), step(p.isa->table<T>().attention) {
    const double log2_e = 0x1.71547652b82fep+0;
    query_factor = static_cast<T>(p.map == kernels::Map::softmax ? p.scale * log2_e : p.scale);
    unit = static_cast<T>(p.map == kernels::Map::softmax ? log2_e : 1);
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

// Queries i0 <= i < i0 + rows of one head, and the keys first <= j < last outside which they see none (first at a chunk's
// start). places >= rows counts those past the sequence's length as well, whose results are those of rows that see nothing;
// planned >= places those that only outputs [query, key] have.
struct Block {
  int64_t i0, rows, places, planned;
  int64_t stride;
  int64_t first, last;

  // `queries`: the places of the sequence
  Block(const Plan& plan, const Band& band, int64_t queries, int64_t index)
      : i0(index * plan.query_block),
        rows(std::clamp<int64_t>(band.queries() - i0, 0, plan.query_block)),
        places(std::clamp<int64_t>(queries - i0, 0, plan.query_block)),
        planned(std::min(plan.L_q - i0, plan.query_block)),
        stride(kernels::padded(rows)),
        first(rows > 0 ? band.first(i0) / plan.key_chunk * plan.key_chunk : 0),
        last(rows > 0 ? band.last(i0 + rows - 1) : 0) {}
};

// Keys j0 <= j < j0 + keys against a block; (j, i) at (j - j0) * stride + (i - i0).
template <class T>
struct Tile {
  int64_t j0, keys;
  T* s;  // t, then P
  T* g;  // backward: G, then dS
  uint16_t* visible_room;
  const uint16_t* visible;  // nullptr: every query sees every key

  Tile(const Plan& plan, const Band& band, int64_t start, T* scores, T* cotangents, uint16_t* room)
      : j0(start),
        keys(std::min(plan.key_chunk, band.keys() - start)),
        s(scores),
        g(cotangents),
        visible_room(room),
        visible(nullptr) {}
};

// Finds what the queries of a block see in a tile; bias is that of the tile, or nullptr. seen[i] (unless nullptr) grows by the
// number of keys that query i sees.
template <class T>
void find_visible(const Head<T>& head, const Block& block, Tile<T>& tile, const T* bias, int64_t* seen) {
  const int64_t rows = block.rows, stride = block.stride;
  tile.visible = nullptr;
  if (head.mask || bias || head.band.cover(block.i0, block.i0 + rows, tile.j0, tile.j0 + tile.keys) != Cover::all) {
    int64_t total = 0;
    for (int64_t j = 0; j < tile.keys; ++j) {
      uint16_t* row = tile.visible_room + j * stride;
      const int64_t from = std::clamp<int64_t>(head.band.first_query(tile.j0 + j) - block.i0, 0, rows);
      const int64_t to = std::clamp<int64_t>(head.band.last_query(tile.j0 + j) - block.i0, from, rows);
      for (int64_t i = 0; i < stride; ++i) row[i] = from <= i && i < to;
      if (head.mask)
        for (int64_t i = from; i < to; ++i) row[i] = *head.mask.at(block.i0 + i, tile.j0 + j) != 0 ? 1 : 0;
      if (bias)
        for (int64_t i = from; i < to; ++i) row[i] = row[i] && bias[j * stride + i] != -infinity<T>;
      for (int64_t i = from; i < to; ++i) total += row[i];
      if (seen)
        for (int64_t i = from; i < to; ++i) seen[i] += row[i];
    }
    if (total != rows * tile.keys) tile.visible = tile.visible_room;
  } else if (seen) {
    for (int64_t i = 0; i < rows; ++i) seen[i] += tile.keys;
  }
}

// t = (c Q) K^T + unit bias over the visible keys, -inf elsewhere; m is the running maximum. q_t: (c Q)^T of the block
// [d, stride]; bias_room: one tile.
template <class T>
void score(const Call<T>& call, const Head<T>& head, const Block& block, const T* q_t, T* bias_room, Tile<T>& tile, T* m,
           int64_t* seen) {
  const int64_t stride = block.stride;
  call.kernel.gemm(tile.keys, stride, call.plan.d, head.k.at(tile.j0), head.k.row, head.k.col, q_t, stride, tile.s, stride,
                   false);
  const T* bias = tile_of_input(call, head.bias, block, tile, bias_room);
  find_visible(head, block, tile, bias, seen);
  call.step.score(tile.keys, stride, bias, call.unit, tile.visible, tile.s, m);
}

// The part of an input [query, key] that belongs to a tile, in the tile's layout; nullptr if it is absent.
template <class T>
const T* tile_of_input(const Call<T>& call, const Matrix<const T>& x, const Block& block, const Tile<T>& tile, T* room) {
  if (!x) return nullptr;
  call.step.transpose(block.rows, tile.keys, T(1), x.at(block.i0, tile.j0), x.row, x.col, room, block.stride);
  return room;
}

// C = (accumulate ? C : 0) + A B, where A[r,l] is 0 for what is not visible. `visible` is laid out as A. A number of B that is
// not finite must not reach a row that does not see it, as 0 * inf = NaN would: then each row takes its visible runs only.
template <class T>
void visible_product(const Call<T>& call, const uint16_t* visible, int64_t m, int64_t n, int64_t k, const T* a, int64_t a_row,
                     int64_t a_col, const T* b, int64_t b_row, T* c, int64_t c_row, bool accumulate) {
  if (!visible || call.step.finite(k, n, b, b_row)) {
    call.kernel.gemm(m, n, k, a, a_row, a_col, b, b_row, c, c_row, accumulate);
    return;
  }
  for (int64_t r = 0; r < m; ++r) {
    if (!accumulate) std::fill_n(c + r * c_row, n, T(0));
    const auto sees = [&](int64_t l) { return visible[r * a_row + l * a_col] != 0; };
    for (int64_t l = 0; l < k;) {
      int64_t end = l;
      while (end < k && sees(end)) ++end;
      if (end > l)
        call.kernel.gemm(1, n, end - l, a + r * a_row + l * a_col, a_row, a_col, b + l * b_row, b_row, c + r * c_row, c_row,
                         true);
      l = end + 1;
    }
  }
}

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
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t f = 0; f < cols; ++f) *x.at(first_row + i, f) = factor * y[i * y_row + f];
}
// factor times a tile into an output [query, key].
template <class T>
void put_tile(const Matrix<T>& x, const Block& block, const Tile<T>& tile, const T* values, T factor) {
  for (int64_t i = 0; i < block.rows; ++i)
    for (int64_t j = 0; j < tile.keys; ++j) *x.at(block.i0 + i, tile.j0 + j) = factor * values[j * block.stride + i];
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
