// Problems at random, arrays with any strides, and one run of the C interface on them.
#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "tests/attention/oracle.hpp"

namespace harness {

using oracle::Problem;

// The same numbers on every platform.
class Dice {
 public:
  explicit Dice(uint64_t seed) : engine_(seed) {}
  int64_t below(int64_t n) { return static_cast<int64_t>(engine_() % static_cast<uint64_t>(n)); }
  bool chance(double p) { return uniform() < p; }
  double uniform() { return static_cast<double>(engine_() >> 11) * 0x1p-53; }
  double symmetric() { return 2 * uniform() - 1; }

 private:
  std::mt19937_64 engine_;
};

template <class T>
inline constexpr int32_t element = sizeof(T) == 4 ? LAMINA_F32 : LAMINA_F64;

inline lamina_attention_spec new_spec() {
  lamina_attention_spec spec;
  EXPECT_EQ(lamina_attention_spec_init(&spec, sizeof spec), LAMINA_OK);
  spec.threads = 1;
  return spec;
}

// Numbers for a spec. Scores of relu are sums of multiples of 1/64, exact in both types, so that their signs are too.
inline Problem make_problem(const lamina_attention_spec& spec, uint64_t seed) {
  Problem p;
  p.spec = spec;
  Dice dice(seed);
  const bool coarse = spec.map == LAMINA_RELU;
  // A linear row sum is divided by literally: keep it away from 0 by positive scores.
  const bool positive = spec.map == LAMINA_LINEAR && spec.normaliser == LAMINA_NORMALISE_ROW_SUM;
  const auto number = [&](bool exact) {
    double x = 2 * dice.symmetric();
    if (exact) x = std::nearbyint(8 * x) / 8;
    if (spec.element == LAMINA_F32) x = static_cast<float>(x);
    return static_cast<oracle::Real>(x);
  };
  const auto numbers = [&](int64_t count, bool exact, bool absolute) {
    oracle::Array x(count);
    for (auto& value : x) value = absolute ? std::fabs(number(exact)) + 0.25L : number(exact);
    return x;
  };
  const int64_t heads = p.B() * p.H(), kv = p.B() * p.H_kv(), square = heads * p.Lq() * p.Lk();
  p.q = numbers(heads * p.Lq() * p.D(), coarse, positive);
  p.k = numbers(kv * p.Lk() * p.D(), coarse, positive);
  p.v = numbers(kv * p.Lk() * p.Dv(), false, false);
  p.d_o = numbers(heads * p.Lq() * p.Dv(), false, false);
  if (p.has(LAMINA_WITH_BIAS)) {
    p.bias = numbers(square, coarse, positive);
    for (auto& value : p.bias)
      if (dice.chance(0.1)) value = -std::numeric_limits<oracle::Real>::infinity();
  }
  if (p.has(LAMINA_WITH_MASK)) {
    p.mask.resize(square);
    for (auto& value : p.mask) value = dice.chance(0.3) ? 0 : static_cast<uint8_t>(1 + dice.below(255));
  }
  if (p.has(LAMINA_WITH_LENGTHS))
    for (int64_t b = 0; b < p.B(); ++b) {
      p.query_lengths.push_back(dice.below(p.Lq() + 1));
      p.key_lengths.push_back(dice.below(p.Lk() + 1));
    }
  if (p.has(LAMINA_WITH_LSE)) p.d_lse = numbers(heads * p.Lq(), false, false);
  if (p.has(LAMINA_WITH_WEIGHTS)) p.d_weights = numbers(square, false, false);
  return p;
}

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

struct Run {
  uint64_t stride_seed = 0;  // 0: packed
  int32_t threads = 1;
  const char* isa = nullptr;
  bool workspace = false;  // bring one, of exactly the size asked for, between canaries
};

struct Free {
  void operator()(lamina_attention* a) const { lamina_attention_free(a); }
};
using Plan = std::unique_ptr<lamina_attention, Free>;

inline Plan make_plan(const lamina_attention_spec& spec) {
  lamina_attention* plan = nullptr;
  EXPECT_EQ(lamina_attention_create(&spec, &plan), LAMINA_OK) << lamina_last_error();
  return Plan(plan);
}

// 64-byte aligned memory of exactly `bytes`, followed by a canary.
class Workspace {
 public:
  explicit Workspace(size_t bytes) : bytes_(bytes), storage_(bytes + 2 * 64, 0x5a) {}
  void* data() { return storage_.data() + (64 - reinterpret_cast<uintptr_t>(storage_.data()) % 64) % 64; }
  size_t bytes() const { return bytes_; }
  void expect_intact() {
    const auto* end = static_cast<unsigned char*>(data()) + bytes_;
    for (const auto* p = end; p < storage_.data() + storage_.size(); ++p) ASSERT_EQ(*p, 0x5a) << "workspace overrun";
    for (const auto* p = storage_.data(); p < data(); ++p) ASSERT_EQ(*p, 0x5a) << "workspace underrun";
  }

