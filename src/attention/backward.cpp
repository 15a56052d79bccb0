// Attention backward, the mirror of forward.cpp: P is made again from q, k and bias, block of queries by block, then its
// adjoints. One sweep per key head where dK and dV of a head fit the cache; for few key heads and several threads one per
// segment of queries, whose dK and dV are added up after; else one over blocks (dQ) and one over chunks (dK, dV). Each sum has
// the same order in all, so the bits are the same.
#include "attention/backward_block.hpp"
#include "attention/short.hpp"
#include "attention/states.hpp"

namespace lamina::attention {
namespace {

using kernels::Map;
using kernels::padded;

template <class T>
class Backward {
 public:
  Backward(const Call<T>& call, const Scratch<T>& scratch, const Shared<T>& shared)
      : call_(call), plan_(call.plan), w_(scratch), shared_(shared), d_row_(padded(plan_.d)), dv_row_(padded(plan_.d_v)) {}

  // Sweep::key_head: all gradients of one key head and of the heads that read it.
  void key_head(int64_t b, int64_t group) {
    const Segments<T> segments(call_, b);
    for (int64_t part = 0; part < segments.parts(); ++part) {
      segment(b, group, part, part == 0 ? w_.total : w_.partial);
      if (part > 0) segments.add(part, 0, {0, plan_.L_k}, w_.partial, w_.total);
    }
    segments.write(group, 0, {0, call_.keys(b)}, w_.total);
  }

  // The same, in one sweep or two.
  void all_of(int64_t b, int64_t group) {
    if (plan_.sweep == Sweep::key_head) return key_head(b, group);
    for (int64_t h = group * plan_.group; h < (group + 1) * plan_.group; ++h)
      for (int64_t index = 0; index < plan_.blocks(); ++index) query_block(b, h, index);
    for (int64_t chunk = 0; chunk < plan_.chunks(); ++chunk) key_chunk(b, group, chunk * plan_.key_chunk);
  }

  // All gradients of the queries of one part, and its sums.
  void segment(int64_t b, int64_t group, int64_t part, const Sums<T>& sums) {
    const Segments<T> segments(call_, b);
    segments.begin(part, sums);
    sums_ = sums;
    segments.for_each_block(group, part, [&](int64_t h, int64_t index) { query_block(b, h, index); });
  }

  // dQ, dbias, dscale of one block; adds to dK, dV (Sweep::twice: leaves its statistics for key_chunk).
  void query_block(int64_t b, int64_t h, int64_t index) {
    const Queries<T> x(call_, w_, b, h, index);
    if (x.d_bias) fill(x.d_bias, x.block.i0, x.block.planned, plan_.L_k, T(0));
    const bool kept = statistics(x);
    std::fill_n(w_.dq, x.block.rows * d_row_, T(0));
    const T* begun[block_panels] = {};  // ones, of a panel whose dQ is
    for_each_tile(x, !kept, [&](Tile<T>& tile) {
      if (!kept) recompute(x, tile, plan_.normaliser == Normaliser::none ? w_.seen : nullptr);
      gradient(x, tile);
      if (x.d_bias) put_tile(x.d_bias, x.block, tile, tile.g, T(1));
      if (plan_.sweep != Sweep::twice) add_keys(x, tile, tile.j0);
      // 4. dQ += dS K, chunk by chunk
      const Rows<T> k = contiguous(x.head.k, tile.j0, tile.keys, plan_.d, w_.k);
      queries_by_features<T>(call_, x.block, tile, tile.g, k, plan_.d, w_.dq, d_row_, begun, w_.add);
      for (int64_t p = 0; p < x.block.panels; ++p)
        if (tile.seen[p].count() > 0) begun[p] = w_.ones;
    });
    write_queries(x);
  }

  // dK, dV of one chunk of keys, from the statistics of all blocks.
  void key_chunk(int64_t b, int64_t group, int64_t j0) {
    const Segments<T> segments(call_, b);
    for (int64_t part = 0; part < segments.parts(); ++part) {
      sums_ = part == 0 ? w_.total : w_.partial;
      segments.clear(sums_, 0, plan_.key_chunk);
      segments.for_each_block(group, part, [&](int64_t h, int64_t index) {
        tile_again(b, h, index, j0, [&](const Queries<T>& x, const Tile<T>& tile) { add_keys(x, tile, 0); });
      });
      if (part > 0) segments.add(part, j0, {j0, j0 + plan_.key_chunk}, w_.partial, w_.total);
    }
    segments.write(group, j0, {j0, std::min(j0 + plan_.key_chunk, call_.keys(b))}, w_.total);
  }

