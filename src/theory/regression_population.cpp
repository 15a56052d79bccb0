// The moments of the eigenvalues, fixed or exponential, and everything that follows from them; formulas in the header.
#include "theory/regression_population.hpp"

#include <cmath>
#include <numeric>

#include "kernels/scalar_math.hpp"

namespace lamina {
namespace {

double sum_of_squares(std::span<const double> x) { return std::inner_product(x.begin(), x.end(), x.begin(), 0.0); }

}  // namespace

RegressionPopulation::RegressionPopulation(const RegressionLaw& law, int64_t length, const kernels::Table<double>& table)
    : d_(law.dimension), table_(&table), basis_(law.basis), transpose_(law.basis.size()) {
  const auto d = static_cast<size_t>(d_);
  for (size_t i = 0; i < d && !basis_.empty(); ++i)
    for (size_t j = 0; j < d; ++j) transpose_[j * d + i] = basis_[i * d + j];
  const std::vector<double>& l = law.eigenvalues;  // or their means
  const double s = std::accumulate(l.begin(), l.end(), 0.0), part = length < 0 ? 0 : 1 / static_cast<double>(length);
  A_.resize(d * d), optimum_.resize(d);
  for (size_t i = 0; i < d; ++i)
    for (size_t j = 0; j < d; ++j) {
      // E l_i^2 l_j and E s l_i l_j; moments k! mean^k of exponential numbers.
      double cubic = l[i] * l[i] * l[j], traced = s * l[i] * l[j];
      if (law.random) {
        traced = i == j ? 6 * cubic + 2 * l[i] * l[i] * (s - l[i]) : l[i] * l[j] * (s + l[i] + l[j]);
        cubic *= i == j ? 6 : 2;
      }
      A_[i * d + j] = cubic + part * (cubic + traced);
    }
  for (size_t i = 0; i < d; ++i) {
    const double Aii = A_[i * d + i], B = (law.random ? 2 : 1) * l[i] * l[i];
    optimum_[i] = B / Aii;
    // L* = 1/2 sum_i (C_i A_ii - B_i^2) / A_ii, where with one covariance l^4 cancels.
    infimum_ += 0.5 * (law.random ? l[i] * Aii - B * B : part * l[i] * l[i] * l[i] * (l[i] + s)) / Aii;
  }
}

std::vector<double> RegressionPopulation::turned(std::span<const double> M, bool to) const {
  std::vector<double> out(M.begin(), M.end()), half(M.size());
  if (basis_.empty()) return out;
  const double* V = (to ? basis_ : transpose_).data();
  const double* Vt = (to ? transpose_ : basis_).data();
  table_->gemm(d_, d_, d_, Vt, d_, 1, M.data(), d_, half.data(), d_, false);
  table_->gemm(d_, d_, d_, half.data(), d_, 1, V, d_, out.data(), d_, false);
  return out;
}

RegressionPopulation::Value RegressionPopulation::loss_and_gradient(std::span<const double> parameters, double* gradient) const {
  const double u = parameters[0];
  const std::vector<double> U = to_basis(parameters.subspan(1));
  std::vector<double> slope(U.size());
  const auto d = static_cast<size_t>(d_);
  double excess = 0, along = 0;
  for (size_t i = 0; i < d; ++i)
    for (size_t j = 0; j < d; ++j) {
      const size_t at = i * d + j;
      const double error = u * U[at] - (i == j ? optimum_[i] : 0);
      slope[at] = A_[at] * error;
      excess += 0.5 * slope[at] * error;
      along += slope[at] * U[at];
      slope[at] *= u;
    }
  if (gradient) {
    gradient[0] = along;
    slope = from_basis(slope);
    std::copy(slope.begin(), slope.end(), gradient + 1);
  }
  return {infimum_ + excess, excess};
}

double RegressionPopulation::optimum_norm() const { return std::sqrt(sum_of_squares(optimum_)); }

std::vector<double> RegressionPopulation::limit(std::span<const double> parameters) const {
  const double c = conserved_quantity(parameters), norm = optimum_norm(), root = std::sqrt(c * c + 4 * norm * norm);
  // The larger root without cancellation.
  const double square = c >= 0 ? 0.5 * (c + root) : 2 * norm * norm / (root - c);
  const double u = std::copysign(std::sqrt(square), parameters[0]);
  std::vector<double> U(parameters.size() - 1);
  for (size_t i = 0; i < optimum_.size(); ++i) U[i * optimum_.size() + i] = optimum_[i] / u;
  std::vector<double> out{u};
  U = from_basis(U);
  out.insert(out.end(), U.begin(), U.end());
  return out;
}

double conserved_quantity(std::span<const double> parameters) {
  return parameters[0] * parameters[0] - sum_of_squares(parameters.subspan(1));
}

bool is_isotropic(const RegressionLaw& law) {
  for (double l : law.eigenvalues)
    if (l != law.eigenvalues[0]) return false;
  return !law.random;
}

double isotropic_excess(const RegressionLaw& law, double start, double time) {
  const double d = static_cast<double>(law.dimension), l = law.eigenvalues[0];
  const double g = l + (law.length < 0 ? 0 : (l + d * l) / static_cast<double>(law.length));
  const double odds = (1 / (g * start) - 1) * kernels::exp(-2 * std::sqrt(d) * l * l * time);  // 1 / (g m) - 1
  const double error = odds / (g * (1 + odds));                                                // 1/g - m
  return 0.5 * d * g * l * l * error * error;
}

double shifted_risk(int64_t size, std::span<const double> m, std::span<const double> context, std::span<const double> query,
                    std::span<const double> task, double M) {
  const auto d = static_cast<size_t>(size);
  const auto times = [&](std::span<const double> a, std::span<const double> b, bool transposed = false) {
    std::vector<double> c(d * d, 0.0);
    for (size_t i = 0; i < d; ++i)
      for (size_t k = 0; k < d; ++k)
        for (size_t j = 0; j < d; ++j) c[i * d + j] += a[i * d + k] * (transposed ? b[j * d + k] : b[k * d + j]);
    return c;
  };
  const std::vector<double> context_m_query = times(times(context, m), query);
  const std::vector<double> B = times(times(m, query), m, true), context_B = times(context, B), square = times(context_B, context);
  double trace = 0, risk = 0;
  for (size_t i = 0; i < d; ++i) trace += context_B[i * d + i];
  for (size_t i = 0; i < d; ++i)
    for (size_t j = 0; j < d; ++j) {
      const double weight = task.empty() ? (i == j ? 1.0 : 0.0) : task[i * d + j];
      const size_t at = i * d + j;
      risk += weight * (square[at] * (1 + 1 / M) + context[at] * trace / M - 2 * context_m_query[at] + query[at]);
    }
  return risk;
}

}  // namespace lamina
