// The promised accuracy, on random problems against the oracle. With u the unit roundoff and S the largest |scale| sum |q||k| +
// |bias| of a problem:
//   forward   |O - O*| <= u max|V| (128 + 4 S) up to 65 536 keys, and within (8 + 4 S), flat in length, where values have both
//             signs, so that roundings cancel;   weights |P - P*| <= 16 ulp(P*) + 8 S u P*, flat in length
//             (a weight is the exponential of a difference of two scores, each known to 4 S u)
//   backward  max |g - g*| <= 1e-13 max |g*| in f64, for each of dQ, dK, dV, dbias, dscale
#include "tests/attention/harness.hpp"
#include "tests/attention/quad.hpp"

using namespace harness;
using oracle::Real;

namespace {

// Units of u max|V| that O may be off by where S = 0: values of one sign, of both.
constexpr int one_sign = 128, both_signs = 8;

Real largest(const oracle::Array& x) {
  Real y = 0;
  for (const Real value : x)
    if (std::isfinite(value)) y = std::max(y, std::fabs(value));
  return y;
}
template <class T>
Real largest_error(const std::vector<T>& x, const oracle::Array& y) {
  Real worst = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const Real error = std::fabs(x[i] - y[i]);
    worst = std::isnan(error) ? INFINITY : std::max(worst, error);
  }
  return worst;
}

// |P - P*| in units of 16 ulp(P*) + 8 S u P*. A weight below the smallest normal number may be 0.
template <class T>
Real weight_error(Real difference, Real truth, Real S) {
  const Real u = std::numeric_limits<T>::epsilon() / 2, tiny = std::numeric_limits<T>::min();
  const Real ulp = truth < tiny ? tiny : std::ldexp(2 * u, std::ilogb(truth));
  return std::fabs(difference) / (16 * ulp + 8 * S * u * truth);
}

lamina_attention_spec random_spec(Dice& dice) {
  lamina_attention_spec s = new_spec();
  s.batch = 1, s.kv_heads = 1, s.heads = 1 + dice.below(2);
  s.queries = 1 + dice.below(dice.chance(0.2) ? 80 : 12), s.keys = 1 + dice.below(dice.chance(0.2) ? 300 : 40);
  s.width = 1 + dice.below(dice.chance(0.2) ? 128 : 24), s.value_width = 1 + dice.below(24);
  s.causal = static_cast<int32_t>(dice.below(3));
  if (dice.chance(0.3)) s.flags |= LAMINA_WITH_BIAS;
  if (dice.chance(0.2)) s.flags |= LAMINA_WITH_MASK;
  return s;
}

template <class T>
void check_forward(uint64_t seed, double& worst_o, double& worst_p) {
  Dice dice(seed);
  lamina_attention_spec s = random_spec(dice);
  s.element = element<T>, s.flags |= LAMINA_WITH_WEIGHTS;
  s.scale = dice.chance(0.5) ? 0 : dice.uniform() * 3 + 0.01;  // scores from nearly equal to far apart
  const Problem p = make_problem(s, seed);
  const oracle::Solution truth = oracle::solve(p);
  const Outputs<T> got = run<T>(p, {.stride_seed = seed});
  const Real S = truth.largest_score, u = std::numeric_limits<T>::epsilon() / 2;
  const Real o = largest_error(got.o, truth.value.o) / (u * largest(p.v) * (both_signs + 4 * S));
  ASSERT_LE(o, 1) << "o, case " << seed << describe(p);
  worst_o = std::max(worst_o, static_cast<double>(o));
  for (size_t i = 0; i < got.weights.size(); ++i) {
    const Real error = weight_error<T>(got.weights[i] - truth.value.weights[i], truth.value.weights[i], S);
    ASSERT_LE(error, 1) << "weights[" << i << "], case " << seed << describe(p);
    worst_p = std::max(worst_p, static_cast<double>(error));
  }
}

