// The figures of in-context convergence at sizes that no list gives (named F1 to F24 here and in the README): runs of the trainer against
// programs in long double that know neither the integral nor exchangeability, at random K, p, N and eta.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/random.hpp"
#include "support/runs.hpp"
#include "theory/feature_floor.hpp"

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

// F14: loss and increments at Q = 0 for any law and any N, in closed form.
TEST(OtherSizes, FirstIncrements) {
  for (uint64_t number = 0; number < 40; ++number) {
    const Law law = random_law(number);
    Random random(number, Purpose::weights, 34);
    const auto N = 1 + static_cast<int64_t>(std::pow(10.0, 5 * random.uniform()));
    const Experiment run(law.line + " probes=increments steps=0 prompt_length=" + std::to_string(N), convergence);
    const FeatureLaw& given = *run.trainer->task()->features();
    const Real n = N;
    Real P2 = 0;
    for (const double p : given.probability) P2 += Real(p) * p;
    const auto square = [&](Real p) { return p * p * (1 - 1 / n) + p / n; };  // E a_n^2
    const auto cube = [&](Real p) { return (n * (n - 1) * (n - 2) * p * P2 + n * (n - 1) * (p + 2 * p * p) + n * p) / (n * n * n); };
    for (const int64_t k : given.watched) {
      const Real p = given.probability[static_cast<size_t>(k)];
      const std::string K = std::to_string(k);
      EXPECT_NEAR(run.at(0, "loss_" + K), static_cast<double>((1 - 2 * p + P2 + (1 - P2) / n) / 2), 1e-13) << law.line << " N = " << N;
      const Real alpha = p * (cube(p) + p - 2 * square(p));
      EXPECT_NEAR(run.at(0, "alpha_" + K), static_cast<double>(alpha), 1e-13 * static_cast<double>(p)) << law.line << " N = " << N;
      for (size_t m = 0; m < given.probability.size(); ++m) {
        const std::string column = "beta_" + K + "_" + std::to_string(m);
        const auto& columns = run.table->columns();
        if (std::ranges::find(columns, column, &Column::name) == columns.end()) continue;
        const Real other = given.probability[m], beta = p * (cube(other) - other * p * (1 - 1 / n) - square(other));
        EXPECT_NEAR(run.at(0, column), static_cast<double>(beta), 1e-13 * static_cast<double>(p)) << law.line << " N = " << N << column;
      }
    }
  }
}

// F5 to F8, F10: gradient flow of balanced features and of a dominant one, where steps are short: times, and the peak of alpha.
TEST(OtherSizes, ShortStepsFollowTheFlow) {
  for (uint64_t number = 0; number < 12; ++number) {
    Random random(number, Purpose::weights, 35);
    const auto K = 3 + static_cast<int>(random.below(60));
    const double eps = std::pow(10.0, -0.7 - 2.3 * random.uniform()), p = number % 2 ? 0.15 + 0.5 * random.uniform() : 1.0 / K;
    const auto F = [](Real a) { return 3 * logl(a / (1 - a)) - 1 / a + 2 / (1 - a) + 1 / (2 * (1 - a) * (1 - a)); };
    const Real end = 1 - sqrtl(2 * Real(eps) * (K - 1) / K), ratio = Real(K - 1) / K;
    const double time = static_cast<double>(ratio * ratio / p * (F(end) - F(p)));
    if (end <= p) continue;
    const double eta = time / 20000;
    const Experiment run("features=" + std::to_string(K) + (number % 2 ? " dominant=" + number_text(p) : std::string()) +
                             " prompt_length=inf step_size=" + number_text(eta) +
                             " steps=21000 watched=0 probes=increments record_every=1 crossings=loss_0=" + number_text(eps), convergence);
    const double step = static_cast<double>(run.trainer->crossings()[0].step);
    EXPECT_NEAR(step * eta / time, 1, 5e-3) << "K = " << K << " p = " << p << " eps = " << eps;
    if (p > 0.3) continue;
    double peak = 0;  // of p_k K / (K - 1) a (1 - a)^2
    for (int64_t row = 0; row < run.table->rows(); ++row) peak = std::max(peak, run.table->at(row, run.column("alpha_0")));
    EXPECT_NEAR(peak * (K - 1) / (K * p) * 27 / 4, 1, 1e-4) << "K = " << K << " p = " << p;
  }
}

