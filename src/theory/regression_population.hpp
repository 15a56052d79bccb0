// Linear attention on in-context linear regression (arXiv 2306.09927): the prediction is u h^T U x_q, h = 1/N sum_n y_n x_n. For
// covariances diag(l) in one basis V, with U = V U~ V^T, s = sum_i l_i, and expectations over l where prompts have their own,
//   L(u, U) = 1/2 E(u h^T U x_q - y_q)^2 = 1/2 sum_ij A_ij (u U~_ij)^2 - u sum_i B_i U~_ii + 1/2 sum_i C_i,
//   A_ij = E[((1 + 1/N) l_i + s/N) l_i l_j],  B_i = E l_i^2,  C_i = E l_i,
// for E h h^T = Gamma Lambda given Lambda, Gamma = (1 + 1/N) Lambda + s/N. So L - L* = 1/2 sum_ij A_ij (u U~_ij - delta_ij B_i/A_ii)^2.
// With every entry of W_PV and W_KQ the last row of W_PV is (a, b), the first d columns of W_KQ are (U; v); S = sum_n x_n x_n^T / N:
//   yhat - y_q = w^T (S M x_q - x_q) + (a^T S U + b (w^T S w) v^T) x_q + (a^T x_q)(x_q^T U x_q) / N,   M = b U + a v^T.
// The first term is odd in w, the others even: L is that of u U = M plus the remainder below, which is not negative and 0 for a = v = 0,
// so that L* is the same.
#pragma once
#include <span>
#include <vector>

#include "kernels/kernels.hpp"
#include "task/task.hpp"

namespace lamina {

class RegressionPopulation {
 public:
  struct Value {
    double loss, excess;  // L, and L - L* as a sum of squares
  };

  // For prompts of `length` labelled tokens, -1 for infinitely many; of the law only covariance and dimension are read.
  RegressionPopulation(const RegressionLaw& law, int64_t length, const kernels::Table<double>& table);

  // parameters: u, U [d,d]; gradient [1 + d^2] may be null.
  Value loss_and_gradient(std::span<const double> parameters, double* gradient) const;
  // parameters: W_PV, W_KQ, both [d+1,d+1]; gradient [2 (d+1)^2] may be null. Of order d^3 for the change of basis, else d^2.
  Value literal_loss_and_gradient(std::span<const double> parameters, double* gradient) const;
  double infimum() const { return infimum_; }
  // V^T M V and V M V^T of M [d,d].
  std::vector<double> to_basis(std::span<const double> M) const { return turned(M, true); }
  std::vector<double> from_basis(std::span<const double> M) const { return turned(M, false); }
  // B_i / A_ii: the optimum of u U~ is diagonal. With one covariance it is 1 / Gamma_i.
  const std::vector<double>& optimum() const { return optimum_; }
  // |optimum|_F, the value that u^2 has at the optimum if u^2 = |U|^2.
  double optimum_norm() const;
  // Where gradient flow from (u, U) ends if it reaches the optimum: u^2 - |U|^2 is conserved, so u^2 = (c + sqrt(c^2 + 4 |optimum|^2)) / 2.
  std::vector<double> limit(std::span<const double> parameters) const;

 private:
  std::vector<double> turned(std::span<const double> M, bool to) const;
  std::vector<double> turned_vector(std::span<const double> x, bool to) const;  // V^T x, V x

  int64_t d_;
  const kernels::Table<double>* table_;
  double part_;  // 1/N
  bool random_;
  std::vector<double> eigenvalues_;
  std::vector<double> basis_, transpose_;  // V and V^T [d,d]; empty: the identity
  std::vector<double> A_, optimum_;
  double infimum_ = 0;
};

// The last row (a, b) of W_PV and the first d columns (U; v) of W_KQ; or slopes by them.
struct AttentionWeights {
  explicit AttentionWeights(size_t d) : a(d), v(d), U(d * d) {}
  std::vector<double> a, v, U;
  double b = 0;
};

// R = 1/2 E(g^T x + (a^T x)(x^T U x) / N)^2, g = U^T S a + b (w^T S w) v, for x ~ N(0, Lambda), Lambda = diag(l), n = 1/N. The cubic
// is linear plus a third chaos of x, so R is that of the mean linear form, of the variance of g, and of the chaos:
//   2 R = c^T Lambda c + [ n (alpha Q + r^T Lambda r + 4 b e^T Lambda v) + b^2 k v^T Lambda v ]
//         + n^2 [ alpha (Q + X) + (r + t)^T Lambda (r + t) ],
//   p = Lambda a,  r = U^T p,  t = U p,  e = U^T Lambda p,  c = r + b s v + n (tau a + r + t),  s = tr Lambda,  tau = tr Lambda U,
//   alpha = a^T p,  Q = tr Lambda U Lambda U^T,  X = tr Lambda U Lambda U,  k = 2 n s^2 + (2 + 4 n) tr Lambda^2.
// Adds `weight` times its slopes to *slopes, which may be null; returns R itself.
double regression_remainder(std::span<const double> l, double n, const AttentionWeights& at, double weight, AttentionWeights* slopes);

// u^2 - |U|_F^2, which gradient flow conserves.
double conserved_quantity(std::span<const double> parameters);

// Every prompt of one covariance, u U = multiple of the identity from U(0) = u(0) I / sqrt(d), Lambda = l I: with m = u U_11, Gamma = g I,
//   dm/dt = 2 sqrt(d) l^2 m (1 - g m),  so  1 / (g m) - 1 = (1 / (g m(0)) - 1) e^{-2 sqrt(d) l^2 t}  and  L - L* = d g l^2 (m - 1/g)^2 / 2.
bool is_isotropic(const RegressionLaw& law);
double isotropic_excess(const RegressionLaw& law, double start, double time);

// E(yhat - y)^2 of the prediction h^T m x_q, m [d,d], when the x_n have covariance `context`, x_q has covariance `query`, both [d,d],
// w has second moments `task` [d,d] (empty: the identity), and the prompt is of M labelled tokens:
//   tr W ( context B context (1 + 1/M) + context tr(context B) / M - 2 context m query + query ),  B = m query m^T.
double shifted_risk(int64_t d, std::span<const double> m, std::span<const double> context, std::span<const double> query,
                    std::span<const double> task, double M);

}  // namespace lamina
