// Cyclic Jacobi: each rotation makes one pair of entries off the diagonal 0, and sweeps go on until all of them are negligible.
#include "task/symmetric.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace lamina {
namespace {

constexpr int most_sweeps = 60;  // convergence is quadratic; ten are usual

// Rows and columns p, q of A, and columns p, q of V, turned so that A_pq = 0.
void rotate(std::vector<double>& A, std::vector<double>& V, size_t n, size_t p, size_t q) {
  const double apq = A[p * n + q], theta = (A[q * n + q] - A[p * n + p]) / (2 * apq);
  const double t = (theta >= 0 ? 1 : -1) / (std::abs(theta) + std::sqrt(theta * theta + 1));
  const double c = 1 / std::sqrt(t * t + 1), s = t * c;
  for (size_t k = 0; k < n; ++k) {
    const double akp = A[k * n + p], akq = A[k * n + q];
    A[k * n + p] = c * akp - s * akq, A[k * n + q] = s * akp + c * akq;
  }
  for (size_t k = 0; k < n; ++k) {
    const double apk = A[p * n + k], aqk = A[q * n + k];
    A[p * n + k] = c * apk - s * aqk, A[q * n + k] = s * apk + c * aqk;
    const double vkp = V[k * n + p], vkq = V[k * n + q];
    V[k * n + p] = c * vkp - s * vkq, V[k * n + q] = s * vkp + c * vkq;
  }
  A[p * n + q] = A[q * n + p] = 0;
}

}  // namespace

Eigensystem eigensystem(std::span<const double> matrix, int64_t size) {
  const auto n = static_cast<size_t>(size);
  std::vector<double> A(matrix.begin(), matrix.end()), V(n * n, 0.0);
  for (size_t i = 0; i < n; ++i) V[i * n + i] = 1;
  bool turned = true;
  for (int sweep = 0; turned && sweep < most_sweeps; ++sweep) {
    turned = false;
    for (size_t p = 0; p < n; ++p)
      for (size_t q = p + 1; q < n; ++q) {
        if (std::abs(A[p * n + q]) <= 1e-17 * std::sqrt(std::abs(A[p * n + p])) * std::sqrt(std::abs(A[q * n + q])) || A[p * n + q] == 0) continue;
        rotate(A, V, n, p, q);
        turned = true;
      }
  }
  std::vector<size_t> order(n);
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(order, [&](size_t a, size_t b) { return A[a * n + a] > A[b * n + b]; });
  Eigensystem result{std::vector<double>(n), std::vector<double>(n * n)};
  for (size_t j = 0; j < n; ++j) {
    result.values[j] = A[order[j] * n + order[j]];
    for (size_t i = 0; i < n; ++i) result.basis[i * n + j] = V[i * n + order[j]];
  }
  return result;
}

}  // namespace lamina
