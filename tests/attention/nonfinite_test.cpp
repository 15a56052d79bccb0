// NaN and infinity: what a row sees reaches its results, what it does not see never does. The oracle adds up visible terms
// only.
#include "tests/attention/harness.hpp"

using namespace harness;

namespace {

struct Poison {
  const char* name;
  oracle::Array Problem::*array;
};
const Poison poisons[] = {{"q", &Problem::q},
                          {"k", &Problem::k},
                          {"v", &Problem::v},
                          {"d_o", &Problem::d_o},
                          {"bias", &Problem::bias},
                          {"d_lse", &Problem::d_lse},
                          {"d_weights", &Problem::d_weights}};

template <class T>
void check(int map, int normaliser) {
  const oracle::Real bad[] = {std::numeric_limits<oracle::Real>::quiet_NaN(), std::numeric_limits<oracle::Real>::infinity(),
                              -std::numeric_limits<oracle::Real>::infinity()};
  uint64_t seed = 1;
  for (const Poison& poison : poisons)
    for (const int sight : {0, 1, 2, 3, 4}) {
      const oracle::Real value = bad[seed % 3];
      lamina_attention_spec s = new_spec();
      s.element = element<T>, s.map = map, s.normaliser = normaliser, s.batch = 1, s.kv_heads = 1, s.heads = 2, s.queries = 19;
      s.keys = 135, s.width = 3, s.value_width = 17, s.scale = 0.5;
      s.flags = LAMINA_WITH_WEIGHTS | (map == LAMINA_SOFTMAX ? LAMINA_WITH_LSE : 0);
      if (sight == 0) s.causal = LAMINA_CAUSAL_TOP_LEFT;
      if (sight == 1) s.causal = LAMINA_CAUSAL_BOTTOM_RIGHT;
      if (sight == 2) s.flags |= LAMINA_WITH_MASK;
      if (sight == 3) s.flags |= LAMINA_WITH_LENGTHS;
      if (sight == 4 || poison.array == &Problem::bias) s.flags |= LAMINA_WITH_BIAS;
      Problem p = make_problem(s, seed++);
      if (sight == 3) p.query_lengths = {14}, p.key_lengths = {100};
      oracle::Array& array = p.*poison.array;
      if (array.empty()) continue;
      Dice dice(seed);
      for (int k = 0; k < 2; ++k) array[dice.below(static_cast<int64_t>(array.size()))] = value;
      const std::string what = std::string(" poison ") + poison.name + describe(p);
      const oracle::Solution truth = oracle::solve(p);
      expect_near(run<T>(p), truth, what);
      expect_near(run<T>(p, {.stride_seed = seed}), truth, what);
      if (testing::Test::HasFailure()) return;
    }
}

TEST(AttentionNonFinite, NeverLeaks) {
  for (const int map : {LAMINA_SOFTMAX, LAMINA_LINEAR, LAMINA_RELU})
    for (const int normaliser : {LAMINA_NORMALISE_NONE, LAMINA_NORMALISE_VISIBLE, LAMINA_NORMALISE_ROW_SUM}) {
      if (map == LAMINA_SOFTMAX && normaliser != LAMINA_NORMALISE_ROW_SUM) continue;
      check<double>(map, normaliser);
      check<float>(map, normaliser);
    }
}

// Rows that see nothing: O = 0, lse = -inf, weights 0, gradients 0, whatever their own numbers are.
TEST(AttentionNonFinite, EmptyRows) {
  for (const int map : {LAMINA_SOFTMAX, LAMINA_LINEAR, LAMINA_RELU}) {
    lamina_attention_spec s = new_spec();
    s.map = map, s.batch = s.heads = 1, s.queries = s.keys = 20, s.width = 4;
    s.flags = LAMINA_WITH_MASK | LAMINA_WITH_WEIGHTS | (map == LAMINA_SOFTMAX ? LAMINA_WITH_LSE : 0);
    s.normaliser = map == LAMINA_SOFTMAX ? 0 : LAMINA_NORMALISE_ROW_SUM;
    Problem p = make_problem(s, 3);
    std::fill_n(p.mask.begin(), 5 * 20, uint8_t{0});
    const oracle::Real nan = std::numeric_limits<oracle::Real>::quiet_NaN();
    std::fill_n(p.q.begin(), 5 * 4, nan);
    std::fill_n(p.d_o.begin(), 5 * 4, nan);
    const Outputs<double> got = run<double>(p);
    for (int i = 0; i < 5 * 4; ++i) {
      EXPECT_EQ(got.o[i], 0);
      EXPECT_EQ(got.d_q[i], 0);
    }
    for (int i = 0; i < 5 && !got.lse.empty(); ++i) EXPECT_EQ(got.lse[i], -std::numeric_limits<double>::infinity());
    for (const auto* x : {&got.d_k, &got.d_v, &got.o})
      for (const double value : *x) EXPECT_TRUE(std::isfinite(value));
    EXPECT_TRUE(std::isfinite(got.d_scale));
  }
}

// A finite bias however large is a number like another: rows full of -max (a mask, as many write it) weigh all keys alike, and
// so do those full of max; keys that lie so far below another get nothing.
template <class T>
void check_largest_biases() {
  const oracle::Real max = std::numeric_limits<T>::max();
  const int64_t keys = 300;
  lamina_attention_spec s = new_spec();
  s.element = element<T>, s.batch = s.heads = 1, s.queries = 5, s.keys = keys, s.width = 4;
  s.flags = LAMINA_WITH_BIAS | LAMINA_WITH_WEIGHTS | LAMINA_WITH_SCORES | LAMINA_WITH_LSE;
  Problem p = make_problem(s, 3);
  for (int64_t j = 0; j < keys; ++j) {
    p.bias[j] = -max, p.bias[keys + j] = max, p.bias[2 * keys + j] = -max * 0.7L;
    p.bias[3 * keys + j] = j == 299 ? 0 : -max;  // far apart, and further than any number
    p.bias[4 * keys + j] = j == 299 ? max : -max;
  }
  const oracle::Solution truth = oracle::solve(p);
  const Outputs<T> got = run<T>(p);
  EXPECT_LT(expect_near(got, truth, describe(p)), 1);
  for (int64_t i = 0; i < 3; ++i) {
    EXPECT_EQ(got.lse[i], static_cast<T>(p.bias[i * keys]));
    for (int64_t j = 0; j < keys; ++j) {
      EXPECT_EQ(got.weights[i * keys + j], T(1) / static_cast<T>(keys));
      EXPECT_EQ(got.scores[i * keys + j], static_cast<T>(p.bias[i * keys]));
    }
  }
  EXPECT_EQ(got.weights[4 * keys - 1], 1);
  EXPECT_EQ(got.weights[5 * keys - 1], 1);
  for (const auto* x : {&got.o, &got.lse, &got.scores, &got.d_q, &got.d_k, &got.d_v, &got.d_bias})
    for (const T value : *x) EXPECT_TRUE(std::isfinite(value));
}
TEST(AttentionNonFinite, LargestBiases) {
  check_largest_biases<float>();
  check_largest_biases<double>();
}

// ReLU with row sum 0: output 0 and zero gradients. Linear with row sum 0 divides literally.
TEST(AttentionNonFinite, RowSumZero) {
  lamina_attention_spec s = new_spec();
  s.map = LAMINA_RELU, s.normaliser = LAMINA_NORMALISE_ROW_SUM, s.batch = s.heads = 1, s.queries = s.keys = 3, s.width = 2;
  s.relu_at_zero = 1;
  Problem p = make_problem(s, 3);
  std::fill(p.q.begin(), p.q.end(), 0.0L);
  Outputs<double> got = run<double>(p);
  for (const auto* x : {&got.o, &got.d_q, &got.d_k, &got.d_v})
    for (const double value : *x) EXPECT_EQ(value, 0);
  EXPECT_EQ(got.d_scale, 0);
  p.spec.map = LAMINA_LINEAR;
  got = run<double>(p);
  for (const double value : got.o) EXPECT_FALSE(std::isfinite(value));
}

// The derivative of relu at 0 is the field's.
TEST(AttentionNonFinite, ReluAtZero) {
  for (const double at_zero : {0.0, 0.25, 1.0}) {
    lamina_attention_spec s = new_spec();
    s.map = LAMINA_RELU, s.batch = s.heads = 1, s.queries = 2, s.keys = 3, s.width = 2, s.relu_at_zero = at_zero;
    s.flags = LAMINA_WITH_BIAS;
    Problem p = make_problem(s, 3);
    std::fill(p.q.begin(), p.q.end(), 0.0L);
    std::fill(p.bias.begin(), p.bias.end(), 0.0L);
    const Outputs<double> got = run<double>(p);
    for (int i = 0; i < 2; ++i)
      for (int j = 0; j < 3; ++j)
        EXPECT_EQ(
            got.d_bias[i * 3 + j],
            at_zero * static_cast<double>(std::fma(static_cast<double>(p.d_o[i * 2 + 1]), static_cast<double>(p.v[j * 2 + 1]),
                                                   static_cast<double>(p.d_o[i * 2]) * static_cast<double>(p.v[j * 2]))));
  }
}

}  // namespace
