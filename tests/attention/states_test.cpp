// Linear attention by states: long plain sequences against the oracle, with every kind of band, length and packing that goes
// that way; the same bits however they are run.
#include "tests/attention/states.hpp"

using namespace harness;

namespace {

// Plans of all kinds, plain, with lengths, of grouped heads; body(problem, name)
template <class T, class Body>
void each(const Body& body) {
  uint64_t seed = 1;
  for (const Band& band : bands)
    for (const Size& size : sizes)
      for (const int normaliser : {LAMINA_NORMALISE_NONE, LAMINA_NORMALISE_VISIBLE}) {
        const uint64_t kind = (seed / 2 + seed) % 3;
        lamina_attention_spec s = linear(size, element<T>);
        s.normaliser = normaliser;
        if (kind == 1) s.batch = 2, s.flags |= LAMINA_WITH_LENGTHS, s.queries += 40, s.keys += 40;
        if (kind == 2) s.heads = 2, s.kv_heads = 1, s.scale = -0.5;
        band.set(s);
        Problem p = make_problem(s, seed++);
        if (kind == 1) p.query_lengths = {size.queries, s.queries}, p.key_lengths = {s.keys, size.keys};
        body(p, std::string(" ") + band.name + describe(p));
        if (testing::Test::HasFailure()) return;
      }
}

template <class T>
void check_oracle() {
  double worst = 0;
  int cases = 0;
  each<T>([&](const Problem& p, const std::string& what) {
    const Outputs<T> got = run<T>(p, {.stride_seed = static_cast<uint64_t>(cases % 2)});
    worst = std::max(worst, expect_near(got, oracle::solve(p), what));
    const Outputs<T> scores = by_scores<T>(p);
    const Size narrow{p.Lq(), p.Lk(), p.D(), p.Dv()};
    const bool long_enough = std::min(narrow.queries, narrow.keys) >= 4 * std::max(narrow.d, narrow.d_v);
    if (long_enough && narrow.d > 1) {
      EXPECT_FALSE(same(got.o, scores.o) && same(got.d_k, scores.d_k)) << "by scores?" << what;
    }
    ++cases;
  });
  printf("%d cases, largest error %.3f of its bound\n", cases, worst);
  EXPECT_EQ(cases, 60);
}
TEST(AttentionStates, AgreeWithTheOracleF32) {
  check_oracle<float>();
}
TEST(AttentionStates, AgreeWithTheOracleF64) {
  check_oracle<double>();
}

// Strides, instruction sets, threads, a workspace.
template <class T>
void check_bits() {
  int n = 0;
  each<T>([&](const Problem& p, const std::string& what) {
    if (++n % 3 != 0) return;
    const Outputs<T> want = run<T>(p, {.isa = "reference"});
    for (int32_t i = 0; i < lamina_isa_count(); ++i)
      expect_same_bits(want, run<T>(p, {.stride_seed = static_cast<uint64_t>(i), .isa = lamina_isa_name(i)}), what);
    for (const int32_t threads : {2, 3, 8}) expect_same_bits(want, run<T>(p, {.threads = threads, .workspace = true}), what);
  });
}
TEST(AttentionStates, OneSetOfBitsF32) {
  check_bits<float>();
}
TEST(AttentionStates, OneSetOfBitsF64) {
  check_bits<double>();
}

// Threads that share a key head hold the states of some blocks at a time: here more than once, of one head and of two.
TEST(AttentionStates, SharedInSeveralWindows) {
  for (const Band& band : bands)
    for (const int64_t heads : {1, 2}) {
      lamina_attention_spec s = linear({1100, 1060, 256, 250}, LAMINA_F64);
      s.heads = heads, s.kv_heads = 1, s.normaliser = LAMINA_NORMALISE_VISIBLE;
      band.set(s);
      const Problem p = make_problem(s, 11);
      expect_same_bits(run<double>(p), run<double>(p, {.threads = 3, .workspace = true}), band.name + describe(p));
    }
}

// Sequence b of a batch of two, with lengths or packed, has the bits of the sequence alone: of each side of the least length.
template <class T>
void check_alone(uint32_t flag, int32_t causal) {
  lamina_attention_spec s = linear({300, 320, 12, 0}, element<T>);
  s.batch = 2, s.causal = causal, s.flags = flag, s.normaliser = LAMINA_NORMALISE_VISIBLE;
  Problem p = make_problem(s, 7);
  const int64_t queries[] = {290, 60}, keys[] = {310, 300};
  if (flag == LAMINA_WITH_LENGTHS)
    p.query_lengths.assign(queries, queries + 2), p.key_lengths.assign(keys, keys + 2);
  else
    p.query_offsets = {0, 290, 350}, p.key_offsets = {0, 310, 610};
  const Outputs<T> batch = run<T>(p);
  for (int64_t b = 0; b < 2; ++b) {
    lamina_attention_spec one = s;
    one.flags = 0, one.batch = 1, one.queries = queries[b], one.keys = keys[b];
    Problem alone = make_problem(one, 1);
    const auto cut = [&](auto& to, const auto& from, int64_t rows, int64_t full) {
      std::copy_n(from.begin() + b * full * 12, rows * 12, to.begin());
    };
    cut(alone.q, p.q, one.queries, 300), cut(alone.d_o, p.d_o, one.queries, 300);
    cut(alone.k, p.k, one.keys, 320), cut(alone.v, p.v, one.keys, 320);
    const Outputs<T> got = run<T>(alone);
    Outputs<T> want = got;
    cut(want.o, batch.o, one.queries, 300), cut(want.d_q, batch.d_q, one.queries, 300);
    cut(want.d_k, batch.d_k, one.keys, 320), cut(want.d_v, batch.d_v, one.keys, 320);
    expect_same_bits(want, got, describe(alone));
  }
}
TEST(AttentionStates, ASequenceInABatchIsTheSequenceAlone) {
  for (const uint32_t flag : {LAMINA_WITH_LENGTHS, LAMINA_WITH_OFFSETS})
    for (const int32_t causal : {LAMINA_CAUSAL_NONE, LAMINA_CAUSAL_TOP_LEFT, LAMINA_CAUSAL_BOTTOM_RIGHT}) {
      check_alone<float>(flag, causal);
      check_alone<double>(flag, causal);
    }
}

}  // namespace
