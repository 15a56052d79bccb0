// Problems at random, the same on every platform.
#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
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

// Biases at the ends of the type, as hosts write "masked" by a finite number: here and there, and in whole rows. Those of relu
// are negative, for its weights are scores.
inline void put_largest(Problem& p, Dice& dice) {
  const auto largest = p.spec.element == LAMINA_F32 ? static_cast<oracle::Real>(std::numeric_limits<float>::max())
                                                    : static_cast<oracle::Real>(std::numeric_limits<double>::max());
  const oracle::Real ends[] = {-largest, p.spec.element == LAMINA_F32 ? -1e38f : -1e308, largest};
  const auto end = [&] { return ends[dice.below(p.spec.map == LAMINA_RELU ? 2 : 3)]; };
  const int64_t keys = p.Lk(), rows = keys ? static_cast<int64_t>(p.bias.size()) / keys : 0;
  for (int64_t row = 0; row < rows; ++row) {
    const bool whole = dice.chance(0.2);
    const oracle::Real same = end();
    for (int64_t j = 0; j < keys; ++j)
      if (whole)
        p.bias[row * keys + j] = same;
      else if (dice.chance(0.1))
        p.bias[row * keys + j] = end();
  }
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
    if (spec.map != LAMINA_LINEAR && dice.chance(0.3)) put_largest(p, dice);
  }
  if (p.has(LAMINA_WITH_MASK)) {
    p.mask.resize(square);
    for (auto& value : p.mask) value = dice.chance(0.3) ? 0 : static_cast<uint8_t>(1 + dice.below(255));
  }
  if (p.has(LAMINA_WITH_OFFSETS)) {
    p.query_offsets = p.key_offsets = {0};
    for (int64_t b = 0; b < p.B(); ++b) {
      p.query_offsets.push_back(p.query_offsets[b] + dice.below(p.Lq() + 1));
      p.key_offsets.push_back(p.key_offsets[b] + dice.below(p.Lk() + 1));
    }
  }
  if (p.has(LAMINA_WITH_LENGTHS))
    for (int64_t b = 0; b < p.B(); ++b) {
      p.query_lengths.push_back(dice.below(p.query_places(b) + 1));
      p.key_lengths.push_back(dice.below(p.key_places(b) + 1));
    }
  if (p.has(LAMINA_WITH_LSE)) p.d_lse = numbers(heads * p.Lq(), false, false);
  if (p.has(LAMINA_WITH_WEIGHTS)) p.d_weights = numbers(square, false, false);
  return p;
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

}  // namespace harness