TEST(AttentionAccuracy, ForwardOfAThousandProblems) {
  double o = 0, p = 0;
  for (uint64_t seed = 1; seed <= 500 && !HasFatalFailure(); ++seed) {
    check_forward<float>(seed, o, p);
    check_forward<double>(seed + 500, o, p);
  }
  printf("1000 problems: largest error of O %.3f, of P %.3f of the bound\n", o, p);
}

TEST(AttentionAccuracy, GradientsOfFiveHundredConfigurations) {
  double worst = 0;
  for (uint64_t seed = 1; seed <= 500 && !HasFatalFailure(); ++seed) {
    Dice dice(seed);
    lamina_attention_spec s = random_spec(dice);
    s.queries += 1, s.keys += 1;  // a softmax over one key has gradients of rounding alone
    s.map = 1 + static_cast<int32_t>(seed % 3);
    if (s.map != LAMINA_SOFTMAX) s.normaliser = 1 + static_cast<int32_t>(dice.below(3)), s.scale = 0.25;
    if (s.map == LAMINA_SOFTMAX && dice.chance(0.5)) s.flags |= LAMINA_WITH_LSE;
    if (dice.chance(0.5)) s.flags |= LAMINA_WITH_WEIGHTS;
    if (dice.chance(0.2)) s.flags |= LAMINA_WITH_LENGTHS;
    if (dice.chance(0.2)) s.flags |= LAMINA_WINDOW_LEFT, s.window_left = 2 + dice.below(20);
    if (s.map == LAMINA_RELU) s.relu_at_zero = dice.chance(0.5) ? 0.5 : 0;
    const Problem p = make_problem(s, seed);
    const oracle::Result truth = oracle::solve(p).value;
    const Outputs<double> got = run<double>(p, {.stride_seed = seed});
    const auto check = [&](const char* name, const std::vector<double>& x, const oracle::Array& y) {
      if (x.empty() || largest(y) == 0) return;
      const Real error = largest_error(x, y) / largest(y);
      EXPECT_LE(error, 1e-13L) << name << ", case " << seed << describe(p);
      worst = std::max(worst, static_cast<double>(error));
    };
    check("d_q", got.d_q, truth.d_q), check("d_k", got.d_k, truth.d_k), check("d_v", got.d_v, truth.d_v);
    check("d_bias", got.d_bias, truth.d_bias);
    // One number that may cancel: relative to the terms it is the sum of.
    const Real terms = oracle::solve(p).size.d_scale;
    EXPECT_LE(std::fabs(got.d_scale - truth.d_scale), 1e-13L * std::max(std::fabs(truth.d_scale), terms))
        << "d_scale" << describe(p);
  }
  printf("500 configurations: largest relative error of a gradient %.2e\n", worst);
}

// body(name) for every instruction set of this CPU.
template <class Body>
void for_each_set(const Body& body) {
  for (int32_t set = 0; set < lamina_isa_count(); ++set) body(lamina_isa_name(set));
}

lamina_attention_spec long_spec(int32_t type, int64_t keys, int64_t width, int64_t value_width) {
  lamina_attention_spec s = new_spec();
  s.element = type, s.batch = s.heads = s.queries = 1, s.keys = keys, s.width = width, s.value_width = value_width;
  return s;
}

