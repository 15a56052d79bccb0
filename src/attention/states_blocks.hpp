// Linear attention by states (states.hpp), block by block: what keys and queries add to a state, and what a block of queries or
// a chunk of keys makes of one. states.cpp has the order.
#pragma once
#include "attention/states.hpp"
#include "attention/states_range.hpp"
#include "attention/tile.hpp"

namespace lamina::attention {

// Scratch of one thread; rows of features are padded.
template <class T>
struct StatesScratch {
  T *m, *m_t, *add;   // a state [d, d_v], its transpose, what one chunk adds to either
  T *q_t, *do_t;      // Q^T [panels, d, 16], dO^T / N [panels, d_v, 16] of a block
  T *q, *d_o;         // Q and dO / N of a block, features contiguous
  T *k, *v;           // K and V of a chunk, likewise
  T *s, *g;           // the tile of a block: S, G
  uint8_t* visible;   // likewise
  T *o, *dk, *dv;     // sums: O or dQ of a block, dK and dV of a chunk
  T* factor;          // scale / N or 1 / N of a block, or the scale, of rows on their way into a result

  StatesScratch(const Plan& plan, int32_t direction, Carver& carver) {
    const int64_t d = kernels::padded(plan.d), d_v = kernels::padded(plan.d_v), rows = block_panels * panel;
    const int64_t keys = plan.key_chunk;
    const int64_t backward = direction == LAMINA_BACKWARD ? 1 : 0;
    m = carver.take<T>(d, d_v);
    m_t = carver.take<T>(backward * d_v, d);
    add = carver.take<T>(d, d_v);
    q_t = carver.take<T>(d, rows);
    do_t = carver.take<T>(backward * d_v, rows);
    q = carver.take<T>(backward * rows, d);
    d_o = carver.take<T>(backward * rows, d_v);
    k = carver.take<T>(backward * keys, d);
    v = carver.take<T>(keys, d_v);
    s = carver.take<T>(keys, rows);
    g = carver.take<T>(backward * keys, rows);
    visible = carver.take<uint8_t>(keys, rows);
    o = carver.take<T>(rows, std::max(d, d_v));
    dk = carver.take<T>(backward * keys, d);
    dv = carver.take<T>(backward * keys, d_v);
    factor = carver.take<T>(std::max(rows, backward * keys));
  }
};

// A matrix of contiguous rows.
template <class T>
Matrix<const T> matrix(const Rows<T>& x) {
  return {x.data, x.row, 1};
}

// One key head and the heads that read it, in the hands of one thread.
template <class T>
class States {
 public:
  States(const Call<T>& call, int32_t direction, char* memory, int64_t b, int64_t group)
      : call_(call),
        plan_(call.plan),
        b_(b),
        group_(group),
        first_head_(call, b, group * plan_.group),
        w_(carve(call.plan, direction, memory)) {}

  // From here on the sizes of all numbers that add to a state or are multiplied by one are taken into `seen`.
  void measure(Ranges& seen) { seen_ = &seen; }

  const Band& band() const { return first_head_.band; }
  const StatesScratch<T>& scratch() const { return w_; }
  int64_t first_head() const { return group_ * plan_.group; }

  bool has_band() const { return plan_.causal != LAMINA_CAUSAL_NONE || plan_.right >= 0; }
  int64_t block_queries() const { return has_band() ? band_block : block_panels * panel; }
  int64_t blocks() const { return (plan_.L_q + block_queries() - 1) / block_queries(); }
  Block block(int64_t index) const { return Block(plan_, band(), call_.queries(b_), index * block_queries(), block_queries()); }
  // The keys before this are those that all queries from i0 on see.
  int64_t seen_by_all(int64_t i0) const { return std::clamp<int64_t>(i0 + band().after(), 0, band().keys()); }
  // The last block with a query of the sequence; blocks after it have the state of this.
  int64_t last_block() const { return (band().queries() - 1) / block_queries(); }
  // The keys before this are in the state of a block.
  int64_t held(int64_t index) const { return seen_by_all(std::min(index, last_block()) * block_queries()); }

  // What keys first <= j < first + count, at most a chunk, add to M, or to M^T in LAMINA_BACKWARD: one chain.
  void key_chain(int32_t direction, int64_t first, int64_t count, T* sum) const {
    const Head<T>& x = first_head_;
    if (seen_) {
      seen_->k.take(range_of(call_, x.k, first, count, plan_.d));
      seen_->v.take(range_of(call_, x.v, first, count, plan_.d_v));
    }
    if (direction == LAMINA_FORWARD)
      outer(plan_.d, plan_.d_v, count, x.k, first, contiguous(x.v, first, count, plan_.d_v, w_.v), sum);
    else
      outer(plan_.d_v, plan_.d, count, x.v, first, contiguous(x.k, first, count, plan_.d, w_.k), sum);
  }
  // What the queries of a block of one head add to R: one chain.
  void query_chain(int64_t h, const Block& block, T* sum) {
    const Head<T> head(call_, b_, h);
    if (seen_) {
      seen_->q.take(range_of(call_, head.q, block.i0, block.rows, plan_.d));
      seen_->d_o.take(range_of(call_, call_.of_queries(call_.arrays.d_o, b_, h), block.i0, block.rows, plan_.d_v));
    }
    outer(plan_.d, plan_.d_v, block.rows, head.q, block.i0, cotangent_rows(block, h), sum);
  }

