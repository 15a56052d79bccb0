// The arrays of a problem with any strides, and what a run leaves in them.
#pragma once
#include <array>
#include <cstring>

#include "tests/attention/problem.hpp"

namespace harness {

using Extents = std::array<int64_t, 4>;
inline int64_t count(const Extents& n) {
  return n[0] * n[1] * n[2] * n[3];
}

// An array of logical extents somewhere in a buffer: packed, or (given dice) with dimensions in any order and gaps; inputs also
// with descending dimensions, and with stride 0 where all slices are equal.
template <class T>
class Strided {
 public:
  static constexpr int guard = 3;
  Strided(const Extents& extents, Dice* dice, bool input) : extents_(extents) {
    std::array<int, 4> order = {3, 2, 1, 0};
    if (dice)
      for (int k = 3; k > 0; --k) std::swap(order[k], order[dice->below(k + 1)]);
    int64_t step = 1, start = guard;
    if (dice && dice->chance(0.3)) step += dice->below(3);
    for (const int k : order) {
      stride_[k] = step;
      step *= std::max<int64_t>(extents[k], 1);
      if (dice && dice->chance(0.5)) step += dice->below(4);
      if (dice && input && dice->chance(0.3)) {
        start += stride_[k] * std::max<int64_t>(extents[k] - 1, 0);
        stride_[k] = -stride_[k];
      }
    }
    start_ = start;
    storage_.assign(step + start + guard, canary());
  }
  const Extents& extents() const { return extents_; }
  T& at(const Extents& i) {
    int64_t offset = start_;
    for (int k = 0; k < 4; ++k) offset += i[k] * stride_[k];
    return storage_[offset];
  }
  template <class Function>
  void each(Function f) {
    Extents i;
    for (i[0] = 0; i[0] < extents_[0]; ++i[0])
      for (i[1] = 0; i[1] < extents_[1]; ++i[1])
        for (i[2] = 0; i[2] < extents_[2]; ++i[2])
          for (i[3] = 0; i[3] < extents_[3]; ++i[3]) f(at(i));
  }
  template <class Source>
  void load(const std::vector<Source>& values) {
    size_t n = 0;
    each([&](T& x) { x = static_cast<T>(values[n++]); });
  }
  std::vector<T> values() {
    std::vector<T> out;
    each([&](T& x) { out.push_back(x); });
    return out;
  }
  // Elements of the buffer that are none of the array's must never be written.
  void expect_gaps_untouched(const char* name) {
    std::vector<bool> own(storage_.size());
    each([&](T& x) { own[&x - storage_.data()] = true; });
    for (size_t i = 0; i < storage_.size(); ++i)
      if (!own[i]) {
        const T expected = canary();
        ASSERT_EQ(std::memcmp(&storage_[i], &expected, sizeof(T)), 0) << name << ": written outside the array";
      }
  }
  void forget() { std::fill(storage_.begin(), storage_.end(), canary()); }
  lamina_input input() const { return {storage_.data() + start_, {stride_[0], stride_[1], stride_[2], stride_[3]}}; }
  lamina_output output() { return {storage_.data() + start_, {stride_[0], stride_[1], stride_[2], stride_[3]}}; }

