// One query or a few against many keys, a key a lane: the memory of the rows that read a key head, and the steps of both directions
// on them, by chunks of keys. What steps are, and in which order: keys.cpp.
#pragma once
#include "attention/outputs.hpp"
#include "attention/tile.hpp"

namespace lamina::attention {

using kernels::Map;
using kernels::padded;

// What a row sees of a chunk: keys within `seen`, so many; all of them, or those that `visible` says.
struct Sight {
  Keys seen;
  int64_t count;
};

// Memory of the rows of one key head. [stride]: one number per row.
template <class T>
struct HeadMemory {
  int64_t row, row_v, chunk, pitch, stride;  // chunks of a row of scores are so far apart that none reaches into the next
  T *q, *d_o;           // c Q [rows, row]; backward: Q [rows, row] and dO [rows, row_v]
  T *plain_q;
  T *s, *g;             // t, p, P; G, dS [rows, pitch]
  uint8_t* visible;     // [rows, pitch]
  Sight* sight;         // [chunks, rows]
  T *m, *sum, *d;       // of each chunk [chunks, stride]; m then as exponents are taken
  T* chains;            // P V, dS K of each chunk [chunks, rows, row or row_v]
  T *o, *m_all, *total, *total_d, *factor;
  int64_t* seen;

  HeadMemory(const Plan& plan, int32_t direction, Carver& carver) {
    const bool backward = direction == LAMINA_BACKWARD;
    const int64_t rows = plan.group * plan.L_q, chunks = plan.chunks();
    row = padded(plan.d), row_v = padded(plan.d_v), stride = padded(rows);
    chunk = padded(plan.key_chunk) + panel, pitch = chunks * chunk;
    q = carver.take<T>(rows, row);
    plain_q = carver.take<T>(backward ? rows : 0, row);
    d_o = carver.take<T>(backward ? rows : 0, row_v);
    s = carver.take<T>(rows, pitch);
    g = carver.take<T>(backward ? rows : 0, pitch);
    visible = carver.take<uint8_t>(plan.flags & (LAMINA_WITH_MASK | LAMINA_WITH_BIAS) ? rows : 0, pitch);
    sight = carver.take<Sight>(chunks, rows);
    m = carver.take<T>(chunks, stride);
    sum = carver.take<T>(chunks, stride);
    d = carver.take<T>(backward ? chunks : 0, stride);
    chains = carver.take<T>(chunks * rows, backward ? row : row_v);
    o = carver.take<T>(rows, backward ? row : row_v);
    for (T** x : {&m_all, &total, &total_d, &factor}) *x = carver.take<T>(stride);
    seen = carver.take<int64_t>(stride);
  }
};

// Memory of one thread: rows of a chunk with contiguous features.
template <class T>
struct ChunkMemory {
  T *k, *v, *dk, *dv, *row;
  ChunkMemory(const Plan& plan, int32_t direction, Carver& carver) {
    const int64_t keys = plan.key_chunk, gradients = direction == LAMINA_BACKWARD ? keys : 0;
    k = carver.take<T>(keys, padded(plan.d));
    v = carver.take<T>(keys, padded(plan.d_v));
    dk = carver.take<T>(gradients, padded(plan.d));
    dv = carver.take<T>(gradients, padded(plan.d_v));
    row = carver.take<T>(padded(keys) + panel);
  }
};

template <class T>
class KeyLanes {
 public:
  KeyLanes(const Call<T>& call, int32_t direction, const HeadMemory<T>& memory, int64_t b, int64_t group,
           double* dscale)
      : call_(call),
        plan_(call.plan),
        w_(memory),
        backward_(direction == LAMINA_BACKWARD),
        b_(b),
        group_(group),
        dscale_(dscale),
        band_(call.band(b)),
        rows_(plan_.group * band_.queries()),
        first_(rows_ > 0 ? band_.first(0) / plan_.key_chunk : 0),
        last_(rows_ > 0 ? (band_.last(band_.queries() - 1) + plan_.key_chunk - 1) / plan_.key_chunk : 0) {}

  // Chunks first_ <= c < last_ that some row may see.
  bool has(int64_t c) const { return first_ <= c && c < last_; }

