// Linear attention by states (states.hpp): blocks of queries ascending for O and dQ, descending for dK and dV.
#include "attention/states.hpp"

#include <cmath>

#include "attention/tile.hpp"

namespace lamina::attention {
namespace {

using kernels::padded;

// Queries of a block where there is a band: few, for the pairs of a tile are as many for each query, but enough for the
// products.
constexpr int64_t band_block = 32;

// Scratch of one thread; rows of features are padded.
template <class T>
struct Scratch {
  T *m, *m_t, *add;   // a state [d, d_v], its transpose, what one chunk adds to either
  T *q_t, *do_t;      // Q^T [panels, d, 16], dO^T / N [panels, d_v, 16] of a block
  T *q, *d_o;         // Q and dO / N of a block, features contiguous
  T *k, *v;           // K and V of a chunk, likewise
  T *s, *g;           // the tile of a block: S, G
  uint16_t* visible;  // likewise
  T *o, *dk, *dv;     // sums: O or dQ of a block, dK and dV of a chunk
  T* factor;          // scale / N or 1 / N of a block

  Scratch(const Plan& plan, int32_t direction, Carver& carver) {
    const int64_t d = padded(plan.d), d_v = padded(plan.d_v), rows = block_panels * panel, keys = plan.key_chunk;
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
    visible = carver.take<uint16_t>(keys, rows);
    o = carver.take<T>(rows, std::max(d, d_v));
    dk = carver.take<T>(backward * keys, d);
    dv = carver.take<T>(backward * keys, d_v);
    factor = carver.take<T>(rows);
  }
};

template <class T>
Matrix<const T> matrix(const Rows<T>& x) {
  return {x.data, x.row, 1};
}

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

  void forward() {
    clear(w_.m, plan_.d, d_v_row_);
    int64_t held = 0;  // keys of the state
    for (int64_t i0 = 0; i0 < plan_.L_q; i0 += block_) {
      if (i0 < band().queries())
        held = hold(w_.m, plan_.d, plan_.d_v, first_head_.k, first_head_.v, w_.v, held, seen_by_all(i0));
      for_each_head([&](int64_t h) { outputs(h, i0); });
    }
  }

  void backward(double* dscale) {
    clear(w_.m_t, plan_.d_v, d_row_);
    std::fill_n(dscale, plan_.group * plan_.blocks(), 0.0);
    int64_t held = 0;
    for (int64_t i0 = 0; i0 < plan_.L_q; i0 += block_) {
      if (i0 < band().queries())
        held = hold(w_.m_t, plan_.d_v, plan_.d, first_head_.v, first_head_.k, w_.k, held, seen_by_all(i0));
      for_each_head([&](int64_t h) { dscale[(h - group_ * plan_.group) * plan_.blocks()] += query_gradients(h, i0); });
    }
    key_gradients();
  }

 private:
  static Scratch<T> carve(const Plan& plan, int32_t direction, char* memory) {
    Carver carver(memory);
    return Scratch<T>(plan, direction, carver);
  }
  const Band& band() const { return first_head_.band; }
  // The keys before this are those that all queries from i0 on see.
  int64_t seen_by_all(int64_t i0) const { return std::clamp<int64_t>(i0 + band().after(), 0, band().keys()); }
  static void clear(T* x, int64_t rows, int64_t row) { std::fill_n(x, rows * row, T(0)); }
  template <class Body>
  void for_each_head(const Body& body) const {
    for (int64_t h = group_ * plan_.group; h < (group_ + 1) * plan_.group; ++h) body(h);
  }

  // state += sum over rows of x^T y, one chain
  void add_outer(T* state, int64_t rows, int64_t cols, int64_t count, const Matrix<const T>& x, int64_t first,
                 const Rows<T>& y) {
    const int64_t row = padded(cols);
    call_.kernel.gemm(rows, cols, count, x.at(first), x.col, x.row, y.data, y.row, w_.add, row, false);
    call_.step.scale_add(rows, cols, nullptr, w_.add, row, state, row);
  }
  // Keys held <= j < wanted into a state of x^T y, chunk by chunk; returns how many it holds.
  int64_t hold(T* state, int64_t rows, int64_t cols, const Matrix<const T>& x, const Matrix<const T>& y, T* room, int64_t held,
               int64_t wanted) {
    while (held < wanted) {
      const int64_t count = std::min(plan_.key_chunk, wanted - held);
      add_outer(state, rows, cols, count, x, held, contiguous(y, held, count, cols, room));
      held += count;
    }
    return held;
  }

