// Attention forward: one block of queries at a time, one chunk of keys after the other, with a running maximum and sum. No
// matrix [L_q, L_k] exists unless it is an output.
#include "attention/outputs.hpp"
#include "attention/short.hpp"
#include "attention/states.hpp"
#include "attention/tile.hpp"

namespace lamina::attention {
namespace {

using kernels::Map;
using kernels::padded;

// Scratch of one thread. Rows of numbers per query are [stride].
template <class T>
struct Scratch {
  T* q_t;                       // (c Q)^T [panels, d, 16]
  T* s;                         // a tile: S, then P
  uint8_t* visible;             // a tile
  T* v;                         // rows of V with contiguous features
  T *o, *add;                   // sum of P V so far [stride, padded(d_v)], that of one tile [16, padded(d_v)]
  T *m, *m_old, *factor, *sum;  // running maximum of S and sum of P
  int64_t* seen;                // keys seen

  Scratch(const Plan& plan, Carver& carver) {
    const int64_t stride = padded(plan.query_block), keys = plan.key_chunk;
    q_t = carver.take<T>(plan.d, stride);
    s = carver.take<T>(keys, stride);
    visible = carver.take<uint8_t>(keys, stride);
    v = carver.take<T>(keys, padded(plan.d_v));
    o = carver.take<T>(stride, padded(plan.d_v));
    add = carver.take<T>(panel, padded(plan.d_v));
    for (T** row : {&m, &m_old, &factor, &sum}) *row = carver.take<T>(stride);
    seen = carver.take<int64_t>(stride);
  }
};

// 3. P = exp2(t - m), exp with a bias, or the map of S; sum (unless nullptr) = sum_j P
template <class T>
void weigh(const Call<T>& call, const Block& block, const Tile<T>& tile, const T* m, T* sum) {
  const Map map = call.plan.map;
  if (map == Map::linear && !sum) return;
  for (int64_t p = 0; p < block.panels; ++p) {
    const Keys keys = tile.seen[p];
    T *s = tile.s + tile.at(p, keys.first), *panel_sum = sum ? sum + p * panel : nullptr;
    if (map == Map::softmax)
      call.step.softmax(call.natural, keys.count(), m + p * panel, s, panel_sum, nullptr, nullptr);
    else
      call.step.map(map, keys.count(), s, s, panel_sum, nullptr, nullptr);
  }
}

// 6. P, chunk by chunk once more, now that m and N are final.
template <class T>
void write_weights(const Call<T>& call, const Head<T>& head, const Block& block, Scratch<T>& w, const Matrix<T>& weights) {
  const Plan& plan = call.plan;
  const bool softmax = plan.map == Map::softmax;
  for (int64_t j0 = block.first; j0 < block.last; j0 += plan.key_chunk) {
    Tile<T> tile(plan, block, j0, w.s, nullptr, w.visible);
    score<T>(call, head, block, w.q_t, tile, w.m_old, nullptr);
    weigh(call, block, tile, w.m, softmax ? w.factor : nullptr);
    for (int64_t p = 0; p < block.panels; ++p)
      for (int64_t j = tile.seen[p].first; j < tile.seen[p].last; ++j)
        for (int64_t i = 0; i < panel; ++i) {
          T& x = tile.s[tile.at(p, j) + i];
          x = softmax ? x * w.sum[p * panel + i] : x / w.sum[p * panel + i];
        }
    put_tile(weights, block, tile, tile.s, T(1));
  }
}

template <class T>
void forward_block(const Call<T>& call, Scratch<T> w, int64_t b, int64_t h, int64_t index) {
  const Plan& plan = call.plan;
  const bool softmax = plan.map == Map::softmax, summed = plan.normaliser == Normaliser::row_sum;
  const Head<T> head(call, b, h);
  const Block block(plan, head.band, call.queries(b), index);
  const auto o = call.of_queries(call.arrays.o, b, h), lse = call.of_queries(call.arrays.lse, b, h);
  const auto weights = attention::head<T>(call.arrays.weights, b, h), scores = attention::head<T>(call.arrays.scores, b, h);
  if (scores) fill(scores, block.i0, block.planned, plan.L_k, -infinity<T>);
  if (weights) fill(weights, block.i0, block.planned, plan.L_k, T(0));

  // 1. (c Q)^T [panels, d, 16]
  transpose(call, block, plan.d, call.query_factor, head.q, w.q_t);
  const int64_t stride = block.panels * panel, o_row = padded(plan.d_v);
  std::fill_n(w.m, stride, -infinity<T>);
  std::fill_n(w.sum, stride, T(0));
  std::fill_n(w.seen, stride, 0);
  std::fill_n(w.factor, stride, T(1));
  const T* factor[block_panels] = {};  // of a panel's o, once it is begun
  for (int64_t j0 = block.first; j0 < block.last; j0 += plan.key_chunk) {
    Tile<T> tile(plan, block, j0, w.s, nullptr, w.visible);
    // 2. t = (c Q) K^T + bias
    std::copy_n(w.m, stride, w.m_old);
    score(call, head, block, w.q_t, tile, w.m, w.seen);
    if (scores) put_tile(scores, block, tile, tile.s, softmax && !call.natural ? ln2<T> : T(1));
    // 3. P = exp2(t - m), or the map of S; sum = sum_j P
    if (softmax && j0 > block.first) call.step.rescale(call.natural, stride, w.m_old, w.m, w.factor, w.sum);
    weigh(call, block, tile, w.m, summed ? w.sum : nullptr);
    // 4. o = o exp2(m_old - m) + P V
    const Rows<T> v = contiguous(head.v, j0, tile.keys, plan.d_v, w.v);
    queries_by_features(call, block, tile, tile.s, v, plan.d_v, w.o, o_row, factor, w.add);
    for (int64_t p = 0; p < block.panels; ++p)
      if (tile.seen[p].count() > 0) factor[p] = w.factor + p * panel;
  }
  for (int64_t p = 0; p < block.panels; ++p)
    if (!factor[p]) std::fill_n(w.o + p * panel * o_row, panel * o_row, T(0));

  // 5. lse;  O = o / N
  put_outputs(call, Unnormalised<T>{block.i0, block.rows, block.places, w.seen, w.m, w.sum, w.o}, o, lse, w.factor);
  if (weights) write_weights(call, head, block, w, weights);
}

template <class T>
void run(const Plan& plan, const lamina_attention_arrays& arrays, char* memory) {
  const Call<T> call(plan, arrays);
  const size_t states = states_bytes<T>(plan, LAMINA_FORWARD), bytes = bytes_of<Scratch<T>>(plan) + states;
  const int64_t blocks = plan.blocks();
  char* const shared_states = memory;
  memory += shared_states_bytes<T>(plan, LAMINA_FORWARD);
  const auto block = [&](int slot, int64_t b, int64_t h, int64_t index) {
    Carver carver(memory + static_cast<size_t>(slot) * bytes + states);
    forward_block(call, Scratch<T>(plan, carver), b, h, index);
  };
  if (plan.states_from == 0)
    return for_each_item(plan, plan.n * plan.H * blocks, [&](int64_t item, int slot) {
      block(slot, item / blocks / plan.H, item / blocks % plan.H, item % blocks);
    });
  for_each_key_head(plan, [&](int64_t b, int64_t group, int slot) {
    char* const own = memory + static_cast<size_t>(slot) * bytes;
    if (states_forward<T>(call, {own, bytes, plan.shared_states > 0 ? shared_states : nullptr}, b, group)) return;
    for (int64_t h = group * plan.group; h < (group + 1) * plan.group; ++h)
      for (int64_t index = 0; index < blocks; ++index) block(slot, b, h, index);
  });
}

template <class T>
void run_any(const Plan& plan, const lamina_attention_arrays& arrays, char* memory) {
  switch (plan.lanes(LAMINA_FORWARD)) {
    case Plan::Lanes::block:
      return run<T>(plan, arrays, memory);
    case Plan::Lanes::key_heads:
      return short_forward<T>(plan, arrays, memory);
    case Plan::Lanes::queries:
      return few_forward<T>(plan, arrays, memory);
    case Plan::Lanes::keys:
      return keys_forward<T>(plan, arrays, memory);
  }
}

}  // namespace

template <class T>
size_t forward_workspace(const Plan& plan) {
  Carver carver;
  carver.take<char>(1, static_cast<int64_t>(shared_states_bytes<T>(plan, LAMINA_FORWARD)));
  carver.take<char>(plan.slots, static_cast<int64_t>(bytes_of<Scratch<T>>(plan) + states_bytes<T>(plan, LAMINA_FORWARD)));
  return carver.bytes();
}
template size_t forward_workspace<float>(const Plan&);
template size_t forward_workspace<double>(const Plan&);

void forward(const Plan& plan, const lamina_attention_arrays& arrays, void* workspace, size_t workspace_bytes) {
  check_forward(plan, arrays, workspace, workspace_bytes);
  if (plan.nothing(LAMINA_FORWARD)) return;
  const Workspace memory(workspace, plan.workspace(LAMINA_FORWARD));
  plan.f64 ? run_any<double>(plan, arrays, memory.memory()) : run_any<float>(plan, arrays, memory.memory());
}

}  // namespace lamina::attention
