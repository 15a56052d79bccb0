// Least squares with one symmetric matrix and many right-hand sides, also over the non-negative numbers.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace lamina {

// min_g 1/2 g^T M g - b^T g for a positive definite M [size,size]; rows that are 0 with their column take g = 0.
class LeastSquares {
 public:
  LeastSquares(std::vector<double> M, int64_t size);

  // The minimum's g, unconstrained, refined once by its residual. O(size^2): the factor is made once.
  std::vector<double> solve(std::span<const double> b) const;
  // The same over g >= 0: the one g with M g - b >= 0 where g = 0 and M g = b elsewhere. Block principal pivoting (Judice and Pires
  // 1994; Kim and Park 2011): the set of positive entries is exchanged where signs are wrong, one entry at a time (Murty's rule,
  // which is finite) when that makes no progress. A few factors of O(size^3) each.
  std::vector<double> solve_nonnegative(std::span<const double> b) const;
  double objective(std::span<const double> g, std::span<const double> b) const;
  // b - M g, each entry as if summed in twice the precision and rounded once.
  std::vector<double> residual(std::span<const double> g, std::span<const double> b) const;
  // 1/2 x^T M x
  double square(std::span<const double> x) const;

 private:
  // The solution on some rows, of their factor L, 0 elsewhere.
  std::vector<double> refined(const std::vector<double>& L, const std::vector<int64_t>& rows, std::span<const double> b) const;

  int64_t size_;
  std::vector<double> M_;
  std::vector<int64_t> kept_;   // rows that are not 0
  std::vector<double> factor_;  // Cholesky's, of the kept rows
};

}  // namespace lamina
