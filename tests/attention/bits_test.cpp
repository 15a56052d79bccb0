// One problem, one set of bits: whatever the strides, the instruction set and the batch around it. (Threads and the host's
// state: threads_test.cpp; several host threads: hosts_test.cpp.)
#include "tests/attention/harness.hpp"

using namespace harness;

namespace {

// A sample of plans; large: enough work for several threads, with one sweep per head (many heads) and with two (few).
std::vector<Problem> problems(bool large) {
  std::vector<Problem> out;
  uint64_t seed = 100;
  for (const int32_t type : {LAMINA_F32, LAMINA_F64})
    for (const int map : {LAMINA_SOFTMAX, LAMINA_LINEAR, LAMINA_RELU})
      for (const int kind : {0, 1, 2}) {
        lamina_attention_spec s = new_spec();
        s.element = type, s.map = map, s.normaliser = map == LAMINA_SOFTMAX ? 0 : 1 + kind;
        s.batch = large && kind == 0 ? 5 : 1, s.kv_heads = kind == 2 ? 1 : 2, s.heads = 2 * s.kv_heads;
        s.queries = large ? 150 : 67, s.keys = large ? 270 : 131, s.width = 19, s.value_width = 35, s.scale = 0.25;
        s.flags = LAMINA_WITH_WEIGHTS | LAMINA_WITH_SCORES | (map == LAMINA_SOFTMAX ? LAMINA_WITH_LSE : 0);
        if (kind == 1) s.causal = LAMINA_CAUSAL_BOTTOM_RIGHT, s.flags |= LAMINA_WITH_BIAS;
        if (kind == 2) s.causal = LAMINA_CAUSAL_TOP_LEFT, s.flags |= LAMINA_WITH_MASK | LAMINA_WITH_LENGTHS;
        out.push_back(make_problem(s, seed++));
      }
  return out;
}

template <class Check>
void each(bool large, Check check) {
  for (const Problem& p : problems(large))
    if (p.spec.element == LAMINA_F32)
      check(p, float());
    else
      check(p, double());
}

TEST(AttentionBits, StridesDoNotMatter) {
  each(false, [](const Problem& p, auto type) {
    using T = decltype(type);
    const Outputs<T> packed = run<T>(p);
    for (uint64_t seed = 1; seed <= 8; ++seed) expect_same_bits(packed, run<T>(p, {.stride_seed = seed}), describe(p));
  });
}

// Inputs with stride 0 against the same numbers written out.
TEST(AttentionBits, BroadcastIsACopy) {
  each(false, [](Problem p, auto type) {
    using T = decltype(type);
    const Extents n = {p.B(), p.H(), p.Lq(), p.Lk()};
    Dice dice(9);
    for (const int dimension : {0, 1, 2}) {
      const auto spread = [&](auto& values, Extents extents) {
        if (values.empty()) return;
        const int64_t inner = extents[3] * (dimension < 2 ? extents[2] : 1) * (dimension < 1 ? extents[1] : 1);
        const int64_t slices = extents[dimension];
        for (size_t i = 0; i < values.size(); ++i) values[i] = values[i / (inner * slices) * (inner * slices) + i % inner];
      };
      spread(p.q, {p.B(), p.H(), p.Lq(), p.D()}), spread(p.k, {p.B(), p.H_kv(), p.Lk(), p.D()});
      spread(p.v, {p.B(), p.H_kv(), p.Lk(), p.Dv()}), spread(p.bias, n), spread(p.mask, n),
          spread(p.d_o, {p.B(), p.H(), p.Lq(), p.Dv()});
      const Outputs<T> copied = run<T>(p);
      const Plan plan = make_plan(p.spec);
      Arrays<T> arrays(p);
      for (lamina_input* x : {&arrays.c.q, &arrays.c.k, &arrays.c.v, &arrays.c.bias, &arrays.c.mask, &arrays.c.d_o})
        x->stride[dimension] = 0;
      ASSERT_EQ(lamina_attention_forward(plan.get(), &arrays.c, nullptr, 0), LAMINA_OK) << lamina_last_error();
      ASSERT_EQ(lamina_attention_backward(plan.get(), &arrays.c, nullptr, 0), LAMINA_OK) << lamina_last_error();
      expect_same_bits(copied, arrays.outputs(p), describe(p));
    }
  });
}

TEST(AttentionBits, InstructionSetsDoNotMatter) {
  ASSERT_GE(lamina_isa_count(), 1);
  for (const bool large : {false, true})
    each(large, [](const Problem& p, auto type) {
      using T = decltype(type);
      const Outputs<T> reference = run<T>(p, {.isa = "reference"});
      for (int32_t i = 0; i < lamina_isa_count(); ++i)
        expect_same_bits(reference, run<T>(p, {.isa = lamina_isa_name(i)}),
                         std::string(" ") + lamina_isa_name(i) + describe(p));
    });
}

// A sequence in a batch with lengths has the bits of the sequence alone in a plan of its own size.
TEST(AttentionBits, LengthsDoNotMatter) {
  for (const int map : {LAMINA_SOFTMAX, LAMINA_RELU}) {
    lamina_attention_spec s = new_spec();
    s.map = map, s.batch = 3, s.heads = 2, s.queries = 100, s.keys = 170, s.width = 9, s.causal = LAMINA_CAUSAL_BOTTOM_RIGHT;
    s.flags = LAMINA_WITH_LENGTHS;
    Problem p = make_problem(s, 21);
    p.query_lengths = {100, 37, 70}, p.key_lengths = {170, 129, 65};
    const Outputs<double> batch = run<double>(p);
    for (int64_t b = 0; b < 3; ++b) {
      lamina_attention_spec one = s;
      one.flags = 0, one.batch = 1, one.queries = p.query_lengths[b], one.keys = p.key_lengths[b];
      Problem alone = make_problem(one, 1);
      const auto cut = [&](auto& to, const auto& from, int64_t length, int64_t full) {
        for (int64_t h = 0; h < 2; ++h)
          for (int64_t i = 0; i < length * 9; ++i) to[h * length * 9 + i] = from[((b * 2 + h) * full) * 9 + i];
      };
      cut(alone.q, p.q, one.queries, 100), cut(alone.k, p.k, one.keys, 170), cut(alone.v, p.v, one.keys, 170);
      cut(alone.d_o, p.d_o, one.queries, 100);
      const Outputs<double> got = run<double>(alone);
      Outputs<double> want = got;
      cut(want.o, batch.o, one.queries, 100), cut(want.d_q, batch.d_q, one.queries, 100);
      cut(want.d_k, batch.d_k, one.keys, 170), cut(want.d_v, batch.d_v, one.keys, 170);
      expect_same_bits(want, got, describe(alone));
    }
  }
}

// A query alone has the bits it has among others.
TEST(AttentionBits, NeighboursDoNotMatter) {
  lamina_attention_spec s = new_spec();
  s.element = LAMINA_F32, s.batch = s.heads = 1, s.queries = 90, s.keys = 300, s.width = 20;
  const Problem p = make_problem(s, 31);
  const Outputs<float> all = run<float>(p);
  for (const int64_t i : {0, 1, 15, 16, 63, 64, 89}) {
    lamina_attention_spec one = s;
    one.queries = 1;
    Problem alone = p;
    alone.spec = one;
    alone.q.assign(p.q.begin() + i * 20, p.q.begin() + (i + 1) * 20);
    alone.d_o.assign(p.d_o.begin() + i * 20, p.d_o.begin() + (i + 1) * 20);
    const Outputs<float> got = run<float>(alone);
    EXPECT_EQ(std::memcmp(got.o.data(), all.o.data() + i * 20, 20 * sizeof(float)), 0) << i;
    EXPECT_EQ(std::memcmp(got.d_q.data(), all.d_q.data() + i * 20, 20 * sizeof(float)), 0) << i;
  }
}

// A short sequence among many, which may share registers with its neighbours, has the bits it has alone.
template <class T>
void check_many(int map, int causal, int64_t n) {
  lamina_attention_spec s = new_spec();
  s.element = element<T>, s.map = map, s.batch = 37, s.kv_heads = 1, s.heads = 2, s.queries = s.keys = n, s.width = 5;
  s.value_width = 3, s.causal = causal, s.scale = 0.5, s.flags = map == LAMINA_SOFTMAX ? LAMINA_WITH_LSE : 0;
  const Problem p = make_problem(s, 7);
  const Outputs<T> all = run<T>(p);
  for (const int64_t b : {0, 7, 15, 16, 31, 32, 36}) {
    Problem one = p;
    one.spec.batch = 1;
    const auto cut = [b](auto& x) {
      const auto size = static_cast<int64_t>(x.size()) / 37;
      x = {x.begin() + b * size, x.begin() + (b + 1) * size};
    };
    cut(one.q), cut(one.k), cut(one.v), cut(one.d_o), cut(one.d_lse);
    const Outputs<T> got = run<T>(one);
    Outputs<T> want = all;
    cut(want.o), cut(want.lse), cut(want.d_q), cut(want.d_k), cut(want.d_v);
    want.d_scale = got.d_scale;  // a sum over the batch
    expect_same_bits(want, got, " sequence " + std::to_string(b) + describe(p));
  }
}
TEST(AttentionBits, OtherSequencesDoNotMatter) {
  for (const int map : {LAMINA_SOFTMAX, LAMINA_LINEAR, LAMINA_RELU})
    for (const int causal : {LAMINA_CAUSAL_NONE, LAMINA_CAUSAL_TOP_LEFT})
      for (const int64_t n : {1, 8, 9, 32, 64}) {
        check_many<float>(map, causal, n);
        check_many<double>(map, causal, n);
      }
}

}  // namespace