  // O = scale / N (Q M + S V)
  void outputs(int64_t h, const Block& block, const T* m) {
    const Head<T> head(call_, b_, h);
    const Matrix<T> o = call_.of_queries(call_.arrays.o, b_, h);
    if (seen_) seen_->q.take(range_of(call_, head.q, block.i0, block.rows, plan_.d));
    call_.kernel.gemm(block.rows, plan_.d_v, plan_.d, head.q.at(block.i0), head.q.row, head.q.col, m, d_v_row_, w_.o, d_v_row_,
                      false);
    if (has_tile(block)) {
      const Tile<T> tile = tile_of(head, block);
      transpose(call_, block, plan_.d, T(1), head.q, w_.q_t);
      scores(head, block, tile);
      const Rows<T> v = contiguous(head.v, tile.j0, tile.keys, plan_.d_v, w_.v);
      queries_by_features<T>(call_, block, tile, tile.s, v, plan_.d_v, w_.o, d_v_row_, no_factor_, nullptr);
    }
    set_factor(block, static_cast<T>(plan_.scale));
    put_multiplied(o, block.i0, block.rows, plan_.d_v, w_.o, d_v_row_);
    fill(o, block.i0 + block.rows, block.places - block.rows, plan_.d_v, T(0));
  }

  // dQ = scale (dO / N M^T + G K); returns dscale
  double query_gradients(int64_t h, const Block& block, const T* m_t) {
    const Head<T> head(call_, b_, h);
    const Matrix<T> d_q = call_.of_queries(call_.arrays.d_q, b_, h);
    double dscale = 0;
    if (block.rows > 0) {
      const Rows<T> d_o = cotangent_rows(block, h);
      call_.kernel.gemm(block.rows, plan_.d, plan_.d_v, d_o.data, d_o.row, 1, m_t, d_row_, w_.o, d_row_, false);
      if (has_tile(block)) {
        const Tile<T> tile = tile_of(head, block);
        transpose(call_, at_zero(block), plan_.d_v, T(1), matrix(d_o), w_.do_t);
        cotangents(head, block, tile);
        const Rows<T> k = contiguous(head.k, tile.j0, tile.keys, plan_.d, w_.k);
        queries_by_features<T>(call_, block, tile, tile.g, k, plan_.d, w_.o, d_row_, no_factor_, nullptr);
      }
      for (int64_t i = 0; i < block.rows && call_.arrays.d_scale; ++i)
        for (int64_t f = 0; f < plan_.d; ++f)
          dscale += static_cast<double>(*head.q.at(block.i0 + i, f)) * static_cast<double>(w_.o[i * d_row_ + f]);
    }
    if (d_q) {
      put_scaled(d_q, block.i0, block.rows, plan_.d, w_.o, d_row_);
      fill(d_q, block.i0 + block.rows, block.places - block.rows, plan_.d, T(0));
    }
    return dscale;
  }

  // dK = scale (V R^T + G^T Q), dV = scale (K R + S^T dO / N) of keys first <= j < last, which the queries of R see, and some
  // of those of `block` (unless nullptr). r_t = R^T
  void key_gradients(int64_t first, int64_t last, const Block* block, const T* r, const T* r_t) {
    const Head<T>& x = first_head_;
    call_.kernel.gemm(last - first, plan_.d, plan_.d_v, x.v.at(first), x.v.row, x.v.col, r_t, d_row_, w_.dk, d_row_, false);
    call_.kernel.gemm(last - first, plan_.d_v, plan_.d, x.k.at(first), x.k.row, x.k.col, r, d_v_row_, w_.dv, d_v_row_, false);
    if (block)
      for_each_head([&](int64_t h) {
        const Head<T> head(call_, b_, h);
        const Tile<T> tile = tile_of(head, *block);
        const Rows<T> d_o = cotangent_rows(*block, h), q = contiguous(head.q, block->i0, block->rows, plan_.d, w_.q);
        transpose(call_, *block, plan_.d, T(1), head.q, w_.q_t);
        transpose(call_, at_zero(*block), plan_.d_v, T(1), matrix(d_o), w_.do_t);
        scores(head, *block, tile);
        cotangents(head, *block, tile);
        keys_by_features(call_, *block, tile, tile.g, q, plan_.d, w_.dk, d_row_);
        keys_by_features(call_, *block, tile, tile.s, d_o, plan_.d_v, w_.dv, d_v_row_);
      });
    if (const Matrix<T> d_k = call_.of_keys(call_.arrays.d_k, b_, group_))
      put_scaled(d_k, first, last - first, plan_.d, w_.dk, d_row_);
    if (const Matrix<T> d_v = call_.of_keys(call_.arrays.d_v, b_, group_))
      put_scaled(d_v, first, last - first, plan_.d_v, w_.dv, d_v_row_);
  }

