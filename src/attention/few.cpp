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
    const Band band = call_.band(b);
    const int64_t keys = band.keys();
    const bool whole = band.queries() > 0 && keys > 0 && band.before() >= band.queries() - 1 && band.after() >= keys - 1;
    const int64_t zeros_from = whole ? keys : 0;  // what the kernel does not write first
    const Sums dk = sums(d_k, zeros_from, plan_.d, whole ? scale() * T(0) : T(0), whole && d_k.col == 1, w_.dk);
    const Sums dv = sums(d_v, zeros_from, plan_.d_v, T(0), d_v.col == 1, w_.dv);
    for (int64_t h = group * plan_.group; h < (group + 1) * plan_.group; ++h) query_head(b, h, whole, dk, dv, dscale[h]);
    if (d_k && dk.data != d_k.data) put_rows(d_k, 0, plan_.L_k, plan_.d, dk.data, dk.row, whole ? T(1) : scale());
    if (d_v && dv.data != d_v.data) put_rows(d_v, 0, plan_.L_k, plan_.d_v, dv.data, dv.row, T(1));
  }

 private:
  const kernels::ShortTable<T>& kernel() const { return call_.kernel.short_attention; }
  T scale() const { return static_cast<T>(plan_.scale); }

  // Where dK or dV is summed, rows of contiguous features: its array or `room`.
  struct Sums {
    T* data;
    int64_t row;
  };
  Sums sums(const Matrix<T>& x, int64_t zeros_from, int64_t cols, T zero, bool direct, T* room) const {
    if (!x) return {nullptr, 0};
    const Sums y = direct ? Sums{x.data, x.row} : Sums{room, cols};
    if (y.row == cols)
      std::fill_n(y.data + zeros_from * cols, (plan_.L_k - zeros_from) * cols, zero);
    else
      for (int64_t j = zeros_from; j < plan_.L_k; ++j) std::fill_n(y.data + j * y.row, cols, zero);
    return y;
  }

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

  void query_head(int64_t b, int64_t h, bool whole, Sums dk, Sums dv, double& dscale) {
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
    const bool direct = d_q && d_q.col == 1 && !a.d_scale;
    x.dq = direct ? d_q.data : d_q || a.d_scale ? w_.o : nullptr;
    x.dq_row = direct ? d_q.row : plan_.d, x.dq_factor = direct ? scale() : T(1);
    x.dk = dk.data, x.dk_row = dk.row, x.dk_factor = scale();
    x.dv = dv.data, x.dv_row = dv.row;
    x.whole = whole, x.first = h % plan_.group == 0, x.last = (h + 1) % plan_.group == 0;
    kernel().few_backward(x);
    if (d_q && !direct) put_rows(d_q, 0, queries, plan_.d, w_.o, plan_.d, scale());
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
