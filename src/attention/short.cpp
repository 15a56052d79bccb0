// Many short sequences: key heads are gathered into groups of as many as a register has lanes, a group is interleaved, worked
// on by the kernels of short_table.hpp, and separated again.
#include "attention/short.hpp"

#include "attention/call.hpp"

namespace lamina::attention {
namespace {

using kernels::short_padded;

constexpr int64_t most_entries = 16;  // lanes of any register

// Memory of one thread, interleaved but for the bounds.
template <class T>
struct Scratch {
  T *q, *k, *v, *s, *query;
  T *lane_first, *lane_last;
  T *o, *lse;                         // forward
  T *d_o, *d_lse, *g, *dq, *dk, *dv;  // backward

  Scratch(const Plan& plan, int32_t direction, Carver& carver) {
    const int64_t entries = plan.isa->table<T>().short_attention.entries;
    const int64_t queries = short_padded(plan.L_q), keys = short_padded(plan.L_k);
    const bool backward = direction == LAMINA_BACKWARD;
    const auto take = [&](int64_t rows, int64_t cols) { return carver.take<T>(rows * cols, entries); };
    q = take(queries, plan.d);
    k = take(keys, plan.d);
    v = take(keys, plan.d_v);
    s = take(queries, keys);
    query = take(backward ? kernels::short_rows : 0, plan.d);
    lane_first = take(plan.has(LAMINA_WITH_LENGTHS) ? queries : 0, 1);
    lane_last = take(plan.has(LAMINA_WITH_LENGTHS) ? queries : 0, 1);
    o = take(backward ? 0 : queries, plan.d_v);
    lse = take(backward ? 0 : queries, 1);
    d_o = take(backward ? queries : 0, plan.d_v);
    d_lse = take(backward ? queries : 0, 1);
    g = take(backward ? queries : 0, keys);
    dq = take(backward ? queries : 0, plan.d);
    dk = take(backward ? keys : 0, plan.d);
    dv = take(backward ? keys : 0, plan.d_v);
  }
};

// What the entries of a group see: of each if lengths differ, and of all together.
struct Bounds {
  int32_t first[short_tokens], last[short_tokens], first_query[short_tokens], last_query[short_tokens];

  explicit Bounds(const Plan& plan) { add(plan, Band(plan, plan.L_q, plan.L_k), true); }
  // Sequences b[0..entries-1], lanes in order.
  template <class T>
  Bounds(const Call<T>& call, const int64_t* b, int64_t entries, T* lane_first, T* lane_last) {
    for (int64_t l = 0; l < entries; ++l) {
      const Band band = call.band(b[l]);
      add(call.plan, band, l == 0);
      for (int64_t i = 0; i < call.plan.L_q; ++i) {
        const int64_t from = i < band.queries() ? band.first(i) : 0;
        lane_first[i * entries + l] = static_cast<T>(from);
        lane_last[i * entries + l] = static_cast<T>(i < band.queries() ? std::max(from, band.last(i)) : from);
      }
    }
  }

 private:
  static void widen(int32_t& first, int32_t& last, int64_t from, int64_t to, bool fresh) {
    if (fresh) first = last = 0;
    if (from >= to) return;
    const bool empty = first >= last;
    first = static_cast<int32_t>(empty ? from : std::min<int64_t>(first, from));
    last = static_cast<int32_t>(empty ? to : std::max<int64_t>(last, to));
  }
  void add(const Plan& plan, const Band& band, bool fresh) {
    for (int64_t i = 0; i < plan.L_q; ++i)
      widen(first[i], last[i], i < band.queries() ? band.first(i) : 0, i < band.queries() ? band.last(i) : 0, fresh);
    for (int64_t j = 0; j < plan.L_k; ++j)
      widen(first_query[j], last_query[j], j < band.keys() ? band.first_query(j) : 0, j < band.keys() ? band.last_query(j) : 0,
            fresh);
  }
};

// A group: up to `entries` key heads, one after the other over (sequence, key head); past the last one it is read again and
// nothing is written.
template <class T>
struct Group {
  const Call<T>& call;
  const Plan& plan;
  const kernels::ShortTable<T>& kernel;
  int64_t count;
  int64_t b[most_entries], kv[most_entries];

  Group(const Call<T>& c, int64_t index)
      : call(c),
        plan(c.plan),
        kernel(c.kernel.short_attention),
        count(std::min(kernel.entries, plan.n * plan.H_kv - index * kernel.entries)) {
    for (int64_t l = 0; l < kernel.entries; ++l) {
      const int64_t item = index * kernel.entries + std::min(l, count - 1);
      b[l] = item / plan.H_kv;
      kv[l] = item % plan.H_kv;
    }
  }

