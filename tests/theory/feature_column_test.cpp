// The population integral against enumeration of every prompt in long double, and against Monte Carlo; its quadrature.
#include "theory/feature_column.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <numeric>

#include "base/random.hpp"
#include "support/runs.hpp"
#include "theory/feature_floor.hpp"
#include "theory/feature_population.hpp"

namespace lamina::tests {
namespace {

using Real = long double;

struct System {
  int64_t K, N;
  bool masked;
  std::vector<double> p, q, moments;
  int64_t query;
};

System random_system(uint64_t number, bool masked, bool general) {
  Random random(number, Purpose::weights, general);
  System s{2 + static_cast<int64_t>(number % 4), 1 + static_cast<int64_t>(number % 9), masked, {}, {}, {}, 0};
  s.query = random.below(s.K);
  for (int64_t k = 0; k < s.K; ++k) s.p.push_back(0.05 + random.uniform()), s.q.push_back(2 * random.normal());
  const double sum = std::accumulate(s.p.begin(), s.p.end(), 0.0);
  for (double& p : s.p) p /= sum;
  if (!general) return s;
  std::vector<double> root(static_cast<size_t>(s.K * s.K));
  for (double& x : root) x = random.normal();
  s.moments.assign(root.size(), 0.0);
  for (int64_t m = 0; m < s.K; ++m)
    for (int64_t n = 0; n <= m; ++n) {
      for (int64_t l = 0; l < s.K; ++l) s.moments[m * s.K + n] += root[m * s.K + l] * root[n * s.K + l];
      s.moments[n * s.K + m] = s.moments[m * s.K + n];
    }
  return s;
}

FeatureLaw law_of(const System& s) { return {s.K, s.K, s.N, s.masked, s.p, s.moments, {}}; }

struct Exact {
  Real loss = 0;
  std::vector<Real> descent, attention;
};

// Literally: every count vector, softmax of the logits, e = a - unit_query, descent = -a (Gm e - a.Gm e); with sum a = 1 the bracket is
// sum_m a_m ((Gm e)_n - (Gm e)_m), in which nothing is lost where a is nearly all on one feature. An unmasked query is one more key, whose
// logit is that of its feature and whose (Gm e) is 0.
Exact enumerate(const System& s) {
  Exact exact{0, std::vector<Real>(s.K), std::vector<Real>(s.K)};
  std::vector<int64_t> c(s.K);
  const std::function<void(int64_t, int64_t, Real)> visit = [&](int64_t i, int64_t left, Real probability) {
    if (i < s.K - 1) {
      for (int64_t n = 0; n <= left; ++n) {
        c[i] = n;
        visit(i + 1, left - n, probability * powl(s.p[i], n) / tgammal(n + 1));
      }
      return;
    }
    c[i] = left;
    probability *= powl(s.p[i], left) / tgammal(left + 1);
    std::vector<Real> a(s.K), moment(s.K);
    Real top = s.masked ? -std::numeric_limits<Real>::infinity() : Real(s.q[s.query]);
    for (int64_t n = 0; n < s.K; ++n)
      if (c[n] > 0) top = std::max(top, Real(s.q[n]));
    Real self = s.masked ? 0 : expl(s.q[s.query] - top), z = self, square = 0;
    for (int64_t n = 0; n < s.K; ++n) z += a[n] = c[n] > 0 ? c[n] * expl(s.q[n] - top) : 0;
    self /= z;
    for (Real& weight : a) weight /= z;
    std::vector<Real> e = a;
    e[s.query] = -self;  // a - 1, without the cancellation
    for (int64_t n = 0; n < s.K; ++n) e[s.query] -= n == s.query ? 0 : a[n];
    for (int64_t m = 0; m < s.K; ++m)
      for (int64_t n = 0; n < s.K; ++n) moment[m] += (s.moments.empty() ? Real(m == n) : Real(s.moments[m * s.K + n])) * e[n];
    for (int64_t m = 0; m < s.K; ++m) square += e[m] * moment[m];
    exact.loss += probability * square / 2;
    for (int64_t n = 0; n < s.K; ++n) {
      exact.attention[n] += probability * a[n];
      Real bracket = n == s.query ? 0 : self * moment[n];
      for (int64_t m = 0; m < s.K; ++m) bracket += a[m] * (moment[n] - moment[m]);
      exact.descent[n] -= probability * a[n] * bracket;
      if (n != s.query) exact.descent[s.query] += probability * self * a[n] * moment[n];  // what the query itself gives to others
    }
  };
  visit(0, s.N, tgammal(s.N + 1));
  return exact;
}

// each: whether an entry has digits of its own, that is, is no sum of pulls that cancel.
// Every slope to 1e-13 of the largest one, not of the loss, of which they may be the smallest part; and their sum is 0.
void expect_enumerated(const System& s, const std::string& where, bool each = true) {
  const Exact exact = enumerate(s);
  FeaturePopulation population(law_of(s), kernels::Map::softmax, *kernels::select(nullptr)->f64, true);
  const ColumnValue value = population.column(s.query, s.q);
  constexpr double least = std::numeric_limits<double>::min();
  EXPECT_NEAR(value.loss, exact.loss, 1e-13 * static_cast<double>(exact.loss) + least) << where;
  double largest = 0, sum = 0;
  for (Real d : exact.descent) largest = std::max(largest, std::abs(static_cast<double>(d)));
  for (int64_t n = 0; n < s.K; ++n) {
    sum += value.descent[n];
    EXPECT_NEAR(value.descent[n], exact.descent[n], 1e-13 * largest + least) << where << ", key " << n << ", loss " << value.loss;
    if (each && std::abs(exact.descent[n]) > std::max(1e-12L * largest, 1e10L * least)) {
      EXPECT_NEAR(value.descent[n] / static_cast<double>(exact.descent[n]), 1.0, 1e-10) << where;
    }
    EXPECT_NEAR(value.attention[n], exact.attention[n], 1e-13) << where;
  }
  EXPECT_NEAR(sum, 0, 1e-15 * static_cast<double>(s.K) * largest + least) << where;
}

// change: of the logits; from a spread of some hundreds on, most features have no weight beside the largest, and are all that a prompt
// without it has.
template <class Change>
void expect_enumeration(Change change, const std::string& what) {
  for (const bool general : {false, true})
    for (const bool masked : {true, false})
      for (uint64_t number = 0; number < 20; ++number) {
        System s = random_system(number, masked, general);
        change(s.q);
        expect_enumerated(s, "system " + std::to_string(number) + (masked ? " masked" : " unmasked") + (general ? " general" : "") + what);
      }
}

// One population asked for columns of one query and another, with ties and without, gives what a new one gives: the bits do not depend
// on what was asked before.
TEST(FeatureColumn, WhatWasAskedBeforeLeavesNoTrace) {
  for (const char* law : {"features=6 prompt_length=30", "features=5 prompt_length=20 feature_weights=1,4,4,2,1", "features=4 prompt_length=9 mask=no "
                          "second_moments=2,1,0,0,1,2,0,0,0,0,1,0,0,0,0,3"}) {
    const auto task = convergence_task(law);
    const auto K = static_cast<size_t>(task->features()->features);
    FeaturePopulation kept(*task->features(), kernels::Map::softmax, *kernels::select(nullptr)->f64, true);
    for (const int64_t query : {1, 2, 1, 0, 2})
      for (const bool tied : {false, true, false}) {
        std::vector<double> q(K, 0.5);
        for (size_t n = 0; n < K && !tied; ++n) q[n] = 0.3 * static_cast<double>((n * n + static_cast<size_t>(query)) % 5);
        FeaturePopulation fresh(*task->features(), kernels::Map::softmax, *kernels::select(nullptr)->f64, true);
        const ColumnValue value = kept.column(query, q), want = fresh.column(query, q);
        EXPECT_EQ(value.loss, want.loss) << law << " query " << query;
        EXPECT_EQ(value.descent, want.descent) << law << " query " << query;
        EXPECT_EQ(value.attention, want.attention) << law << " query " << query;
        FeaturePopulation apart(*task->features(), kernels::Map::softmax, *kernels::select(nullptr)->f64, false);  // every feature a group
        const ColumnValue other = apart.column(query, q);
        EXPECT_NEAR(other.loss, want.loss, 1e-15) << law << " query " << query;
        for (size_t n = 0; n < K; ++n) EXPECT_NEAR(other.descent[n], want.descent[n], 1e-15) << law << " query " << query << " key " << n;
      }
  }
}

TEST(FeatureColumn, EqualsEnumeration) {
  expect_enumeration([](std::vector<double>&) {}, "");
}
TEST(FeatureColumn, EqualsEnumerationHoweverTheLogitsSpread) {
  for (const double factor : {3.0, 8.0, 20.0, 70.0, 150.0, 500.0, 1500.0})
    expect_enumeration([&](std::vector<double>& q) { for (double& x : q) x *= factor; }, " times " + std::to_string(factor));
}

// On both sides of where ranges of s part, at a gap of 16.8 + ln N, and of where a piece is full, at 200 - 16.8 and multiples.
TEST(FeatureColumn, NothingJumpsWhereRangesPartAndPiecesEnd) {
  for (const double spread : {16.7, 16.9, 17.4, 17.6, 18.1, 18.3, 18.9, 19.1, 183.1, 183.3, 199.9, 200.1, 383.1, 383.3, 399.9, 400.1})
    expect_enumeration(
        [&](std::vector<double>& q) {
          const auto [low, high] = std::ranges::minmax(q);
          const double factor = spread / (high - low);
          for (double& x : q) x *= factor;
        },
        " spread " + std::to_string(spread));
}

// A ladder without a gap over several pieces, its rungs below and above the least gap; prompts of one and two, where on the inner rungs
// the pulls of both neighbours cancel.
TEST(FeatureColumn, LaddersOverSeveralPieces) {
  for (const double rung : {5.1, 9.7, 16.5, 18.0, 24.9})
    for (const int64_t N : {1, 2}) {
      System s{40, N, true, std::vector<double>(40, 1.0 / 40), {}, {}, 17};
      for (int64_t n = 0; n < s.K; ++n) s.q.push_back(rung * static_cast<double>(n) - 0.3);
      expect_enumerated(s, "rung " + std::to_string(rung) + " N " + std::to_string(N), N != 2);
    }
}

// An infinite prompt lacks nothing: softmax, whatever the spread; long ones tend to it.
TEST(FeatureColumn, InfinitePromptsHoweverTheLogitsSpread) {
  const auto& table = *kernels::select(nullptr)->f64;
  const FeatureLaw endless{3, 3, -1, true, {0.2, 0.5, 0.3}, {}, {}};
  FeatureLaw longer = endless;
  longer.length = 1000000;
  const std::vector<double> q{-500, 1000, 998};
  const ColumnValue limit = FeaturePopulation(endless, kernels::Map::softmax, table, false).column(0, q);
  const double a = 1 / (1 + 0.6 * std::exp(-2.0));
  EXPECT_NEAR(limit.loss, 0.5 * (1 + a * a + (1 - a) * (1 - a)), 1e-15);
  EXPECT_EQ(limit.attention[0], 0);
  EXPECT_NEAR(FeaturePopulation(longer, kernels::Map::softmax, table, false).column(0, q).loss, limit.loss, 1e-5);
}

// Exchangeable features merged, against every feature for itself.
TEST(FeatureColumn, GroupsEqualFeaturesOneByOne) {
  for (const char* line : {"features=12 prompt_length=30", "features=12 prompt_length=30 dominant=0.4", "features=9 prompt_length=inf dominant=0.3",
                           "features=5 prompt_length=7 mask=no second_moments=2,1,1,1,1,1,2,1,1,1,1,1,2,1,1,1,1,1,2,1,1,1,1,1,2"}) {
    const auto task = convergence_task(line);
    const FeatureLaw& law = *task->features();
    const auto& table = *kernels::select(nullptr)->f64;
    FeaturePopulation tied(law, kernels::Map::softmax, table, true), free(law, kernels::Map::softmax, table, false);
    EXPECT_LT(tied.variables(), free.variables());
    std::vector<double> x(tied.variables()), Q(law.features * law.features), y(free.variables()), gx(x.size()), gy(y.size()), G(Q.size()), H(Q.size());
    for (size_t i = 0; i < x.size(); ++i) x[i] = 0.3 * static_cast<double>(i) - 0.5;
    tied.scatter(x.data(), Q.data(), law.features);
    std::vector<double> back(x.size());
    EXPECT_TRUE(tied.gather(Q.data(), law.features, back.data()));
    EXPECT_EQ(back, x);
    free.gather(Q.data(), law.features, y.data());
    const Team team(1);
    EXPECT_NEAR(tied.loss_and_gradient(x.data(), gx.data(), team), free.loss_and_gradient(y.data(), gy.data(), team), 1e-14) << line;
    tied.scatter(gx.data(), G.data(), law.features), free.scatter(gy.data(), H.data(), law.features);
    for (size_t i = 0; i < G.size(); ++i) EXPECT_NEAR(G[i], H[i], 1e-14) << line;
  }
}

// Prompts of the task through the literal model, labels drawn: |z| < 4.
TEST(FeatureColumn, AgreesWithMonteCarlo) {
  constexpr int64_t count = 100000, K = 6;
  std::string moments = " second_moments=";  // 0.6^|m - n|
  for (int m = 0; m < K; ++m)
    for (int n = 0; n < K; ++n) moments += (m + n ? "," : "") + number_text(std::pow(0.6, std::abs(m - n)));
  for (const std::string& line : {std::string("features=6 prompt_length=40 dominant=0.3"), std::string("features=6 prompt_length=15 mask=no feature_law=zipf"),
                                  "features=6 prompt_length=4 mask=no feature_law=zipf" + moments, "features=6 prompt_length=20 mask=no" + moments,
                                  "features=6 prompt_length=5 dominant=0.3" + moments, std::string("features=6 prompt_length=20 attention=linear"),
                                  std::string("features=6 prompt_length=20 attention=relu dominant=0.4")}) {
    const auto task = convergence_task(line);
    const auto says = [&](const char* word) { return line.find(word) != line.npos; };
    const kernels::Map map = says("relu") ? kernels::Map::relu : says("linear") ? kernels::Map::linear : kernels::Map::softmax;
    const auto model = model_of(*task, says("relu") ? "attention=relu" : says("linear") ? "attention=linear" : "attention=softmax");
    Random random(5, Purpose::weights, 0);
    for (double& q : model->mutable_parameters()) q = random.normal();
    FeaturePopulation population(*task->features(), map, *kernels::select(nullptr)->f64, false);
    std::vector<double> x(population.variables()), slopes(x.size()), gradient(K * K);
    population.gather(model->parameters().data(), K, x.data());
    const Team team(1);
    const double loss = population.loss_and_gradient(x.data(), slopes.data(), team);
    population.scatter(slopes.data(), gradient.data(), K);
    // Batches of 500 prompts: their means are nearly normal.
    constexpr int64_t batch = 500, batches = count / batch;
    std::vector<double> sum(K * K + 1), squares(K * K + 1), one(K * K);
    for (int64_t b = 0; b < batches; ++b) {
      Prompts prompts;
      task->sample(Split::train, 9, b * batch, batch, prompts);
      const double value = model->loss_and_gradient(*model->compile(prompts, {}, team), team, one.data(), false).loss;
      for (int64_t i = 0; i <= K * K; ++i) {
        const double d = i < K * K ? one[i] - gradient[i] : value - loss;
        sum[i] += d, squares[i] += d * d;
      }
    }
    for (int64_t i = 0; i <= K * K; ++i) {
      const double mean = sum[i] / batches, spread = std::sqrt((squares[i] / batches - mean * mean) / (batches - 1));
      EXPECT_LT(std::abs(mean), 4 * spread + 1e-15) << line << ", entry " << i;
    }
  }
}

// Near the floor L_k is a small sum of small terms: against the sum over c ~ Bin(N, p_k), term by term positive.
TEST(FeatureColumn, NothingCancelsNearTheFloor) {
  const int64_t N = 400, K = 20;
  FeatureColumn column;
  column.length = N, column.probability = {1.0 / K, 1.0 / K}, column.multiplicity = {1, K - 1};
  ColumnIntegral integral(*kernels::select(nullptr)->f64);
  for (const double A : {5.0, 12.0, 20.0, 40.0, 80.0}) {
    ColumnValue value;
    integral.evaluate(column, std::vector<double>{A, -A / (K - 1)}, false, value);
    const Real p = column.probability[0], a = expl(A), b = expl(-A / (K - 1)), rho2 = 1.0L / (K - 1);
    Real loss = 0, alpha = 0;
    for (int64_t c = 0; c <= N; ++c) {
      const Real weight = expl(lgammal(N + 1) - lgammal(c + 1) - lgammal(N - c + 1) + c * logl(p) + (N - c) * log1pl(-p));
      const Real M = N - c, z = c * a + M * b, bracket = (M * b / z) * (M * b / z) + b * b * (M * (M - 1) * rho2 + M) / (z * z);
      loss += weight * bracket / 2, alpha += weight * (c * a / z) * bracket;
    }
    EXPECT_NEAR(value.loss / static_cast<double>(loss), 1.0, 1e-12) << A;
    EXPECT_NEAR(value.descent[0] / static_cast<double>(alpha), 1.0, 1e-12) << A;
  }
}

// The rule of the quadrature on e^{-Z s} alone: sum over nodes of weight s^3 e^{-Z s} Z^3 / 2 is 1 within 1e-16 for every Z, from twice
// the largest, which an unmasked query may add, to the least that its last node serves.
TEST(FeatureColumn, QuadratureIsExactForEveryPrompt) {
  const Real step = 0.2L, begin = -2.4L, spread = 12;
  for (Real log_Z = 0.69L; log_Z >= -spread; log_Z -= 0.003L) {
    Real sum = 0;
    for (Real t = begin; t < spread + logl(45.0L) + step; t += step) {
      const Real s = expl(t - expl(-t)), Z = expl(log_Z);
      sum += step * (1 + expl(-t)) * powl(s * Z, 3) * expl(-s * Z) / 2;
    }
    EXPECT_NEAR(static_cast<double>(sum - 1), 0, 1e-16) << static_cast<double>(log_Z);
  }
  // The engine's own nodes: of a prompt of one key Z is that key's weight, and E a_n = p_n whatever the logits; ln s is rounded.
  FeatureColumn column;
  column.length = 1, column.probability = {0.3, 0.7}, column.multiplicity = {1, 1};
  ColumnIntegral integral(*kernels::select(nullptr)->f64);
  for (double gap = 0; gap < 40; gap += 0.01) {
    ColumnValue value;
    integral.evaluate(column, std::vector<double>{0, -gap}, true, value);
    for (int n = 0; n < 2; ++n) EXPECT_NEAR(value.attention[n] / column.probability[n], 1, 5e-15) << gap << " " << n;
  }
}

// Floors of equal features in closed form; between their bounds for a rare one; by enumeration of a small unmasked system.
TEST(FeatureFloor, ClosedForms) {
  for (const int64_t N : {1, 2, 50, 400}) {
    const auto task = convergence_task("features=20 prompt_length=" + std::to_string(N));
    const double K = 20, want = 0.5 * std::pow(1 - 1 / K, N) * (1 + 1 / (K - 1) + (1 - 1 / (K - 1)) / static_cast<double>(N));
    EXPECT_NEAR(infimum_of(*task->features(), kernels::Map::softmax, 3) / want, 1.0, 1e-11) << N;
  }
  const auto rare = convergence_task("features=20 dominant=0.5 prompt_length=100");
  const double r = 0.5 / 19, least = 0.5 * std::pow(1 - r, 100), floor = infimum_of(*rare->features(), kernels::Map::softmax, 7);
  EXPECT_GT(floor, least);
  EXPECT_LT(floor, 1.08 * least);
  // No logits do better: far along A, around and away from the minimum in B_1.
  FeaturePopulation population(*rare->features(), kernels::Map::softmax, *kernels::select(nullptr)->f64, true);
  double best = 1;
  for (double B = -6; B <= 0; B += 0.01) {
    std::vector<double> q(20, 0.0);
    q[7] = 60, q[0] = B;
    best = std::min(best, population.column(7, q).loss);
  }
  EXPECT_NEAR(best / floor, 1.0, 1e-5);
  EXPECT_GE(best, floor * (1 - 1e-12));
  const auto unmasked = convergence_task("features=4 prompt_length=9 mask=no");
  double want = 0;
  for (int c = 0; c <= 9; ++c) want += 0.5 * std::exp(std::lgamma(10) - std::lgamma(c + 1) - std::lgamma(10 - c)) * std::pow(0.25, c) * std::pow(0.75, 9 - c) / ((c + 1) * (c + 1));
  EXPECT_NEAR(infimum_of(*unmasked->features(), kernels::Map::softmax, 0), want, 1e-14);
}

// A query that is a key itself, correlated labels: no logits of a grid do better, and some come near.
TEST(FeatureFloor, UnmaskedQueryOfAnyClassOfFunctions) {
  const char* const moments[] = {"1,0.9,0,0.9,1,0,0,0,1", "1,-0.6,0.1,-0.6,1,0.2,0.1,0.2,0.5", "1,0.99,0.98,0.99,1,0.97,0.98,0.97,1",
                                 "1,0,0,0,1,0,0,0,1", "2,1,0.5,1,1,0.3,0.5,0.3,1"};
  for (const char* law : {"feature_weights=3,2,1", "feature_weights=1,5,2"})
    for (const char* Gm : moments)
      for (const int N : {2, 7}) {
        const auto task = convergence_task(std::string("features=3 mask=no prompt_length=") + std::to_string(N) + " " + law + " second_moments=" + Gm);
        FeaturePopulation population(*task->features(), kernels::Map::softmax, *kernels::select(nullptr)->f64, false);
        for (int64_t k = 0; k < 3; ++k) {
          double best = 1e9;
          for (double a = -10; a <= 12; a += 0.5)
            for (double b = -10; b <= 12; b += 0.5) {
              std::vector<double> q(3, a);
              q[k] = 0, q[(k + 1) % 3] = b;
              best = std::min(best, population.column(k, q).loss);
            }
          const double floor = infimum_of(*task->features(), kernels::Map::softmax, k);
          EXPECT_LE(floor, best * (1 + 1e-9)) << law << " " << Gm << " N = " << N << " query " << k;
          EXPECT_GT(floor, 0.98 * best) << law << " " << Gm << " N = " << N << " query " << k;
        }
      }
}

}  // namespace
}  // namespace lamina::tests
