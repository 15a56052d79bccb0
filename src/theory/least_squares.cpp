// Factors of principal submatrices, and the exchange of their index sets.
#include "theory/least_squares.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/cholesky.hpp"

namespace lamina {
namespace {

// Of rounding nothing is known here: what is not positive counts as 0.
std::vector<double> factor_of(const std::vector<double>& M, int64_t size, const std::vector<int64_t>& rows) {
  return cholesky(M, size, rows, 0, std::numeric_limits<double>::infinity()).factor;
}

// x with L L^T x = b at the given rows, 0 elsewhere.
std::vector<double> substitute(const std::vector<double>& L, const std::vector<int64_t>& rows, std::span<const double> b) {
  const size_t n = rows.size();
  std::vector<double> y(n), x(b.size());
  for (size_t i = 0; i < n; ++i) {
    y[i] = b[static_cast<size_t>(rows[i])];
    for (size_t l = 0; l < i; ++l) y[i] -= L[i * n + l] * y[l];
    y[i] = L[i * n + i] > 0 ? y[i] / L[i * n + i] : 0;
  }
  for (size_t i = n; i-- > 0;) {
    y[i] = L[i * n + i] > 0 ? y[i] / L[i * n + i] : 0;
    for (size_t l = 0; l < i; ++l) y[l] -= L[i * n + l] * y[i];
    x[static_cast<size_t>(rows[i])] = y[i];
  }
  return x;
}

double largest(std::span<const double> x) {
  double most = 0;
  for (double value : x) most = std::max(most, std::abs(value));
  return most;
}

}  // namespace

LeastSquares::LeastSquares(std::vector<double> M, int64_t size) : size_(size), M_(std::move(M)) {
  for (int64_t n = 0; n < size_; ++n)
    if (M_[static_cast<size_t>(n * size_ + n)] > 0) kept_.push_back(n);
  factor_ = factor_of(M_, size_, kept_);
}

std::vector<double> LeastSquares::refined(const std::vector<double>& L, const std::vector<int64_t>& rows, std::span<const double> b) const {
  std::vector<double> g = substitute(L, rows, b);
  const std::vector<double> more = substitute(L, rows, residual(g, b));
  for (size_t n = 0; n < g.size(); ++n) g[n] += more[n];
  return g;
}

std::vector<double> LeastSquares::solve(std::span<const double> b) const { return refined(factor_, kept_, b); }

std::vector<double> LeastSquares::solve_nonnegative(std::span<const double> b) const {
  std::vector<double> g = solve(b), y(g.size(), 0.0);
  std::vector<char> positive(g.size(), 0);
  for (int64_t n : kept_) positive[static_cast<size_t>(n)] = 1;
  // What rounding may leave of a 0; an entry or slope so small is worth its square.
  const double small_y = 1e-13 * largest(b);
  size_t fewest = kept_.size() + 1;
  int patience = 3;
  for (size_t turn = 0; turn < 20 * kept_.size() + 20; ++turn) {
    const double small_g = 1e-13 * largest(g);
    std::vector<int64_t> wrong;
    for (int64_t n : kept_) {
      const auto at = static_cast<size_t>(n);
      if (positive[at] ? g[at] < -small_g : y[at] < -small_y) wrong.push_back(n);
    }
    if (wrong.empty()) break;
    if (wrong.size() < fewest)
      fewest = wrong.size(), patience = 3;
    else if (patience > 0)
      --patience;
    else
      wrong = {wrong.back()};
    for (int64_t n : wrong) positive[static_cast<size_t>(n)] ^= 1;
    std::vector<int64_t> rows;
    for (int64_t n : kept_)
      if (positive[static_cast<size_t>(n)]) rows.push_back(n);
    g = refined(factor_of(M_, size_, rows), rows, b);
    for (int64_t n : kept_) {
      double slope = -b[static_cast<size_t>(n)];
      for (int64_t m : rows) slope += M_[static_cast<size_t>(n * size_ + m)] * g[static_cast<size_t>(m)];
      y[static_cast<size_t>(n)] = positive[static_cast<size_t>(n)] ? 0 : slope;
    }
  }
  for (double& entry : g) entry = std::max(entry, 0.0);
  return g;
}

// Dot products by error-free sums and products (Ogita, Rump and Oishi 2005, algorithm 5.3).
std::vector<double> LeastSquares::residual(std::span<const double> g, std::span<const double> b) const {
  std::vector<double> rest(b.size());
  for (int64_t m = 0; m < size_; ++m) {
    double sum = b[static_cast<size_t>(m)], low = 0;
    for (int64_t n = 0; n < size_; ++n) {
      const double factor = -M_[static_cast<size_t>(m * size_ + n)], x = g[static_cast<size_t>(n)], product = factor * x;
      const double next = sum + product, part = next - sum;
      low += ((sum - (next - part)) + (product - part)) + std::fma(factor, x, -product);
      sum = next;
    }
    rest[static_cast<size_t>(m)] = sum + low;
  }
  return rest;
}

double LeastSquares::square(std::span<const double> x) const {
  double sum = 0;
  for (int64_t m = 0; m < size_; ++m)
    for (int64_t n = 0; n < size_; ++n) sum += x[static_cast<size_t>(m)] * M_[static_cast<size_t>(m * size_ + n)] * x[static_cast<size_t>(n)];
  return 0.5 * sum;
}

double LeastSquares::objective(std::span<const double> g, std::span<const double> b) const {
  double value = 0;
  for (int64_t m = 0; m < size_; ++m) {
    double slope = 0;
    for (int64_t n = 0; n < size_; ++n) slope += M_[static_cast<size_t>(m * size_ + n)] * g[static_cast<size_t>(n)];
    value += g[static_cast<size_t>(m)] * (0.5 * slope - b[static_cast<size_t>(m)]);
  }
  return value;
}

}  // namespace lamina