  // 1. c Q, and backward Q and dO, as rows.
  void load() const {
    for (int64_t r = 0; r < rows_; ++r) {
      const auto copy = [&](const lamina_input& x, int64_t cols, T factor, T* to) {
        const Matrix<const T> from = call_.of_queries(x, b_, head_of(r));
        for (int64_t f = 0; f < cols; ++f) to[f] = factor * *from.at(query_of(r), f);
      };
      copy(call_.arrays.q, plan_.d, call_.query_factor, w_.q + r * w_.row);
      if (!backward_) continue;
      copy(call_.arrays.q, plan_.d, T(1), w_.plain_q + r * w_.row);
      copy(call_.arrays.d_o, plan_.d_v, T(1), w_.d_o + r * w_.row_v);
    }
  }

  // 2. t = (c Q) K^T + bias of a chunk and its maximum; backward G = dO V^T as well
  void score(int64_t c, const ChunkMemory<T>& room) const {
    const int64_t j0 = c * plan_.key_chunk, keys = keys_of(c);
    const Rows<T> k = contiguous(call_.of_keys(call_.arrays.k, b_, group_), j0, keys, plan_.d, room.k);
    call_.step.rows_by_keys(rows_, keys, plan_.d, w_.q, w_.row, k.data, k.row, w_.s + c * w_.chunk, w_.pitch);
    if (backward_) {
      const Rows<T> v = contiguous(call_.of_keys(call_.arrays.v, b_, group_), j0, keys, plan_.d_v, room.v);
      call_.step.rows_by_keys(rows_, keys, plan_.d_v, w_.d_o, w_.row_v, v.data, v.row, w_.g + c * w_.chunk, w_.pitch);
    }
    for (int64_t r = 0; r < rows_; ++r) see(c, r, j0, keys);
  }

  // 3. m: forward over the chunks so far, backward over all
  void maxima() const {
    std::fill_n(w_.m_all, w_.stride, -infinity<T>);
    std::fill_n(w_.seen, w_.stride, 0);
    for (int64_t c = first_; c < last_; ++c)
      for (int64_t r = 0; r < rows_; ++r) {
        T& m = w_.m[c * w_.stride + r];
        m = w_.m_all[r] = m > w_.m_all[r] ? m : w_.m_all[r];
        w_.seen[r] += sight(c, r).count;
      }
    for (int64_t c = first_; c < last_ && backward_; ++c) std::copy_n(w_.m_all, rows_, w_.m + c * w_.stride);
  }

  // 4. p = E(t - m), or the map of S (backward: left to 6), and their sums over a chunk, backward those of p G
  void weigh(int64_t c, const ChunkMemory<T>& room) const {
    const int64_t whole = padded(keys_of(c));
    const bool summed = plan_.normaliser == Normaliser::row_sum;
    for (int64_t r = 0; r < rows_; ++r) {
      T *s = w_.s + at(c, r), *p = s;
      const T* g = backward_ ? w_.g + at(c, r) : nullptr;
      T &sum = w_.sum[c * w_.stride + r] = 0, unread = 0;
      if (sight(c, r).count == 0) {
        std::fill_n(s, whole, T(0));
        if (backward_) w_.d[c * w_.stride + r] = 0;
        continue;
      }
      if (plan_.map == Map::softmax) {
        T m[panel], any[panel] = {};
        std::fill_n(m, panel, w_.m[c * w_.stride + r]);
        call_.step.softmax(call_.natural, whole / panel, m, s, any, nullptr, nullptr);
      } else if (plan_.map == Map::relu && (summed || !backward_)) {
        p = backward_ ? room.row : s;
        call_.step.map(plan_.map, whole / panel, s, p, nullptr, nullptr, nullptr);
      }
      T& d = backward_ ? w_.d[c * w_.stride + r] = 0 : unread;
      if (summed) call_.step.row_sums(whole, p, g, &sum, &d);
    }
  }

  // 5. o = P V of a chunk
  void product(int64_t c, const ChunkMemory<T>& room) const {
    rows_by_features(c, w_.s, call_.of_keys(call_.arrays.v, b_, group_), plan_.d_v, w_.row_v, room.v);
  }