  // 6. dbias of one tile where it is a sum
  void sum_bias(int64_t item) {
    sum_of_bias<T>(call_, w_.bias, item, [&](int64_t b, int64_t h, int64_t index, int64_t chunk, const auto& add) {
      tile_again(b, h, index, chunk * plan_.key_chunk, [&](const Queries<T>& x, const Tile<T>& tile) { add(x.block, tile); });
    });
  }

 private:
  bool softmax() const { return plan_.map == Map::softmax; }
  bool needs_sums() const { return plan_.normaliser == Normaliser::row_sum; }

  // body(tile) for every chunk of keys that the block may see; unless `fresh`, a kept tile comes back as it was left.
  template <class Body>
  void for_each_tile(const Queries<T>& x, bool fresh, const Body& body) {
    for (int64_t j0 = x.block.first; j0 < x.block.last; j0 += plan_.key_chunk) {
      const int64_t kept = plan_.keep_tiles ? (j0 - x.block.first) / plan_.key_chunk : 0;
      const int64_t at = kept * plan_.key_chunk * padded(plan_.query_block);
      Tile<T>& tile = w_.tiles[kept];
      if (fresh) tile = Tile<T>(plan_, x.block, j0, w_.s + at, w_.g + at, w_.visible + at);
      body(tile);
    }
  }

  void score_tile(const Queries<T>& x, Tile<T>& tile, T* m, int64_t* seen) {
    score(call_, x.head, x.block, w_.q_t, tile, m, seen);
  }

  // 2a. G = dO V^T + dP
  void cotangent(const Queries<T>& x, Tile<T>& tile) {
    keys_by_queries<T>(call_, x.block, tile, plan_.d_v, x.head.v, w_.do_t, T(0), x.d_weights, tile.g, nullptr);
  }

  // 2b. p = exp2(t - m), exp with a bias, for softmax; sum (unless nullptr) += p, and d += p G
  void weigh(const Queries<T>& x, Tile<T>& tile, T* sum, T* d) {
    for (int64_t p = 0; p < x.block.panels; ++p) {
      const int64_t at = tile.at(p, tile.seen[p].first), keys = tile.seen[p].count(), i = p * panel;
      if (softmax())
        call_.step.softmax(call_.natural, keys, w_.m + i, tile.s + at, sum + i, d ? tile.g + at : nullptr, d ? d + i : nullptr);
      else
        call_.step.map(plan_.map, keys, tile.s + at, nullptr, sum + i, tile.g + at, d + i);
    }
  }

  // t, for softmax p in its place, and G of a tile.
  void recompute(const Queries<T>& x, Tile<T>& tile, int64_t* seen) {
    score_tile(x, tile, w_.m_any, seen);
    if (softmax()) weigh(x, tile, w_.sum_any, nullptr);
    cotangent(x, tile);
  }

  // 2c. m = max_j t;  N = sum_j P;  D = sum_j P G / N. Returns whether all tiles are left in memory as recompute() makes them.
  bool statistics(const Queries<T>& x);

  // 3. P, and dS = P (G - D + dlse) or w'(S) (G - D) / N
  void gradient(const Queries<T>& x, Tile<T>& tile) {
    for (int64_t p = 0; p < x.block.panels; ++p)
      tile.for_each_part(p, [&](Keys keys, const uint8_t* visible) {
        const int64_t at = tile.at(p, keys.first), i = p * panel;
        if (softmax())
          call_.step.softmax_gradient(keys.count(), visible, w_.divisor + i, w_.shift + i, tile.s + at, tile.g + at);
        else
          call_.step.map_gradient(plan_.map, keys.count(), visible, static_cast<T>(plan_.relu_at_zero),
                                  plan_.normaliser == Normaliser::none ? nullptr : w_.divisor + i,
                                  needs_sums() ? w_.shift + i : nullptr, tile.s + at, tile.g + at);
      });
  }

  // 4. dV += P^T dO;  dK += dS^T Q;  `first` is the row of the tile's first key in the sums
  void add_keys(const Queries<T>& x, const Tile<T>& tile, int64_t first) {
    if (call_.arrays.d_v.data)
      keys_by_features(call_, x.block, tile, tile.s, x.d_o, plan_.d_v, sums_.dv + first * dv_row_, dv_row_);
    if (call_.arrays.d_k.data) keys_by_features(call_, x.block, tile, tile.g, x.q, plan_.d, sums_.dk + first * d_row_, d_row_);
  }

