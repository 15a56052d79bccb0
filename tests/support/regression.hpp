// Linear regression in context for tests: random covariances, and prompts drawn by code that shares nothing with the engine's.
#pragma once
#include <cmath>
#include <random>
#include <vector>

#include "support/runs.hpp"
#include "theory/theory.hpp"

namespace lamina::tests {

using Matrix = std::vector<double>;  // [d,d] by rows

inline Matrix product(const Matrix& a, const Matrix& b, size_t d) {
  Matrix c(d * d, 0.0);
  for (size_t i = 0; i < d; ++i)
    for (size_t k = 0; k < d; ++k)
      for (size_t j = 0; j < d; ++j) c[i * d + j] += a[i * d + k] * b[k * d + j];
  return c;
}
inline Matrix transposed(const Matrix& a, size_t d) {
  Matrix c(d * d);
  for (size_t i = 0; i < d; ++i)
    for (size_t j = 0; j < d; ++j) c[j * d + i] = a[i * d + j];
  return c;
}
inline Matrix diagonal(const std::vector<double>& values) {
  const size_t d = values.size();
  Matrix c(d * d, 0.0);
  for (size_t i = 0; i < d; ++i) c[i * d + i] = values[i];
  return c;
}

// By Gauss and Jordan with pivots.
inline Matrix inverse(Matrix a, size_t d) {
  Matrix b = diagonal(std::vector<double>(d, 1.0));
  for (size_t k = 0; k < d; ++k) {
    size_t pivot = k;
    for (size_t i = k; i < d; ++i)
      if (std::abs(a[i * d + k]) > std::abs(a[pivot * d + k])) pivot = i;
    for (size_t j = 0; j < d; ++j) std::swap(a[k * d + j], a[pivot * d + j]), std::swap(b[k * d + j], b[pivot * d + j]);
    const double scale = a[k * d + k];
    for (size_t j = 0; j < d; ++j) a[k * d + j] /= scale, b[k * d + j] /= scale;
    for (size_t i = 0; i < d; ++i) {
      const double factor = a[i * d + k];
      if (i == k || factor == 0) continue;
      for (size_t j = 0; j < d; ++j) a[i * d + j] -= factor * a[k * d + j], b[i * d + j] -= factor * b[k * d + j];
    }
  }
  return b;
}

// R diag(eigenvalues) R^T, exactly symmetric, for a random rotation R.
inline Matrix rotated(const std::vector<double>& eigenvalues, std::mt19937_64& random) {
  const size_t d = eigenvalues.size();
  std::normal_distribution<double> normal;
  Matrix R(d * d);
  for (double& r : R) r = normal(random);
  for (size_t i = 0; i < d; ++i) {  // rows made orthonormal, twice against rounding
    for (int pass = 0; pass < 2; ++pass)
      for (size_t k = 0; k < i; ++k) {
        double along = 0;
        for (size_t j = 0; j < d; ++j) along += R[i * d + j] * R[k * d + j];
        for (size_t j = 0; j < d; ++j) R[i * d + j] -= along * R[k * d + j];
      }
    double norm = 0;
    for (size_t j = 0; j < d; ++j) norm += R[i * d + j] * R[i * d + j];
    for (size_t j = 0; j < d; ++j) R[i * d + j] /= std::sqrt(norm);
  }
  Matrix C = product(product(transposed(R, d), diagonal(eigenvalues), d), R, d);
  for (size_t i = 0; i < d; ++i)
    for (size_t j = 0; j < i; ++j) C[i * d + j] = C[j * d + i];
  return C;
}

// Eigenvalues from 1/condition to 1, both taken, the others between.
inline std::vector<double> spectrum(size_t d, double condition, std::mt19937_64& random) {
  std::uniform_real_distribution<double> uniform;
  std::vector<double> values{1};
  for (size_t i = 2; i < d; ++i) values.push_back(std::pow(condition, -uniform(random)));
  if (d > 1) values.push_back(1 / condition);
  return values;
}

inline Options regression_options(const std::string& line, const std::vector<double>& covariance, int64_t dimension) {
  Options options = options_of(line);
  if (!covariance.empty()) options.set("covariance", covariance);
  options.set("dimension", static_cast<double>(dimension));
  return options;
}
inline std::shared_ptr<const Task> regression_task_of(const Options& options) {
  const TaskRow& row = find_task("linear_regression");
  return row.create(Settings(row.options, options));
}
inline std::unique_ptr<Trainer> regression_trainer(const Options& options) {
  return std::make_unique<Trainer>(regression_task_of(options), nullptr, options);
}

inline std::vector<double> theory(const std::string& name, const Task& task, const std::vector<double>& arguments, size_t results) {
  std::vector<double> out(results);
  find_theory(name).evaluate(&task, arguments, out);
  return out;
}

// Gamma = (1 + 1/N) Lambda + tr(Lambda) / N
inline Matrix gamma_of(const Matrix& covariance, size_t d, double N) {
  double trace = 0;
  for (size_t i = 0; i < d; ++i) trace += covariance[i * d + i];
  Matrix g = covariance;
  for (double& entry : g) entry *= 1 + 1 / N;
  for (size_t i = 0; i < d; ++i) g[i * d + i] += trace / N;
  return g;
}

struct Mean {
  double value, error;  // and its standard error
};

// Monte Carlo of E(yhat - y)^2 for yhat = h^T m x_q: x_n ~ N(0, context), x_q ~ N(0, query), w ~ N(0, I) or fixed.
inline Mean sampled_risk(const Matrix& m, const Matrix& context, const Matrix& query, const std::vector<double>& fixed, size_t d, int M,
                         int prompts, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal;
  const auto root = [&](const Matrix& C) {  // Cholesky
    Matrix L(d * d, 0.0);
    for (size_t j = 0; j < d; ++j)
      for (size_t i = j; i < d; ++i) {
        double rest = C[i * d + j];
        for (size_t k = 0; k < j; ++k) rest -= L[i * d + k] * L[j * d + k];
        L[i * d + j] = i == j ? std::sqrt(rest) : rest / L[j * d + j];
      }
    return L;
  };
  const Matrix context_root = root(context), query_root = root(query);
  std::vector<double> x(d), z(d), h(d), w(d);
  const auto draw = [&](const Matrix& L) {
    for (double& entry : z) entry = normal(random);
    for (size_t i = 0; i < d; ++i) {
      x[i] = 0;
      for (size_t j = 0; j <= i; ++j) x[i] += L[i * d + j] * z[j];
    }
  };
  double sum = 0, squares = 0;
  for (int prompt = 0; prompt < prompts; ++prompt) {
    for (size_t i = 0; i < d; ++i) w[i] = fixed.empty() ? normal(random) : fixed[i], h[i] = 0;
    for (int n = 0; n < M; ++n) {
      draw(context_root);
      double y = 0;
      for (size_t i = 0; i < d; ++i) y += w[i] * x[i];
      for (size_t i = 0; i < d; ++i) h[i] += y * x[i] / M;
    }
    draw(query_root);
    double error = 0;
    for (size_t i = 0; i < d; ++i) {
      error -= w[i] * x[i];
      for (size_t j = 0; j < d; ++j) error += h[i] * m[i * d + j] * x[j];
    }
    sum += error * error, squares += error * error * error * error;
  }
  const double mean = sum / prompts;
  return {mean, std::sqrt((squares / prompts - mean * mean) / prompts)};
}

}  // namespace lamina::tests