  // 6. sum = sum_j P, o = o exp2(m_old - m) + P V, chunk by chunk;  lse, O
  void finish() const {
    const int64_t queries = band_.queries(), places = call_.queries(b_);
    std::fill_n(w_.total, w_.stride, T(0));
    std::fill_n(w_.factor, w_.stride, T(1));
    const T* m = w_.m_all;
    for (int64_t c = first_; c < last_; ++c) {
      T* const m_old = w_.m_all;
      m = w_.m + c * w_.stride;
      if (c > first_ && plan_.map == Map::softmax) {
        std::copy_n(m - w_.stride, rows_, m_old);
        call_.step.rescale(call_.natural, w_.stride, m_old, m, w_.factor, w_.total);
      }
      for (int64_t r = 0; r < rows_; ++r) w_.total[r] += w_.sum[c * w_.stride + r];
      add_chain(c, plan_.d_v, w_.row_v, w_.factor);
    }
    if (first_ >= last_) std::fill_n(w_.o, rows_ * w_.row_v, T(0));
    for (int64_t h = 0; h < plan_.group; ++h) {
      const int64_t r = h * queries, head = group_ * plan_.group + h;
      put_outputs(call_, Unnormalised<T>{0, queries, places, w_.seen + r, m + r, w_.total + r, w_.o + r * w_.row_v},
                  call_.of_queries(call_.arrays.o, b_, head), call_.of_queries(call_.arrays.lse, b_, head), w_.factor);
    }
  }

  // 7. Backward: 1/N or N, and D - dlse, in place of the sums
  void statistics() const {
    std::fill_n(w_.total, w_.stride, T(0));
    std::fill_n(w_.total_d, w_.stride, T(0));
    for (int64_t r = 0; r < rows_; ++r) {
      T n = 0, d = 0, shift = 0;
      for (int64_t c = first_; c < last_; ++c) n += w_.sum[c * w_.stride + r], d += w_.d[c * w_.stride + r];
      const bool softmax = plan_.map == Map::softmax;
      if (plan_.normaliser == Normaliser::visible) w_.total[r] = static_cast<T>(w_.seen[r]);
      if (plan_.normaliser != Normaliser::row_sum || w_.seen[r] == 0) continue;
      w_.total[r] = softmax ? 1 / n : n;
      if (plan_.map != Map::relu || n != 0) shift = d / n;
      if (const Matrix<const T> d_lse = call_.of_queries(call_.arrays.d_lse, b_, head_of(r))) shift -= *d_lse.at(query_of(r));
      w_.total_d[r] = shift;
    }
  }

  // 8. P and dS of a chunk;  dS K;  dV = P^T dO, dK = scale dS^T Q of its keys
  void gradients(int64_t c, const ChunkMemory<T>& room) const {
    const int64_t whole = padded(keys_of(c));
    const lamina_attention_arrays& a = call_.arrays;
    for (int64_t r = 0; r < rows_; ++r) {
      T *s = w_.s + at(c, r), *g = w_.g + at(c, r);
      const Sight& x = sight(c, r);
      T divisor[panel], shift[panel];
      std::fill_n(divisor, panel, w_.total[r]);
      std::fill_n(shift, panel, w_.total_d[r]);
      const uint8_t* visible = x.count > 0 && x.count < x.seen.count() ? w_.visible + at(c, r) : nullptr;
      if (plan_.map == Map::softmax)
        call_.step.softmax_gradient(whole / panel, visible, divisor, shift, s, g);
      else
        call_.step.map_gradient(plan_.map, whole / panel, visible, static_cast<T>(plan_.relu_at_zero),
                                plan_.normaliser == Normaliser::none ? nullptr : divisor,
                                plan_.normaliser == Normaliser::row_sum ? shift : nullptr, s, g);
      hide_outside(x, whole, T(0), s);
      hide_outside(x, whole, T(0), g);
    }
    if (a.d_q.data || a.d_scale)
      rows_by_features(c, w_.g, call_.of_keys(a.k, b_, group_), plan_.d, w_.row, room.k);
    keys_by_features(c, w_.s, w_.d_o, plan_.d_v, w_.row_v, room.dv, call_.of_keys(a.d_v, b_, group_), T(1));
    keys_by_features(c, w_.g, w_.plain_q, plan_.d, w_.row, room.dk, call_.of_keys(a.d_k, b_, group_), scale());
  }

