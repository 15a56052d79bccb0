// The exact population of linear attention with every entry of W_PV and W_KQ: against quadrature that is exact for its polynomials,
// samples, differences, and the blocks u, U.
#include <gtest/gtest.h>

#include "support/regression.hpp"
#include "theory/regression_population.hpp"

namespace lamina {
namespace {

using namespace tests;

std::vector<double> random_weights(size_t d, std::mt19937_64& random) {
  std::normal_distribution<double> normal;
  std::vector<double> x(2 * (d + 1) * (d + 1));
  for (double& entry : x) entry = normal(random);
  return x;
}

std::shared_ptr<const Task> task_for(const std::string& law, int N, const Matrix& covariance, size_t d) {
  const std::string length = N < 0 ? "inf" : std::to_string(N);
  return regression_task_of(regression_options("covariance_law=" + law + " prompt_length=" + length, covariance, static_cast<int64_t>(d)));
}

std::unique_ptr<Model> literal_model(const Task& task) {
  return make_model(task, Settings(model_options(), options_of("variant=original"), find_task("linear_regression").defaults));
}

// u, U among W_PV and W_KQ, 0 elsewhere.
std::vector<double> in_blocks(const std::vector<double>& x, size_t d) {
  const size_t D = d + 1;
  std::vector<double> all(2 * D * D);
  all[D * D - 1] = x[0];
  for (size_t i = 0; i < d; ++i) std::copy_n(&x[1 + i * d], d, &all[D * D + i * D]);
  return all;
}

// Loss and gradient of the sampled model, the last entry the loss, over all prompts of which every Gaussian number is one of the four nodes
// of Gauss and Hermite (exact to degree 7: the squared error is of degree 6 in a number at most), and every factor of an eigenvalue, where
// it is exponential, one of the two of Gauss and Laguerre (exact to degree 3, as is needed).
std::vector<double> by_quadrature(const Task& task, const std::vector<double>& x, size_t N) {
  const RegressionLaw& law = *task.regression();
  const auto d = static_cast<size_t>(law.dimension), numbers = d * (N + 2), factors = law.random ? d : 0;
  const double far = std::sqrt(3 + std::sqrt(6)), near = std::sqrt(3 - std::sqrt(6)), node[4] = {far, near, -near, -far};
  const double mass[4] = {(3 - std::sqrt(6)) / 12, (3 + std::sqrt(6)) / 12, (3 + std::sqrt(6)) / 12, (3 - std::sqrt(6)) / 12};
  const double factor[2] = {2 - std::sqrt(2), 2 + std::sqrt(2)}, factor_mass[2] = {(2 + std::sqrt(2)) / 4, (2 - std::sqrt(2)) / 4};
  const auto count = size_t{1} << (2 * numbers + factors);
  Prompts prompts;
  prompts.resize(static_cast<int64_t>(count), static_cast<int64_t>(N) + 1);
  std::vector<double> weights(count, 1.0), z(numbers), root(d);
  for (size_t code = 0; code < count; ++code) {
    size_t rest = code;
    for (double& entry : z) entry = node[rest % 4], weights[code] *= mass[rest % 4], rest /= 4;
    for (size_t i = 0; i < d; ++i) {
      root[i] = std::sqrt(law.eigenvalues[i] * (law.random ? factor[rest % 2] : 1));
      if (law.random) weights[code] *= factor_mass[rest % 2], rest /= 2;
    }
    for (size_t n = 0; n <= N; ++n) {
      double y = 0;
      for (size_t i = 0; i < d; ++i) {
        double entry = 0;
        for (size_t j = 0; j < d; ++j) {
          const double turn = law.basis.empty() ? (i == j ? 1 : 0) : law.basis[i * d + j];
          entry += turn * root[j] * z[(n + 1) * d + j];
        }
        prompts.values.push_back(entry);
        y += z[i] * entry;
      }
      prompts.values.push_back(y);
    }
  }
  const auto model = literal_model(task);
  model->set_parameters(x);
  const Team team(1);
  std::vector<double> out(x.size() + 1);
  out.back() = model->loss_and_gradient(*model->compile(prompts, weights, team), team, out.data(), false).loss;
  return out;
}

std::vector<double> exact(const Task& task, const std::vector<double>& x) {
  std::vector<double> out = theory("regression_gradient", task, x, x.size());
  out.push_back(theory("regression_loss", task, x, 1)[0]);
  return out;
}

TEST(RegressionLiteral, LossAndGradientAreThoseOfAnExactQuadrature) {
  std::mt19937_64 random(21);
  const struct {
    const char* law;
    size_t d, N;
  } cases[] = {{"fixed", 1, 1}, {"fixed", 1, 4}, {"fixed", 2, 1}, {"fixed", 2, 2}, {"fixed", 3, 1},
               {"exponential", 1, 1}, {"exponential", 1, 3}, {"exponential", 2, 1}, {"exponential", 2, 2}, {"exponential", 3, 1}};
  for (const auto& c : cases) {
    const auto task = task_for(c.law, static_cast<int>(c.N), c.d == 1 ? Matrix{0.7} : rotated(spectrum(c.d, 5, random), random), c.d);
    const std::vector<double> x = random_weights(c.d, random), got = exact(*task, x), want = by_quadrature(*task, x, c.N);
    double scale = 0, most = 0;
    for (double entry : want) scale = std::max(scale, std::abs(entry));
    for (size_t i = 0; i < want.size(); ++i) {
      most = std::max(most, std::abs(got[i] - want[i]) / scale);
      EXPECT_NEAR(got[i], want[i], 1e-12 * scale) << c.law << " " << c.d << " " << c.N << " " << i;
    }
    std::printf("%s, d = %zu, N = %zu: largest relative difference %.1e\n", c.law, c.d, c.N, most);
  }
}

TEST(RegressionLiteral, SampledLossAndGradientAgreeInStandardErrors) {
  std::mt19937_64 random(22);
  for (const char* law : {"fixed", "exponential"}) {
    constexpr size_t d = 4;
    const auto task = task_for(law, 9, rotated(spectrum(d, 10, random), random), d);
    std::vector<double> x = random_weights(d, random);
    for (double& entry : x) entry *= 0.5;
    const std::vector<double> want = exact(*task, x);
    const auto model = literal_model(*task);
    model->set_parameters(x);
    std::vector<double> sum(want.size()), squares(want.size()), sample(want.size());
    constexpr int sets = 128;
    const Team team(1);
    double largest = 0;
    for (int set = 0; set < sets; ++set) {
      Prompts prompts;
      task->sample(Split::train, 5, set * 2048, 2048, prompts);
      sample.back() = model->loss_and_gradient(*model->compile(prompts, {}, team), team, sample.data(), false).loss;
      for (size_t i = 0; i < sample.size(); ++i) sum[i] += sample[i], squares[i] += sample[i] * sample[i];
    }
    for (size_t i = 0; i < sample.size(); ++i) {
      const double mean = sum[i] / sets, error = std::sqrt(std::max(0.0, squares[i] / sets - mean * mean) / (sets - 1));
      if (error > 0) largest = std::max(largest, std::abs(mean - want[i]) / error);
      EXPECT_LE(std::abs(mean - want[i]), 4 * error) << law << " " << i << ": " << mean << " " << want[i];
      EXPECT_LT(error, 0.2 * (std::abs(want[i]) + 1)) << "a test that could not fail";
    }
    std::printf("%s: largest |z| of %zu numbers %.2f\n", law, want.size(), largest);
  }
}

TEST(RegressionLiteral, GradientIsTheDifferenceOfLosses) {
  // The loss is of degree two in each entry: the central difference of step 1 is exact but for rounding.
  std::mt19937_64 random(23);
  for (const char* law : {"fixed", "exponential"})
    for (const int N : {3, 40, -1})
      for (const size_t d : {1u, 2u, 7u}) {
        const auto task = task_for(law, N, d == 1 ? Matrix{1.4} : rotated(spectrum(d, 30, random), random), d);
        const std::vector<double> x = random_weights(d, random), gradient = theory("regression_gradient", *task, x, x.size());
        const double scale = 1 + theory("regression_loss", *task, x, 1)[0];
        for (size_t i = 0; i < x.size(); ++i) {
          std::vector<double> above = x, below = x;
          above[i] += 1, below[i] -= 1;
          const double difference = 0.5 * (theory("regression_loss", *task, above, 1)[0] - theory("regression_loss", *task, below, 1)[0]);
          EXPECT_NEAR(gradient[i], difference, 1e-12 * scale) << law << " " << N << " " << d << " " << i;
        }
      }
}

TEST(RegressionLiteral, OnTheBlocksItIsTheirLossAndNothingLeavesThem) {
  std::mt19937_64 random(24);
  std::normal_distribution<double> normal;
  for (const char* law : {"fixed", "exponential"})
    for (const int N : {1, 20, -1}) {
      constexpr size_t d = 5;
      const auto task = task_for(law, N, rotated(spectrum(d, 30, random), random), d);
      std::vector<double> x(1 + d * d);
      for (double& entry : x) entry = normal(random);
      const std::vector<double> all = in_blocks(x, d), want = theory("regression_gradient", *task, x, x.size()),
                                got = theory("regression_gradient", *task, all, all.size()), embedded = in_blocks(want, d);
      const double loss = theory("regression_loss", *task, x, 1)[0];
      EXPECT_NEAR(theory("regression_loss", *task, all, 1)[0], loss, 1e-13 * loss);
      double scale = 0;
      for (double entry : want) scale = std::max(scale, std::abs(entry));
      for (size_t i = 0; i < all.size(); ++i) EXPECT_NEAR(got[i], embedded[i], all[i] == 0 ? 0 : 1e-13 * scale) << i;
    }
}

TEST(RegressionLiteral, NoWeightsAreBetterThanTheBlocks) {
  std::mt19937_64 random(25);
  for (const char* law : {"fixed", "exponential"}) {
    constexpr size_t d = 9;  // the weights of the means change sign at 6
    const auto task = task_for(law, 3, rotated(spectrum(d, 30, random), random), d);
    const double least = theory("regression_optimum", *task, {}, 1)[0];
    const std::vector<double> limit = in_blocks(theory("limit_matrices", *task, std::vector<double>(1 + d * d, 0.5), 1 + d * d), d);
    for (const double size : {1e-3, 0.1, 1.0, 10.0})
      for (int trial = 0; trial < 50; ++trial) {
        std::vector<double> x = random_weights(d, random);
        for (size_t i = 0; i < x.size(); ++i) x[i] = limit[i] + size * x[i];
        EXPECT_GT(theory("regression_loss", *task, x, 1)[0], least) << law << " " << size;
      }
  }
}

TEST(RegressionLiteral, ExcessKeepsItsRelativeAccuracyOffTheBlocks) {
  // At the optimum but for a, N infinite: 1/2 |Lambda^(1/2) U^T Lambda a|^2 with u U = Lambda^-1, that is 1/2 sum_i l_i a_i^2 / u^2.
  const auto task = task_for("fixed", -1, {1, 0.5, 0.25}, 3);
  const RegressionPopulation form(*task->regression(), -1, *kernels::select("reference")->f64);
  const std::vector<double> limit = form.limit(std::vector<double>(10, 0.5));
  std::vector<double> x = in_blocks(limit, 3);
  x[12] = 3e-9, x[13] = -1e-9, x[14] = 2e-9;
  const double want = 0.5 * (9 + 0.5 + 1) * 1e-18 / (limit[0] * limit[0]);
  EXPECT_NEAR(form.literal_loss_and_gradient(x, nullptr).excess, want, 1e-12 * want);
}

TEST(RegressionLiteral, SaysHowManyNumbersItTakes) {
  const auto task = task_for("fixed", 5, {}, 2);
  try {
    theory("regression_loss", *task, std::vector<double>(17, 0.0), 1);
    FAIL();
  } catch (const Error& error) {
    const std::string said = error.what();
    EXPECT_NE(said.find("5: u and the entries of U, or 18: those of W_PV and of W_KQ"), std::string::npos) << said;
  }
  EXPECT_THROW(theory("regression_gradient", *task, std::vector<double>(18, INFINITY), 18), Error);
}

}  // namespace
}  // namespace lamina