// F18: infima of balanced features in closed form, of a rare one by a search over its one free difference of logits.
TEST(OtherSizes, Infima) {
  for (uint64_t number = 0; number < 30; ++number) {
    Random random(number, Purpose::weights, 36);
    const auto K = 3 + static_cast<int>(random.below(60)), N = 1 + static_cast<int>(random.below(150));
    const std::string size = "features=" + std::to_string(K) + " prompt_length=" + std::to_string(N);
    const Real k = K, balanced = powl(1 - 1 / k, N) * (1 + 1 / (k - 1) + (1 - 1 / (k - 1)) / N) / 2;
    const auto task = convergence_task(size);
    EXPECT_NEAR(infimum_of(*task->features(), kernels::Map::softmax) / static_cast<double>(balanced), 1, 1e-11) << size;
    const Real of_linear = (1 - 1 / k) / (1 + (N - 1) / k) / 2;
    EXPECT_NEAR(infimum_of(*task->features(), kernels::Map::linear), static_cast<double>(of_linear), 1e-14) << size;

    const double dominant = 0.2 + 0.6 * random.uniform();
    const auto rare = convergence_task(size + " dominant=" + number_text(dominant));
    const Real r = rare->features()->probability[1], p = rare->features()->probability[0] / (1 - r), others = K - 2;
    // 1/2 E (1 + sum a^2), no copy of the query: c copies of the dominant feature at weight x beside M of the others at 1.
    const auto loss = [&](Real x) {
      Real sum = 0;
      for (int c = 0; c <= N; ++c) {
        const Real M = N - c, z = c * x + M, squares = (c * x * c * x + M * (M - 1) / others + M) / (z * z);
        sum += expl(lgammal(N + 1) - lgammal(c + 1) - lgammal(N - c + 1) + c * logl(p) + (N - c) * log1pl(-p)) * (1 + squares) / 2;
      }
      return sum;
    };
    Real low = -12, high = 4;  // of ln x, by golden sections
    for (int i = 0; i < 120; ++i) {
      const Real a = high - (high - low) * 0.6180339887498949L, b = low + (high - low) * 0.6180339887498949L;
      if (loss(expl(a)) < loss(expl(b))) high = b;
      else low = a;
    }
    const Real want = powl(1 - r, N) * loss(expl(low));
    EXPECT_NEAR(infimum_of(*rare->features(), kernels::Map::softmax, 1) / static_cast<double>(want), 1, 1e-9) << size << " " << dominant;
  }
}

// F11: the dominant feature first, and the ratio of the times falls towards p_1 (K-1) / (1 - p_1).
TEST(OtherSizes, RatioOfTimes) {
  for (uint64_t number = 0; number < 8; ++number) {
    Random random(number, Purpose::weights, 38);
    const auto K = 4 + static_cast<int>(random.below(30));
    const double dominant = 0.25 + 0.3 * random.uniform(), r = (1 - dominant) / (K - 1);
    const double eta = (K * K / (1 - dominant) + 250 / r) / 6000;
    const double eps[] = {0.1, 1e-2, 1e-3};
    std::string line = "features=" + std::to_string(K) + " dominant=" + number_text(dominant) + " prompt_length=inf watched=0,1 " +
                       "probes=none record_every=1000000 step_size=" + number_text(eta) + " steps=20000 crossings=";
    for (const int k : {0, 1})
      for (const double e : eps) line += (line.back() == '=' ? "loss_" : ",loss_") + std::to_string(k) + "=" + number_text(e);
    const Experiment run(line, convergence);
    const std::vector<double>& p = run.trainer->task()->features()->probability;
    int64_t reached[2][3] = {};
    for (const size_t k : {size_t{0}, size_t{1}}) {
      // Groups {dominant}, {rare query}, {the rest}: a feature of the rest has q of the third.
      Vector law(p.begin(), p.end()), q(p.size(), 0);
      for (int t = 0, i = 0; i < 3 && t < 20000; ++t) {
        const Value value = endless(law, q, k);
        for (; i < 3 && value.loss <= Real(eps[i]); ++i) reached[k][i] = t;
        for (size_t n = 0; n < q.size(); ++n) q[n] += eta * law[k] * value.descent[n];
      }
    }
    const std::string at = "K = " + std::to_string(K) + " p_1 = " + number_text(dominant) + " eta = " + number_text(eta);
    double last = 1e9, limit = dominant / r;
    for (size_t i = 0; i < 3; ++i) {
      EXPECT_EQ(run.trainer->crossings()[i].step, reached[0][i]) << at << " dominant, " << eps[i];
      EXPECT_EQ(run.trainer->crossings()[3 + i].step, reached[1][i]) << at << " rare, " << eps[i];
      const double ratio = static_cast<double>(reached[1][i]) / static_cast<double>(std::max<int64_t>(reached[0][i], 1));
      EXPECT_LT(ratio, last) << at << " " << eps[i];
      last = ratio;
    }
    std::printf("%s: T_k / T_1 = %.2f at 1e-3, limit %.2f\n", at.c_str(), last, limit);
    EXPECT_GT(last, limit) << at;
    EXPECT_LT(last, 1.5 * limit) << at;
  }
}