  // Head `member` of the heads that read the same key head; for k, v themselves heads_per_entry is 1.
  void interleave(const lamina_input& x, int64_t heads_per_entry, int64_t member, int64_t rows, int64_t cols, T factor,
                  T* y) const {
    const T* from[most_entries];
    for (int64_t l = 0; l < kernel.entries; ++l) from[l] = head<T>(x, b[l], kv[l] * heads_per_entry + member).data;
    kernel.interleave(rows, cols, factor, from, x.stride[2], x.stride[3], y);
  }
  void separate(const lamina_output& x, int64_t heads_per_entry, int64_t member, int64_t rows, int64_t cols, T factor,
                const T* y) const {
    if (!x.data) return;
    T* to[most_entries];
    for (int64_t l = 0; l < count; ++l) to[l] = head<T>(x, b[l], kv[l] * heads_per_entry + member).data;
    kernel.separate(count, rows, cols, factor, y, to, x.stride[2], x.stride[3]);
  }
};

// What both directions tell the kernel.
template <class T>
kernels::ShortHeads<T> heads_of(const Call<T>& call, const Scratch<T>& w, const Bounds& bounds) {
  const Plan& plan = call.plan;
  kernels::ShortHeads<T> x = {};
  x.map = plan.map, x.normaliser = plan.normaliser;
  x.query_factor = call.query_factor, x.relu_at_zero = static_cast<T>(plan.relu_at_zero);
  x.queries = plan.L_q, x.keys = plan.L_k, x.d = plan.d, x.d_v = plan.d_v;
  x.first = bounds.first, x.last = bounds.last, x.first_query = bounds.first_query, x.last_query = bounds.last_query;
  if (plan.has(LAMINA_WITH_LENGTHS)) x.lane_first = w.lane_first, x.lane_last = w.lane_last;
  x.q = w.q, x.k = w.k, x.v = w.v, x.s = w.s, x.query = w.query;
  return x;
}

template <class T>
void forward_group(const Group<T>& group, const Scratch<T>& w, const Bounds& bounds) {
  const Plan& plan = group.plan;
  const lamina_attention_arrays& a = group.call.arrays;
  kernels::ShortHeads<T> x = heads_of(group.call, w, bounds);
  x.o = w.o;
  if (a.lse.data) x.lse = w.lse;
  group.interleave(a.k, 1, 0, plan.L_k, plan.d, T(1), w.k);
  group.interleave(a.v, 1, 0, plan.L_k, plan.d_v, T(1), w.v);
  for (int64_t member = 0; member < plan.group; ++member) {
    group.interleave(a.q, plan.group, member, plan.L_q, plan.d, group.call.query_factor, w.q);
    group.kernel.forward(x);
    group.separate(a.o, plan.group, member, plan.L_q, plan.d_v, T(1), w.o);
    group.separate(a.lse, plan.group, member, plan.L_q, 1, T(1), w.lse);
  }
}

// sum_i Q_i . (dS K)_i of every entry, over the queries that see a key
template <class T>
void add_dscale(const Group<T>& group, const kernels::ShortHeads<T>& x, int64_t member, double* dscale) {
  const int64_t entries = group.kernel.entries, row = x.d * entries;
  double sum[most_entries] = {};
  for (int64_t i = 0; i < x.queries; ++i) {
    bool sees[most_entries];
    for (int64_t l = 0; l < entries; ++l)
      sees[l] = x.lane_first ? x.lane_first[i * entries + l] < x.lane_last[i * entries + l] : x.first[i] < x.last[i];
    for (int64_t at = i * row; at < (i + 1) * row; at += entries)
      for (int64_t l = 0; l < entries; ++l) {
        const double more = static_cast<double>(x.q[at + l]) * static_cast<double>(x.dq[at + l]);
        sum[l] = sees[l] ? sum[l] + more : sum[l];
      }
  }
  const Plan& plan = group.plan;
  for (int64_t l = 0; l < group.count; ++l) dscale[group.b[l] * plan.H + group.kv[l] * plan.group + member] = sum[l];
}

template <class T>
void backward_group(const Group<T>& group, const Scratch<T>& w, const Bounds& bounds, double* dscale) {
  const Plan& plan = group.plan;
  const lamina_attention_arrays& a = group.call.arrays;
  kernels::ShortHeads<T> x = heads_of(group.call, w, bounds);
  x.d_o = w.d_o, x.g = w.g;
  if (a.d_lse.data) x.d_lse = w.d_lse;
  if (a.d_q.data || a.d_scale) x.dq = w.dq;
  if (a.d_k.data) x.dk = w.dk;
  if (a.d_v.data) x.dv = w.dv;
  const T scale = static_cast<T>(plan.scale);
  group.interleave(a.k, 1, 0, plan.L_k, plan.d, T(1), w.k);
  group.interleave(a.v, 1, 0, plan.L_k, plan.d_v, T(1), w.v);
  std::fill_n(w.dk, short_padded(plan.L_k) * plan.d * group.kernel.entries, T(0));
  std::fill_n(w.dv, short_padded(plan.L_k) * plan.d_v * group.kernel.entries, T(0));
  for (int64_t member = 0; member < plan.group; ++member) {
    group.interleave(a.q, plan.group, member, plan.L_q, plan.d, T(1), w.q);
    group.interleave(a.d_o, plan.group, member, plan.L_q, plan.d_v, T(1), w.d_o);
    if (x.d_lse) group.interleave(a.d_lse, plan.group, member, plan.L_q, 1, T(1), w.d_lse);
    group.kernel.backward(x);
    group.separate(a.d_q, plan.group, member, plan.L_q, plan.d, scale, w.dq);
    if (a.d_q.data && x.lane_first)  // past the length the gradient is 0, and not scale * 0
      for (int64_t l = 0; l < group.count; ++l) {
        const int64_t queries = a.query_lengths[group.b[l]];
        fill(head<T>(a.d_q, group.b[l], group.kv[l] * plan.group + member), queries, plan.L_q - queries, plan.d, T(0));
      }
    if (a.d_scale) add_dscale(group, x, member, dscale);
  }
  group.separate(a.d_k, 1, 0, plan.L_k, plan.d, scale, w.dk);
  group.separate(a.d_v, 1, 0, plan.L_k, plan.d_v, T(1), w.dv);
}

template <class T, class Body>
void for_each_group(const Plan& plan, const lamina_attention_arrays& arrays, int32_t direction, char* memory,
                    const Body& body) {
  const Call<T> call(plan, arrays);
  const size_t bytes = bytes_of<Scratch<T>>(plan, direction);
  const int64_t entries = call.kernel.short_attention.entries;
  const Bounds common(plan);
  for_each_item(plan, (plan.n * plan.H_kv + entries - 1) / entries, [&](int64_t index, int slot) {
    Carver carver(memory + static_cast<size_t>(slot) * bytes);
    const Scratch<T> w(plan, direction, carver);
    const Group<T> group(call, index);
    if (plan.has(LAMINA_WITH_LENGTHS))
      body(group, w, Bounds(call, group.b, entries, w.lane_first, w.lane_last));
    else
      body(group, w, common);
  });
}

}  // namespace

template <class T>
size_t short_workspace(const Plan& plan, int32_t direction) {
  Carver carver;
  if (direction == LAMINA_BACKWARD) carver.take<double>(plan.n, plan.H);
  carver.take<char>(plan.slots, static_cast<int64_t>(bytes_of<Scratch<T>>(plan, direction)));
  return carver.bytes();
}

template <class T>
void short_forward(const Plan& plan, const lamina_attention_arrays& arrays, char* memory) {
  for_each_group<T>(plan, arrays, LAMINA_FORWARD, memory,
                    [](const Group<T>& group, const Scratch<T>& w, const Bounds& bounds) { forward_group(group, w, bounds); });
}

template <class T>
void short_backward(const Plan& plan, const lamina_attention_arrays& arrays, char* memory) {
  Carver carver(memory);
  double* const dscale = carver.take<double>(plan.n, plan.H);
  for_each_group<T>(
      plan, arrays, LAMINA_BACKWARD, memory + carver.bytes(),
      [&](const Group<T>& group, const Scratch<T>& w, const Bounds& bounds) { backward_group(group, w, bounds, dscale); });
  if (!arrays.d_scale) return;
  double sum = 0;
  for (int64_t h = 0; h < plan.n * plan.H; ++h) sum += dscale[h];
  *arrays.d_scale = sum;
}

template size_t short_workspace<float>(const Plan&, int32_t);
template size_t short_workspace<double>(const Plan&, int32_t);
template void short_forward<float>(const Plan&, const lamina_attention_arrays&, char*);
template void short_forward<double>(const Plan&, const lamina_attention_arrays&, char*);
template void short_backward<float>(const Plan&, const lamina_attention_arrays&, char*);
template void short_backward<double>(const Plan&, const lamina_attention_arrays&, char*);

}  // namespace lamina::attention
