// The infimum of softmax attention for general classes of functions: no descent, from anywhere, ends below it.
#include "theory/feature_minimum.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/random.hpp"
#include "support/runs.hpp"
#include "theory/feature_floor.hpp"
#include "theory/feature_population.hpp"

namespace lamina::tests {
namespace {

// A class of functions whose values on K features are of `rank` normal factors, some 0, some twice the same, some in blocks.
struct Class {
  FeatureLaw law;
  std::string name;
};

Class random_class(uint64_t number) {
  Random random(number, Purpose::weights, 77);
  FeatureLaw law;
  const int64_t K = 3 + static_cast<int64_t>(number % 3);
  constexpr int64_t lengths[] = {2, 3, 10, 1000};
  law.features = law.dimension = K, law.length = lengths[number / 2 % 4], law.masked = number % 2 == 0;
  const int64_t rank = number % 3 == 0 ? K - 1 : static_cast<int64_t>(number % 3);
  std::vector<double> root(static_cast<size_t>(K * rank));
  for (double& x : root) x = random.normal();
  const auto value = [&](int64_t k, int64_t l) -> double& { return root[static_cast<size_t>(k * rank + l)]; };
  for (int64_t l = 0; l < rank; ++l) {
    if (number % 5 == 1) value(K - 1, l) = 0;
    if (number % 5 == 2) value(K - 1, l) = value(1, l);
    if (number % 5 == 3 && l > 0) value(0, l) = value(1, l) = 0;
  }
  double total = 0;
  for (int64_t k = 0; k < K; ++k) {
    law.probability.push_back(number % 4 < 2 ? 1 : 1 / static_cast<double>(k + 1));
    total += law.probability.back();
  }
  for (double& p : law.probability) p /= total;
  for (int64_t m = 0; m < K; ++m)
    for (int64_t n = 0; n < K; ++n) {
      double sum = 0;
      for (int64_t l = 0; l < rank; ++l) sum += value(m, l) * value(n, l);
      law.moments.push_back(sum);
    }
  return {law, "class " + std::to_string(number) + (law.masked ? "" : ", unmasked") + ", N = " + std::to_string(law.length)};
}

// The least loss met by descent with step sizes of Barzilai and Borwein from logits q, each step at most 2.
double descend(FeaturePopulation& population, int64_t query, std::vector<double> q, int steps) {
  ColumnValue value = population.column(query, q);
  double rate = 1 / (value.loss + 1e-300), least = value.loss;
  for (int step = 0; step < steps; ++step) {
    std::vector<double> next(q);
    for (size_t n = 0; n < q.size(); ++n) next[n] += std::clamp(rate * value.descent[n], -2.0, 2.0);
    ColumnValue there = population.column(query, next);
    double moved = 0, bent = 0;
    for (size_t n = 0; n < q.size(); ++n) {
      const double by = next[n] - q[n];
      moved += by * by, bent += by * (value.descent[n] - there.descent[n]);
    }
    rate = bent > 0 ? moved / bent : 4 * rate;
    q = std::move(next), value = std::move(there), least = std::min(least, value.loss);
  }
  return least;
}

TEST(FeatureMinimum, NoDescentEndsBelow) {
  int reached = 0, queries = 0;
  for (uint64_t number = 0; number < 24; ++number) {
    const auto [law, name] = random_class(number);
    FeaturePopulation population(law, kernels::Map::softmax, *kernels::select(nullptr)->f64, false);
    for (int64_t query = 0; query < law.features; query += 2) {
      const double infimum = infimum_of(law, kernels::Map::softmax, query);
      double least = std::numeric_limits<double>::infinity();
      for (uint64_t start = 0; start < 4; ++start) {
        Random random(start, Purpose::weights, number);
        std::vector<double> q(static_cast<size_t>(law.features), 0.0);
        for (double& x : q) x = (start == 0 ? 0 : start < 3 ? 1.5 : 6) * random.normal();
        if (law.masked) q[static_cast<size_t>(query)] = 60;  // with a copy of its own feature, all
        least = std::min(least, descend(population, query, q, 250));
      }
      EXPECT_GE(least, infimum * (1 - 1e-12)) << name << ", query " << query;
      ++queries, reached += least < infimum * (1 + 1e-3) + 1e-12;
    }
  }
  EXPECT_GT(reached, queries * 9 / 10) << "of " << queries;  // and it is no number that nothing comes near
}

TEST(FeatureMinimum, HasTheSameBitsOnEveryNumberOfThreads) {
  for (uint64_t number = 0; number < 8; ++number) {
    const auto [law, name] = random_class(number);
    const double alone = infimum_of(law, kernels::Map::softmax);
    for (const int threads : {2, 3}) EXPECT_EQ(infimum_of(law, kernels::Map::softmax, Team(threads)), alone) << name;
    double sum = 0;
    for (int64_t query = 0; query < law.features; ++query)
      sum += law.probability[static_cast<size_t>(query)] * infimum_of(law, kernels::Map::softmax, query);
    EXPECT_NEAR(alone, sum, 1e-12 * sum) << name;
  }
}

// The same of runs, of which the excess is what a user sees.
TEST(FeatureMinimum, ExcessOfLongRunsIsNotNegative) {
  int near = 0, runs = 0;
  for (uint64_t number = 0; number < 20; ++number) {
    const auto [law, name] = random_class(number);
    std::string moments, weights;
    const auto list = [](std::string& to, double x) { to += (to.empty() ? "" : ",") + number_text(x); };
    for (double entry : law.moments) list(moments, entry);
    for (double p : law.probability) list(weights, p);
    const std::string line = "features=" + std::to_string(law.features) + " prompt_length=" + std::to_string(law.length) +
                             " feature_weights=" + weights + " second_moments=" + moments + (law.masked ? "" : " mask=no");
    const Experiment run(line + " step_size=50 steps=800 record_every=800 probes=none", "in_context_convergence");
    EXPECT_GE(run.last("excess"), -1e-12 * run.at(0, "loss")) << name;
    ++runs, near += run.last("excess") < 0.01 * run.at(0, "excess");
  }
  EXPECT_GT(near, runs / 2) << "of " << runs;
}

// Second derivatives by differences of slopes, groups of several members and logits far apart among them.
TEST(FeatureMinimum, SecondDerivatives) {
  for (const bool masked : {true, false})
    for (const int64_t N : {1, 2, 3, 4, 9, 100})
      for (const double spread : {1.0, 6.0, 40.0}) {
        const int64_t groups = 5;
        Random random(static_cast<uint64_t>(N), Purpose::weights, masked);
        FeatureColumn column;
        column.length = N, column.masked = masked, column.probability = {0.1, 0.2, 0.1, 0.05, 0.4}, column.multiplicity = {1, 1, 2, 2, 1};
        column.own.assign(groups, 0.0), column.to_nothing.assign(groups, 0.0), column.between.assign(groups * groups, 0.0);
        std::vector<double> root(groups * 3), q(groups);
        for (double& x : root) x = random.normal();
        for (double& x : q) x = spread * random.normal();
        const auto product = [&](int64_t m, int64_t n) {  // of groups m and n, 0 being the query's value 0 or the vector towards it
          double sum = 0;
          for (int64_t l = 0; l < 3; ++l) sum += root[m * 3 + l] * root[n * 3 + l];
          return sum;
        };
        column.value = product(0, 0);
        for (int64_t m = 1; m < groups; ++m) {
          column.to_nothing[m] = product(m, 0), column.own[m] = product(m, m) * (column.multiplicity[m] > 1 ? 1.5 : 1);
          for (int64_t n = 1; n < groups; ++n) column.between[m * groups + n] = product(m, n);
        }
        ColumnIntegral integral(kernels::select(nullptr)->table<double>());
        ColumnValue value, up, down;
        std::vector<double> hessian;
        integral.evaluate(column, q, value, hessian);
        double largest = 0;
        for (double entry : hessian) largest = std::max(largest, std::abs(entry));
        for (int64_t m = 0; m < groups; ++m) {
          std::vector<double> higher(q), lower(q);
          higher[m] += 1e-4, lower[m] -= 1e-4;
          integral.evaluate(column, higher, false, up), integral.evaluate(column, lower, false, down);
          for (int64_t n = 0; n < groups; ++n) {
            const double want = column.multiplicity[n] * (down.descent[n] - up.descent[n]) / 2e-4;
            EXPECT_NEAR(hessian[m * groups + n], want, 1e-7 * largest + 1e-11 * value.loss)
                << "N = " << N << " spread " << spread << ": " << m << " " << n;
          }
        }
      }
}

}  // namespace
}  // namespace lamina::tests
