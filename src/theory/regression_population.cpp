// The moments of the eigenvalues, fixed or exponential, and everything that follows from them; formulas in the header.
#include "theory/regression_population.hpp"

#include <cmath>
#include <numeric>

#include "kernels/scalar_math.hpp"

namespace lamina {
namespace {

double dot(std::span<const double> x, std::span<const double> y) { return std::inner_product(x.begin(), x.end(), y.begin(), 0.0); }
double sum_of_squares(std::span<const double> x) { return dot(x, x); }

// The remainder where l_i = m_i times independent numbers of Exp(1). It is a cubic form sum_ijk l_i l_j l_k c_ijk whose distinct, paired
// and equal indices weigh 1, 2 and 6 in the mean; with R_I the form of the coordinates I alone, at m, that is
//   R + sum_{i<j} R_ij + (6 - d) sum_i R_i.
double mean_remainder(std::span<const double> m, double n, const AttentionWeights& at, AttentionWeights* slopes) {
  const size_t d = m.size();
  double R = regression_remainder(m, n, at, 1, slopes);
  const auto add = [&](std::initializer_list<size_t> chosen, double weight) {
    AttentionWeights part(chosen.size()), slope(chosen.size());
    std::vector<double> l(chosen.size());
    size_t i = 0;
    for (size_t row : chosen) {
      l[i] = m[row], part.a[i] = at.a[row], part.v[i] = at.v[row];
      size_t j = 0;
      for (size_t column : chosen) part.U[i * chosen.size() + j++] = at.U[row * d + column];
      ++i;
    }
    part.b = at.b;
    R += weight * regression_remainder(l, n, part, weight, slopes ? &slope : nullptr);
    if (!slopes) return;
    slopes->b += slope.b;
    i = 0;
    for (size_t row : chosen) {
      slopes->a[row] += slope.a[i], slopes->v[row] += slope.v[i];
      size_t j = 0;
      for (size_t column : chosen) slopes->U[row * d + column] += slope.U[i * chosen.size() + j++];
      ++i;
    }
  };
  for (size_t i = 0; i < d; ++i) {
    add({i}, 6 - static_cast<double>(d));
    for (size_t j = 0; j < i; ++j) add({j, i}, 1);
  }
  return R;
}

}  // namespace

RegressionPopulation::RegressionPopulation(const RegressionLaw& law, int64_t length, const kernels::Table<double>& table)
    : d_(law.dimension), table_(&table), part_(length < 0 ? 0 : 1 / static_cast<double>(length)), random_(law.random),
      eigenvalues_(law.eigenvalues), basis_(law.basis), transpose_(law.basis.size()) {
  const auto d = static_cast<size_t>(d_);
  for (size_t i = 0; i < d && !basis_.empty(); ++i)
    for (size_t j = 0; j < d; ++j) transpose_[j * d + i] = basis_[i * d + j];
  const std::vector<double>& l = eigenvalues_;  // or their means
  const double s = std::accumulate(l.begin(), l.end(), 0.0);
  A_.resize(d * d), optimum_.resize(d);
  for (size_t i = 0; i < d; ++i)
    for (size_t j = 0; j < d; ++j) {
      // E l_i^2 l_j and E s l_i l_j; moments k! mean^k of exponential numbers.
      double cubic = l[i] * l[i] * l[j], traced = s * l[i] * l[j];
      if (law.random) {
        traced = i == j ? 6 * cubic + 2 * l[i] * l[i] * (s - l[i]) : l[i] * l[j] * (s + l[i] + l[j]);
        cubic *= i == j ? 6 : 2;
      }
      A_[i * d + j] = cubic + part_ * (cubic + traced);
    }
  for (size_t i = 0; i < d; ++i) {
    const double Aii = A_[i * d + i], B = (law.random ? 2 : 1) * l[i] * l[i];
    optimum_[i] = B / Aii;
    // L* = 1/2 sum_i (C_i A_ii - B_i^2) / A_ii, where with one covariance l^4 cancels.
    infimum_ += 0.5 * (law.random ? l[i] * Aii - B * B : part_ * l[i] * l[i] * l[i] * (l[i] + s)) / Aii;
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

std::vector<double> RegressionPopulation::turned_vector(std::span<const double> x, bool to) const {
  std::vector<double> out(x.begin(), x.end());
  if (basis_.empty()) return out;
  const std::span<const double> rows = to ? transpose_ : basis_;
  for (size_t i = 0; i < x.size(); ++i) out[i] = dot(rows.subspan(i * x.size(), x.size()), x);
  return out;
}

RegressionPopulation::Value RegressionPopulation::literal_loss_and_gradient(std::span<const double> parameters, double* gradient) const {
  const auto d = static_cast<size_t>(d_), D = d + 1;
  const std::span<const double> row = parameters.subspan(d * D, D), keys = parameters.subspan(D * D);
  AttentionWeights at(d), slopes(d);
  at.a = turned_vector(row.first(d), true), at.b = row[d], at.v = turned_vector(keys.subspan(d * D, d), true);
  for (size_t i = 0; i < d; ++i) std::copy_n(&keys[i * D], d, &at.U[i * d]);
  at.U = to_basis(at.U);
  double excess = 0;
  for (size_t i = 0; i < d; ++i)
    for (size_t j = 0; j < d; ++j) {
      const double U = at.U[i * d + j], error = at.b * U + at.a[i] * at.v[j] - (i == j ? optimum_[i] : 0), slope = A_[i * d + j] * error;
      excess += 0.5 * slope * error;
      slopes.b += slope * U, slopes.a[i] += slope * at.v[j], slopes.v[j] += slope * at.a[i], slopes.U[i * d + j] = slope * at.b;
    }
  AttentionWeights* wanted = gradient ? &slopes : nullptr;
  excess += random_ ? mean_remainder(eigenvalues_, part_, at, wanted) : regression_remainder(eigenvalues_, part_, at, 1, wanted);
  if (gradient) {
    std::fill_n(gradient, 2 * D * D, 0.0);
    std::ranges::copy(turned_vector(slopes.a, false), gradient + d * D);
    gradient[D * D - 1] = slopes.b;
    std::ranges::copy(turned_vector(slopes.v, false), gradient + D * D + d * D);
    const std::vector<double> dU = from_basis(slopes.U);
    for (size_t i = 0; i < d; ++i) std::copy_n(&dU[i * d], d, gradient + D * D + i * D);
  }
  return {infimum_ + excess, excess};
}

double regression_remainder(std::span<const double> l, double n, const AttentionWeights& at, double weight, AttentionWeights* slopes) {
  const size_t d = l.size();
  const std::vector<double>&a = at.a, &v = at.v, &U = at.U;
  const double b = at.b;
  std::vector<double> p(d), r(d), t(d), e(d), by_r(d), by_t(d);
  double s = 0, squares = 0, tau = 0, phi = 0, Q = 0, X = 0;
  for (size_t i = 0; i < d; ++i) {
    p[i] = l[i] * a[i];
    s += l[i], squares += l[i] * l[i], tau += l[i] * U[i * d + i], phi += l[i] * v[i] * v[i];
  }
  for (size_t i = 0; i < d; ++i)
    for (size_t j = 0; j < d; ++j) {
      const double entry = U[i * d + j], scaled = l[i] * l[j] * entry;
      r[j] += p[i] * entry, e[j] += l[i] * p[i] * entry, t[i] += entry * p[j];
      Q += scaled * entry, X += scaled * U[j * d + i];
    }
  const double alpha = dot(a, p), k = 2 * n * s * s + (2 + 4 * n) * squares, chaos = n * n;
  double linear = 0, pulled = 0, mixed = 0, cubic = 0;  // c^T Lambda c, r^T Lambda r, e^T Lambda v, (r + t)^T Lambda (r + t)
  double along_a = 0, along_v = 0;                      // a, v^T Lambda c
  for (size_t i = 0; i < d; ++i) {
    const double both = r[i] + t[i], c = r[i] + b * s * v[i] + n * (tau * a[i] + both), by_c = l[i] * c;
    linear += c * by_c, pulled += l[i] * r[i] * r[i], mixed += l[i] * e[i] * v[i], cubic += l[i] * both * both;
    along_a += a[i] * by_c, along_v += v[i] * by_c;
    by_t[i] = n * by_c + chaos * l[i] * both;
    by_r[i] = by_t[i] + by_c + n * l[i] * r[i];
    if (slopes) {
      slopes->a[i] += weight * n * tau * by_c;
      slopes->v[i] += weight * (b * s * by_c + b * b * k * l[i] * v[i] + 2 * b * n * l[i] * e[i]);
    }
  }
  if (slopes) {
    slopes->b += weight * (s * along_v + b * k * phi + 2 * n * mixed);
    const double by_alpha = n * Q + chaos * (Q + X);  // twice the slope
    for (size_t i = 0; i < d; ++i) {
      double by_p = by_alpha * a[i];  // by p = Lambda a, and what alpha and e add
      for (size_t j = 0; j < d; ++j) {
        const double entry = U[i * d + j];
        by_p += entry * (by_r[j] + 2 * b * n * l[i] * l[j] * v[j]) + U[j * d + i] * by_t[j];
        slopes->U[i * d + j] += weight * (p[i] * (by_r[j] + 2 * b * n * l[i] * l[j] * v[j]) + by_t[i] * p[j] +
                                          alpha * l[i] * l[j] * ((n + chaos) * entry + chaos * U[j * d + i]));
      }
      slopes->a[i] += weight * l[i] * by_p;
      slopes->U[i * d + i] += weight * n * l[i] * along_a;
    }
  }
  return 0.5 * (linear + n * (alpha * Q + pulled + 4 * b * mixed) + b * b * k * phi + chaos * (alpha * (Q + X) + cubic));
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