  // Keys that some but not all queries of a block see
  bool has_tile(const Block& block) const { return block.rows > 0 && seen_by_all(block.i0) < block.last; }
  Tile<T> tile_of(const Head<T>& head, const Block& block) const {
    Tile<T> tile(plan_, block, seen_by_all(block.i0), w_.s, w_.g, w_.visible);
    find_visible(head, block, tile, static_cast<const T*>(nullptr), static_cast<int64_t*>(nullptr));
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
  void scores(const Head<T>& head, const Block& block, const Tile<T>& tile) const {
    keys_by_queries<T>(call_, block, tile, plan_.d, head.k, w_.q_t, T(0), nullptr, T(1), tile.s, nullptr);
  }
  void cotangents(const Head<T>& head, const Block& block, const Tile<T>& tile) const {
    keys_by_queries<T>(call_, block, tile, plan_.d_v, head.v, w_.do_t, T(0), nullptr, T(1), tile.g, nullptr);
  }

  // O = scale / N (Q M + S V)
  void outputs(int64_t h, int64_t i0) {
    const Head<T> head(call_, b_, h);
    const Block block(plan_, band(), call_.queries(b_), i0, block_);
    const Matrix<T> o = call_.of_queries(call_.arrays.o, b_, h);
    call_.kernel.gemm(block.rows, plan_.d_v, plan_.d, head.q.at(block.i0), head.q.row, head.q.col, w_.m, d_v_row_, w_.o,
                      d_v_row_, false);
    if (has_tile(block)) {
      const Tile<T> tile = tile_of(head, block);
      transpose(call_, block, plan_.d, T(1), head.q, w_.q_t);
      scores(head, block, tile);
      const Rows<T> v = contiguous(head.v, tile.j0, tile.keys, plan_.d_v, w_.v);
      queries_by_features<T>(call_, block, tile, tile.s, v, plan_.d_v, w_.o, d_v_row_, no_factor_, nullptr);
    }
    set_factor(block, static_cast<T>(plan_.scale));
    const bool direct = o.col == 1;
    call_.step.divide(block.rows, plan_.d_v, true, w_.factor, w_.o, d_v_row_, direct ? o.at(block.i0) : w_.o,
                      direct ? o.row : d_v_row_);
    if (!direct) put_rows(o, block.i0, block.rows, plan_.d_v, w_.o, d_v_row_, T(1));
    fill(o, block.i0 + block.rows, block.places - block.rows, plan_.d_v, T(0));
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

  // dQ = scale (dO / N M^T + G K); returns dscale
  double query_gradients(int64_t h, int64_t i0) {
    const Head<T> head(call_, b_, h);
    const Block block(plan_, band(), call_.queries(b_), i0, block_);
    const Matrix<T> d_q = call_.of_queries(call_.arrays.d_q, b_, h);
    double dscale = 0;
    if (block.rows > 0) {
      const Rows<T> d_o = cotangent_rows(block, h);
      call_.kernel.gemm(block.rows, plan_.d, plan_.d_v, d_o.data, d_o.row, 1, w_.m_t, d_row_, w_.o, d_row_, false);
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
      put_rows(d_q, block.i0, block.rows, plan_.d, w_.o, d_row_, static_cast<T>(plan_.scale));
      fill(d_q, block.i0 + block.rows, block.places - block.rows, plan_.d, T(0));
    }
    return dscale;
  }

  // dK = scale (V R^T + G^T Q), dV = scale (K R + S^T dO / N)
  void key_gradients() {
    const int64_t queries = band().queries(), seen = band().last(queries - 1);
    clear(w_.m, plan_.d, d_v_row_);
    clear(w_.m_t, plan_.d_v, d_row_);
    int64_t end = seen;
    for (int64_t i0 = (queries - 1) / block_ * block_; i0 >= 0; i0 -= block_) {
      const Block block(plan_, band(), call_.queries(b_), i0, block_);
      const int64_t first = seen_by_all(block.i0);
      if (first < end) chunk_gradients(first, end, &block);
      end = first;
      for_each_head([&](int64_t h) {
        const Head<T> head(call_, b_, h);
        add_outer(w_.m, plan_.d, plan_.d_v, block.rows, head.q, block.i0, cotangent_rows(block, h));
      });
      stale_ = true;
    }
    for (int64_t first = 0; first < end; first += plan_.key_chunk)
      chunk_gradients(first, std::min(first + plan_.key_chunk, end), nullptr);
    const int64_t unseen = call_.keys(b_) - seen;
    if (const Matrix<T> d_k = call_.of_keys(call_.arrays.d_k, b_, group_)) fill(d_k, seen, unseen, plan_.d, T(0));
    if (const Matrix<T> d_v = call_.of_keys(call_.arrays.d_v, b_, group_)) fill(d_v, seen, unseen, plan_.d_v, T(0));
  }

  // Of keys first <= j < last, which the queries of R see, and some of those of `block` (unless nullptr).
  void chunk_gradients(int64_t first, int64_t last, const Block* block) {
    const Head<T>& x = first_head_;
    if (stale_) transpose_state();
    stale_ = false;
    call_.kernel.gemm(last - first, plan_.d, plan_.d_v, x.v.at(first), x.v.row, x.v.col, w_.m_t, d_row_, w_.dk, d_row_, false);
    call_.kernel.gemm(last - first, plan_.d_v, plan_.d, x.k.at(first), x.k.row, x.k.col, w_.m, d_v_row_, w_.dv, d_v_row_,
                      false);
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
    const T scale = static_cast<T>(plan_.scale);
    if (const Matrix<T> d_k = call_.of_keys(call_.arrays.d_k, b_, group_))
      put_rows(d_k, first, last - first, plan_.d, w_.dk, d_row_, scale);
    if (const Matrix<T> d_v = call_.of_keys(call_.arrays.d_v, b_, group_))
      put_rows(d_v, first, last - first, plan_.d_v, w_.dv, d_v_row_, scale);
  }

  // m_t = m^T
  void transpose_state() {
    for (int64_t f = 0; f < plan_.d; f += panel) {
      call_.step.transpose(std::min(panel, plan_.d - f), plan_.d_v, T(1), w_.m + f * d_v_row_, d_v_row_, 1, w_.add);
      for (int64_t g = 0; g < plan_.d_v; ++g) std::copy_n(w_.add + g * panel, panel, w_.m_t + g * d_row_ + f);
    }
  }

  const Call<T>& call_;
  const Plan& plan_;
  const int64_t b_, group_;
  const Head<T> first_head_;  // of those that read the key head: its band, K and V are theirs
  const Scratch<T> w_;
  const int64_t block_ = plan_.causal == LAMINA_CAUSAL_NONE && plan_.right < 0 ? block_panels * panel : band_block;
  const int64_t d_row_ = padded(plan_.d), d_v_row_ = padded(plan_.d_v);  // rows of sums and states
  const T* const no_factor_[block_panels] = {};
  bool stale_ = false;  // m has changed since m_t was made of it
};

template <class T>
bool all_finite(const Call<T>& call, const Matrix<const T>& x, int64_t rows, int64_t cols) {
  if (x.col == 1) return call.step.finite(rows, cols, x.data, x.row);
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t f = 0; f < cols; ++f)
      if (!std::isfinite(*x.at(i, f))) return false;
  return true;
}

}  // namespace

// Below, scores are fewer multiply-adds or nearly.
int64_t least_for_states(const Plan& plan) {
  const uint32_t elsewhere = LAMINA_WITH_BIAS | LAMINA_WITH_MASK | LAMINA_WITH_WEIGHTS | LAMINA_WITH_SCORES;
  if (plan.map != kernels::Map::linear || plan.normaliser == kernels::Normaliser::row_sum || plan.has(elsewhere) ||
      plan.left >= 0 || plan.d_v == 0)
    return 0;
  const bool everyone = plan.causal == LAMINA_CAUSAL_NONE && plan.right < 0;
  const int64_t width = std::max(plan.d, plan.d_v);
  const int64_t least = everyone ? std::max<int64_t>(64, 2 * width) : std::max<int64_t>(256, 4 * width);
  return std::min(plan.L_q, plan.L_k) >= least ? least : 0;
}

template <class T>
bool by_states(const Call<T>& call, int32_t direction, int64_t b, int64_t group) {
  const Plan& plan = call.plan;
  const Band band = call.band(b);
  if (plan.states_from == 0 || std::min(band.queries(), band.keys()) < plan.states_from) return false;
  if (!all_finite(call, call.of_keys(call.arrays.k, b, group), band.keys(), plan.d) ||
      !all_finite(call, call.of_keys(call.arrays.v, b, group), band.keys(), plan.d_v))
    return false;
  for (int64_t h = group * plan.group; h < (group + 1) * plan.group; ++h)
    if (!all_finite(call, call.of_queries(call.arrays.q, b, h), band.queries(), plan.d) ||
        (direction == LAMINA_BACKWARD && !all_finite(call, call.of_queries(call.arrays.d_o, b, h), band.queries(), plan.d_v)))
      return false;
  return true;
}

template <class T>
size_t states_bytes(const Plan& plan, int32_t direction) {
  if (plan.states_from == 0) return 0;
  Carver carver;
  Scratch<T>(plan, direction, carver);
  return carver.bytes();
}

template <class T>
void states_forward(const Call<T>& call, char* memory, int64_t b, int64_t group) {
  States<T>(call, LAMINA_FORWARD, memory, b, group).forward();
}
template <class T>
void states_backward(const Call<T>& call, char* memory, int64_t b, int64_t group, double* dscale) {
  States<T>(call, LAMINA_BACKWARD, memory, b, group).backward(dscale);
}

template bool by_states(const Call<float>&, int32_t, int64_t, int64_t);
template bool by_states(const Call<double>&, int32_t, int64_t, int64_t);
template size_t states_bytes<float>(const Plan&, int32_t);
template size_t states_bytes<double>(const Plan&, int32_t);
template void states_forward(const Call<float>&, char*, int64_t, int64_t);
template void states_forward(const Call<double>&, char*, int64_t, int64_t);
template void states_backward(const Call<float>&, char*, int64_t, int64_t, double*);
template void states_backward(const Call<double>&, char*, int64_t, int64_t, double*);

}  // namespace lamina::attention
