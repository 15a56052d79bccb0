// Short sequences, one query a lane: keys and values are read where they stand, so that a tiny call is one kernel in each
// direction and little else.
#include "attention/call.hpp"
#include "attention/short.hpp"

namespace lamina::attention {
namespace {

using kernels::FewQueries;

// Memory of one thread. Rows of features follow each other; a tile has two registers of queries, of 64 bytes at most.
template <class T>
struct Room {
  static constexpr int64_t lanes = 2 * 64 / sizeof(T);
  alignas(64) T q_t[short_width * lanes];
  T do_t[short_width * lanes];
  T s[short_tokens * lanes], g[short_tokens * lanes];
  T lse[short_tokens];
  T q[short_tokens * short_width], d_o[short_tokens * short_width], o[short_tokens * short_width];  // rows of Q, dO; O or dQ
  T kv[short_tokens * short_width];  // rows of V forward, of K backward
  T dk[short_tokens * short_width], dv[short_tokens * short_width];
};

template <class T>
class Few {
 public:
  Few(const Call<T>& call, Room<T>& room) : call_(call), plan_(call.plan), w_(room) {}

  void forward(int64_t b, int64_t h) {
    const Head<T> head(call_, b, h);
    const Matrix<T> o = call_.of_queries(call_.arrays.o, b, h), lse = call_.of_queries(call_.arrays.lse, b, h);
    const Rows<T> v = rows(head.v, head.band.keys(), plan_.d_v, w_.kv);
    const int64_t queries = head.band.queries();
    FewQueries<T> x = queries_of(head);
    x.v_rows = v.data, x.v_row = v.row;
    const bool direct = o.col == 1;
    x.o = direct ? o.data : w_.o, x.o_row = direct ? o.row : plan_.d_v;
    x.lse = lse ? w_.lse : nullptr;
    kernel().few_forward(x);
    if (!direct) put_rows(o, 0, queries, plan_.d_v, w_.o, plan_.d_v, T(1));
    if (lse) put_rows(lse, 0, queries, 1, w_.lse, 1, T(1));
    fill(o, queries, plan_.L_q - queries, plan_.d_v, T(0));
    if (lse) fill(lse, queries, plan_.L_q - queries, 1, -infinity<T>);
  }

  // All gradients of one key head and of the heads that read it; dscale[h] of each.
  void backward(int64_t b, int64_t group, double* dscale) {
    const lamina_attention_arrays& a = call_.arrays;
    const Matrix<T> d_k = call_.of_keys(a.d_k, b, group), d_v = call_.of_keys(a.d_v, b, group);
    const bool direct = d_v.col == 1 && d_v.row == plan_.d_v;
    T* const dv = !d_v ? nullptr : direct ? d_v.data : w_.dv;
    std::fill_n(w_.dk, plan_.L_k * plan_.d, T(0));
    if (dv) std::fill_n(dv, plan_.L_k * plan_.d_v, T(0));
    for (int64_t h = group * plan_.group; h < (group + 1) * plan_.group; ++h) query_head(b, h, dv, dscale[h]);
    if (d_k) put_rows(d_k, 0, plan_.L_k, plan_.d, w_.dk, plan_.d, static_cast<T>(plan_.scale));
    if (dv && !direct) put_rows(d_v, 0, plan_.L_k, plan_.d_v, dv, plan_.d_v, T(1));
  }

 private:
  const kernels::ShortTable<T>& kernel() const { return call_.kernel.short_attention; }

  static Rows<T> rows(const Matrix<const T>& x, int64_t count, int64_t cols, T* room) {
    if (x.col == 1) return {x.data, x.row};
    for (int64_t i = 0; i < count; ++i)
      for (int64_t f = 0; f < cols; ++f) room[i * cols + f] = *x.at(i, f);
    return {room, cols};
  }

  // What both directions tell the kernel.
  FewQueries<T> queries_of(const Head<T>& head) const {
    FewQueries<T> x;  // each direction completes what its kernel reads
    x.map = plan_.map, x.normaliser = plan_.normaliser;
    x.query_factor = call_.query_factor, x.relu_at_zero = static_cast<T>(plan_.relu_at_zero);
    x.queries = head.band.queries(), x.keys = head.band.keys(), x.d = plan_.d, x.d_v = plan_.d_v;
    x.before = head.band.before(), x.after = head.band.after();
    x.q = {head.q.data, head.q.row, head.q.col}, x.k = {head.k.data, head.k.row, head.k.col};
    x.v = {head.v.data, head.v.row, head.v.col};
    x.q_t = w_.q_t, x.s = w_.s;
    return x;
  }

