// The task linear_regression: covariance of tokens, labels, streams, eigensystems, errors; how prompts cross.
#include <cmath>
#include <random>

#include "task/symmetric.hpp"
#include "task_test.hpp"

namespace lamina {
namespace {

TEST(LinearRegression, TokensHaveTheCovarianceAndLabelsAreLinear) {
  const std::vector<double> L{2, .6, -.3, .6, 1, .2, -.3, .2, .5};
  constexpr int64_t d = 3, count = 20000, positions = 11;
  const auto task = make_task("linear_regression", {{"dimension", 3.0}, {"covariance", L}, {"prompt_length", 10.0}});
  for (const Split split : {Split::train, Split::test}) {
    Prompts prompts;
    task->sample(split, 5, 0, count, prompts);
    ASSERT_EQ(prompts.length, positions);
    ASSERT_EQ(prompts.values.size(), static_cast<size_t>(count * positions * (d + 1)));
    double mean[9] = {}, labels = 0;
    for (int64_t i = 0; i < count; ++i) {
      const auto row = prompts.values_of(i);
      // w from d labels by elimination must give the others: y is one linear function of x.
      double A[3][4];
      for (int64_t n = 0; n < d; ++n)
        for (int64_t j = 0; j <= d; ++j) A[n][j] = row[static_cast<size_t>(n * (d + 1) + j)];
      const auto minor = [&](int a, int b, int c) {
        return A[0][a] * (A[1][b] * A[2][c] - A[1][c] * A[2][b]) - A[0][b] * (A[1][a] * A[2][c] - A[1][c] * A[2][a]) +
               A[0][c] * (A[1][a] * A[2][b] - A[1][b] * A[2][a]);
      };
      const double whole = minor(0, 1, 2), w[3] = {minor(3, 1, 2) / whole, minor(0, 3, 2) / whole, minor(0, 1, 3) / whole};
      for (int64_t n = d; n < positions && std::abs(whole) > 0.05; ++n) {
        const double* x = &row[static_cast<size_t>(n * (d + 1))];
        ASSERT_NEAR(x[d], w[0] * x[0] + w[1] * x[1] + w[2] * x[2], 1e-10 / std::abs(whole)) << i;
      }
      for (int64_t n = 0; n < positions; ++n) {
        const double* x = &row[static_cast<size_t>(n * (d + 1))];
        for (int64_t a = 0; a < d; ++a)
          for (int64_t b = 0; b < d; ++b) mean[a * d + b] += x[a] * x[b] / static_cast<double>(count * positions);
      }
      labels += row.back() * row.back() / static_cast<double>(count);
    }
    for (int64_t a = 0; a < d; ++a)
      for (int64_t b = 0; b < d; ++b)
        EXPECT_NEAR(mean[a * d + b], L[static_cast<size_t>(a * d + b)],
                    4 * std::sqrt((L[static_cast<size_t>(a * d + a)] * L[static_cast<size_t>(b * d + b)] * 2) / (count * positions)));
    EXPECT_NEAR(labels, 3.5, 4 * std::sqrt(8.0 * 3.5 * 3.5 / count));  // E y^2 = tr Lambda
  }
}

TEST(LinearRegression, ExponentialEigenvaluesAreEachPromptsOwn) {
  const auto task = make_task("linear_regression", {{"covariance", std::vector<double>{1, 3}}, {"prompt_length", 400.0}, {"covariance_law", "exponential"}});
  Prompts prompts;
  constexpr int64_t count = 4000;
  task->sample(Split::train, 1, 0, count, prompts);
  double first[2] = {}, second[2] = {};
  for (int64_t i = 0; i < count; ++i)
    for (size_t j = 0; j < 2; ++j) {
      double variance = 0;
      for (size_t n = 0; n <= 400; ++n) variance += std::pow(prompts.values_of(i)[3 * n + j], 2) / 401;
      first[j] += variance / count, second[j] += variance * variance / count;
    }
  // Mean l, second moment 2 l^2 (1 + 2/401).
  for (size_t j = 0; j < 2; ++j) {
    const double l = j == 0 ? 1 : 3;
    EXPECT_NEAR(first[j], l, 4 * l / std::sqrt(count)) << j;
    EXPECT_NEAR(second[j], 2 * l * l * (1 + 2.0 / 401), 4 * l * l * std::sqrt(20.0 / count)) << j;
  }
}

TEST(LinearRegression, APromptDependsOnSeedSplitAndItsNumberAlone) {
  const auto task = make_task("linear_regression", {{"dimension", 4.0}});
  Prompts whole, part, other;
  task->sample(Split::train, 3, 0, 50, whole);
  task->sample(Split::train, 3, 20, 10, part);
  for (int64_t i = 0; i < 10; ++i) EXPECT_TRUE(std::ranges::equal(part.values_of(i), whole.values_of(20 + i)));
  for (const auto& [split, seed] : {std::pair(Split::test, 3), std::pair(Split::train, 4)}) {
    task->sample(split, static_cast<uint64_t>(seed), 0, 50, other);
    EXPECT_NE(other.values, whole.values);
  }
}

TEST(LinearRegression, PromptsCrossAsXYAndComeBack) {
  const auto task = make_task("linear_regression", {{"dimension", 2.0}, {"prompt_length", 3.0}});
  const auto form = task->form();
  ASSERT_EQ(form->shape().length, 11);
  Prompts drawn;
  task->sample(Split::train, 1, 0, 5, drawn);
  std::vector<double> prompts(55), targets(10);
  form->give(drawn, prompts.data(), targets.data());
  Prompts taken = form->take(prompts.data(), 5, 11);
  form->take_targets(targets.data(), taken);
  EXPECT_EQ(taken.values, drawn.values);
  EXPECT_EQ(taken.length, 4);
  expect_error(error_of([&] { form->take(prompts.data(), 5, 10); }), LAMINA_E_ARGUMENT, {"length", "10"});
  expect_error(error_of([&] { form->take(prompts.data(), 5, 2); }), LAMINA_E_ARGUMENT, {"length"});
  prompts[7] = NAN;
  expect_error(error_of([&] { form->take(prompts.data(), 5, 11); }), LAMINA_E_ARGUMENT, {"finite"});
}

TEST(LinearRegression, SaysWhatCannotBe) {
  const auto made = [](const Set& set) { return error_of([&] { make_task("linear_regression", set); }); };
  expect_error(made({{"covariance", std::vector<double>{1, 2, 3}}, {"dimension", 2.0}}), LAMINA_E_OPTION, {"covariance", "3"});
  // Two by two, or four eigenvalues: only dimension tells.
  const std::vector<double> four{2, 1, 1, 2};
  expect_error(made({{"covariance", four}}), LAMINA_E_OPTION, {"covariance", "dimension=4 for eigenvalues", "dimension=2 for a matrix"});
  for (const double d : {2.0, 4.0}) EXPECT_EQ(make_task("linear_regression", {{"covariance", four}, {"dimension", d}})->regression()->dimension, d);
  expect_error(made({{"covariance", std::vector<double>{1, 0}}}), LAMINA_E_OPTION, {"covariance", "positive definite"});
  expect_error(made({{"covariance", std::vector<double>{1, 2, 2, 1}}, {"dimension", 2.0}}), LAMINA_E_OPTION, {"covariance", "positive definite"});
  expect_error(made({{"covariance", std::vector<double>{1, .5, .4, 1}}, {"dimension", 2.0}}), LAMINA_E_OPTION, {"covariance", "symmetric"});
  const auto endless = make_task("linear_regression", {{"prompt_length", INFINITY}});
  EXPECT_EQ(endless->positions(), -1);
  Prompts prompts;
  expect_error(error_of([&] { endless->sample(Split::train, 1, 0, 1, prompts); }), LAMINA_E_UNSUPPORTED, {"prompt_length is inf"});
  expect_error(error_of([&] { make_task("linear_regression", {})->sample(Split::unseen, 1, 0, 1, prompts); }), LAMINA_E_UNSUPPORTED, {"unseen"});
  expect_error(error_of([&] { endless->token_text(0); }), LAMINA_E_UNSUPPORTED, {"linear_regression"});
}

TEST(Eigensystem, RebuildsSymmetricMatricesAndIsOrthonormal) {
  std::mt19937_64 random(1);
  std::normal_distribution<double> normal;
  for (size_t n = 1; n <= 40; n += n < 8 ? 1 : 8)
    for (const double spread : {1.0, 1e-6}) {
      std::vector<double> A(n * n);
      for (size_t i = 0; i < n; ++i)
        for (size_t j = 0; j <= i; ++j) A[i * n + j] = A[j * n + i] = normal(random) * (i == j ? 1 : spread);
      const Eigensystem system = eigensystem(A, static_cast<int64_t>(n));
      for (size_t i = 0; i < n; ++i) {
        EXPECT_LE(system.values[i], system.values[i == 0 ? 0 : i - 1]);
        for (size_t j = 0; j < n; ++j) {
          double rebuilt = 0, product = 0;
          for (size_t k = 0; k < n; ++k) {
            rebuilt += system.basis[i * n + k] * system.values[k] * system.basis[j * n + k];
            product += system.basis[k * n + i] * system.basis[k * n + j];
          }
          EXPECT_NEAR(rebuilt, A[i * n + j], 1e-13 * std::sqrt(static_cast<double>(n)));
          EXPECT_NEAR(product, i == j ? 1 : 0, 1e-14 * static_cast<double>(n));
        }
      }
    }
  const Eigensystem zero = eigensystem(std::vector<double>(4, 0.0), 2);
  EXPECT_EQ(zero.values, std::vector<double>(2, 0.0));
}

}  // namespace
}  // namespace lamina