 private:
  size_t bytes_;
  std::vector<unsigned char> storage_;
};

// The arrays of one problem, filled.
template <class T>
struct Arrays {
  explicit Arrays(const Problem& p, uint64_t stride_seed = 0)
      : dice(stride_seed),
        d(stride_seed ? &dice : nullptr),
        q({p.B(), p.H(), p.Lq(), p.D()}, d, true),
        k({p.B(), p.H_kv(), p.Lk(), p.D()}, d, true),
        v({p.B(), p.H_kv(), p.Lk(), p.Dv()}, d, true),
        bias({p.B(), p.H(), p.Lq(), p.Lk()}, d, true),
        d_o({p.B(), p.H(), p.Lq(), p.Dv()}, d, true),
        d_lse({p.B(), p.H(), p.Lq(), 1}, d, true),
        d_weights({p.B(), p.H(), p.Lq(), p.Lk()}, d, true),
        mask({p.B(), p.H(), p.Lq(), p.Lk()}, d, true),
        o({p.B(), p.H(), p.Lq(), p.Dv()}, d, false),
        lse({p.B(), p.H(), p.Lq(), 1}, d, false),
        weights({p.B(), p.H(), p.Lq(), p.Lk()}, d, false),
        scores({p.B(), p.H(), p.Lq(), p.Lk()}, d, false),
        d_q({p.B(), p.H(), p.Lq(), p.D()}, d, false),
        d_k({p.B(), p.H_kv(), p.Lk(), p.D()}, d, false),
        d_v({p.B(), p.H_kv(), p.Lk(), p.Dv()}, d, false),
        d_bias({p.B(), p.H(), p.Lq(), p.Lk()}, d, false) {
    EXPECT_EQ(lamina_attention_arrays_init(&c, sizeof c), LAMINA_OK);
    q.load(p.q), k.load(p.k), v.load(p.v), d_o.load(p.d_o);
    c.q = q.input(), c.k = k.input(), c.v = v.input(), c.d_o = d_o.input();
    c.o = o.output(), c.d_q = d_q.output(), c.d_k = d_k.output(), c.d_v = d_v.output(), c.d_scale = &d_scale;
    if (p.has(LAMINA_WITH_BIAS)) bias.load(p.bias), c.bias = bias.input(), c.d_bias = d_bias.output();
    if (p.has(LAMINA_WITH_MASK)) mask.load(p.mask), c.mask = mask.input();
    if (p.has(LAMINA_WITH_LENGTHS)) c.query_lengths = p.query_lengths.data(), c.key_lengths = p.key_lengths.data();
    if (p.has(LAMINA_WITH_LSE)) {
      c.lse = lse.output();
      if (!p.d_lse.empty()) d_lse.load(p.d_lse), c.d_lse = d_lse.input();
    }
    if (p.has(LAMINA_WITH_WEIGHTS)) {
      c.weights = weights.output();
      if (!p.d_weights.empty()) d_weights.load(p.d_weights), c.d_weights = d_weights.input();
    }
    if (p.has(LAMINA_WITH_SCORES)) c.scores = scores.output();
  }
  Outputs<T> outputs(const Problem& p) {
    Outputs<T> out;
    out.o = o.values(), out.d_q = d_q.values(), out.d_k = d_k.values(), out.d_v = d_v.values(), out.d_scale = d_scale;
    if (p.has(LAMINA_WITH_LSE)) out.lse = lse.values();
    if (p.has(LAMINA_WITH_WEIGHTS)) out.weights = weights.values();
    if (p.has(LAMINA_WITH_SCORES)) out.scores = scores.values();
    if (p.has(LAMINA_WITH_BIAS)) out.d_bias = d_bias.values();
    o.expect_gaps_untouched("o"), lse.expect_gaps_untouched("lse"), weights.expect_gaps_untouched("weights");
    scores.expect_gaps_untouched("scores"), d_q.expect_gaps_untouched("d_q"), d_k.expect_gaps_untouched("d_k");
    d_v.expect_gaps_untouched("d_v"), d_bias.expect_gaps_untouched("d_bias");
    return out;
  }

