// What dK and dV are sums of. A sequence of more than `Plan::segment` queries has a chain of its own for each segment of a
// head, so that threads may share a key head, and the chains are added in order; a shorter one has one chain over all heads of
// the group. Both are called parts, in the order in which they are added. How many queries a segment has depends on nothing.
#pragma once
#include "attention/tile.hpp"

namespace lamina::attention {

using Sweep = Plan::Sweep;

// dK, dV of some keys, rows padded.
template <class T>
struct Sums {
  T *dk = nullptr, *dv = nullptr;
  Sums() = default;
  Sums(const Plan& plan, int64_t keys, Carver& carver)
      : dk(carver.take<T>(keys, kernels::padded(plan.d))), dv(carver.take<T>(keys, kernels::padded(plan.d_v))) {}
};

// Sweep::segments: the sums of the parts of a wave, and two totals, of the key head that goes on in the next wave and of one
// that does after it; each of L_k keys.
template <class T>
struct PartialSums {
  char* memory;
  int64_t stride = 0;
  PartialSums(const Plan& plan, Carver& carver) {
    const bool any = plan.sweep == Sweep::segments;
    Carver one;
    Sums<T>(plan, any ? plan.L_k : 0, one);
    stride = static_cast<int64_t>(one.bytes());
    memory = carver.take<char>(any ? plan.partial_sums + 2 : 0, stride);
  }
  Sums<T> at(const Plan& plan, int64_t place) const {
    Carver carver(memory + place * stride);
    return Sums<T>(plan, plan.L_k, carver);
  }
};

// The parts of one sequence. `origin` is the key of row 0 of sums.
template <class T>
class Segments {
 public:
  Segments(const Call<T>& call, int64_t b)
      : call_(call),
        plan_(call.plan),
        b_(b),
        band_(call.band(b)),
        per_head_(std::max<int64_t>((band_.queries() + plan_.segment - 1) / plan_.segment, 1)) {}

  // Of a key head.
  int64_t parts() const { return per_head_ == 1 ? 1 : plan_.group * per_head_; }

  // body(head, index) for all blocks of a part, those past the sequence's length with the last one.
  template <class Body>
  void for_each_block(int64_t group, int64_t part, const Body& body) const {
    const int64_t blocks = plan_.segment / plan_.query_block, s = part % per_head_;
    const int64_t first = group * plan_.group + part / per_head_, heads = per_head_ == 1 ? plan_.group : 1;
    for (int64_t h = first; h < first + heads; ++h)
      for (int64_t index = s * blocks; index < (s + 1 < per_head_ ? (s + 1) * blocks : plan_.blocks()); ++index) body(h, index);
  }

  void clear(const Sums<T>& sums, int64_t first, int64_t last) const {
    if (first >= last) return;
    std::fill_n(sums.dk + first * d_row_, (last - first) * d_row_, T(0));
    std::fill_n(sums.dv + first * dv_row_, (last - first) * dv_row_, T(0));
  }
  // Sums of a part begin: the first is the total of all keys, of the others only what add() reads is given a value.
  void begin(int64_t part, const Sums<T>& sums) const {
    const Keys keys = part == 0 ? Keys{0, plan_.L_k} : seen_by(part);
    clear(sums, keys.first / 4 * 4, keys.last);
  }
  // total += the sums of a part > 0, on the keys `within` that some query of it may see
  void add(int64_t part, int64_t origin, Keys within, const Sums<T>& sums, const Sums<T>& total) const {
    const Keys seen = seen_by(part);
    const int64_t first = std::max(within.first, seen.first), rows = std::min(within.last, seen.last) - first;
    if (rows <= 0) return;
    const auto add_rows = [&](int64_t cols, int64_t row, const T* x, T* y) {
      call_.step.scale_add(rows, cols, nullptr, x + (first - origin) * row, row, y + (first - origin) * row, row);
    };
    add_rows(plan_.d, d_row_, sums.dk, total.dk);
    add_rows(plan_.d_v, dv_row_, sums.dv, total.dv);
  }
  void copy(Keys keys, const Sums<T>& from, const Sums<T>& to) const {
    std::copy_n(from.dk + keys.first * d_row_, keys.count() * d_row_, to.dk + keys.first * d_row_);
    std::copy_n(from.dv + keys.first * dv_row_, keys.count() * dv_row_, to.dv + keys.first * dv_row_);
  }
  // dK = scale (dS^T Q);  dV
  void write(int64_t group, int64_t origin, Keys keys, const Sums<T>& total) const {
    if (keys.count() <= 0) return;
    const int64_t at = keys.first - origin;
    if (const Matrix<T> d_k = call_.of_keys(call_.arrays.d_k, b_, group))
      put_rows(d_k, keys.first, keys.count(), plan_.d, total.dk + at * d_row_, d_row_, static_cast<T>(plan_.scale));
    if (const Matrix<T> d_v = call_.of_keys(call_.arrays.d_v, b_, group))
      put_rows(d_v, keys.first, keys.count(), plan_.d_v, total.dv + at * dv_row_, dv_row_, T(1));
  }