  void query_head(int64_t b, int64_t h, T* dv, double& dscale) {
    const lamina_attention_arrays& a = call_.arrays;
    const Head<T> head(call_, b, h);
    const int64_t queries = head.band.queries();
    const Matrix<const T> d_o = call_.of_queries(a.d_o, b, h), d_lse = call_.of_queries(a.d_lse, b, h);
    const Matrix<T> d_q = call_.of_queries(a.d_q, b, h);
    const Rows<T> k = rows(head.k, head.band.keys(), plan_.d, w_.kv);
    const Rows<T> q = rows(head.q, queries, plan_.d, w_.q), g = rows(d_o, queries, plan_.d_v, w_.d_o);
    FewQueries<T> x = queries_of(head);
    x.d_o = {d_o.data, d_o.row, d_o.col};
    x.d_lse = d_lse ? w_.lse : nullptr;
    for (int64_t i = 0; d_lse && i < short_tokens && queries > 0; ++i) w_.lse[i] = *d_lse.at(std::min(i, queries - 1));
    x.do_t = w_.do_t, x.g = w_.g;
    x.q_rows = q.data, x.k_rows = k.data, x.d_o_rows = g.data;
    x.q_row = q.row, x.k_row = k.row, x.d_o_row = g.row;
    x.dq = d_q || a.d_scale ? w_.o : nullptr;
    x.dk = a.d_k.data ? w_.dk : nullptr, x.dv = dv;
    x.dq_row = x.dk_row = plan_.d, x.dv_row = plan_.d_v;
    kernel().few_backward(x);
    if (d_q) put_rows(d_q, 0, queries, plan_.d, w_.o, plan_.d, static_cast<T>(plan_.scale));
    double sum = 0;
    for (int64_t i = 0; i < queries && a.d_scale; ++i)
      for (int64_t f = 0; f < plan_.d && head.band.first(i) < head.band.last(i); ++f)
        sum += static_cast<double>(q.data[i * q.row + f]) * static_cast<double>(w_.o[i * plan_.d + f]);
    if (d_q) fill(d_q, queries, plan_.L_q - queries, plan_.d, T(0));
    dscale = sum;
  }

  const Call<T>& call_;
  const Plan& plan_;
  Room<T>& w_;
};

}  // namespace

template <class T>
size_t few_workspace(const Plan& plan, int32_t direction) {
  Carver carver;
  if (direction == LAMINA_BACKWARD) carver.take<double>(plan.n, plan.H);
  carver.take<Room<T>>(plan.slots);
  return carver.bytes();
}

template <class T>
void few_forward(const Plan& plan, const lamina_attention_arrays& arrays, char* memory) {
  const Call<T> call(plan, arrays);
  Room<T>* const rooms = Carver(memory).take<Room<T>>(plan.slots);
  for_each_item(plan, plan.n * plan.H,
                [&](int64_t item, int slot) { Few<T>(call, rooms[slot]).forward(item / plan.H, item % plan.H); });
}

template <class T>
void few_backward(const Plan& plan, const lamina_attention_arrays& arrays, char* memory) {
  const Call<T> call(plan, arrays);
  Carver carver(memory);
  double* const dscale = carver.take<double>(plan.n, plan.H);
  Room<T>* const rooms = carver.take<Room<T>>(plan.slots);
  for_each_item(plan, plan.n * plan.H_kv, [&](int64_t item, int slot) {
    const int64_t b = item / plan.H_kv;
    Few<T>(call, rooms[slot]).backward(b, item % plan.H_kv, dscale + b * plan.H);
  });
  if (!arrays.d_scale) return;
  double sum = 0;
  for (int64_t h = 0; h < plan.n * plan.H; ++h) sum += dscale[h];
  *arrays.d_scale = sum;
}

template size_t few_workspace<float>(const Plan&, int32_t);
template size_t few_workspace<double>(const Plan&, int32_t);
template void few_forward<float>(const Plan&, const lamina_attention_arrays&, char*);
template void few_forward<double>(const Plan&, const lamina_attention_arrays&, char*);
template void few_backward<float>(const Plan&, const lamina_attention_arrays&, char*);
template void few_backward<double>(const Plan&, const lamina_attention_arrays&, char*);

}  // namespace lamina::attention