  Dice dice;
  Dice* d;
  Strided<T> q, k, v, bias, d_o, d_lse, d_weights;
  Strided<uint8_t> mask;
  Strided<T> o, lse, weights, scores, d_q, d_k, d_v, d_bias;
  double d_scale = 123;
  lamina_attention_arrays c;
};

template <class T>
Outputs<T> run(const Problem& p, const Run& options = {}) {
  lamina_attention_spec spec = p.spec;
  spec.threads = options.threads;
  spec.isa = options.isa;
  const Plan plan = make_plan(spec);
  if (!plan) return {};
  if (options.isa) {
    EXPECT_STREQ(lamina_attention_isa(plan.get()), options.isa);
  }
  Arrays<T> arrays(p, options.stride_seed);
  for (const int32_t direction : {LAMINA_FORWARD, LAMINA_BACKWARD}) {
    size_t bytes = 0;
    EXPECT_EQ(lamina_attention_workspace(plan.get(), direction, &bytes), LAMINA_OK);
    Workspace workspace(options.workspace ? bytes : 0);
    const auto call = direction == LAMINA_FORWARD ? lamina_attention_forward : lamina_attention_backward;
    EXPECT_EQ(call(plan.get(), &arrays.c, options.workspace ? workspace.data() : nullptr, options.workspace ? bytes : 0),
              LAMINA_OK)
        << lamina_last_error();
    if (options.workspace) workspace.expect_intact();
  }
  return arrays.outputs(p);
}

inline std::string describe(const Problem& p) {
  const auto& s = p.spec;
  std::string text;
  const auto add = [&](const char* name, int64_t value) {
    text.append(" ").append(name).append("=").append(std::to_string(value));
  };
  add("element", s.element), add("map", s.map), add("normaliser", s.normaliser), add("causal", s.causal), add("flags", s.flags);
  add("batch", s.batch), add("heads", s.heads), add("kv_heads", s.kv_heads), add("queries", s.queries), add("keys", s.keys);
  add("width", s.width), add("value_width", s.value_width), add("left", s.window_left), add("right", s.window_right);
  text += " scale=" + std::to_string(s.scale);
  return text;
}

// Differing bits of two runs; NaN equals NaN.
template <class T>
void expect_same_bits(const Outputs<T>& x, const Outputs<T>& y, const std::string& what) {
  Outputs<T>::each_pair(x, y, [&](const char* name, const std::vector<T>& a, const std::vector<T>& b) {
    ASSERT_EQ(a.size(), b.size());
    int64_t differing = 0;
    for (size_t i = 0; i < a.size(); ++i)
      differing += std::memcmp(&a[i], &b[i], sizeof(T)) != 0 && !(std::isnan(a[i]) && std::isnan(b[i]));
    EXPECT_EQ(differing, 0) << name << " of " << a.size() << ":" << what;
  });
  EXPECT_TRUE(std::memcmp(&x.d_scale, &y.d_scale, sizeof(double)) == 0 || (std::isnan(x.d_scale) && std::isnan(y.d_scale)))
      << "d_scale:" << what;
}

// |value - truth| <= u K max size over each array, K = 32 + 4 S (+ the square root of the lengths summed over): normwise, as
// the bound of the forward error is stated. Infinities and NaN must stand where the truth has them. Returns the largest error
// in units of its bound.
template <class T>
double expect_near(const Outputs<T>& x, const Problem& p, const oracle::Solution& truth, const std::string& what) {
  const oracle::Real u = std::numeric_limits<T>::epsilon() / 2;
  const oracle::Real lengths = std::sqrt(static_cast<oracle::Real>(p.Lq() * p.H() + p.Lk() + p.D() + p.Dv()));
  const oracle::Real K = 32 + 4 * truth.largest_score + lengths;
  double worst = 0;
  const auto check = [&](const char* name, const std::vector<T>& values, const oracle::Array& want, const oracle::Array& size) {
    if (values.empty()) return;
    ASSERT_EQ(values.size(), want.size()) << name << what;
    oracle::Real largest = 0;
    for (const oracle::Array* numbers : {&size, &want})
      for (const auto value : *numbers)
        if (std::isfinite(value)) largest = std::max(largest, std::fabs(value));
    const oracle::Real bound = u * K * largest + std::numeric_limits<T>::min();
    for (size_t i = 0; i < values.size(); ++i) {
      if (std::isnan(want[i])) {
        ASSERT_TRUE(std::isnan(values[i])) << name << "[" << i << "] is " << values[i] << ", must be NaN:" << what;
      } else if (std::isinf(want[i])) {
        ASSERT_EQ(static_cast<oracle::Real>(values[i]), want[i]) << name << "[" << i << "]:" << what;
      } else {
        const oracle::Real error = std::fabs(values[i] - want[i]);
        ASSERT_LE(error, bound) << name << "[" << i << "] is " << values[i] << ", must be " << static_cast<double>(want[i])
                                << ":" << what;
        worst = std::max(worst, static_cast<double>(error / bound));
      }
    }
  };
  const auto &v = truth.value, &s = truth.size;
  check("o", x.o, v.o, s.o), check("lse", x.lse, v.lse, s.lse), check("weights", x.weights, v.weights, s.weights);
  check("scores", x.scores, v.scores, s.scores), check("d_q", x.d_q, v.d_q, s.d_q), check("d_k", x.d_k, v.d_k, s.d_k);
  check("d_v", x.d_v, v.d_v, s.d_v), check("d_bias", x.d_bias, v.d_bias, s.d_bias);
  if (std::isfinite(v.d_scale))
    EXPECT_LE(std::fabs(x.d_scale - v.d_scale), u * K * s.d_scale + std::numeric_limits<T>::min()) << "d_scale" << what;
  else
    EXPECT_TRUE(std::isnan(x.d_scale) || std::isinf(x.d_scale)) << "d_scale" << what;
  return worst;
}

}  // namespace harness
