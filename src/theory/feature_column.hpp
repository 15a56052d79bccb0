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
// Nothing of L cancels, however small it is; slopes may, being sums of both signs, and come as two parts. With the query's feature, or
// the query itself (an unmasked one is a key of weight b and label 0, D_b its row of D, o = sum D_b,n a_n, v = D_bb), in every term:
//   -E a_n ( a_k (D a)_n + b (D a)_n + D_b,n b (a_k + R + b) - 2 b o - b^2 v ),   R = sum over the others a_m;
// f linear: -E a_n ( a_k (b + R + a_n) + b a_n ), of one sign. Their sum is minus the slope at the query. Among the others, summing to 0:
//   sum_m E a_n a_m ((D a)_m - (D a)_n),
//   in the integral u_n u_m ( f_3 ((D u)_m - (D u)_n) + f_2 ((D_mm - D_mn) w_m - (D_nn - D_mn) w_n) ).
// That a_n alone pulls nothing is what cancels in sum over m at a node where u_n leads all others: hence (D u)_n less the leader's, or f
// linear, where (D u)_n = R + u_n, the leader's own sums over the others alone. A pull is as small as the smaller u. Where what is
// left is below 1e-15 of the terms in every entry, it is 0. Then the largest entry is set to minus the sum of the rest: the column sum
// of the slopes is 0 within the rounding of their largest, and exactly alike others give exactly -descent[0] / multiplicity.
//
// Quadrature: s = e^x / (N M), x = t - e^{-t}, trapezoidal rule in t with step h = 0.2 from t = -2.4 on. For one prompt the integrand is
// e^{3x} e^{-Z s} (Z / (N M))^3 / 2 dx times the product of a's, positive. With m the least and M the largest weight that occurs in it,
// max(M, N m) <= Z <= N M: it is negligible beyond s = 45 / max(M, N m), where e^{-45} (1 + 45 + 45^2/2) = 4e-17 of the whole is
// left, and before t = -2.4, s = e^{-13.4} / (N M), where less than 1e-18 is. The map falls towards s = 0 as fast as an exponential
// of an exponential (the double exponential formula of Takahasi and Mori), and rises as e^t, where by Poisson summation the
// rule's error is sum over j != 0 of |Gamma(3 + 2 pi i j / h)| / 2 = 5e-18; between, the sum of the rule over e^{-Z s} is within
// 4e-17 of its integral for every Z (a test has it in long double). So each moment is right to 1e-16, whatever the law.
// M is one of the w_n, so the nodes are the union of the intervals [ln(e^{-13.4} / (N w_n)), ln(45 / w_n)]: runs, between which no
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
  // D, its mean over the members of two groups [groups, groups], and of a member with itself [groups]; both empty for f linear with
  // orthonormal weights, where D of distinct members is 1, and of a member with itself 2. Row and column 0 are 0.
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
  // Without attention; and d^2 L / dq_m dq_n for the common logits of groups m != n into hessian [groups, groups], each to the rounding of
  // its own terms; an entry of the diagonal is minus the sum of its row, because a common shift changes nothing. Finite N, `own` given.
  void evaluate(const FeatureColumn& column, std::span<const double> logits, ColumnValue& out, std::vector<double>& hessian);

 private:
  void limit(const FeatureColumn& column, ColumnValue& out);
  void make_nodes(int64_t length, bool first, int64_t count);
  void make_moments(const FeatureColumn& column);
  void find_leaders(const FeatureColumn& column);
  void add_pairs(const FeatureColumn& column);
  void add_curvature(const FeatureColumn& column, std::vector<double>& hessian);
  void integrate(const FeatureColumn& column, bool with_attention, ColumnValue& out);
  void close(const FeatureColumn& column, ColumnValue& out);

  static constexpr double unknown = 1e-15;  // a sum of which no more than this part of its terms is left has no digit

  const kernels::Table<double>* table_;
  int64_t grid_length_ = 0, nodes_ = 0;
  bool grid_first_ = false;
  std::vector<double> relative_, sorted_;  // logits [groups], of N = infinity less the largest; descending, or the outer two
  std::vector<double> weight_, log_weight_;  // w [groups], in the unit of the piece
  std::vector<double> s_, volume_;         // nodes and h s^3 / 2 dx/dt, for grid_length_ and grid_first_
  std::vector<double> z_, square_;         // [groups, nodes]: e^{-s w}; its square, where no D is given
  std::vector<double> ends_;               // [nodes, terms]: moments of the s w that are at most 1/2 until there
  std::vector<double> factor_;             // [rows, groups]: of e^{-s w} in the sums over groups
  std::vector<double> memory_;             // [rows, nodes]: sums over groups, factors f_r with the quadrature weight
  std::vector<double> query_;              // u of the query [nodes]
  std::vector<double> node_, sums_;        // [nodes, parts], [groups, parts]: factors of e^{-s w}, and their sums over nodes
  std::vector<double> gram_;               // sum_j f_2 e^{-s (w_m + w_n)}, times D [groups, groups]
  std::vector<double> du_;                 // D u less the leader's [groups, nodes]
  std::vector<double> scaled_, across_;    // u, then f_2 e^{-s w} [groups, nodes]; e^{-s w} [nodes, groups]
  std::vector<double> pull_;               // [2, nodes]: factors of e^{-s w} (D u less the leader's)
  std::vector<double> crossed_, crossed_size_;  // of the slopes among the others, f_2's sum, by p w; its absolute terms [groups]
  std::vector<double>* hessian_ = nullptr;      // where second derivatives are wanted
  std::vector<int64_t> leader_, hull_;     // the other group with the largest m u [nodes]; those that ever have it
  std::vector<int32_t> slot_;              // a group in each twentieth of ln w, or 0
  std::vector<double> leading_, height_;   // the leader's e^{-s w}, or D u if D is given [nodes]; ln(m p w) [groups]
  std::vector<double> among_, size_;       // slopes of the others among themselves, and of what size their terms are [groups]
};

}  // namespace lamina
