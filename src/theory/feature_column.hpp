// One column of the system of arXiv 2310.05249: the query is one feature, and the loss and its slopes are a function of the K
// logits q_n = v_n^T Q v_query. Features that are exchangeable and have equal logits are one group with a multiplicity.
//
// Softmax attention to feature n: a_n = c_n e^{q_n} / Z, counts c ~ Multinomial(N, p). With e = sum_n a_n (v_n - v_query),
//   L = 1/2 E f(e)^2 = 1/2 E sum_{m,n != query} D[m,n] a_m a_n,   D[m,n] = E (f(v_m) - f(v_query)) (f(v_n) - f(v_query)),
//   -dL/dq_n = E a_n ( a^T D a - (D a)_n sum_m a_m ),   D[., query] = 0.
// Written like this, with the factors sum_m a_m = 1 kept, every term is of third order in a, so one integral gives them all:
//   E prod a = int_0^inf s^2/2 E[prod c_n w_n e^{-s Z}] ds,   Z = sum_n c_n w_n,   w_n = e^{q_n},
// where the expectation is a derivative of the multinomial generating function, with u_n = p_n w_n e^{-s w_n}, phi = sum p_n
// e^{-s w_n}, f_r = N (N-1) .. (N-r+1) phi^{N-r}:
//   E[c_l c_m c_n w_l w_m w_n e^{-s Z}] = f_3 u_l u_m u_n + f_2 (u_l w_l u_n [l=m] + u_m w_m u_l [m=n] + u_n w_n u_m [n=l]) + f_1 u_n w_n^2 [l=m=n].
// Two consequences. Nothing of L cancels, however small it is. And the column sum of the slopes, which is 0, is 0 node by node of
// the quadrature: the invariant of descent does not wait for the integral to be exact.
//
// Quadrature: s = e^x, trapezoidal rule with step h = 0.2. For one prompt the integrand is e^{3x} e^{-Z e^x} Z^3 / 2 times the product
// of a's, positive. With m the least and M the largest weight that occurs in it, max(M, N m) <= Z <= N M: it is negligible outside
// [ln(e^{-13} / (N M)), ln(45 / max(M, N m))]. The parts cut off are below (e^{-13})^3 / 6 = 2e-18 and e^{-45} (1 + 45 + 45^2/2) =
// 4e-17 of the whole; by Poisson summation the rule's error is at most sum over j != 0 of |Gamma(3 + 2 pi i j / h)| / 2 = 5e-18 of
// it. So each moment is right to 4e-17, whatever the law: rounding is all that is left.
// M is one of the w_n, so the nodes are the union of the intervals [ln(e^{-13} / (N w_n)), ln(45 / w_n)]: runs, between which no
// prompt has anything, and of which the last ends at ln(45 / (N min w)). Each run has the largest weight that lives in it as its unit,
// and a long one goes in pieces whose units are e^{-200} of each other, because e^{3x} ends near x = 236: s^3 times three w's does not
// depend on the unit. A weight so large for a run that e^{-s w} = 0 at all its nodes may be any that is. So logits may spread at will.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/kernels.hpp"

namespace lamina {

// Groups of features; group 0 is the query alone.
struct FeatureColumn {
  int64_t length = -1;               // N; -1: infinite
  bool masked = true;                // whether the query is no key; else it is one, with value 0 (Z gains e^{q_query})
  std::vector<double> probability;   // of one member
  std::vector<double> multiplicity;  // [groups]
  // D between distinct members of two groups [groups, groups], and of a member with itself [groups]; both empty for f linear with
  // orthonormal weights, where they are 1 and 2. Row and column 0 are 0.
  std::vector<double> between, own;
  double value = 1;                  // E f(v_query)^2, read if not masked
  std::vector<double> to_nothing;    // E (f(v_n) - f(v_query)) (0 - f(v_query)), read if not masked and `own` is given

  int64_t groups() const { return static_cast<int64_t>(probability.size()); }
};

struct ColumnValue {
  double loss = 0;
  std::vector<double> descent;    // -dL/dq of one member of each group
  std::vector<double> attention;  // E a of one member of each group
};

// Memory of one thread, reused from call to call.
class ColumnIntegral {
 public:
  explicit ColumnIntegral(const kernels::Table<double>& table) : table_(&table) {}
  // logits [groups]; where one is not finite, all results are NaN. attention is filled only where asked for.
  void evaluate(const FeatureColumn& column, std::span<const double> logits, bool with_attention, ColumnValue& out);

 private:
  void limit(const FeatureColumn& column, ColumnValue& out);
  void make_nodes(int64_t length, int64_t count);
  void make_moments(const FeatureColumn& column);
  void add_pairs(const FeatureColumn& column);
  void integrate(const FeatureColumn& column, bool with_attention, ColumnValue& out);

  const kernels::Table<double>* table_;
  int64_t grid_length_ = 0, nodes_ = 0;
  std::vector<double> relative_, sorted_;  // logits minus the largest [groups]; descending, or the largest and the least
  std::vector<double> weight_;             // w [groups], in the unit of the piece
  std::vector<double> s_;                  // nodes, for grid_length_
  std::vector<double> x_, z_, u_;          // [groups, nodes]: e^{-s w} - 1, e^{-s w}, u
  std::vector<double> memory_;             // [rows, nodes]: sums over groups, factors f_r with the quadrature weight
  std::vector<double> coupling_, du_, duw_, uw_;  // D as a matrix [groups, groups]; D u, D (u w), u w
};

}  // namespace lamina
