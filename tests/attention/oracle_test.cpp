// The oracle itself: its adjoint against central differences of its own forward, in long double.
#include "tests/attention/harness.hpp"

using namespace harness;
using oracle::Array;
using oracle::Real;

namespace {

Real loss(const Problem& p) {
  const oracle::Result r = oracle::solve(p).value;
  Real sum = 0;
  for (size_t i = 0; i < r.o.size(); ++i) sum += r.o[i] * p.d_o[i];
  for (size_t i = 0; i < p.d_lse.size(); ++i)
    if (std::isfinite(r.lse[i])) sum += r.lse[i] * p.d_lse[i];
  for (size_t i = 0; i < p.d_weights.size(); ++i) sum += r.weights[i] * p.d_weights[i];
  return sum;
}

void expect_gradient(Problem p, Array Problem::*variable, const Array& gradient, const char* name) {
  const Real h = 1e-5L;
  for (size_t i = 0; i < gradient.size(); ++i) {
    const Real x = (p.*variable)[i];
    if (!std::isfinite(x)) {
      EXPECT_EQ(gradient[i], 0) << name;
      continue;
    }
    (p.*variable)[i] = x + h;
    const Real above = loss(p);
    (p.*variable)[i] = x - h;
    const Real below = loss(p);
    (p.*variable)[i] = x;
    ASSERT_NEAR(static_cast<double>(gradient[i]), static_cast<double>((above - below) / (2 * h)), 1e-8)
        << name << i << describe(p);
  }
}

TEST(AttentionOracle, AdjointIsTheDerivative) {
  for (const int map : {LAMINA_SOFTMAX, LAMINA_LINEAR, LAMINA_RELU})
    for (const int normaliser : {LAMINA_NORMALISE_NONE, LAMINA_NORMALISE_VISIBLE, LAMINA_NORMALISE_ROW_SUM}) {
      if (map == LAMINA_SOFTMAX && normaliser != LAMINA_NORMALISE_ROW_SUM) continue;
      lamina_attention_spec s = new_spec();
      s.map = map, s.normaliser = normaliser, s.batch = 2, s.heads = 4, s.kv_heads = 2, s.queries = 5, s.keys = 4, s.width = 3;
      s.value_width = 2, s.scale = 0.5, s.causal = LAMINA_CAUSAL_BOTTOM_RIGHT;
      s.flags = LAMINA_WITH_BIAS | LAMINA_WITH_MASK | LAMINA_WITH_WEIGHTS | (map == LAMINA_SOFTMAX ? LAMINA_WITH_LSE : 0);
      Problem p = make_problem(s, 7);
      // Away from the kink of relu, a score of 0 has no derivative to compare with; and no difference moves the largest numbers.
      for (auto& x : p.bias) x = (std::isfinite(x) && std::fabs(x) > 1e30L ? 0 : x) + 1.0L / 128;
      const oracle::Result r = oracle::solve(p).value;
      expect_gradient(p, &Problem::q, r.d_q, "q");
      expect_gradient(p, &Problem::k, r.d_k, "k");
      expect_gradient(p, &Problem::v, r.d_v, "v");
      expect_gradient(p, &Problem::bias, r.d_bias, "bias");
      Problem more = p, less = p;
      more.spec.scale += 1e-5, less.spec.scale -= 1e-5;
      EXPECT_NEAR(static_cast<double>(r.d_scale), static_cast<double>((loss(more) - loss(less)) / 2e-5L), 1e-7) << describe(p);
    }
}

}  // namespace
