// Backward of more than 512 queries, where dK and dV are sums over segments: the sums against the oracle, and the same bits
// however many threads share them, which decides by which sweeps they are made and how many are in memory at a time.
#include <oneapi/tbb/global_control.h>

#include "tests/attention/harness.hpp"

using namespace harness;

namespace {

struct Kind {
  const char* name;
  void (*set)(Problem&);
};
const Kind kinds[] = {
    {"plain", [](Problem&) {}},
    {"causal", [](Problem& p) { p.spec.causal = LAMINA_CAUSAL_TOP_LEFT; }},
    {"bottom right", [](Problem& p) { p.spec.causal = LAMINA_CAUSAL_BOTTOM_RIGHT; }},
    {"window",  // late segments do not see the first keys, nor early ones the last
     [](Problem& p) {
       p.spec.flags |= LAMINA_WINDOW_LEFT | LAMINA_WINDOW_RIGHT, p.spec.window_left = 90, p.spec.window_right = 5;
     }},
    {"grouped", [](Problem& p) { p.spec.heads = 3; }},
    {"many", [](Problem& p) { p.spec.batch = 3, p.spec.heads = 2, p.spec.kv_heads = 1; }},
    {"lengths",  // one, two and three segments
     [](Problem& p) { p.spec.batch = 3, p.spec.flags |= LAMINA_WITH_LENGTHS; }},
    {"packed",
     [](Problem& p) { p.spec.batch = 4, p.spec.heads = 2, p.spec.kv_heads = 1, p.spec.flags |= LAMINA_WITH_OFFSETS; }},
};

// A problem of enough work for threads: 1100 queries are three segments.
Problem problem(const Kind& kind, int32_t type, int32_t map, uint64_t seed) {
  Problem p;
  p.spec = new_spec();
  lamina_attention_spec& s = p.spec;
  s.element = type, s.map = map, s.batch = s.heads = s.kv_heads = 1, s.queries = 1100, s.keys = 290, s.width = 3,
  s.value_width = 5;
  s.scale = 0.25, s.flags = map == LAMINA_SOFTMAX ? LAMINA_WITH_LSE : 0;
  if (map != LAMINA_SOFTMAX) s.normaliser = LAMINA_NORMALISE_ROW_SUM;
  kind.set(p);
  Problem made = make_problem(s, seed);
  if (s.flags & LAMINA_WITH_LENGTHS) made.query_lengths = {512, 513, 1100}, made.key_lengths = {290, 257, 100};
  if (s.flags & LAMINA_WITH_OFFSETS)
    made.query_offsets = {0, 1100, 1100, 1613, 2125}, made.key_offsets = {0, 290, 300, 557, 847};
  return made;
}

template <class T>
void check() {
  const tbb::global_control raise(tbb::global_control::max_allowed_parallelism, 32);
  uint64_t seed = 1;
  for (const Kind& kind : kinds)
    for (const int32_t map : {LAMINA_SOFTMAX, LAMINA_RELU}) {
      const Problem p = problem(kind, element<T>, map, seed++);
      const std::string what = std::string(" ") + kind.name + describe(p);
      const Outputs<T> want = run<T>(p);
      expect_near(want, oracle::solve(p), what);
      for (const int32_t threads : {2, 3, 4, 8, 32})
        expect_same_bits(want, run<T>(p, {.stride_seed = threads % 2 ? seed : 0, .threads = threads, .workspace = true}), what);
      for (int32_t i = 0; i < lamina_isa_count(); ++i)
        expect_same_bits(want, run<T>(p, {.threads = 2, .isa = lamina_isa_name(i)}), what);
      if (testing::Test::HasFailure()) return;
    }
}
TEST(AttentionSegments, OneSetOfBitsNearTheOracleF32) {
  check<float>();
}
TEST(AttentionSegments, OneSetOfBitsNearTheOracleF64) {
  check<double>();
}

// Key j is seen by query j alone, P = 1 and dO = 1: dV is 1 whatever segment the query is of.
TEST(AttentionSegments, EveryQueryCountsOnce) {
  const int64_t n = 1500;
  for (const int32_t threads : {1, 2, 3, 16}) {
    lamina_attention_spec s = new_spec();
    s.batch = s.heads = 1, s.queries = s.keys = n, s.width = 1, s.threads = threads;
    s.flags = LAMINA_WINDOW_LEFT | LAMINA_WINDOW_RIGHT;
    const Plan plan = make_plan(s);
    const std::vector<double> ones(n, 1.0);
    std::vector<double> d_v(n, -7);
    lamina_attention_arrays arrays;
    ASSERT_EQ(lamina_attention_arrays_init(&arrays, sizeof arrays), LAMINA_OK);
    arrays.q = arrays.k = arrays.v = arrays.d_o = {ones.data(), {n, n, 1, 1}};
    arrays.d_v = {d_v.data(), {n, n, 1, 1}};
    ASSERT_EQ(lamina_attention_backward(plan.get(), &arrays, nullptr, 0), LAMINA_OK) << lamina_last_error();
    EXPECT_EQ(d_v, ones) << threads;
  }
}

// A sequence of three segments in a batch of lengths has the bits of the sequence alone.
TEST(AttentionSegments, LengthsDoNotMatter) {
  const Kind lengths = kinds[6];
  const Problem batch = problem(lengths, LAMINA_F64, LAMINA_SOFTMAX, 5);
  const Outputs<double> all = run<double>(batch, {.threads = 2});
  for (int64_t b = 0; b < 3; ++b) {
    lamina_attention_spec one = batch.spec;
    one.batch = 1, one.flags = LAMINA_WITH_LSE, one.queries = batch.query_lengths[b], one.keys = batch.key_lengths[b];
    Problem alone = make_problem(one, 1);
    const auto cut = [&](auto& to, const auto& from, int64_t rows, int64_t full, int64_t width) {
      std::copy_n(from.begin() + b * full * width, rows * width, to.begin());
    };
    cut(alone.q, batch.q, one.queries, 1100, 3), cut(alone.d_o, batch.d_o, one.queries, 1100, 5);
    cut(alone.k, batch.k, one.keys, 290, 3), cut(alone.v, batch.v, one.keys, 290, 5);
    cut(alone.d_lse, batch.d_lse, one.queries, 1100, 1);
    const Outputs<double> got = run<double>(alone);
    Outputs<double> want = got;
    cut(want.d_q, all.d_q, one.queries, 1100, 3);
    cut(want.d_k, all.d_k, one.keys, 290, 3), cut(want.d_v, all.d_v, one.keys, 290, 5);
    expect_same_bits(want, got, describe(alone));
  }
}

}  // namespace