 private:
  static T canary() { return static_cast<T>(123); }
  Extents extents_;
  std::array<int64_t, 4> stride_{};
  int64_t start_ = 0;
  std::vector<T> storage_;
};

template <class T>
struct Outputs {
  std::vector<T> o, lse, weights, scores, d_q, d_k, d_v, d_bias;
  double d_scale = 0;
  template <class Function>
  static void each_pair(const Outputs& x, const Outputs& y, Function f) {
    f("o", x.o, y.o), f("lse", x.lse, y.lse), f("weights", x.weights, y.weights), f("scores", x.scores, y.scores);
    f("d_q", x.d_q, y.d_q), f("d_k", x.d_k, y.d_k), f("d_v", x.d_v, y.d_v), f("d_bias", x.d_bias, y.d_bias);
  }
};

// The arrays of one problem, filled. Where offsets pack the sequences, so are arrays of positions, and their batch stride is
// nonsense that must not be read.
template <class T>
struct Arrays {
  explicit Arrays(const Problem& p, uint64_t stride_seed = 0)
      : dice(stride_seed),
        d(stride_seed ? &dice : nullptr),
        q(queries(p, p.D()), d, true),
        k(keys(p, p.D()), d, true),
        v(keys(p, p.Dv()), d, true),
        bias(square(p), d, true),
        d_o(queries(p, p.Dv()), d, true),
        d_lse(queries(p, 1), d, true),
        d_weights(square(p), d, true),
        mask(square(p), d, true),
        o(queries(p, p.Dv()), d, false),
        lse(queries(p, 1), d, false),
        weights(square(p), d, false),
        scores(square(p), d, false),
        d_q(queries(p, p.D()), d, false),
        d_k(keys(p, p.D()), d, false),
        d_v(keys(p, p.Dv()), d, false),
        d_bias(square(p), d, false) {
    EXPECT_EQ(lamina_attention_arrays_init(&c, sizeof c), LAMINA_OK);
    const auto &at_q = p.query_offsets, &at_k = p.key_offsets;
    c.q = load(q, p.q, at_q, p.Lq()), c.d_o = load(d_o, p.d_o, at_q, p.Lq());
    c.k = load(k, p.k, at_k, p.Lk()), c.v = load(v, p.v, at_k, p.Lk());
    c.o = output(o, at_q), c.d_q = output(d_q, at_q), c.d_k = output(d_k, at_k), c.d_v = output(d_v, at_k);
    c.d_scale = &d_scale;
    if (p.has(LAMINA_WITH_BIAS)) c.bias = load(bias, p.bias), c.d_bias = d_bias.output();
    if (p.has(LAMINA_WITH_MASK)) c.mask = load(mask, p.mask);
    if (p.has(LAMINA_WITH_LENGTHS)) c.query_lengths = p.query_lengths.data(), c.key_lengths = p.key_lengths.data();
    if (p.has(LAMINA_WITH_OFFSETS)) c.query_offsets = at_q.data(), c.key_offsets = at_k.data();
    if (p.has(LAMINA_WITH_LSE)) {
      c.lse = output(lse, at_q);
      if (!p.d_lse.empty()) c.d_lse = load(d_lse, p.d_lse, at_q, p.Lq());
    }
    if (p.has(LAMINA_WITH_WEIGHTS)) {
      c.weights = weights.output();
      if (!p.d_weights.empty()) c.d_weights = load(d_weights, p.d_weights);
    }
    if (p.has(LAMINA_WITH_SCORES)) c.scores = scores.output();
  }
  Outputs<T> outputs(const Problem& p) {
    Outputs<T> out;
    const auto &at_q = p.query_offsets, &at_k = p.key_offsets;
    out.o = values(o, at_q, p.Lq()), out.d_q = values(d_q, at_q, p.Lq()), out.d_scale = d_scale;
    out.d_k = values(d_k, at_k, p.Lk()), out.d_v = values(d_v, at_k, p.Lk());
    if (p.has(LAMINA_WITH_LSE)) out.lse = values(lse, at_q, p.Lq(), -std::numeric_limits<T>::infinity());
    if (p.has(LAMINA_WITH_WEIGHTS)) out.weights = weights.values();
    if (p.has(LAMINA_WITH_SCORES)) out.scores = scores.values();
    if (p.has(LAMINA_WITH_BIAS)) out.d_bias = d_bias.values();
    o.expect_gaps_untouched("o"), lse.expect_gaps_untouched("lse"), weights.expect_gaps_untouched("weights");
    scores.expect_gaps_untouched("scores"), d_q.expect_gaps_untouched("d_q"), d_k.expect_gaps_untouched("d_k");
    d_v.expect_gaps_untouched("d_v"), d_bias.expect_gaps_untouched("d_bias");
    return out;
  }

  // Every output is as if no call had written it.
  void forget() {
    for (Strided<T>* x : {&o, &lse, &weights, &scores, &d_q, &d_k, &d_v, &d_bias}) x->forget();
    d_scale = 123;
  }

  Dice dice;
  Dice* d;
  Strided<T> q, k, v, bias, d_o, d_lse, d_weights;
  Strided<uint8_t> mask;
  Strided<T> o, lse, weights, scores, d_q, d_k, d_v, d_bias;
  double d_scale = 123;
  lamina_attention_arrays c;

 private:
  using Offsets = std::vector<int64_t>;
  static Extents queries(const Problem& p, int64_t features) {
    return p.query_offsets.empty() ? Extents{p.B(), p.H(), p.Lq(), features}
                                   : Extents{1, p.H(), p.query_offsets.back(), features};
  }
  static Extents keys(const Problem& p, int64_t features) {
    return p.key_offsets.empty() ? Extents{p.B(), p.H_kv(), p.Lk(), features}
                                 : Extents{1, p.H_kv(), p.key_offsets.back(), features};
  }
  static Extents square(const Problem& p) { return {p.B(), p.H(), p.Lq(), p.Lk()}; }

  // f(place in the array, or nullptr where there is none, row of the problem) for every number of [batch, heads, length,
  // features]
  template <class Element, class Function>
  static void each(Strided<Element>& x, const Offsets& offsets, int64_t length, Function f) {
    size_t n = 0;
    const Extents& e = x.extents();
    for (size_t b = 0; b + 1 < offsets.size(); ++b)
      for (int64_t h = 0; h < e[1]; ++h)
        for (int64_t i = 0; i < length; ++i)
          for (int64_t g = 0; g < e[3]; ++g, ++n)
            f(i < offsets[b + 1] - offsets[b] ? &x.at({0, h, offsets[b] + i, g}) : nullptr, n);
  }
  template <class Element, class Source>
  static lamina_input load(Strided<Element>& x, const std::vector<Source>& from, const Offsets& offsets = {},
                           int64_t length = 0) {
    if (offsets.empty())
      x.load(from);
    else
      each(x, offsets, length, [&](Element* to, size_t n) {
        if (to) *to = static_cast<Element>(from[n]);
      });
    lamina_input input = x.input();
    if (!offsets.empty()) input.stride[0] = INT64_MIN;
    return input;
  }
  static lamina_output output(Strided<T>& x, const Offsets& offsets) {
    lamina_output output = x.output();
    if (!offsets.empty()) output.stride[0] = INT64_MIN;
    return output;
  }
  static std::vector<T> values(Strided<T>& x, const Offsets& offsets, int64_t length, T absent = 0) {
    if (offsets.empty()) return x.values();
    std::vector<T> out;
    each(x, offsets, length, [&](const T* from, size_t) { out.push_back(from ? *from : absent); });
    return out;
  }
};

}  // namespace harness