// One row of up to 65 536 keys in quadruple precision. `positive`: values of one sign, whose roundings do not cancel.
template <class T>
void check_long(int64_t keys, bool positive, Real& o_error, Real& p_error) {
  using oracle::Quad;
  lamina_attention_spec s = long_spec(element<T>, keys, 4, 2);
  s.flags = LAMINA_WITH_WEIGHTS;
  Problem p = make_problem(s, static_cast<uint64_t>(keys));
  for (auto& x : p.v)
    if (positive) x = static_cast<T>(std::fabs(x) / 8 + 1);
  std::vector<Quad> score(keys), weight(keys);
  Quad N = 0, o[2] = {0, 0};
  Real S = 0;
  for (int64_t j = 0; j < keys; ++j) {
    Quad dot = 0;
    Real size = 0;
    for (int64_t f = 0; f < 4; ++f)
      dot += static_cast<Quad>(p.q[f]) * p.k[j * 4 + f], size += std::fabs(p.q[f] * p.k[j * 4 + f]);
    score[j] = dot * static_cast<Quad>(p.scale());
    S = std::max(S, size * p.scale());
  }
  for (int64_t j = 0; j < keys; ++j) N += weight[j] = oracle::exponential(score[j]);
  for (int64_t j = 0; j < keys; ++j) {
    weight[j] /= N;
    for (int64_t f = 0; f < 2; ++f) o[f] += weight[j] * p.v[j * 2 + f];
  }
  o_error = p_error = 0;
  for_each_set([&](const char* isa) {
    const Outputs<T> got = run<T>(p, {.isa = isa});
    for (int64_t j = 0; j < keys; ++j)
      p_error =
          std::max(p_error, weight_error<T>(static_cast<Real>(got.weights[j] - weight[j]), static_cast<Real>(weight[j]), S));
    const Real bound = std::numeric_limits<T>::epsilon() / 2 * largest(p.v) * ((positive ? one_sign : both_signs) + 4 * S);
    for (int64_t f = 0; f < 2; ++f) o_error = std::max(o_error, std::fabs(static_cast<Real>(got.o[f] - o[f])) / bound);
  });
}

template <class T>
void check_flat(bool positive) {
  Real first_o = 0, first_p = 0;
  for (const int64_t keys : {256, 1000, 4096, 16384, 65536}) {
    Real o = 0, p = 0;
    check_long<T>(keys, positive, o, p);
    printf("f%d, %s values, %6lld keys: O %.3f, P %.3f of the bound\n", static_cast<int>(8 * sizeof(T)),
           positive ? "positive" : "mixed", static_cast<long long>(keys), static_cast<double>(o), static_cast<double>(p));
    EXPECT_LE(o, 1);
    EXPECT_LE(p, 1);
    if (keys == 256) first_o = o, first_p = p;
    if (!positive) {
      EXPECT_LE(o, 2 * first_o + 0.1L) << "the error of O grows with the length";
    }
    EXPECT_LE(p, 2 * first_p + 0.1L) << "the error of P grows with the length";
  }
}
TEST(AttentionAccuracy, FlatInLength) {
  for (const bool positive : {false, true}) {
    check_flat<float>(positive);
    check_flat<double>(positive);
  }
}

// Values that are all the same number, broadcast: O is that number, whatever the scores are, and every rounding of the sums may
// have one sign. Scores: all 0, so that S = 0; at random; growing with the key, so that the running maximum does.
template <class T>
void check_constant_values(int64_t batch, int64_t queries, int64_t keys) {
  lamina_attention_spec s = long_spec(element<T>, keys, 1, 1);
  s.batch = batch, s.queries = queries, s.scale = 1;
  Problem p = make_problem(s, 7);
  const char* const names[] = {"equal", "random", "growing"};
  for (int scores = 0; scores < 3; ++scores) {
    if (scores == 0) p.q.assign(p.q.size(), 0);
    if (scores > 0) p.q.assign(p.q.size(), 1);
    for (size_t at = 0; at < p.k.size() && scores == 2; ++at)
      p.k[at] = static_cast<T>(static_cast<double>(at % static_cast<size_t>(keys)) / static_cast<double>(keys) - 0.5);
    const Real S = scores == 0 ? 0 : largest(p.k), u = std::numeric_limits<T>::epsilon() / 2;
    Real worst = 0;
    for (int step = 0; step < 8; ++step) {
      const T value = static_cast<T>(1.003 + 0.123 * step);
      p.v.assign(p.v.size(), value);
      for_each_set([&](const char* isa) {
        s.isa = isa;
        const Plan plan = make_plan(s);
        Arrays<T> arrays(p);
        arrays.c.v.stride[2] = 0;
        ASSERT_EQ(lamina_attention_forward(plan.get(), &arrays.c, nullptr, 0), LAMINA_OK) << lamina_last_error();
        for (const T o : arrays.outputs(p).o)
          worst = std::max(worst, std::fabs(static_cast<Real>(o) - static_cast<Real>(value)) / (u * static_cast<Real>(value)));
      });
    }
    printf("f%d, %lld x %lld x %lld, constant values, %s scores: %.2f u max|V|, bound %.2f\n", static_cast<int>(8 * sizeof(T)),
           static_cast<long long>(batch), static_cast<long long>(queries), static_cast<long long>(keys), names[scores],
           static_cast<double>(worst), static_cast<double>(one_sign + 4 * S));
    EXPECT_LE(worst, one_sign + 4 * S);
  }
}
TEST(AttentionAccuracy, ConstantValues) {
  for (const int64_t keys : {16, 40, 64, 256, 4096, 65536}) {
    check_constant_values<float>(1, 1, keys);
    check_constant_values<double>(1, 1, keys);
  }
  check_constant_values<float>(17, 64, 64);  // a head a lane, a query a lane
  check_constant_values<double>(17, 64, 64);
  check_constant_values<float>(1, 24, 64);
  check_constant_values<double>(1, 24, 64);
}

