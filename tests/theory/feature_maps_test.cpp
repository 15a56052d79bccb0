// Linear and relu attention on features at any Q: loss and gradient against enumeration of every prompt in long double and against
// sampled prompts, infima against every set of weights that may be 0; the sum over one count against the integral.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "base/random.hpp"
#include "support/runs.hpp"
#include "theory/feature_population.hpp"
#include "theory/theory.hpp"

namespace lamina::tests {
namespace {

using Real = long double;

std::vector<double> theory(const std::string& name, const Task& task, const std::vector<double>& arguments, size_t results = 1) {
  std::vector<double> out(results);
  find_theory(name).evaluate(&task, arguments, out);
  return out;
}

std::string list(const std::vector<double>& x) {
  std::string text;
  for (double value : x) text += (text.empty() ? "" : ",") + number_text(value);
  return text;
}

// R R^T of Gaussian R, made symmetric in its bits; rank below K gives directions without variance.
std::vector<double> random_moments(Random& random, int64_t K, int64_t rank) {
  std::vector<double> R(static_cast<size_t>(K * rank)), Gm(static_cast<size_t>(K * K));
  for (double& r : R) r = random.normal();
  for (int64_t m = 0; m < K; ++m)
    for (int64_t n = 0; n <= m; ++n) {
      for (int64_t l = 0; l < rank; ++l) Gm[m * K + n] += R[m * rank + l] * R[n * rank + l];
      Gm[n * K + m] = Gm[m * K + n];
    }
  return Gm;
}

struct Case {
  std::shared_ptr<const Task> task;
  std::vector<double> Q;
};

Case random_case(uint64_t number) {
  Random random(number, Purpose::weights, 77);
  const auto K = 2 + static_cast<int64_t>(number % 3), N = 1 + static_cast<int64_t>(number % 6);
  std::vector<double> weights(static_cast<size_t>(K));
  for (double& w : weights) w = 0.05 + random.uniform();
  std::string line = "features=" + std::to_string(K) + " prompt_length=" + std::to_string(N) + " feature_weights=" + list(weights);
  if (number % 2) line += " second_moments=" + list(random_moments(random, K, K));
  if (number % 4 > 1) line += " mask=no";
  Case made{convergence_task(line), std::vector<double>(static_cast<size_t>(K * K))};
  for (double& q : made.Q) q = 2 * random.normal();
  if (number % 5 == 0) made.Q[1] = 0;
  return made;
}

struct Exact {
  Real loss = 0;
  std::vector<Real> gradient;
};

// Every count of every query: yhat = sum_n c_n g_n f(v_n) / N, whose copy of the query, unmasked, has label 0; E over f by Gm.
Exact enumerate(const Case& system, bool relu) {
  const FeatureLaw& law = *system.task->features();
  const int64_t K = law.features, N = law.length;
  Exact exact{0, std::vector<Real>(static_cast<size_t>(K * K))};
  std::vector<int64_t> c(static_cast<size_t>(K));
  const auto moment = [&](int64_t m, int64_t n) { return law.moments.empty() ? Real(m == n) : Real(law.moments[m * K + n]); };
  const std::function<void(int64_t, int64_t, Real)> visit = [&](int64_t i, int64_t left, Real probability) {
    if (i < K - 1) {
      for (int64_t n = 0; n <= left; ++n) c[i] = n, visit(i + 1, left - n, probability * powl(law.probability[i], n) / tgammal(n + 1));
      return;
    }
    c[i] = left;
    probability *= powl(law.probability[i], left) / tgammal(left + 1);
    for (int64_t k = 0; k < K; ++k) {
      std::vector<Real> e(static_cast<size_t>(K));
      for (int64_t n = 0; n < K; ++n) {
        const Real q = system.Q[n * K + k];
        e[n] = c[n] * (relu && q < 0 ? 0 : q) / N - (n == k);
      }
      for (int64_t n = 0; n < K; ++n) {
        Real error = 0;  // E f(v_n) (yhat - y)
        for (int64_t m = 0; m < K; ++m) error += moment(n, m) * e[m];
        exact.loss += probability * law.probability[k] * e[n] * error / 2;
        if (!relu || system.Q[n * K + k] >= 0) exact.gradient[n * K + k] += probability * law.probability[k] * c[n] * error / N;
      }
    }
  };
  visit(0, N, tgammal(N + 1));
  return exact;
}

TEST(FeatureMaps, EqualEnumeration) {
  for (const bool relu : {false, true})
    for (uint64_t number = 0; number < 40; ++number) {
      const Case system = random_case(number);
      const Exact exact = enumerate(system, relu);
      const std::string map = relu ? "relu" : "linear";
      EXPECT_NEAR(theory(map + "_population_loss", *system.task, system.Q)[0] / static_cast<double>(exact.loss), 1, 1e-13) << map << number;
      const std::vector<double> gradient = theory(map + "_population_gradient", *system.task, system.Q, system.Q.size());
      double largest = 0;
      for (Real g : exact.gradient) largest = std::max(largest, std::abs(static_cast<double>(g)));
      for (size_t i = 0; i < gradient.size(); ++i) EXPECT_NEAR(gradient[i], static_cast<double>(exact.gradient[i]), 1e-13 * largest) << map << number << " " << i;
    }
}

// A limit of long prompts, and d > K: entries off the features are not read and have no slope.
TEST(FeatureMaps, InfinitePromptsAndWiderVectors) {
  const auto endless = convergence_task("features=3 dimension=4 prompt_length=inf dominant=0.5"), length = convergence_task("features=3 dimension=4 prompt_length=1000000000 dominant=0.5");
  const std::vector<double> Q{0.5, -1, 2, 9, 1, 1, -0.3, 9, 0.2, 0.1, 1.5, 9, 9, 9, 9, 9};
  for (const std::string map : {"linear", "relu"}) {
    const std::vector<double> a = theory(map + "_population_gradient", *endless, Q, 16), b = theory(map + "_population_gradient", *length, Q, 16);
    EXPECT_NEAR(theory(map + "_population_loss", *endless, Q)[0], theory(map + "_population_loss", *length, Q)[0], 1e-8);
    for (size_t i = 0; i < 16; ++i) {
      EXPECT_NEAR(a[i], b[i], 1e-8);
      if (i % 4 == 3 || i > 11) {
        EXPECT_EQ(a[i], 0);
      }
    }
  }
}

// Prompts of the task through the literal model, labels drawn: |z| < 4.
TEST(FeatureMaps, AgreeWithMonteCarlo) {
  constexpr int64_t batch = 500, batches = 200, K = 4;
  Random random(3, Purpose::weights, 0);
  const std::string moments = list(random_moments(random, K, K));
  for (const std::string map : {"linear", "relu"})
    for (const std::string mask : {"yes", "no"}) {
      const auto task = convergence_task("features=4 prompt_length=7 dominant=0.4 mask=" + mask + " second_moments=" + moments);
      const auto model = model_of(*task, "attention=" + map);
      for (double& q : model->mutable_parameters()) q = random.normal();
      const std::vector<double> Q(model->parameters().begin(), model->parameters().end());
      std::vector<double> exact = theory(map + "_population_gradient", *task, Q, K * K), one(K * K), sum(K * K + 1), squares(K * K + 1);
      exact.push_back(theory(map + "_population_loss", *task, Q)[0]);
      const Team team(1);
      for (int64_t b = 0; b < batches; ++b) {
        Prompts prompts;
        task->sample(Split::train, 9, b * batch, batch, prompts);
        const double value = model->loss_and_gradient(*model->compile(prompts, {}, team), team, one.data(), false).loss;
        for (int64_t i = 0; i <= K * K; ++i) {
          const double d = (i < K * K ? one[i] : value) - exact[i];
          sum[i] += d, squares[i] += d * d;
        }
      }
      for (int64_t i = 0; i <= K * K; ++i) {
        const double mean = sum[i] / batches, error = std::sqrt((squares[i] / batches - mean * mean) / (batches - 1));
        EXPECT_LT(std::abs(mean), 4 * error + 1e-15) << map << " mask=" << mask << " entry " << i;
      }
      EXPECT_LT(std::sqrt(squares.back() / batches / batches), 0.05 * exact.back()) << "a test that could not fail";
    }
}

// M g = b at the set bits, by elimination; 1/2 Gm_kk - 1/2 b^T g, or infinity where a weight is not positive. g [K] if asked for.
Real least_on(const FeatureLaw& law, int64_t k, unsigned set, bool signs, std::vector<Real>* minimum = nullptr) {
  const int64_t K = law.features;
  const auto moment = [&](int64_t m, int64_t n) { return law.moments.empty() ? Real(m == n) : Real(law.moments[m * K + n]); };
  std::vector<int64_t> rows;
  for (int64_t n = 0; n < K; ++n)
    if (set >> n & 1u) rows.push_back(n);
  const size_t size = rows.size();
  std::vector<std::vector<Real>> M(size, std::vector<Real>(size + 1));
  for (size_t i = 0; i < size; ++i) {
    const Real p = law.probability[rows[i]], one = 1 / Real(law.length);
    for (size_t j = 0; j < size; ++j) M[i][j] = (1 - one) * p * moment(rows[i], rows[j]) * Real(law.probability[rows[j]]);
    M[i][i] += one * p * moment(rows[i], rows[i]);
    M[i][size] = p * moment(rows[i], k);
  }
  for (size_t j = 0; j < size; ++j)
    for (size_t i = 0; i < size; ++i) {
      const Real factor = i == j ? 0 : M[i][j] / M[j][j];
      for (size_t l = j; l <= size; ++l) M[i][l] -= factor * M[j][l];
    }
  Real loss = moment(k, k) / 2;
  if (minimum) minimum->assign(static_cast<size_t>(K), 0);
  for (size_t i = 0; i < size; ++i) {
    const Real g = M[i][size] / M[i][i];
    if (signs && g < 0) return INFINITY;
    if (minimum) (*minimum)[static_cast<size_t>(rows[i])] = g;
    loss -= g * Real(law.probability[rows[i]]) * moment(rows[i], k) / 2;
  }
  return loss;
}

TEST(FeatureMaps, InfimaAreTheLeastOverEverySetOfWeights) {
  int confined = 0;
  for (uint64_t number = 0; number < 60; ++number) {
    Random random(number, Purpose::weights, 5);
    const auto K = 2 + static_cast<int64_t>(number % 6), N = 1 + static_cast<int64_t>(number * number % 50);
    std::vector<double> weights(static_cast<size_t>(K));
    for (double& w : weights) w = 0.05 + random.uniform();
    std::string line = "features=" + std::to_string(K) + " prompt_length=" + std::to_string(N) + " feature_weights=" + list(weights);
    if (number % 7) line += " second_moments=" + list(random_moments(random, K, K + static_cast<int64_t>(number % 3)));
    const auto task = convergence_task(line);
    const FeatureLaw& law = *task->features();
    Real linear = 0, relu = 0;
    for (int64_t k = 0; k < K; ++k) {
      Real least = INFINITY;
      for (unsigned set = 0; set < 1u << K; ++set) least = std::min(least, least_on(law, k, set, true));
      const Real free = least_on(law, k, (1u << K) - 1, false);
      confined += least > free * (1 + 1e-9L);
      EXPECT_NEAR(theory("relu_query_infimum", *task, {static_cast<double>(k)})[0] / static_cast<double>(least), 1, 1e-12) << line << " query " << k;
      EXPECT_NEAR(theory("linear_query_infimum", *task, {static_cast<double>(k)})[0] / static_cast<double>(free), 1, 1e-12) << line << " query " << k;
      relu += Real(law.probability[k]) * least, linear += Real(law.probability[k]) * free;
    }
    EXPECT_NEAR(theory("relu_loss_infimum", *task, {})[0] / static_cast<double>(relu), 1, 1e-12) << line;
    EXPECT_NEAR(theory("linear_loss_infimum", *task, {})[0] / static_cast<double>(linear), 1, 1e-12) << line;
    std::vector<double> Q(static_cast<size_t>(K * K));
    for (double& q : Q) q = 3 * random.normal();
    EXPECT_GT(theory("relu_population_loss", *task, Q)[0], static_cast<double>(relu));
  }
  EXPECT_GT(confined, 50);  // of about 270: else relu would be linear attention here
}

// sum_k p_k ( 1/2 (g - g*)^T M (g - g*) + (M g* - b)^T g ) in long double.
Real excess_over(const FeatureLaw& law, const std::vector<std::vector<Real>>& best, const std::vector<double>& Q, bool relu) {
  const int64_t K = law.features;
  const Real one = 1 / Real(law.length);
  const auto moment = [&](int64_t m, int64_t n) { return law.moments.empty() ? Real(m == n) : Real(law.moments[m * K + n]); };
  Real sum = 0;
  for (int64_t k = 0; k < K; ++k)
    for (int64_t m = 0; m < K; ++m) {
      const Real p = law.probability[m], q = Q[m * K + k], g = relu && q < 0 ? 0 : q;
      Real slope = -p * moment(m, k), curved = 0;
      for (int64_t n = 0; n < K; ++n) {
        const Real M = (1 - one) * p * moment(m, n) * Real(law.probability[n]) + (m == n ? one * p * moment(m, m) : 0);
        const Real r = Q[n * K + k];
        slope += M * best[k][n], curved += M * ((relu && r < 0 ? 0 : r) - best[k][n]);
      }
      sum += Real(law.probability[k]) * ((g - best[k][m]) * curved / 2 + (best[k][m] > 0 || !relu ? 0 : slope * g));
    }
  return sum;
}

// The excess near the minimum, to the digits that Q itself has there: a unit in the last place of an entry moves it by about
// 2e-16 sqrt(loss * excess). As a difference of two losses it would be 1e-16 off, whatever it is.
TEST(FeatureMaps, ExcessKeepsItsDigits) {
  for (const bool relu : {false, true})
    for (uint64_t number = 0; number < 40; ++number) {
      Random random(number, Purpose::weights, 9);
      const auto K = 2 + static_cast<int64_t>(number % 4), N = 1 + static_cast<int64_t>(number * number % 50);
      std::vector<double> weights(static_cast<size_t>(K));
      for (double& w : weights) w = 0.2 + random.uniform();
      std::string line = "features=" + std::to_string(K) + " prompt_length=" + std::to_string(N) + " feature_weights=" + list(weights);
      if (number % 3) line += " second_moments=" + list(random_moments(random, K, K + 1));
      const auto task = convergence_task(line);
      const FeatureLaw& law = *task->features();
      std::vector<std::vector<Real>> best(static_cast<size_t>(K));
      Real infimum = 0;
      for (int64_t k = 0; k < K; ++k) {
        Real least = INFINITY;
        for (unsigned set = relu ? 0 : (1u << K) - 1; set < 1u << K; ++set) {
          std::vector<Real> g;
          const Real loss = least_on(law, k, set, relu, &g);
          if (loss < least) least = loss, best[k] = g;
        }
        infimum += Real(law.probability[k]) * least;
      }
      FeaturePopulation population(law, relu ? kernels::Map::relu : kernels::Map::linear, *kernels::select(nullptr)->f64, false);
      std::vector<double> Q(static_cast<size_t>(K * K)), x(Q.size());
      for (const double distance : {1e-1, 1e-3, 1e-5, 1e-6, 1e-7}) {
        for (int64_t k = 0; k < K; ++k)
          for (int64_t n = 0; n < K; ++n) Q[n * K + k] = static_cast<double>(best[k][n]) + distance * random.normal();
        ASSERT_TRUE(population.gather(Q.data(), K, x.data()));
        const Real want = excess_over(law, best, Q, relu);
        const double bound = 1e-13 + 2e-15 * std::sqrt(static_cast<double>((want + infimum) / want));
        EXPECT_NEAR(population.excess(x.data()) / static_cast<double>(want), 1, bound) << line << " relu " << relu << " at " << distance;
        if (distance > 1e-4) {
          EXPECT_NEAR(population.loss_and_gradient(x.data(), nullptr, Team(1)) / static_cast<double>(want + infimum), 1, 1e-12) << line;
        }
      }
    }
}

// So descent goes on falling by one factor a step where a difference of losses would be noise, or negative.
TEST(FeatureMaps, ExcessFallsToTheSquareOfRounding) {
  for (const char* kind : {"linear", "relu"}) {
    const Experiment run(std::string("features=5 prompt_length=6 step_size=3 steps=600 record_every=20 probes=none attention=") + kind,
                         "in_context_convergence");
    const int64_t excess = run.column("excess");
    // Of the slowest mode, the entries off the diagonal being 0: 1 - eta p^2 ((1 - 1/N) p + 1/N), twice, over 20 steps.
    const double factor = std::pow(1 - 3 * 0.04 * (5.0 / 6 * 0.2 + 1.0 / 6), 40);
    for (int64_t row = 1; row < run.table->rows() && run.table->at(row - 1, excess) > 1e-18; ++row)
      EXPECT_NEAR(run.table->at(row, excess) / run.table->at(row - 1, excess), factor, 1e-5 * factor) << kind << " row " << row;
    EXPECT_LT(run.last("excess"), 1e-20);
    EXPECT_GE(run.last("excess"), 0);
  }
}

// Descent of the exact law comes down to the infimum, and a run ends there.
TEST(FeatureMaps, DescentOfReluEndsAtItsInfimum) {
  Random random(8, Purpose::weights, 1);
  const std::string line = "features=5 prompt_length=6 dominant=0.3 second_moments=" + list(random_moments(random, 5, 5));
  const auto task = convergence_task(line);
  const double infimum = theory("relu_loss_infimum", *task, {})[0];
  EXPECT_GT(infimum, theory("linear_loss_infimum", *task, {})[0] * 1.01);
  const Experiment run(line + " attention=relu step_size=1 steps=60000 record_every=1000 excess_target=1e-7 probes=none", "in_context_convergence");
  EXPECT_EQ(run.status, LAMINA_TARGET_REACHED) << run.last("excess");
  EXPECT_NEAR(run.at(0, "excess"), run.at(0, "loss") - infimum, 1e-15);
  EXPECT_GE(run.last("excess"), 0);
}

TEST(SoftmaxInfimum, OfOneQueryAndOfAll) {
  const auto task = convergence_task("features=5 prompt_length=12 feature_law=zipf");
  double sum = 0;
  for (int k = 0; k < 5; ++k) sum += task->features()->probability[static_cast<size_t>(k)] * theory("query_infimum", *task, {static_cast<double>(k)})[0];
  EXPECT_NEAR(theory("loss_infimum", *task, {})[0] / sum, 1, 1e-9);  // minima found from other starts
}

TEST(BinomialLoss, IsTheIntegral) {
  for (const char* law : {"features=20", "features=7 feature_law=zipf watched=2", "features=3 feature_weights=1,2,97 watched=2", "features=2 watched=1"})
    for (const int64_t N : {int64_t{1}, int64_t{2}, int64_t{50}, int64_t{400}, int64_t{1000000}})
      for (const double A : {-3.0, 0.0, 2.5, 12.0, 40.0, 90.0}) {
        const auto task = convergence_task(std::string(law) + " prompt_length=" + std::to_string(N));
        const FeatureLaw& given = *task->features();
        const int64_t k = given.watched[0];
        const double B = -0.05 * A;
        std::vector<double> q(static_cast<size_t>(given.features), B);
        q[static_cast<size_t>(k)] = A;
        const ColumnValue integral = FeaturePopulation(given, kernels::Map::softmax, *kernels::select(nullptr)->f64, true).column(k, q);
        const std::vector<double> sum = theory("binomial_loss", *task, {A, B}, 2);
        const double p = given.probability[static_cast<size_t>(k)];
        // Each ratio of two probabilities has a rounding error of three units, over at most sqrt(1500 N) ratios.
        const double bound = 1e-12 + 3 * 2.3e-16 * std::sqrt(1500.0 * static_cast<double>(N));
        EXPECT_NEAR(sum[0] / integral.loss, 1, bound) << law << " N = " << N << " A = " << A;
        if (N > 1) {
          EXPECT_NEAR(sum[1] / (p * integral.descent[static_cast<size_t>(k)]), 1, bound) << law << " N = " << N << " A = " << A;
        }
      }
}

TEST(BinomialLoss, EndsAtTheFloorAndInTheLimit) {
  // F9, and attention to the query's own feature alone: 1/2 (1-1/K)^N (1 + 1/(K-1) + (1 - 1/(K-1)) / N).
  const auto task = convergence_task("features=20 prompt_length=400");
  const double want = 0.5 * std::pow(0.95, 400) * (1 + 1 / 19.0 + (1 - 1 / 19.0) / 400);
  EXPECT_NEAR(theory("binomial_loss", *task, {700, 0}, 2)[0] / want, 1, 1e-13);
  EXPECT_NEAR(theory("binomial_loss", *task, {5000, -5000}, 2)[0] / want, 1, 1e-13);
  EXPECT_NEAR(want, 6.48e-10, 1e-12);
  const auto none = convergence_task("features=2 prompt_length=5");  // own feature never attended to
  EXPECT_NEAR(theory("binomial_loss", *none, {-5000, 5000}, 2)[1], 0, 0);
  const auto length = convergence_task("features=20 prompt_length=1000000000");
  const double a = std::exp(3.0) / (std::exp(3.0) + 19), loss = 0.5 * (1 - a) * (1 - a) * 20 / 19;
  EXPECT_NEAR(theory("binomial_loss", *length, {3, 0}, 2)[0] / loss, 1, 1e-6);
}

}  // namespace
}  // namespace lamina::tests