  // 9. dQ = scale (dS K);  dscale[h] = sum_i Q_i . (dS K)_i over the rows that see a key;  dK and dV of the keys in no chunk
  void finish_gradients() const {
    const lamina_attention_arrays& a = call_.arrays;
    const int64_t queries = band_.queries(), places = call_.queries(b_), keys = call_.keys(b_);
    for (int64_t c = first_; c < last_ && (a.d_q.data || a.d_scale); ++c) add_chain(c, plan_.d, w_.row, nullptr);
    if (first_ >= last_) std::fill_n(w_.o, rows_ * w_.row, T(0));
    for (int64_t h = 0; h < plan_.group; ++h) {
      const int64_t head = group_ * plan_.group + h;
      const T* const dq = w_.o + h * queries * w_.row;
      if (const Matrix<T> d_q = call_.of_queries(a.d_q, b_, head)) {
        put_rows(d_q, 0, queries, plan_.d, dq, w_.row, scale());
        fill(d_q, queries, places - queries, plan_.d, T(0));
      }
      double sum = 0;
      for (int64_t i = 0; i < queries && a.d_scale; ++i)
        for (int64_t f = 0; f < plan_.d && w_.seen[h * queries + i] != 0; ++f)
          sum += static_cast<double>(w_.plain_q[(h * queries + i) * w_.row + f]) * static_cast<double>(dq[i * w_.row + f]);
      dscale_[b_ * plan_.H + head] = sum;
    }
    const int64_t from = std::min(first_ * plan_.key_chunk, keys), to = last_ > first_ ? std::min(end_of(last_ - 1), keys) : from;
    const auto clear = [&](const Matrix<T>& x, int64_t cols, T zero) {
      if (!x) return;
      fill(x, 0, from, cols, zero);
      fill(x, to, keys - to, cols, zero);
    };
    clear(call_.of_keys(a.d_k, b_, group_), plan_.d, scale() * T(0));
    clear(call_.of_keys(a.d_v, b_, group_), plan_.d_v, T(0));
  }

 private:
  int64_t head_of(int64_t r) const { return group_ * plan_.group + r / band_.queries(); }
  int64_t query_of(int64_t r) const { return r % band_.queries(); }
  T scale() const { return static_cast<T>(plan_.scale); }
  int64_t end_of(int64_t c) const { return std::min((c + 1) * plan_.key_chunk, band_.keys()); }
  int64_t keys_of(int64_t c) const { return end_of(c) - c * plan_.key_chunk; }
  Sight& sight(int64_t c, int64_t r) const { return w_.sight[c * plan_.group * plan_.L_q + r]; }
  T* chains(int64_t c, int64_t row) const { return w_.chains + c * plan_.group * plan_.L_q * row; }
  int64_t at(int64_t c, int64_t r) const { return r * w_.pitch + c * w_.chunk; }
  bool sees(int64_t c, int64_t r, int64_t j) const {
    const Sight& x = sight(c, r);
    return x.count > 0 && x.seen.first <= j && j < x.seen.last &&
           (x.count == x.seen.count() || w_.visible[at(c, r) + j] != 0);
  }

  static void hide_outside(const Sight& x, int64_t whole, T hidden, T* s) {
    const Keys seen = x.count > 0 ? x.seen : Keys{0, 0};
    std::fill_n(s, seen.first, hidden);
    std::fill_n(s + seen.last, whole - seen.last, hidden);
  }

  // What row r sees of a chunk; what it does not see becomes -inf or 0, in G 0; bias and maximum.
  void see(int64_t c, int64_t r, int64_t j0, int64_t keys) const {
    const bool softmax = plan_.map == Map::softmax;
    const int64_t i = query_of(r), whole = padded(keys), full = keys / panel;
    const Matrix<const T> bias = head<T>(call_.arrays.bias, b_, head_of(r));
    const Matrix<const uint8_t> mask = head<uint8_t>(call_.arrays.mask, b_, head_of(r));
    const auto inside = [&](int64_t j) { return std::clamp<int64_t>(j - j0, 0, keys); };
    Sight& x = sight(c, r);
    x.seen = {inside(band_.first(i)), inside(band_.last(i))};
    x.count = std::max<int64_t>(x.seen.count(), 0);
    uint8_t* const visible = mask || bias ? w_.visible + at(c, r) : nullptr;
    if (visible && x.count > 0) {
      std::fill_n(visible, x.seen.first, uint8_t{0});
      std::fill_n(visible + x.seen.last, whole - x.seen.last, uint8_t{0});
      int64_t count = 0;
      for (int64_t j = x.seen.first; j < x.seen.last; ++j) {
        const bool yes = (!mask || *mask.at(i, j0 + j) != 0) && (!bias || *bias.at(i, j0 + j) != -infinity<T>);
        visible[j] = yes ? 1 : 0;
        count += visible[j];
      }
      x.count = count;
    }
    T* const s = w_.s + at(c, r);
    const T hidden = softmax ? -infinity<T> : T(0);
    const bool partly = x.count > 0 && x.count < x.seen.count();
    T m[panel];
    std::fill_n(m, panel, -infinity<T>);
    if (bias && x.count > 0) {
      call_.step.score(panel, full, bias.at(i, j0), bias.col, panel * bias.col, visible, hidden, s, softmax ? m : nullptr);
      if (full * panel < keys)
        call_.step.score(keys - full * panel, 1, bias.at(i, j0 + full * panel), bias.col, 0, visible + full * panel, hidden,
                         s + full * panel, softmax ? m : nullptr);
    } else {
      hide_outside(x, whole, hidden, s);
      if (softmax || partly)
        call_.step.score(panel, whole / panel, nullptr, 0, 0, partly ? visible : nullptr, hidden, s, softmax ? m : nullptr);
    }
    T& top = w_.m[c * w_.stride + r] = -infinity<T>;
    for (const T one : m) top = one > top ? one : top;
    if (!backward_) return;
    T* const g = w_.g + at(c, r);
    hide_outside(x, whole, T(0), g);
    if (partly) call_.step.score(panel, whole / panel, nullptr, 0, 0, visible, T(0), g, nullptr);
  }

