// Packed sequences of any length: each has the bits that it has alone, in a plan of its own size; and what is refused.
#include <functional>

#include "tests/attention/harness.hpp"

using namespace harness;

namespace {

// Sequence b of a packed problem as a problem of its own.
Problem alone(const Problem& p, int64_t b) {
  Problem one;
  one.spec = p.spec;
  one.spec.batch = 1, one.spec.queries = p.query_places(b), one.spec.keys = p.key_places(b);
  one.spec.flags &= ~static_cast<uint32_t>(LAMINA_WITH_OFFSETS);
  const int64_t Lq = one.Lq(), Lk = one.Lk();
  const auto cut = [&](auto& to, const auto& from, int64_t heads, int64_t rows, int64_t most_rows, int64_t cols,
                       int64_t most_cols) {
    if (from.empty()) return;
    for (int64_t h = 0; h < heads; ++h)
      for (int64_t i = 0; i < rows; ++i)
        for (int64_t f = 0; f < cols; ++f) to.push_back(from[((b * heads + h) * most_rows + i) * most_cols + f]);
  };
  const int64_t H = p.H(), H_kv = p.H_kv(), D = p.D(), Dv = p.Dv();
  cut(one.q, p.q, H, Lq, p.Lq(), D, D), cut(one.d_o, p.d_o, H, Lq, p.Lq(), Dv, Dv),
      cut(one.d_lse, p.d_lse, H, Lq, p.Lq(), 1, 1);
  cut(one.k, p.k, H_kv, Lk, p.Lk(), D, D), cut(one.v, p.v, H_kv, Lk, p.Lk(), Dv, Dv);
  cut(one.bias, p.bias, H, Lq, p.Lq(), Lk, p.Lk()), cut(one.mask, p.mask, H, Lq, p.Lq(), Lk, p.Lk());
  cut(one.d_weights, p.d_weights, H, Lq, p.Lq(), Lk, p.Lk());
  if (p.has(LAMINA_WITH_LENGTHS)) one.query_lengths = {p.query_lengths[b]}, one.key_lengths = {p.key_lengths[b]};
  return one;
}

// The part of the packed result that belongs to sequence b, and whether what lies past it in [query, key] is as if unseen.
template <class T>
void expect_sequence(const Outputs<T>& batch, const Outputs<T>& one, const Problem& p, int64_t b, const std::string& what) {
  const int64_t Lq = p.query_places(b), Lk = p.key_places(b);
  const auto check = [&](const char* name, const std::vector<T>& all, const std::vector<T>& own, int64_t heads, int64_t rows,
                         int64_t most_rows, int64_t cols, int64_t most_cols, T absent) {
    int64_t differing = 0, n = 0;
    for (int64_t h = 0; h < heads && !all.empty(); ++h)
      for (int64_t i = 0; i < most_rows; ++i)
        for (int64_t f = 0; f < most_cols; ++f) {
          const T want = i < rows && f < cols ? own[n++] : absent;
          differing += std::memcmp(&all[((b * heads + h) * most_rows + i) * most_cols + f], &want, sizeof(T)) != 0;
        }
    EXPECT_EQ(differing, 0) << name << " of sequence " << b << what;
  };
  const int64_t H = p.H(), H_kv = p.H_kv(), D = p.D(), Dv = p.Dv();
  const T inf = std::numeric_limits<T>::infinity();
  check("o", batch.o, one.o, H, Lq, p.Lq(), Dv, Dv, 0), check("lse", batch.lse, one.lse, H, Lq, p.Lq(), 1, 1, -inf);
  check("d_q", batch.d_q, one.d_q, H, Lq, p.Lq(), D, D, 0), check("d_k", batch.d_k, one.d_k, H_kv, Lk, p.Lk(), D, D, 0);
  check("d_v", batch.d_v, one.d_v, H_kv, Lk, p.Lk(), Dv, Dv, 0);
  check("weights", batch.weights, one.weights, H, Lq, p.Lq(), Lk, p.Lk(), 0);
  check("scores", batch.scores, one.scores, H, Lq, p.Lq(), Lk, p.Lk(), -inf);
  check("d_bias", batch.d_bias, one.d_bias, H, Lq, p.Lq(), Lk, p.Lk(), 0);
}

template <class T>
void check(lamina_attention_spec s, int64_t longest, uint64_t seed) {
  s.element = element<T>, s.batch = 5, s.kv_heads = 2, s.heads = 4, s.queries = longest, s.keys = longest + 40;
  s.width = 19, s.value_width = 8, s.flags |= LAMINA_WITH_OFFSETS | LAMINA_WITH_WEIGHTS | LAMINA_WITH_SCORES;
  Problem p = make_problem(s, seed);
  const int64_t full = longest, keys = s.keys;
  p.query_offsets = {
      0, full, full, full + 1, full + 1 + full / 2, 2 * full + 1 + full / 2};  // among them an empty one, one of 1
  p.key_offsets = {0, keys, keys + 3, keys + 3, 2 * keys + 3, 2 * keys + 4};
  if (p.has(LAMINA_WITH_LENGTHS))
    p.query_lengths = {full / 3, 0, 1, full / 2, full}, p.key_lengths = {keys - 1, 3, 0, keys / 2, 0};
  for (const Run& options : {Run{}, Run{.stride_seed = seed}, Run{.threads = 0, .workspace = true}, Run{.isa = "reference"}}) {
    const Outputs<T> batch = run<T>(p, options);
    double d_scale = 0;
    for (int64_t b = 0; b < 5; ++b) {
      const Outputs<T> one = run<T>(alone(p, b));
      expect_sequence(batch, one, p, b, describe(p));
      d_scale += one.d_scale;
    }
    EXPECT_NEAR(batch.d_scale, d_scale, 1e-12 * (1 + std::fabs(d_scale)));  // a sum in another order
  }
}

TEST(AttentionPacked, IsALoopOfSequences) {
  uint64_t seed = 1;
  for (const int map : {LAMINA_SOFTMAX, LAMINA_LINEAR, LAMINA_RELU})
    for (const int64_t longest : {12, 150})
      for (const int kind : {0, 1, 2, 3}) {
        lamina_attention_spec s = new_spec();
        s.map = map, s.scale = 0.25;
        if (map != LAMINA_SOFTMAX) s.normaliser = kind == 0 ? LAMINA_NORMALISE_NONE : LAMINA_NORMALISE_VISIBLE;
        if (map == LAMINA_SOFTMAX) s.flags |= LAMINA_WITH_LSE;
        if (kind == 1) s.causal = LAMINA_CAUSAL_BOTTOM_RIGHT;
        if (kind == 2) s.causal = LAMINA_CAUSAL_TOP_LEFT, s.flags |= LAMINA_WITH_LENGTHS | LAMINA_WITH_MASK;
        if (kind == 3)
          s.flags |= LAMINA_WITH_BIAS | LAMINA_WINDOW_LEFT | LAMINA_WINDOW_RIGHT, s.window_left = 7, s.window_right = 2;
        check<float>(s, longest, seed++);
        check<double>(s, longest, seed++);
      }
}

// Offsets out of range, in descending order, absent, misaligned, unplanned.
TEST(AttentionPacked, EveryOffsetIsCheckedBeforeAnyWrite) {
  lamina_attention_spec s = new_spec();
  s.batch = 3, s.heads = 2, s.queries = 5, s.keys = 6, s.width = 3, s.flags = LAMINA_WITH_OFFSETS;
  const Problem p = make_problem(s, 2);
  const Plan plan = make_plan(s);
  const auto expect_refused = [&](const std::string& word, const std::function<void(lamina_attention_arrays&)>& spoil) {
    Arrays<double> arrays(p);
    const Outputs<double> untouched = arrays.outputs(p);
    spoil(arrays.c);
    for (const auto call : {lamina_attention_forward, lamina_attention_backward}) {
      EXPECT_EQ(call(plan.get(), &arrays.c, nullptr, 0), LAMINA_E_ARGUMENT) << word;
      EXPECT_NE(std::string(lamina_last_error()).find(word), std::string::npos) << lamina_last_error();
      EXPECT_NE(std::string(lamina_last_error()).find("must"), std::string::npos) << lamina_last_error();
    }
    expect_same_bits(untouched, arrays.outputs(p), word);
  };
  using Call = lamina_attention_arrays;
  const auto refuse = [&](std::vector<int64_t> offsets, const std::string& word) {
    expect_refused("query_offsets" + word, [&](Call& a) { a.query_offsets = offsets.data(); });
    for (auto& x : offsets)
      if (x == 6) x = 7;
    expect_refused("key_offsets" + word, [&](Call& a) { a.key_offsets = offsets.data(); });
  };
  refuse({1, 2, 3, 4}, "[0] is 1");
  refuse({-1, 2, 3, 4}, "[0] is -1");
  refuse({0, 6, 6, 6}, "[1] is ");
  refuse({0, 2, 1, 4}, "[2] is 1");
  refuse({0, 1, 2, INT64_MIN}, "[3] is -9223372036854775808");
  refuse({0, 1, 2, INT64_MAX}, "[3] is 9223372036854775807");
  refuse({0, INT64_MAX, INT64_MAX, INT64_MAX}, "[1] is ");
  refuse({0, INT64_MIN, 0, 0}, "[1] is ");
  expect_refused("query_offsets is NULL", [](Call& a) { a.query_offsets = nullptr; });
  expect_refused("key_offsets is NULL", [](Call& a) { a.key_offsets = nullptr; });
  expect_refused("key_offsets is at address", [](Call& a) {
    a.key_offsets = reinterpret_cast<const int64_t*>(reinterpret_cast<uintptr_t>(a.key_offsets) + 4);
  });
  expect_refused("query_lengths is given", [](Call& a) { a.query_lengths = a.query_offsets; });

  // Lengths count within the places of a sequence.
  s.flags |= LAMINA_WITH_LENGTHS;
  const Plan both = make_plan(s);
  Arrays<double> arrays(p);
  const std::vector<int64_t> offsets = {0, 2, 2, 5}, good = {2, 0, 3}, bad = {2, 1, 3};
  arrays.c.query_offsets = arrays.c.key_offsets = offsets.data();
  arrays.c.query_lengths = good.data(), arrays.c.key_lengths = bad.data();
  EXPECT_EQ(lamina_attention_forward(both.get(), &arrays.c, nullptr, 0), LAMINA_E_ARGUMENT);
  EXPECT_NE(std::string(lamina_last_error()).find("key_lengths[1] is 1, must be 0..0"), std::string::npos)
      << lamina_last_error();

  // In a plan without the flag they may not be given; outputs may not overlap them.
  s.flags = 0;
  const Plan plain = make_plan(s);
  const Problem unpacked = make_problem(s, 2);
  Arrays<double> other(unpacked);
  other.c.query_offsets = offsets.data();
  EXPECT_EQ(lamina_attention_forward(plain.get(), &other.c, nullptr, 0), LAMINA_E_ARGUMENT);
  EXPECT_NE(std::string(lamina_last_error()).find("query_offsets is given"), std::string::npos) << lamina_last_error();
}

// All sequences empty: the arrays need not exist.
TEST(AttentionPacked, EmptySequences) {
  lamina_attention_spec s = new_spec();
  s.batch = 2, s.heads = 2, s.queries = 5, s.keys = 6, s.width = 3, s.flags = LAMINA_WITH_OFFSETS;
  const Plan plan = make_plan(s);
  lamina_attention_arrays none;
  ASSERT_EQ(lamina_attention_arrays_init(&none, sizeof none), LAMINA_OK);
  const int64_t offsets[] = {0, 0, 0};
  none.query_offsets = none.key_offsets = offsets;
  EXPECT_EQ(lamina_attention_forward(plan.get(), &none, nullptr, 0), LAMINA_OK) << lamina_last_error();
  EXPECT_EQ(lamina_attention_backward(plan.get(), &none, nullptr, 0), LAMINA_OK) << lamina_last_error();
}

}  // namespace