// F23: features of a power law converge in the order of their probabilities, at the steps of a program of one column each.
TEST(OtherSizes, PowerLawsConvergeInTheirOrder) {
  for (uint64_t number = 0; number < 6; ++number) {
    Random random(number, Purpose::weights, 41);
    const auto K = 4 + static_cast<int>(random.below(22));
    const double exponent = 0.3 + 1.2 * random.uniform();
    const auto task = convergence_task("features=" + std::to_string(K) + " feature_law=zipf zipf_exponent=" + number_text(exponent));
    const std::vector<double>& p = task->features()->probability;
    const double eta = (2 * K + 400 / p.back()) / 6000;
    std::string line = "features=" + std::to_string(K) + " feature_law=zipf zipf_exponent=" + number_text(exponent) +
                       " prompt_length=inf probes=none record_every=1000000 steps=12000 step_size=" + number_text(eta), watched, crossings;
    for (int k = 0; k < K; ++k) {
      watched += (k ? "," : "") + std::to_string(k);
      crossings += (k ? ",loss_" : "loss_") + std::to_string(k) + "=0.001";
    }
    const Experiment run(line + " watched=" + watched + " crossings=" + crossings, convergence);
    const auto& reached = run.trainer->crossings();
    ASSERT_EQ(reached.size(), static_cast<size_t>(K));
    double least = 9, most = 0;
    for (int k = 0; k < K; ++k) {
      const auto at = static_cast<size_t>(k);
      ASSERT_GT(reached[at].step, k ? reached[at - 1].step : 0) << line << " query " << k;
      const double scaled = 4 * eta * p[at] * 1e-3 * static_cast<double>(reached[at].step);
      least = std::min(least, scaled), most = std::max(most, scaled);
    }
    for (const int k : {0, K / 2, K - 1}) {
      Vector law(p.begin(), p.end()), q(p.size(), 0);
      int64_t t = 0;
      for (;; ++t) {
        const Value value = endless(law, q, static_cast<size_t>(k));
        if (value.loss <= 1e-3L || t == 12000) break;
        for (size_t n = 0; n < q.size(); ++n) q[n] += eta * law[static_cast<size_t>(k)] * value.descent[n];
      }
      EXPECT_EQ(reached[static_cast<size_t>(k)].step, t) << line << " query " << k;
    }
    std::printf("K = %d, exponent %.3f, eta = %.3f: 4 eta p_k eps T_k from %.3f to %.3f\n", K, exponent, eta, least, most);
    EXPECT_GT(least, 0.8) << line;
    EXPECT_LT(most, 2) << line;
  }
}

// F24: classes of any variance and correlation rho train as f linear at their product with 1 - rho times eta; twins, on which f is always
// the same, have the attention of one feature of probability 2/K whose two logits share its slope.
TEST(OtherSizes, ClassesOfFunctions) {
  for (uint64_t number = 0; number < 8; ++number) {
    Random random(number, Purpose::weights, 37);
    const auto K = 4 + static_cast<int>(random.below(12));
    const auto moments = [&](const auto& moment) {
      std::string text = " second_moments=";
      for (int m = 0; m < K; ++m)
        for (int n = 0; n < K; ++n) text += (m + n ? "," : "") + number_text(moment(m, n));
      return text;
    };
    const std::string size = "features=" + std::to_string(K) + " watched=0 probes=attention record_every=500 steps=2000 prompt_length=";
    const double scale = 0.3 + 3 * random.uniform(), rho = 0.8 * random.uniform(), eta = 0.2 * K / scale;
    const std::string length = number % 2 ? "inf" : std::to_string(5 + random.below(40));
    const Experiment of_class(size + length + " step_size=" + number_text(eta) +
                                  moments([&](int m, int n) { return scale * (m == n ? 1.0 : rho); }), convergence),
        linear(size + length + " step_size=" + number_text(eta * scale * (1 - rho)), convergence);
    for (const int64_t t : {500, 1000, 2000})
      EXPECT_NEAR(of_class.at(t, "attention_0") / linear.at(t, "attention_0"), 1, 1e-11) << K << " " << t;

    const double slow = K * K / 400.0;
    const auto twin = [](int m, int n) { return m == n || (m < 2 && n < 2) ? 1.0 : 0.0; };
    const Experiment twins(size + "inf step_size=" + number_text(slow) + moments(twin), convergence);
    const auto F = [](Real a) { return 3 * logl(a / (1 - a)) - 1 / a + 2 / (1 - a) + 1 / (2 * (1 - a) * (1 - a)); };
    for (const int64_t t : {500, 1000, 2000}) {
      EXPECT_EQ(twins.at(t, "attention_0"), twins.at(t, "attention_0_1")) << K;
      const Real m = K - 2, b = 2 * Real(twins.at(t, "attention_0")), rate = (1 + 1 / m) * (1 + 2 / m) / (2 * Real(K));
      EXPECT_NEAR(static_cast<double>((F(b) - F(2 / Real(K))) / (rate * slow * Real(t))), 1, 2e-2) << "K = " << K << " step " << t;
    }
  }
}

}  // namespace
}  // namespace lamina::tests
