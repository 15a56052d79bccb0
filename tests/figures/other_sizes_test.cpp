// The figures of in-context convergence at sizes that no list gives (named F1 to F24 here and in the README): runs of the trainer against
// programs in long double that know neither the integral nor exchangeability, at random K, p, N and eta.
#include <gtest/gtest.h>

#include <cmath>

#include "base/random.hpp"
#include "support/runs.hpp"

namespace lamina::tests {
namespace {

using Real = long double;
using Vector = std::vector<Real>;

constexpr const char* convergence = "in_context_convergence";

struct Value {
  Real loss = 0;
  Vector descent, attention;  // -dL_k/dq_n, E a_n
};

// Adds weight times 1/2 sum e^2, its slopes -a_n (e_n - sum a e) and a, where a copies of each feature have attention a[n] together.
void add(Real weight, size_t query, const Vector& a, const Vector& squares, Value& value) {
  // e = a - unit_query; squares[n] = sum over the members of n of a^2, of which the group of the query has one member.
  Real others = 0, rest = 0;
  for (size_t n = 0; n < a.size(); ++n)
    if (n != query) others += squares[n], rest += a[n];
  const Real loss = others + rest * rest, mean = others - a[query] * rest;  // sum a e
  value.loss += weight * loss / 2;
  for (size_t n = 0; n < a.size(); ++n) {
    value.attention[n] += weight * a[n];
    value.descent[n] += weight * (n == query ? a[n] * (rest + mean) : a[n] * mean - squares[n]);
  }
}

// N = infinity: a is not random.
Value endless(const Vector& p, const Vector& q, size_t k) {
  Value value{0, Vector(p.size()), Vector(p.size())};
  Vector a(p.size()), squares(p.size());
  Real total = 0;
  for (size_t n = 0; n < p.size(); ++n) total += a[n] = p[n] * expl(q[n] - q[k]);
  for (size_t n = 0; n < p.size(); ++n) a[n] /= total, squares[n] = a[n] * a[n];
  add(1, k, a, squares, value);
  return value;
}

// A rare query of a law with one dominant feature: groups {query}, {dominant}, {the `others` rest}. Sum over their counts; given the count
// M of the rest, E sum c^2 over its members is M (M - 1) / others + M. Descent of the rest is that of all its members together.
Value trinomial(Real p_query, Real p_dominant, Real others, int N, const Vector& q) {
  Value value{0, Vector(3), Vector(3)};
  const Real p_rest = 1 - p_query - p_dominant;
  for (int c = 0; c <= N; ++c)
    for (int d = 0; c + d <= N; ++d) {
      const int M = N - c - d;
      const Real ways = lgammal(N + 1) - lgammal(c + 1) - lgammal(d + 1) - lgammal(M + 1);
      const Real weight = expl(ways + c * logl(p_query) + d * logl(p_dominant) + M * logl(p_rest));
      const Real count[] = {Real(c), Real(d), Real(M)}, square[] = {Real(c) * c, Real(d) * d, M * Real(M - 1) / others + M};
      Vector a(3), squares(3);
      Real z = 0;
      for (size_t n = 0; n < 3; ++n) z += a[n] = count[n] * expl(q[n] - q[0]);
      for (size_t n = 0; n < 3; ++n) squares[n] = square[n] * expl(2 * (q[n] - q[0])) / (z * z), a[n] /= z;
      add(weight, 0, a, squares, value);
    }
  return value;
}

double distance(const Vector& q, size_t k, const Experiment& run) {
  const auto d = static_cast<size_t>(run.trainer->task()->features()->dimension);
  Real most = 0, largest = 0;
  for (size_t n = 0; n < q.size(); ++n)
    most = std::max(most, std::abs(q[n] - Real(run.trainer->model().parameters()[n * d + k]))), largest = std::max(largest, std::abs(q[n]));
  return static_cast<double>(most / largest);
}

struct Law {
  std::string line;
  int K;
  double eta;
};

// K in [3, 60], eta over two decades, any law of features.
Law random_law(uint64_t number) {
  Random random(number, Purpose::weights, 31);
  Law law{"", 3 + static_cast<int>(random.below(number % 2 ? 58 : 12)), std::pow(10.0, random.uniform() * 2 - 1)};
  std::string weights = " feature_weights=";
  for (int n = 0; n < law.K; ++n) weights += (n ? "," : "") + number_text(0.1 + random.uniform() * (n % 3 == 0 ? 3 : 1));
  const std::string dominant = " dominant=" + number_text(0.2 + 0.6 * random.uniform());
  const std::string kinds[] = {"", " feature_law=zipf", dominant, weights};
  law.line = "features=" + std::to_string(law.K) + kinds[number % 4] + (number % 3 ? "" : " dimension=" + std::to_string(law.K + 2)) +
             " step_size=" + number_text(law.eta);
  return law;
}

// F1, F2, F4, F5, F10, F12, F13, F15, F23 at N = infinity: every step of a watched column, and the steps at which its loss, its attention
// and the order of its increments change.
TEST(OtherSizes, EndlessPromptsStepByStep) {
  for (uint64_t number = 0; number < 24; ++number) {
    const Law law = random_law(number);
    Random random(number, Purpose::weights, 32);
    const auto k = static_cast<size_t>(random.below(law.K));
    const auto steps = static_cast<int>(std::min(4e4, 3.0 * law.K * law.K / law.eta + 50));
    const std::string K = std::to_string(k), signals = "loss_" + K + "=0.3,loss_" + K + "=0.05,attention_" + K + "=0.5";
    const Experiment run(law.line + " prompt_length=inf probes=none record_every=1000000 watched=" + K + " crossings=" + signals +
                             " steps=" + std::to_string(steps), convergence);
    const std::vector<double>& given = run.trainer->task()->features()->probability;
    Vector p(given.begin(), given.end()), q(p.size(), 0);
    int64_t reached[] = {-1, -1, -1};
    bool began[3] = {};
    for (int t = 0; t <= steps; ++t) {
      const Value value = endless(p, q, k);
      const bool now[] = {value.loss <= 0.3L, value.loss <= 0.05L, value.attention[k] >= 0.5L};
      for (int i = 0; i < 3; ++i)  // a crossing comes from the side on which the signal began
        if (t == 0) began[i] = now[i];
        else if (now[i] != began[i] && reached[i] < 0) reached[i] = t;
      if (t == steps) break;
      for (size_t n = 0; n < q.size(); ++n) q[n] += law.eta * p[k] * value.descent[n];
    }
    const auto& crossings = run.trainer->crossings();
    ASSERT_EQ(crossings.size(), 3u);
    for (size_t i = 0; i < 3; ++i) EXPECT_EQ(crossings[i].step, reached[i]) << law.line << " query " << k << " signal " << i;
    EXPECT_LT(distance(q, k, run), 1e-11) << law.line << " query " << k;
  }
}

// F1, F2, F9, F10, F12 at finite N: a rare feature's column.
TEST(OtherSizes, FinitePromptsStepByStep) {
  for (uint64_t number = 0; number < 10; ++number) {
    Random random(number, Purpose::weights, 33);
    const int K = 4 + static_cast<int>(random.below(40)), N = 2 + static_cast<int>(random.below(28)), steps = 300;
    const double dominant = number % 4 == 3 ? 1.1 / K : 0.15 + 0.7 * random.uniform(), eta = std::pow(10.0, random.uniform() * 2 - 0.5);
    const Experiment run("features=" + std::to_string(K) + " dominant=" + number_text(dominant) + " prompt_length=" + std::to_string(N) +
                             " step_size=" + number_text(eta) + " watched=1 record_every=100 probes=increments,weights" +
                             " crossings=beta_1_2=0,attention_1=0.3 steps=" + std::to_string(steps), convergence);
    const std::vector<double>& p = run.trainer->task()->features()->probability;
    Vector q(3, 0);
    int64_t turned = -1, third = -1;
    Real before = 0;
    for (int t = 0; t <= steps; ++t) {
      const Value value = trinomial(p[1], p[0], K - 2, N, q);
      const Real beta = p[1] * value.descent[2] / (K - 2);
      if (turned < 0 && t > 0 && (beta <= 0) != (before <= 0)) turned = t;
      if (third < 0 && t > 0 && value.attention[0] >= 0.3L) third = t;
      before = beta;
      if (t % 100 == 0) {
        const Real of_q[] = {value.loss, p[1] * value.descent[0], p[1] * value.descent[1], beta, q[0], q[1], q[2]};
        const char* const columns[] = {"loss_1", "alpha_1", "beta_1_0", "beta_1_2", "A_1", "B_1_0", "B_1_2"};
        const Real scale[] = {value.loss, p[1] * value.descent[0], std::abs(q[0])};  // of losses, increments, logits
        for (int i = 0; i < 7; ++i) {
          const Real size = std::max(std::abs(of_q[i]), scale[(i + 2) / 3]);
          EXPECT_NEAR(run.at(t, columns[i]), static_cast<double>(of_q[i]), 1e-11 * static_cast<double>(size))
              << "K = " << K << " N = " << N << " p_1 = " << dominant << " eta = " << eta << " step " << t << " " << columns[i];
        }
      }
      if (t == steps) break;
      for (size_t n = 0; n < 3; ++n) q[n] += eta * p[1] * value.descent[n] / (n == 2 ? K - 2 : 1);
    }
    EXPECT_EQ(run.trainer->crossings()[0].step, turned) << "K = " << K << " N = " << N << " p_1 = " << dominant;
    EXPECT_EQ(run.trainer->crossings()[1].step, third) << "K = " << K << " N = " << N << " p_1 = " << dominant;
  }
}

}  // namespace
}  // namespace lamina::tests
