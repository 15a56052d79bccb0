// The exact population of linear regression in context: against samples, differences, matrix formulas and its own rotations.
#include "theory/regression_population.hpp"

#include <gtest/gtest.h>

#include "support/regression.hpp"

namespace lamina {
namespace {

using namespace tests;

// Parameters u, U of a random point that is no special one.
std::vector<double> random_parameters(size_t d, std::mt19937_64& random) {
  std::normal_distribution<double> normal;
  std::vector<double> x(1 + d * d);
  for (double& entry : x) entry = normal(random);
  return x;
}

std::string N_text(int N) { return "prompt_length=" + (N < 0 ? std::string("inf") : std::to_string(N)); }

TEST(RegressionPopulation, LossIsTheMatrixFormula) {
  // L = tr(1/2 u^2 Gamma Lambda U Lambda U^T - u Lambda^2 U^T) + 1/2 tr Lambda, dU = u^2 Gamma Lambda U Lambda - u Lambda^2.
  std::mt19937_64 random(1);
  for (int trial = 0; trial < 40; ++trial) {
    const size_t d = 1 + static_cast<size_t>(trial) % 7;
    const int N = trial % 5 == 4 ? -1 : 1 + 7 * trial;
    const Matrix L = rotated(spectrum(d, 30, random), random);
    const auto task = regression_task_of(regression_options(N_text(N), L, static_cast<int64_t>(d)));
    const std::vector<double> x = random_parameters(d, random);
    const double u = x[0];
    const Matrix U(x.begin() + 1, x.end()), G = gamma_of(L, d, N < 0 ? INFINITY : N);
    const Matrix GLUL = product(product(product(G, L, d), U, d), L, d), LL = product(L, L, d);
    double loss = 0, du = 0;
    Matrix dU(d * d);
    for (size_t i = 0; i < d; ++i)
      for (size_t j = 0; j < d; ++j) {
        const size_t at = i * d + j;
        loss += 0.5 * u * u * GLUL[at] * U[at] - u * LL[at] * U[at] + (i == j ? 0.5 * L[at] : 0);
        du += u * GLUL[at] * U[at] - LL[at] * U[at];
        dU[at] = u * u * GLUL[at] - u * LL[at];
      }
    EXPECT_NEAR(theory("regression_loss", *task, x, 1)[0], loss, 1e-12 * (1 + std::abs(loss))) << trial;
    const std::vector<double> gradient = theory("regression_gradient", *task, x, x.size());
    const double scale = 1e-12 * (1 + u * u) * 10;
    EXPECT_NEAR(gradient[0], du, scale) << trial;
    for (size_t at = 0; at < d * d; ++at) EXPECT_NEAR(gradient[1 + at], dU[at], scale) << trial << " " << at;
  }
}

TEST(RegressionPopulation, GradientIsTheDifferenceOfLosses) {
  std::mt19937_64 random(2);
  for (const std::string law : {"covariance_law=fixed", "covariance_law=exponential"})
    for (const size_t d : {1u, 2u, 5u}) {
      const Matrix L = rotated(spectrum(d, 30, random), random);
      const auto task = regression_task_of(regression_options(law + " prompt_length=13", L, static_cast<int64_t>(d)));
      const std::vector<double> x = random_parameters(d, random), gradient = theory("regression_gradient", *task, x, x.size());
      for (size_t i = 0; i < x.size(); ++i) {
        constexpr double h = 1e-4;
        const auto loss = [&](double step) {
          std::vector<double> moved = x;
          moved[i] += step;
          return theory("regression_loss", *task, moved, 1)[0];
        };
        // Of fourth order, and the loss is of degree four in u, U: exact but for rounding.
        const double difference = (8 * (loss(h) - loss(-h)) - (loss(2 * h) - loss(-2 * h))) / (12 * h);
        EXPECT_NEAR(gradient[i], difference, 1e-10 * (1 + std::abs(gradient[i]))) << law << " " << d << " " << i;
      }
    }
}

TEST(RegressionPopulation, SampledLossAndGradientAgreeInStandardErrors) {
  // 128 sets of 2048 prompts of the literal model's blocks, against the exact form.
  std::mt19937_64 random(3);
  for (const std::string law : {"covariance_law=fixed", "covariance_law=exponential"}) {
    constexpr size_t d = 4;
    const Matrix L = rotated(spectrum(d, 10, random), random);
    const Options options = regression_options(law + " prompt_length=9", L, d);
    const auto task = regression_task_of(options);
    const auto model = make_model(*task, Settings(model_options(), options, find_task("linear_regression").defaults));
    const std::vector<double> x = random_parameters(d, random);
    model->set_parameters(x);
    std::vector<double> exact = theory("regression_gradient", *task, x, x.size());
    exact.push_back(theory("regression_loss", *task, x, 1)[0]);
    std::vector<double> sum(exact.size()), squares(exact.size()), sample(exact.size());
    constexpr int sets = 128;
    const Team team(1);
    for (int set = 0; set < sets; ++set) {
      Prompts prompts;
      task->sample(Split::train, 7, set * 2048, 2048, prompts);
      sample.back() = model->loss_and_gradient(*model->compile(prompts, {}, team), team, sample.data(), false).loss;
      for (size_t i = 0; i < sample.size(); ++i) sum[i] += sample[i], squares[i] += sample[i] * sample[i];
    }
    for (size_t i = 0; i < sample.size(); ++i) {
      const double mean = sum[i] / sets, error = std::sqrt((squares[i] / sets - mean * mean) / (sets - 1));
      EXPECT_LT(std::abs(mean - exact[i]), 4 * error) << law << " " << i << ": " << mean << " " << exact[i];
      EXPECT_LT(error, 0.2 * (std::abs(exact[i]) + 1)) << "a test that could not fail";
    }
  }
}

TEST(RegressionPopulation, InfimumAndLimitAreStationaryAndLeast) {
  std::mt19937_64 random(4);
  for (const std::string law : {"covariance_law=fixed", "covariance_law=exponential"})
    for (const int N : {1, 20, -1}) {
      constexpr size_t d = 5;
      const Matrix L = rotated(spectrum(d, 30, random), random);
      const auto task = regression_task_of(regression_options(law + " " + N_text(N), L, d));
      const double least = theory("regression_optimum", *task, {}, 1)[0];
      const std::vector<double> start = random_parameters(d, random), limit = theory("limit_matrices", *task, start, start.size());
      EXPECT_NEAR(theory("regression_loss", *task, limit, 1)[0], least, 1e-13);
      EXPECT_NEAR(theory("conserved_quantity", *task, limit, 1)[0], theory("conserved_quantity", *task, start, 1)[0], 1e-11);
      EXPECT_EQ(std::signbit(limit[0]), std::signbit(start[0]));
      for (double g : theory("regression_gradient", *task, limit, limit.size())) EXPECT_NEAR(g, 0, 1e-11);
      for (int trial = 0; trial < 20; ++trial) EXPECT_GT(theory("regression_loss", *task, random_parameters(d, random), 1)[0], least);
      if (law == "covariance_law=fixed" && N > 0) {
        const Matrix LLG = product(product(L, L, d), inverse(gamma_of(L, d, N), d), d);
        double want = 0;
        for (size_t i = 0; i < d; ++i) want += 0.5 * (L[i * d + i] - LLG[i * d + i]);
        EXPECT_NEAR(least, want, 1e-13);
      }
    }
}

TEST(RegressionPopulation, ExcessKeepsItsRelativeAccuracyNearTheOptimum) {
  const auto task = regression_task_of(options_of("prompt_length=20"));
  const RegressionPopulation form(*task->regression(), 20, *kernels::select("reference")->f64);
  std::vector<double> x = form.limit(std::vector<double>(26, 0.5));
  const double u = x[0], g = 1.3;
  x[1] += 1e-9;  // one diagonal entry: excess = 1/2 g u^2 1e-18
  EXPECT_NEAR(form.loss_and_gradient(x, nullptr).excess, 0.5 * g * u * u * 1e-18, 1e-6 * 1e-18);
}

TEST(RegressionShifts, RisksAreTheMonteCarloOfTheSamePredictor) {
  // Random covariances of training, context and query that do not commute.
  std::mt19937_64 random(5);
  constexpr size_t d = 3;
  for (const int M : {2, 10, 40}) {
    const Matrix trained = rotated(spectrum(d, 30, random), random), other = rotated(spectrum(d, 5, random), random);
    const auto task = regression_task_of(regression_options("prompt_length=15", trained, d));
    const Matrix m = inverse(gamma_of(trained, d, 15), d);
    const std::vector<double> w{0.3, -1.2, 0.7};
    const auto arguments = [&](const std::vector<double>& rest) {
      std::vector<double> all{static_cast<double>(M)};
      all.insert(all.end(), rest.begin(), rest.end());
      return all;
    };
    const struct {
      const char* name;
      double exact;
      Mean sampled;
    } cases[] = {
        {"length", theory("risk_at_length", *task, {static_cast<double>(M)}, 1)[0], sampled_risk(m, trained, trained, {}, d, M, 100000, 11)},
        {"task", theory("task_shift_risk", *task, arguments(w), 1)[0], sampled_risk(m, trained, trained, w, d, M, 100000, 12)},
        {"query", theory("query_shift_risk", *task, arguments(other), 1)[0], sampled_risk(m, trained, other, {}, d, M, 100000, 13)},
        {"covariates", theory("covariate_shift_risk", *task, arguments(other), 1)[0], sampled_risk(m, other, other, {}, d, M, 100000, 14)},
    };
    for (const auto& c : cases) {
      EXPECT_LT(std::abs(c.sampled.value - c.exact), 3 * c.sampled.error) << c.name << " " << M << ": " << c.sampled.value << " " << c.exact;
      EXPECT_LT(c.sampled.error, 0.05 * c.exact) << "a test that could not fail";
    }
    EXPECT_NEAR(theory("query_shift_risk", *task, arguments(trained), 1)[0], cases[0].exact, 1e-12 * cases[0].exact);
    EXPECT_NEAR(theory("covariate_shift_risk", *task, arguments(trained), 1)[0], cases[0].exact, 1e-12 * cases[0].exact);
  }
}

TEST(RegressionForms, SayWhatTheyCannotEvaluate) {
  const auto task = regression_task_of(options_of("dimension=2"));
  const auto random = regression_task_of(options_of("dimension=2 covariance_law=exponential"));
  EXPECT_THROW(theory("regression_loss", *task, {1, 2, 3}, 1), Error);
  EXPECT_THROW(theory("regression_loss", *task, {INFINITY, 0, 0, 0, 0}, 1), Error);
  EXPECT_THROW(theory("risk_at_length", *task, {0.5}, 1), Error);
  EXPECT_THROW(theory("risk_at_length", *task, {2.5}, 1), Error);
  EXPECT_THROW(theory("task_shift_risk", *task, {5, 1}, 1), Error);
  EXPECT_THROW(theory("query_shift_risk", *task, {}, 1), Error);
  EXPECT_THROW(theory("query_shift_risk", *task, {5, 1}, 1), Error);
  EXPECT_THROW(theory("covariate_shift_risk", *task, {5, 1, 2, 3, 1}, 1), Error);
  EXPECT_THROW(theory("covariate_shift_risk", *random, {5, 1, 1}, 1), Error);
}

}  // namespace
}  // namespace lamina