  // The keys of a chunk outside which no row sees any, and whether some row does not see all of them.
  Keys seen_by_all(int64_t c, bool& partly) const {
    Keys all{plan_.key_chunk, 0};
    for (int64_t r = 0; r < rows_; ++r)
      if (sight(c, r).count > 0)
        all = {std::min(all.first, sight(c, r).seen.first), std::max(all.last, sight(c, r).seen.last)};
    partly = false;
    for (int64_t r = 0; r < rows_; ++r) partly = partly || sight(c, r).count < all.count();
    return all.count() > 0 ? all : Keys{0, 0};
  }

  // The chains of a chunk = W B, W = P or dS, rows of B its keys. As in tile.hpp, a number of B that is not finite must not
  // reach a row that does not see it.
  void rows_by_features(int64_t c, const T* w, const Matrix<const T>& b, int64_t features, int64_t row, T* room) const {
    bool partly;
    const int64_t j0 = c * plan_.key_chunk;
    const Keys seen = seen_by_all(c, partly);
    const Rows<T> from = contiguous(b, j0 + seen.first, seen.count(), features, room);
    T* const to = chains(c, row);
    if (!partly || call_.step.finite(seen.count(), features, from.data, from.row)) {
      call_.step.rows_by_features(rows_, features, seen.count(), w + at(c, 0) + seen.first, w_.pitch, from.data, from.row, to, row);
      return;
    }
    std::fill_n(to, rows_ * row, T(0));
    for (int64_t r = 0; r < rows_; ++r)
      for_each_run(
          seen.count(), [&](int64_t l) { return sees(c, r, seen.first + l); },
          [&](int64_t l, int64_t end) {
            call_.kernel.gemm(1, features, end - l, w + at(c, r) + seen.first + l, 1, 1, from.data + l * from.row,
                              from.row, to + r * row, row, true);
          });
  }

  // out = factor (W^T B) of the keys of a chunk, W = P or dS, rows of B the queries.
  void keys_by_features(int64_t c, const T* w, const T* b, int64_t features, int64_t row, T* room, const Matrix<T>& out,
                        T factor) const {
    if (!out) return;
    bool partly;
    const int64_t j0 = c * plan_.key_chunk, keys = keys_of(c), seen = seen_by_all(c, partly).count();
    if ((!partly && seen == keys) || call_.step.finite(rows_, features, b, row)) {
      call_.kernel.gemm(keys, features, rows_, w + at(c, 0), 1, w_.pitch, b, row, room, row, false);
    } else {
      std::fill_n(room, keys * row, T(0));
      for (int64_t j = 0; j < keys; ++j)
        for_each_run(
            rows_, [&](int64_t r) { return sees(c, r, j); },
            [&](int64_t r, int64_t end) {
              call_.kernel.gemm(1, features, end - r, w + at(c, r) + j, 1, w_.pitch, b + r * row, row, room + j * row,
                                row, true);
            });
    }
    put_rows(out, j0, keys, features, room, row, factor);
  }

  // o = fma(o, factor, chain of chunk c), o + chain without; the first: the chain
  void add_chain(int64_t c, int64_t features, int64_t row, const T* factor) const {
    if (c == first_)
      std::copy_n(chains(c, row), rows_ * row, w_.o);
    else
      call_.step.scale_add(rows_, features, factor, chains(c, row), row, w_.o, row);
  }

  const Call<T>& call_;
  const Plan& plan_;
  const HeadMemory<T>& w_;
  const bool backward_;
  const int64_t b_, group_;
  double* const dscale_;  // [n, H]
  const Band band_;
  const int64_t rows_, first_, last_;
};

}  // namespace lamina::attention