  // body(queries, tile) on P and dS of a tile that the block may see, from the statistics of the block
  template <class Body>
  void tile_again(int64_t b, int64_t h, int64_t index, int64_t j0, const Body& body) {
    const Block block(plan_, call_.band(b), call_.queries(b), index);
    if (j0 < block.first || j0 >= block.last) return;
    const Queries<T> x(call_, w_, b, h, index);
    clear_unread();
    load_statistics(x);
    Tile<T> tile(plan_, block, j0, w_.s, w_.g, w_.visible);
    recompute(x, tile, nullptr);
    gradient(x, tile);
    body(x, tile);
  }

  // 5. dQ = scale (dS K);  dscale = sum_i Q_i . (dS K)_i over the rows that see a key
  void write_queries(const Queries<T>& x) {
    const Block& block = x.block;
    if (const Matrix<T> d_q = call_.of_queries(call_.arrays.d_q, x.b, x.h)) {
      put_rows(d_q, block.i0, block.rows, plan_.d, w_.dq, d_row_, static_cast<T>(plan_.scale));
      fill(d_q, block.i0 + block.rows, block.places - block.rows, plan_.d, T(0));
    }
    if (!call_.arrays.d_scale) return;
    double sum = 0;
    for (int64_t i = 0; i < block.rows; ++i)
      for (int64_t f = 0; f < plan_.d && w_.seen[i] != 0; ++f)
        sum += static_cast<double>(x.q.data[i * x.q.row + f]) * static_cast<double>(w_.dq[i * d_row_ + f]);
    shared_.dscale[(x.b * plan_.H + x.h) * plan_.blocks() + x.index] = sum;
  }

  // What no step reads is given a value all the same, once a block.
  void clear_unread() {
    std::fill_n(w_.m_any, padded(plan_.query_block), -infinity<T>);
    std::fill_n(w_.sum_any, padded(plan_.query_block), T(0));
  }
  T* statistics_at(const Queries<T>& x) const {
    return shared_.rows + ((x.b * plan_.H + x.h) * plan_.blocks() + x.index) * 3 * padded(plan_.query_block);
  }
  void save_statistics(const Queries<T>& x) {
    T* to = statistics_at(x);
    for (const T* row : {w_.m, w_.divisor, w_.shift}) to = std::copy_n(row, x.block.panels * panel, to);
  }
  void load_statistics(const Queries<T>& x) {
    const T* from = statistics_at(x);
    for (T* row : {w_.m, w_.divisor, w_.shift}) {
      std::copy_n(from, x.block.panels * panel, row);
      from += x.block.panels * panel;
    }
  }