  // Those that no query sees.
  void unseen_key_gradients() {
    const int64_t seen = band().last(band().queries() - 1), unseen = call_.keys(b_) - seen;
    if (const Matrix<T> d_k = call_.of_keys(call_.arrays.d_k, b_, group_)) fill(d_k, seen, unseen, plan_.d, T(0));
    if (const Matrix<T> d_v = call_.of_keys(call_.arrays.d_v, b_, group_)) fill(d_v, seen, unseen, plan_.d_v, T(0));
  }

  // R^T, in the thread's own memory
  const T* transposed(const T* r) const {
    for (int64_t f = 0; f < plan_.d; f += panel) {
      call_.step.transpose(std::min(panel, plan_.d - f), plan_.d_v, T(1), r + f * d_v_row_, d_v_row_, 1, w_.add);
      for (int64_t g = 0; g < plan_.d_v; ++g) std::copy_n(w_.add + g * panel, panel, w_.m_t + g * d_row_ + f);
    }
    return w_.m_t;
  }

 private:
  static StatesScratch<T> carve(const Plan& plan, int32_t direction, char* memory) {
    Carver carver(memory);
    return StatesScratch<T>(plan, direction, carver);
  }
  template <class Body>
  void for_each_head(const Body& body) const {
    for (int64_t h = first_head(); h < first_head() + plan_.group; ++h) body(h);
  }
  // sum over rows of x^T y
  void outer(int64_t rows, int64_t cols, int64_t count, const Matrix<const T>& x, int64_t first, const Rows<T>& y,
             T* sum) const {
    call_.kernel.gemm(rows, cols, count, x.at(first), x.col, x.row, y.data, y.row, sum, kernels::padded(cols), false);
  }

  // Keys that some but not all queries of a block see
  bool has_tile(const Block& block) const { return block.rows > 0 && seen_by_all(block.i0) < block.last; }
  Tile<T> tile_of(const Head<T>& head, const Block& block) const {
    Tile<T> tile(plan_, block, seen_by_all(block.i0), w_.s, w_.g, w_.visible);
    find_visible(call_, head, block, tile, nullptr);
    return tile;
  }
  // factor x of every query of a block: numerator / N, 0 where nothing is seen
  void set_factor(const Block& block, T numerator) {
    for (int64_t i = 0; i < block.rows; ++i) {
      const int64_t seen = band().last(block.i0 + i);
      w_.factor[i] = seen == 0                                          ? T(0)
                     : plan_.normaliser == kernels::Normaliser::visible ? numerator / static_cast<T>(seen)
                                                                        : numerator;
    }
  }
  // Rows of x, times the factors of a block, or the scale, into a result.
  void put_multiplied(const Matrix<T>& y, int64_t first, int64_t rows, int64_t cols, T* x, int64_t x_row) const {
    const bool direct = y.col == 1;
    call_.step.divide(rows, cols, true, w_.factor, x, x_row, direct ? y.at(first) : x, direct ? y.row : x_row);
    if (!direct) put_rows(y, first, rows, cols, x, x_row, T(1));
  }
  void put_scaled(const Matrix<T>& y, int64_t first, int64_t rows, int64_t cols, T* x, int64_t x_row) const {
    std::fill_n(w_.factor, rows, static_cast<T>(plan_.scale));
    put_multiplied(y, first, rows, cols, x, x_row);
  }
  void scores(const Head<T>& head, const Block& block, const Tile<T>& tile) const {
    keys_by_queries<T>(call_, block, tile, plan_.d, head.k, w_.q_t, T(0), {}, tile.s, nullptr);
  }
  void cotangents(const Head<T>& head, const Block& block, const Tile<T>& tile) const {
    keys_by_queries<T>(call_, block, tile, plan_.d_v, head.v, w_.do_t, T(0), {}, tile.g, nullptr);
  }

  // dO / N of a block
  Rows<T> cotangent_rows(const Block& block, int64_t h) {
    const Rows<T> d_o = contiguous(call_.of_queries(call_.arrays.d_o, b_, h), block.i0, block.rows, plan_.d_v, w_.d_o);
    if (plan_.normaliser == kernels::Normaliser::none) return d_o;
    set_factor(block, T(1));
    call_.step.divide(block.rows, plan_.d_v, true, w_.factor, d_o.data, d_o.row, w_.d_o, d_v_row_);
    return {w_.d_o, d_v_row_};
  }
  // Rows and panels of a block are those of one that begins at its first row.
  Block at_zero(Block block) const {
    block.i0 = 0;
    return block;
  }

  const Call<T>& call_;
  const Plan& plan_;
  const int64_t b_, group_;
  const Head<T> first_head_;  // of those that read the key head: its band, K and V are theirs
  const StatesScratch<T> w_;
  const int64_t d_row_ = kernels::padded(plan_.d), d_v_row_ = kernels::padded(plan_.d_v);  // rows of sums and states
  const T* const no_factor_[block_panels] = {};
  Ranges* seen_ = nullptr;
};

}  // namespace lamina::attention