// dQ of one query whose keys all pull the same way, the worst case of rounding: n terms of one size in chains of a chunk.
template <class T>
void check_query_gradient() {
  Real error[3];
  const int64_t lengths[3] = {256, 4096, 65536};
  for (int at = 0; at < 3; ++at) {
    const int64_t keys = lengths[at];
    lamina_attention_spec s = new_spec();
    s.element = element<T>, s.batch = s.heads = s.queries = 1, s.keys = keys, s.width = s.value_width = 1;
    s.map = LAMINA_RELU, s.scale = 1;
    Problem p = make_problem(s, 3);
    const T slope = static_cast<T>(0.7), key = static_cast<T>(0.1);
    for (auto& x : p.q) x = 1;
    for (auto& x : p.k) x = static_cast<double>(key);
    for (auto& x : p.v) x = static_cast<double>(slope);
    for (auto& x : p.d_o) x = 1;
    const Real truth = static_cast<Real>(keys) * static_cast<Real>(slope) * static_cast<Real>(key);
    error[at] = std::fabs(static_cast<Real>(run<T>(p).d_q[0]) - truth) / truth / (std::numeric_limits<T>::epsilon() / 2);
    printf("f%d, %6lld keys: dQ %.1f u\n", static_cast<int>(8 * sizeof(T)), static_cast<long long>(keys),
           static_cast<double>(error[at]));
    EXPECT_LE(error[at], 256) << "half of a chunk's terms, and of the chunks";
  }
  EXPECT_GT(error[1] + error[2], 0);
}
TEST(AttentionAccuracy, QueryGradientOfOneSignedTerms) {
  check_query_gradient<float>();
  check_query_gradient<double>();
}

// Sequences so long that the backward pass computes its tiles again instead of keeping them: over 8 192 keys.
TEST(AttentionAccuracy, LongSequences) {
  lamina_attention_spec s = new_spec();
  s.batch = s.heads = 1, s.queries = 70, s.keys = 8300, s.width = 2, s.flags = LAMINA_WITH_LSE | LAMINA_WITH_BIAS;
  for (const int map : {LAMINA_SOFTMAX, LAMINA_RELU}) {
    s.map = map, s.scale = 0.5;
    s.normaliser = LAMINA_NORMALISE_ROW_SUM;
    if (map == LAMINA_RELU) s.flags = LAMINA_WITH_BIAS;
    const Problem p = make_problem(s, 5);
    EXPECT_LT(expect_near(run<double>(p), oracle::solve(p), describe(p)), 1);
  }
}

}  // namespace