  const Call<T>& call_;
  const Plan& plan_;
  const Scratch<T> w_;
  const Shared<T>& shared_;
  const int64_t d_row_, dv_row_;  // rows of the sums
  Sums<T> sums_;                  // those that blocks add to
};

template <class T>
bool Backward<T>::statistics(const Queries<T>& x) {
  const int64_t stride = x.block.panels * panel;
  clear_unread();
  std::fill_n(w_.m, stride, -infinity<T>);
  for (T* row : {w_.sum, w_.d, w_.divisor, w_.shift}) std::fill_n(row, stride, T(0));
  std::fill_n(w_.seen, stride, 0);
  const bool kept = needs_sums() && plan_.keep_tiles;

  if (needs_sums()) {
    for_each_tile(x, true, [&](Tile<T>& tile) { score_tile(x, tile, w_.m, w_.seen); });
    for_each_tile(x, !kept, [&](Tile<T>& tile) {
      if (!kept) score_tile(x, tile, w_.m_any, nullptr);
      cotangent(x, tile);
      weigh(x, tile, w_.sum, w_.d);
    });
  } else if (plan_.normaliser == Normaliser::visible) {
    for_each_tile(x, true, [&](Tile<T>& tile) {
      find_visible(call_, x.head, x.block, tile, w_.seen);
    });
  }

  for (int64_t i = 0; i < x.block.rows; ++i) {
    if (plan_.normaliser == Normaliser::visible) w_.divisor[i] = static_cast<T>(w_.seen[i]);
    if (!needs_sums() || w_.seen[i] == 0) continue;
    w_.divisor[i] = softmax() ? 1 / w_.sum[i] : w_.sum[i];
    if (plan_.map != Map::relu || w_.sum[i] != 0) w_.shift[i] = w_.d[i] / w_.sum[i];
    if (x.d_lse) w_.shift[i] -= *x.d_lse.at(x.block.i0 + i);
  }
  if (plan_.sweep == Sweep::twice || sums_bias(plan_, call_.arrays)) save_statistics(x);
  return kept;
}

template <class T>
void run(const Plan& plan, const lamina_attention_arrays& arrays, char* memory) {
  const Call<T> call(plan, arrays);
  Carver carver(memory);
  const Shared<T> shared(plan, carver);
  const PartialSums<T> partial(plan, carver);
  memory += carver.bytes();
  const size_t states = states_bytes<T>(plan, LAMINA_BACKWARD), bytes = bytes_of<Scratch<T>>(plan) + states;
  char* const shared_states = memory;
  memory += shared_states_bytes<T>(plan, LAMINA_BACKWARD);
  const auto worker = [&](int slot) {
    Carver own(memory + static_cast<size_t>(slot) * bytes + states);
    return Backward<T>(call, Scratch<T>(plan, own), shared);
  };

  const int64_t blocks = plan.blocks(), chunks = plan.chunks();
  if (plan.states_from > 0) {
    for_each_key_head(plan, [&](int64_t b, int64_t group, int slot) {
      char* const own = memory + static_cast<size_t>(slot) * bytes;
      double* const dscale = shared.dscale + (b * plan.H + group * plan.group) * blocks;
      if (!states_backward<T>(call, {own, bytes, plan.shared_states > 0 ? shared_states : nullptr}, b, group, dscale))
        worker(slot).all_of(b, group);
    });
  } else if (plan.sweep == Sweep::segments) {
    sum_segments(call, partial, [&](int64_t b, int64_t group, int64_t part, const Sums<T>& sums, int slot) {
      worker(slot).segment(b, group, part, sums);
    });
  } else if (plan.sweep == Sweep::key_head) {
    for_each_item(plan, plan.n * plan.H_kv,
                  [&](int64_t item, int slot) { worker(slot).key_head(item / plan.H_kv, item % plan.H_kv); });
  } else {
    for_each_item(plan, plan.n * plan.H * blocks, [&](int64_t item, int slot) {
      worker(slot).query_block(item / blocks / plan.H, item / blocks % plan.H, item % blocks);
    });
    for_each_item(plan, plan.n * plan.H_kv * chunks, [&](int64_t item, int slot) {
      worker(slot).key_chunk(item / chunks / plan.H_kv, item / chunks % plan.H_kv, item % chunks * plan.key_chunk);
    });
  }
  if (sums_bias(plan, arrays))
    for_each_item(plan, tiles_of_bias(plan, arrays.d_bias), [&](int64_t item, int slot) { worker(slot).sum_bias(item); });
  if (!arrays.d_scale) return;
  double sum = 0;
  for (int64_t i = 0; i < plan.n * plan.H * blocks; ++i) sum += shared.dscale[i];
  *arrays.d_scale = sum;
}

template <class T>
void run_any(const Plan& plan, const lamina_attention_arrays& arrays, char* memory) {
  switch (plan.lanes(LAMINA_BACKWARD)) {
    case Plan::Lanes::block:
      return run<T>(plan, arrays, memory);
    case Plan::Lanes::key_heads:
      return short_backward<T>(plan, arrays, memory);
    case Plan::Lanes::queries:
      return few_backward<T>(plan, arrays, memory);
    case Plan::Lanes::keys:
      return keys_backward<T>(plan, arrays, memory);
  }
}

}  // namespace

template <class T>
size_t backward_workspace(const Plan& plan) {
  Carver carver;
  Shared<T>(plan, carver);
  PartialSums<T>(plan, carver);
  carver.take<char>(1, static_cast<int64_t>(shared_states_bytes<T>(plan, LAMINA_BACKWARD)));
  carver.take<char>(plan.slots, static_cast<int64_t>(bytes_of<Scratch<T>>(plan) + states_bytes<T>(plan, LAMINA_BACKWARD)));
  return carver.bytes();
}
template size_t backward_workspace<float>(const Plan&);
template size_t backward_workspace<double>(const Plan&);

void backward(const Plan& plan, const lamina_attention_arrays& arrays, void* workspace, size_t workspace_bytes) {
  check_backward(plan, arrays, workspace, workspace_bytes);
  if (plan.nothing(LAMINA_BACKWARD)) {
    if (arrays.d_scale) *arrays.d_scale = 0;
    return;
  }
  const Workspace memory(workspace, plan.workspace(LAMINA_BACKWARD));
  plan.f64 ? run_any<double>(plan, arrays, memory.memory()) : run_any<float>(plan, arrays, memory.memory());
}

}  // namespace lamina::attention
