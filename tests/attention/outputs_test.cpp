// Where outputs may stand: gradients in one packed array beside each other, refused where they share an element; and the
// gradient of a broadcast bias as a sum over the axes on which it is broadcast.
#include <oneapi/tbb/global_control.h>

#include <set>

#include "tests/attention/harness.hpp"

using namespace harness;

namespace {

// Gradients of queries, keys and values in one array, as a projection that makes all three at once has them: strides of
// [batch, head, position, feature] and the elements from dQ to dK and dV.
struct Packing {
  const char* name;
  int64_t kv_heads;
  int64_t stride[4];
  int64_t d_k, d_v, elements;
};
constexpr int64_t n = 3, H = 4, L = 70, d = 5;
const Packing packings[] = {
    {"[n, L, 3, H, d]", H, {L * 3 * H * d, d, 3 * H* d, 1}, H* d, 2 * H* d, n* L * 3 * H* d},
    {"[n, L, H, 3, d]", H, {L * H * 3 * d, 3 * d, H * 3 * d, 1}, d, 2 * d, n* L* H * 3 * d},
    {"[n, L, H, d, 3]", H, {L * H * d * 3, d * 3, H* d * 3, 3}, 1, 2, n* L* H* d * 3},
    {"[L, n, H, 3, d]", H, {H * 3 * d, 3 * d, n* H * 3 * d, 1}, d, 2 * d, n* L* H * 3 * d},
    {"[n, 3, H, L, d]", H, {3 * H * L * d, L* d, d, 1}, H* L* d, 2 * H* L* d, n * 3 * H* L* d},
    {"[n, H, L, 3, d]", H, {H * L * 3 * d, L * 3 * d, 3 * d, 1}, d, 2 * d, n* H* L * 3 * d},
    {"[n, L, H + 2 H_kv, d]", 2, {L * 8 * d, d, 8 * d, 1}, H* d, (H + 2) * d, n* L * 8 * d},
    {"[n, L, H + 2, d]", 1, {L * 6 * d, d, 6 * d, 1}, H* d, (H + 1) * d, n* L * 6 * d},
};

template <class T>
void check_packed() {
  for (const Packing& packing : packings)
    for (const int32_t map : {LAMINA_SOFTMAX, LAMINA_LINEAR})
      for (const int32_t threads : {1, 2}) {
        lamina_attention_spec s = new_spec();
        s.element = element<T>, s.map = map, s.batch = n, s.heads = H, s.kv_heads = packing.kv_heads;
        s.queries = s.keys = L, s.width = d, s.threads = threads;
        const Problem p = make_problem(s, 3);
        const Plan plan = make_plan(s);
        Arrays<T> apart(p), arrays(p);
        ASSERT_EQ(lamina_attention_backward(plan.get(), &apart.c, nullptr, 0), LAMINA_OK) << lamina_last_error();
        std::vector<T> packed(packing.elements, T(-7));
        std::vector<bool> own(packed.size());
        const auto place = [&](int64_t offset) {
          const auto& x = packing.stride;
          return lamina_output{packed.data() + offset, {x[0], x[1], x[2], x[3]}};
        };
        arrays.c.d_q = place(0), arrays.c.d_k = place(packing.d_k), arrays.c.d_v = place(packing.d_v);
        ASSERT_EQ(lamina_attention_backward(plan.get(), &arrays.c, nullptr, 0), LAMINA_OK)
            << packing.name << ": " << lamina_last_error();
        const Outputs<T> want = apart.outputs(p);
        const auto compare = [&](const std::vector<T>& values, int64_t heads, int64_t offset) {
          size_t at = 0;
          for (int64_t b = 0; b < n; ++b)
            for (int64_t h = 0; h < heads; ++h)
              for (int64_t i = 0; i < L; ++i)
                for (int64_t f = 0; f < d; ++f, ++at) {
                  const int64_t to =
                      offset + b * packing.stride[0] + h * packing.stride[1] + i * packing.stride[2] + f * packing.stride[3];
                  ASSERT_FALSE(own[to]) << packing.name;
                  own[to] = true;
                  ASSERT_EQ(packed[to], values[at]) << packing.name << " " << to;
                }
        };
        compare(want.d_q, H, 0);
        compare(want.d_k, packing.kv_heads, packing.d_k);
        compare(want.d_v, packing.kv_heads, packing.d_v);
        EXPECT_EQ(std::count(own.begin(), own.end(), false), 0) << packing.name;
      }
}
TEST(AttentionOutputs, OnePackedArrayF32) {
  check_packed<float>();
}
TEST(AttentionOutputs, OnePackedArrayF64) {
  check_packed<double>();
}

// One element nearer and two of them share some.
TEST(AttentionOutputs, SharedElementsAreRefused) {
  for (const Packing& packing : packings) {
    lamina_attention_spec s = new_spec();
    s.batch = n, s.heads = H, s.kv_heads = packing.kv_heads, s.queries = s.keys = L, s.width = d;
    const Problem p = make_problem(s, 3);
    const Plan plan = make_plan(s);
    Arrays<double> arrays(p);
    std::vector<double> packed(packing.elements + 1, -7.0);
    const auto& x = packing.stride;
    arrays.c.d_q = {packed.data() + 1, {x[0], x[1], x[2], x[3]}};
    arrays.c.d_k = {packed.data() + 1 + packing.d_k - 1, {x[0], x[1], x[2], x[3]}};
    arrays.c.d_v.data = nullptr;
    EXPECT_EQ(lamina_attention_backward(plan.get(), &arrays.c, nullptr, 0), LAMINA_E_ARGUMENT) << packing.name;
    EXPECT_NE(std::string(lamina_last_error()).find("d_k overlaps d_q, must not"), std::string::npos) << lamina_last_error();
    EXPECT_EQ(std::count(packed.begin(), packed.end(), -7.0), packing.elements + 1) << packing.name;
  }
}

// Random strides and places of two outputs against the list of their elements: none that share one are accepted, and of those
// with equal strides all that share none are.
TEST(AttentionOutputs, AgreeWithTheListOfElements) {
  Dice dice(17);
  int accepted = 0, shared = 0, not_told_apart = 0;
  for (int round = 0; round < 20000; ++round) {
    lamina_attention_spec s = new_spec();
    s.element = LAMINA_F32, s.batch = 1 + dice.below(3), s.kv_heads = 1 + dice.below(2);
    s.heads = s.kv_heads * (1 + dice.below(2)), s.queries = 1 + dice.below(4), s.keys = 1 + dice.below(4);
    s.width = 1 + dice.below(4);
    const int64_t extents[2][4] = {{s.batch, s.heads, s.queries, s.width}, {s.batch, s.kv_heads, s.keys, s.width}};
    const bool equal = dice.chance(0.7);
    int64_t stride[2][4];
    for (int side = 0; side < 2; ++side) {
      int order[] = {0, 1, 2, 3};
      for (int k = 3; k > 0; --k) std::swap(order[k], order[dice.below(k + 1)]);
      int64_t step = 1 + dice.below(3);
      for (const int k : order) {
        stride[side][k] = step;
        const int64_t extent = equal ? std::max(extents[0][k], extents[1][k]) : extents[side][k];
        step = step * extent + (dice.chance(0.6) ? dice.below(2 * step) : 0);
      }
    }
    if (equal) std::copy_n(stride[0], 4, stride[1]);
    static float room[20000];
    int64_t reach = 0;
    for (int k = 0; k < 4; ++k) reach += stride[0][k] * (extents[0][k] - 1);
    const int64_t start[] = {5000, 5000 + dice.below(2 * reach + 1) - reach};
    std::set<int64_t> places[2];
    for (int side = 0; side < 2; ++side)
      for (int64_t b = 0; b < extents[side][0]; ++b)
        for (int64_t h = 0; h < extents[side][1]; ++h)
          for (int64_t i = 0; i < extents[side][2]; ++i)
            for (int64_t f = 0; f < extents[side][3]; ++f)
              places[side].insert(start[side] + b * stride[side][0] + h * stride[side][1] + i * stride[side][2] +
                                  f * stride[side][3]);
    ASSERT_LT(std::max(*places[0].rbegin(), *places[1].rbegin()), 20000);
    ASSERT_GE(*places[1].begin(), 0);
    const bool share = std::any_of(places[0].begin(), places[0].end(), [&](int64_t at) { return places[1].count(at) > 0; });
    const Problem p = make_problem(s, 1);
    const Plan plan = make_plan(s);
    Arrays<float> arrays(p);
    arrays.c.d_q = {room + start[0], {stride[0][0], stride[0][1], stride[0][2], stride[0][3]}};
    arrays.c.d_k = {room + start[1], {stride[1][0], stride[1][1], stride[1][2], stride[1][3]}};
    const lamina_status status = lamina_attention_backward(plan.get(), &arrays.c, nullptr, 0);
    if (share || equal) {
      ASSERT_EQ(status, share ? LAMINA_E_ARGUMENT : LAMINA_OK) << lamina_last_error() << describe(p);
    }
    accepted += status == LAMINA_OK, shared += share, not_told_apart += !share && status != LAMINA_OK;
  }
  printf("%d accepted, %d share an element, %d do not and are refused\n", accepted, shared, not_told_apart);
  EXPECT_GT(accepted, 2000);
  EXPECT_GT(shared, 2000);
  EXPECT_LT(not_told_apart, 100);
}

// The bias written out in full where `axes` (bit k: axis k of [n, H, L_q, L_k]) broadcast it.
void spread_bias(Problem& p, unsigned axes) {
  const int64_t extent[] = {p.B(), p.H(), p.Lq(), p.Lk()};
  for (size_t at = 0; at < p.bias.size(); ++at) {
    int64_t rest = static_cast<int64_t>(at), from = 0, step = 1;
    for (int k = 3; k >= 0; --k) {
      if (!(axes >> k & 1)) from += rest % extent[k] * step;
      rest /= extent[k], step *= extent[k];
    }
    p.bias[at] = p.bias[from];
  }
}

struct Kind {
  const char* name;
  void (*set)(lamina_attention_spec&);
};
const Kind kinds[] = {
    {"plain", [](lamina_attention_spec&) {}},
    {"causal", [](lamina_attention_spec& s) { s.causal = LAMINA_CAUSAL_TOP_LEFT, s.flags |= LAMINA_WITH_LSE; }},
    {"lengths", [](lamina_attention_spec& s) { s.flags |= LAMINA_WITH_LENGTHS | LAMINA_WITH_MASK; }},
    {"packed", [](lamina_attention_spec& s) { s.flags |= LAMINA_WITH_OFFSETS, s.causal = LAMINA_CAUSAL_BOTTOM_RIGHT; }},
    {"grouped", [](lamina_attention_spec& s) { s.kv_heads = 1, s.flags |= LAMINA_WITH_WEIGHTS; }},
    {"window", [](lamina_attention_spec& s) { s.flags |= LAMINA_WINDOW_LEFT, s.window_left = 20; }},
    {"long", [](lamina_attention_spec& s) { s.queries = 700, s.batch = 2; }},  // segments
};

// d_bias summed over `axes`, and all other results with it.
template <class T>
Outputs<T> run_summed(const Problem& p, unsigned axes, int32_t threads, const char* isa, std::vector<T>& d_bias) {
  lamina_attention_spec spec = p.spec;
  spec.threads = threads, spec.isa = isa;
  const Plan plan = make_plan(spec);
  Arrays<T> arrays(p);
  const int64_t extent[] = {p.B(), p.H(), p.Lq(), p.Lk()};
  lamina_output& out = arrays.c.d_bias;
  int64_t step = 1;
  for (int k = 3; k >= 0; --k) {
    const bool summed = axes >> k & 1;
    out.stride[k] = summed ? 0 : step;
    if (summed) arrays.c.bias.stride[k] = 0;
    if (!summed) step *= extent[k];
  }
  d_bias.assign(step, T(-7));
  out.data = d_bias.data();
  size_t bytes = 0;
  EXPECT_EQ(lamina_attention_workspace(plan.get(), LAMINA_BACKWARD, &bytes), LAMINA_OK);
  Workspace workspace(bytes);
  EXPECT_EQ(lamina_attention_forward(plan.get(), &arrays.c, nullptr, 0), LAMINA_OK) << lamina_last_error();
  EXPECT_EQ(lamina_attention_backward(plan.get(), &arrays.c, workspace.data(), bytes), LAMINA_OK) << lamina_last_error();
  workspace.expect_intact();
  Outputs<T> results = arrays.outputs(p);
  results.d_bias.clear();
  return results;
}

// Against d_bias in full, summed in long double: over sequences and heads the same bits as in double; over queries and keys to
// a few ulp of the sum of sizes. The other results have the bits that they have without.
template <class T>
void check_summed() {
  const tbb::global_control raise(tbb::global_control::max_allowed_parallelism, 8);
  uint64_t seed = 1;
  for (const Kind& kind : kinds)
    for (const int32_t map : {LAMINA_SOFTMAX, LAMINA_RELU})
      for (unsigned axes = 1; axes < 16; ++axes) {
        const bool all = &kind == kinds && map == LAMINA_SOFTMAX;
        if (!all && axes != 1 && axes != 3 && axes != 4 && axes != 13) continue;
        lamina_attention_spec s = new_spec();
        s.element = element<T>, s.map = map, s.batch = 5, s.heads = 2, s.queries = 70, s.keys = 290, s.width = 4;
        if (map == LAMINA_RELU) s.normaliser = LAMINA_NORMALISE_ROW_SUM, s.scale = 0.25;
        s.flags = LAMINA_WITH_BIAS;
        kind.set(s);
        if (map != LAMINA_SOFTMAX) s.flags &= ~static_cast<uint32_t>(LAMINA_WITH_LSE);
        Problem p = make_problem(s, seed++);
        spread_bias(p, axes);
        const std::string what = std::string(" ") + kind.name + " axes " + std::to_string(axes) + describe(p);
        Outputs<T> full = run<T>(p);
        const int64_t extent[] = {p.B(), p.H(), p.Lq(), p.Lk()};
        std::vector<T> got;
        const std::vector<T> d_bias = std::move(full.d_bias);
        full.d_bias.clear();
        expect_same_bits(full, run_summed(p, axes, 1, nullptr, got), what);
        std::vector<double> sums(got.size(), 0.0);
        std::vector<oracle::Real> truth(got.size(), 0), sizes(got.size(), 0);
        for (size_t at = 0; at < d_bias.size(); ++at) {
          int64_t rest = static_cast<int64_t>(at), to = 0, step = 1;
          for (int k = 3; k >= 0; --k) {
            if (!(axes >> k & 1)) to += rest % extent[k] * step, step *= extent[k];
            rest /= extent[k];
          }
          sums[to] += d_bias[at], truth[to] += d_bias[at], sizes[to] += std::fabs(d_bias[at]);
        }
        const oracle::Real ulp = std::numeric_limits<T>::epsilon() / 2, double_ulp = std::numeric_limits<double>::epsilon() / 2;
        for (size_t at = 0; at < got.size(); ++at) {
          if (axes < 4) {
            ASSERT_EQ(got[at], static_cast<T>(sums[at])) << at << what;
          }
          ASSERT_LE(std::fabs(got[at] - truth[at]), ulp * std::fabs(truth[at]) + 400 * double_ulp * sizes[at]) << at << what;
        }
        std::vector<T> again;
        for (const int32_t threads : {2, 3, 8}) {
          expect_same_bits(full, run_summed(p, axes, threads, nullptr, again), what);
          ASSERT_EQ(std::memcmp(got.data(), again.data(), got.size() * sizeof(T)), 0) << threads << what;
        }
        run_summed(p, axes, 2, "reference", again);
        ASSERT_EQ(std::memcmp(got.data(), again.data(), got.size() * sizeof(T)), 0) << what;
        if (testing::Test::HasFailure()) return;
      }
}
TEST(AttentionOutputs, GradientOfABroadcastBiasF32) {
  check_summed<float>();
}
TEST(AttentionOutputs, GradientOfABroadcastBiasF64) {
  check_summed<double>();
}

// Along an axis where the bias itself is not broadcast its gradient is not a sum.
TEST(AttentionOutputs, OnlyABroadcastBiasIsSummed) {
  lamina_attention_spec s = new_spec();
  s.batch = 2, s.heads = 2, s.queries = 3, s.keys = 4, s.width = 2, s.flags = LAMINA_WITH_BIAS;
  const Problem p = make_problem(s, 1);
  const Plan plan = make_plan(s);
  for (int k = 0; k < 4; ++k) {
    Arrays<double> arrays(p);
    arrays.c.d_bias.stride[k] = 0;
    EXPECT_EQ(lamina_attention_backward(plan.get(), &arrays.c, nullptr, 0), LAMINA_E_ARGUMENT);
    EXPECT_NE(std::string(lamina_last_error()).find("d_bias.stride[" + std::to_string(k) + "] is 0"), std::string::npos)
        << lamina_last_error();
  }
}

// What a relative-position bias [H, L, L] of a batch costs: no array of all sequences, and no more than 64 MiB for 64 of them.
TEST(AttentionOutputs, ABroadcastBiasTakesNoSquarePerSequence) {
  lamina_attention_spec s = new_spec();
  s.element = LAMINA_F32, s.batch = 64, s.heads = 8, s.queries = s.keys = 1024, s.width = 64, s.flags = LAMINA_WITH_BIAS;
  const Plan plan = make_plan(s);
  size_t bytes = 0;
  ASSERT_EQ(lamina_attention_workspace(plan.get(), LAMINA_BACKWARD, &bytes), LAMINA_OK);
  EXPECT_LE(bytes, size_t{64} << 20);  // the square of one sequence is 32 MiB, of all 2 GiB
}

}  // namespace