 private:
  // The keys that some query of a part may see.
  Keys seen_by(int64_t part) const {
    const int64_t i0 = part % per_head_ * plan_.segment, i1 = std::min(i0 + plan_.segment, band_.queries());
    return i0 < i1 ? Keys{band_.first(i0), band_.last(i1 - 1)} : Keys{0, 0};
  }

  const Call<T>& call_;
  const Plan& plan_;
  const int64_t b_;
  const Band band_;
  const int64_t per_head_;
  const int64_t d_row_ = kernels::padded(plan_.d), dv_row_ = kernels::padded(plan_.d_v);
};

// Sweep::segments: segment(b, group, part, sums, slot) for all parts, in waves of as many as have sums of their own, late ones
// first; after each wave the sums of every key head in it are added, each chunk of keys for itself, and go out once the last
// is in.
template <class T, class Segment>
void sum_segments(const Call<T>& call, const PartialSums<T>& sums, const Segment& segment) {
  const Plan& plan = call.plan;
  const int64_t per_head = plan.parts(), items = plan.n * plan.H_kv * per_head, chunks = plan.chunks();
  int64_t carried = plan.partial_sums;  // the place of the total of the key head that goes on
  for (int64_t first = 0; first < items; first += plan.partial_sums) {
    const int64_t count = std::min(plan.partial_sums, items - first);
    for_each_item(plan, count, [&](int64_t item, int slot) {
      const int64_t place = count - 1 - item, head = (first + place) / per_head, part = (first + place) % per_head;
      const int64_t b = head / plan.H_kv;
      if (part < Segments<T>(call, b).parts()) segment(b, head % plan.H_kv, part, sums.at(plan, place), slot);
    });
    const int64_t first_head = first / per_head, last_head = (first + count - 1) / per_head;
    const int64_t next = plan.partial_sums + (carried == plan.partial_sums ? 1 : 0);
    for_each_item(plan, (last_head - first_head + 1) * chunks, [&](int64_t item, int) {
      const int64_t head = first_head + item / chunks, b = head / plan.H_kv;
      const int64_t begin = head * per_head, end = std::min(begin + per_head, first + count);
      const Segments<T> segments(call, b);
      const Keys keys{item % chunks * plan.key_chunk, std::min((item % chunks + 1) * plan.key_chunk, plan.L_k)};
      const Sums<T> total = sums.at(plan, begin < first ? carried : begin - first);
      for (int64_t place = std::max(begin + 1, first); place < std::min(end, begin + segments.parts()); ++place)
        segments.add(place - begin, 0, keys, sums.at(plan, place - first), total);
      if (end == begin + per_head)
        segments.write(head % plan.H_kv, 0, {keys.first, std::min(keys.last, call.keys(b))}, total);
      else if (begin >= first)
        segments.copy(keys, total, sums.at(plan, next));
    });
    if (last_head * per_head >= first) carried = next;
  }
}

}  // namespace lamina::attention
