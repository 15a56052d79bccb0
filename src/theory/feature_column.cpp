// The one-dimensional integral over all groups and nodes, and its limit for an infinite prompt; the formulas are in the header.
#include "theory/feature_column.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "kernels/scalar_math.hpp"

namespace lamina {
namespace {

constexpr double step = 0.2, begin = -2.4, left = -13.423176380641601;  // left: begin - e^{-begin}
constexpr double log_right = 3.8066624897703196;                         // ln 45
constexpr int64_t piece_nodes = 1000;  // in a piece, s grows by e^{200}: s^3 w^3 stays within the range of double

// Rows of memory_: sums over groups at each node, then factors. From phi to to_zero1 they are linear in e^{-s w}, from squares to
// Y1 in its square, unless D is given. rest_: without the leader; apart: T with (D u)_n - (D u)_leader for (D u)_n, and its absolute terms.
enum Row : int {
  phi, R, R1, D1, D2, to_zero, to_zero1, squares, Y1, T, missing, log_phi, power, F0, F1, F2, F3,
  rest_R, rest_R1, rest_squares, apart, apart_size, rows
};
// What the slopes and the attention of a feature are sums of, each times its own factor: columns of node_. among_: what the other
// features' slopes sum to 0 in; query_: the part that has the query's feature, or its key, in every term.
enum Part : int {
  among_1, among_w, query_1, query_w, by_zero, by_zero_w, attention_1, attention_w, attention_w2, among_square, query_square, parts
};

// sum of term(j), j = 0..n-1, in four interleaved chains.
template <class Term>
double sum(int64_t n, Term term) {
  double part[4] = {};
  int64_t j = 0;
  for (; j + 4 <= n; j += 4)
    for (int64_t i = 0; i < 4; ++i) part[i] += term(j + i);
  for (int64_t i = 0; j < n; ++j, ++i) part[i] += term(j);
  return (part[0] + part[2]) + (part[1] + part[3]);
}

}  // namespace

void ColumnIntegral::evaluate(const FeatureColumn& column, std::span<const double> logits, bool with_attention, ColumnValue& out) {
  const int64_t groups = column.groups();
  const double largest = *std::ranges::max_element(logits);
  out.loss = 0;
  out.descent.assign(static_cast<size_t>(groups), 0.0);
  out.attention.assign(static_cast<size_t>(groups), 0.0);
  for (auto* values : {&weight_, &log_weight_, &relative_}) values->resize(static_cast<size_t>(groups));
  bool finite = true;
  among_.assign(static_cast<size_t>(groups), 0.0), size_.assign(static_cast<size_t>(groups), 0.0);
  for (int64_t n = 0; n < groups; ++n) relative_[n] = logits[n] - largest, finite = finite && std::isfinite(relative_[n]);
  if (!finite) {
    out.loss = std::numeric_limits<double>::quiet_NaN();
    for (auto* values : {&out.descent, &out.attention}) std::ranges::fill(*values, out.loss);
    return;
  }
  if (column.length < 0) {
    table_->exp(groups, relative_.data(), weight_.data());
    limit(column, out);
    return close(column, out);
  }
  std::ranges::copy(logits, relative_.begin());  // to the largest of each run: small differences of large logits are not rounded
  const double log_length = kernels::log(static_cast<double>(column.length)), first = left - log_length;
  const double dead = 7 - first;  // from the first node of a piece on, e^{-s w} = 0
  const double least = *std::ranges::min_element(relative_);
  if (largest - least < log_right - first) {
    sorted_.assign({largest, least});  // one run
  } else {
    sorted_ = relative_;
    std::ranges::sort(sorted_, std::greater<>());
  }
  const auto count = static_cast<int64_t>(sorted_.size());
  for (int64_t from = 0, to = 1; from < count; from = to++) {
    while (to < count && sorted_[to - 1] - sorted_[to] < log_right - first) ++to;
    const double top = sorted_[from], width = log_right - (sorted_[to - 1] - top) - begin + (to < count ? log_length : 0.0);
    const auto nodes = static_cast<int64_t>(width / step) + 2;
    for (int64_t node = 0; node < nodes; node += piece_nodes) {
      const double shift = step * static_cast<double>(node);
      for (int64_t n = 0; n < groups; ++n) log_weight_[n] = std::min(relative_[n] - top + shift, dead);
      table_->exp(groups, log_weight_.data(), weight_.data());
      make_nodes(column.length, node == 0, std::min(nodes - node, piece_nodes));
      make_moments(column);
      if (hessian_) add_curvature(column, *hessian_);
      integrate(column, with_attention, out);
    }
  }
  close(column, out);
}

// s and h s^3 / 2 dx/dt; in the first piece of a run x = t - e^{-t}, in the others t less what the unit took.
void ColumnIntegral::make_nodes(int64_t length, bool first, int64_t count) {
  nodes_ = count;
  if (grid_length_ == length && grid_first_ == first && static_cast<int64_t>(s_.size()) >= nodes_) return;
  grid_length_ = length, grid_first_ = first;
  s_.resize(static_cast<size_t>(nodes_)), volume_.resize(s_.size());
  const double log_length = kernels::log(static_cast<double>(length));
  for (int64_t j = 0; j < nodes_; ++j) volume_[j] = -(begin + step * static_cast<double>(j));
  table_->exp(nodes_, volume_.data(), s_.data());
  for (int64_t j = 0; j < nodes_; ++j) {
    const double steep = first ? s_[j] : 0.0;
    s_[j] = -volume_[j] - steep - log_length, volume_[j] = 0.5 * step * (1 + steep);
  }
  table_->exp(nodes_, s_.data(), s_.data());
  for (int64_t j = 0; j < nodes_; ++j) volume_[j] *= s_[j] * s_[j] * s_[j];
}

// e^{-s w} at each node, its sums over groups, and the factors f_r h s^3 / 2 dx/dt.
void ColumnIntegral::make_moments(const FeatureColumn& column) {
  const int64_t groups = column.groups(), J = nodes_, size = groups * J;
  const bool linear = column.own.empty();
  z_.resize(static_cast<size_t>(size));
  if (linear) square_.resize(static_cast<size_t>(size));
  memory_.assign(static_cast<size_t>(rows * J), 0.0);
  double* const at = memory_.data();
  // By few rows, which stay in the nearest cache.
  for (int64_t first = 0; first < groups; first += 8) {
    const int64_t last = std::min(first + 8, groups);
    for (int64_t n = first; n < last; ++n)
      for (int64_t j = 0; j < J; ++j) z_[n * J + j] = -s_[j] * weight_[n];
    table_->exp((last - first) * J, &z_[first * J], &z_[first * J]);
    for (int64_t i = first * J; linear && i < last * J; ++i) square_[i] = z_[i] * z_[i];
  }
  // phi - 1 = sum p (e^{-s w} - 1): of the features whose s w is above 1/2 as it stands, of the others, which at each node are those that
  // end there or later, by the moments of their s w (15 terms: 0.5^16 / 16! = 7e-19).
  constexpr int terms = 15;
  ends_.assign(static_cast<size_t>(J * terms), 0.0);  // [node, term]: sums over the features that end there
  double* const lost = at + missing * J;
  for (int64_t n = 0; n < groups; ++n) {
    const double mass = column.multiplicity[n] * column.probability[n];
    const int64_t end = std::lower_bound(s_.begin(), s_.begin() + J, 0.5 / weight_[n]) - s_.begin();
    const double* z = &z_[n * J];
    for (int64_t j = end; j < J; ++j) lost[j] += mass * (z[j] - 1);
    if (end == 0) continue;
    double power = mass, *to = &ends_[(end - 1) * terms];
    for (int r = 0; r < terms; ++r) to[r] += power *= -weight_[n] * s_[end - 1];
  }
  double sums[terms] = {}, one_by_factorial[terms];
  for (int r = 0; r < terms; ++r) one_by_factorial[r] = (r ? one_by_factorial[r - 1] : 1) / (r + 1);
  for (int64_t j = J; j-- > 0;) {
    const double step_back = j + 1 < J ? s_[j] / s_[j + 1] : 1;
    double power = 1, series = 0;
    for (int r = 0; r < terms; ++r) sums[r] = sums[r] * (power *= step_back) + ends_[j * terms + r];
    for (int r = terms; r-- > 0;) series += sums[r] * one_by_factorial[r];
    lost[j] += series;
  }

  // Sums over features other than the query (phi: over all): R = sum u, R1 = sum u w, D1 = sum D_nn u w, D2 = sum D_nn u w^2, and with
  // the vector D_0 towards the value 0 of an unmasked query: sum D_0 u, sum D_0 u w; S2 = sum u^2, Y1 = sum u^2 w.
  find_leaders(column);
  if (linear)  // the leader's terms are added to sums without them
    for (int64_t j = 0; j < J && groups > 1; ++j) {
      double& z = z_[leader_[j] * J + j];
      leading_[j] = z, z = square_[leader_[j] * J + j] = 0;
    }
  const auto factor = [&](int row, int64_t n) -> double& { return factor_[static_cast<size_t>(row * groups + n)]; };
  factor_.assign(static_cast<size_t>(T * groups), 0.0);
  for (int64_t n = 0; n < groups; ++n) {
    const double m = column.multiplicity[n], w = weight_[n], scale = column.probability[n] * w;
    factor(phi, n) = m * column.probability[n];
    if (n == 0) continue;
    const double own = linear ? 2 : column.own[n], zero = linear ? 1 : column.masked ? 0 : column.to_nothing[n], mu = m * scale;
    factor(R, n) = mu, factor(R1, n) = mu * w, factor(D1, n) = own * mu * w, factor(D2, n) = own * mu * w * w;
    factor(to_zero, n) = zero * mu, factor(to_zero1, n) = zero * mu * w;
    factor(squares, n) = mu * scale, factor(Y1, n) = mu * scale * w;
  }
  const int64_t of_z = column.masked ? to_zero : squares;
  table_->gemm(of_z, J, groups, factor_.data(), groups, 1, z_.data(), J, at, J, false);
  if (linear) {
    table_->gemm(2, J, groups, &factor(squares, 0), groups, 1, square_.data(), J, at + squares * J, J, false);
    std::copy_n(at + R * J, 2 * J, at + rest_R * J);
    std::copy_n(at + squares * J, J, at + rest_squares * J);
    for (int64_t j = 0; j < J && groups > 1; ++j) {
      const double z = leading_[j];
      for (int64_t row = 0; row < of_z; ++row) at[row * J + j] += factor(static_cast<int>(row), leader_[j]) * z;
      for (const int row : {squares, Y1}) at[row * J + j] += factor(row, leader_[j]) * z * z;
    }
  }

  // log phi, from 1 - phi while that is small.
  double *whole = at + phi * J, *logarithm = at + log_phi * J, *rest = at + power * J;
  table_->log1p(J, lost, logarithm);
  table_->log(J, whole, rest);
  const double N = static_cast<double>(column.length), exponent = std::max(N - 3, 0.0);
  for (int64_t j = 0; j < J; ++j) {
    const bool near = lost[j] > -0.5;
    if (near) whole[j] = 1 + lost[j];
    rest[j] = exponent == 0 ? 0 : exponent * (near ? logarithm[j] : rest[j]);
  }
  table_->exp(J, rest, rest);
  const double *own = &z_[0];
  for (int64_t j = 0; j < J; ++j) {
    const double w = volume_[j] * rest[j] * (column.masked ? 1.0 : own[j]), f = whole[j];
    const double f1 = N < 2 ? w : N < 3 ? w * f : w * f * f, f2 = N < 3 ? w : w * f;
    at[F3 * J + j] = N * (N - 1) * (N - 2) * w;
    at[F2 * J + j] = N * (N - 1) * f2;
    at[F1 * J + j] = N * f1;
    at[F0 * J + j] = f1 * f;
  }

  // T = u.D u and Y1 = sum u w (D u).
  if (!linear) return add_pairs(column);
  const double *r = at + R * J, *r1 = at + R1 * J, *s2 = at + squares * J;
  for (int64_t j = 0; j < J; ++j) at[T * J + j] = s2[j] + r[j] * r[j], at[Y1 * J + j] += r[j] * r1[j];  // D = 1 + [m = n]
}

// D u less the leader's into du_, T and Y1; and the part of the slopes among the others that is of second order in u, by the matrix
// sum_j f_2 e^{-s (w_m + w_n)}, of which one half is the other's mirror: three halves of a product of groups^2 nodes in all.
void ColumnIntegral::add_pairs(const FeatureColumn& column) {
  const int64_t groups = column.groups(), J = nodes_, block = 40, few = 8;
  gram_.resize(static_cast<size_t>(groups * groups));
  du_.resize(static_cast<size_t>(groups * J)), across_.resize(du_.size()), scaled_.resize(across_.size());
  crossed_.assign(static_cast<size_t>(groups), 0.0), crossed_size_.assign(static_cast<size_t>(groups), 0.0);
  const double* const mu = &factor_[R * groups];
  for (int64_t n = 0; n < groups; ++n) {
    const double* z = &z_[n * J];
    double* u = &scaled_[n * J];
    for (int64_t j = 0; j < J; ++j) u[j] = mu[n] * z[j];
  }
  table_->gemm(groups, J, groups, column.between.data(), groups, 1, scaled_.data(), J, du_.data(), J, false);
  double* const at = memory_.data();
  const double* f2 = at + F2 * J;
  double *t = at + T * J, *y1 = at + Y1 * J, *away = at + apart * J, *far = at + apart_size * J;
  double* const first_du = leading_.data();
  for (int64_t j = 0; j < J; ++j) first_du[j] = du_[leader_[j] * J + j];
  for (int64_t n = 1; n < groups; ++n) {
    const double w = weight_[n];
    const double* z = &z_[n * J];
    double *scaled = &scaled_[n * J], *du = &du_[n * J];
    for (int64_t j = 0; j < J; ++j) {
      const double u = scaled[j], whole = u * du[j], difference = du[j] - first_du[j];
      du[j] = std::abs(difference) > unknown * (std::abs(du[j]) + std::abs(first_du[j])) ? difference : 0.0;
      t[j] += whole, y1[j] += w * whole, away[j] += u * du[j], far[j] += u * std::abs(du[j]);
      scaled[j] = f2[j] * z[j];
    }
  }
  for (int64_t first = 0; first < groups; first += few)
    for (int64_t j = 0; j < J; ++j)
      for (int64_t n = first; n < std::min(first + few, groups); ++n) across_[j * groups + n] = z_[n * J + j];
  for (int64_t n = 0; n < groups; n += block) {
    const int64_t last = std::min(n + block, groups);
    table_->gemm(last - n, last, J, &scaled_[n * J], J, 1, across_.data(), groups, &gram_[n * groups], groups, false);
  }
  double *const crossed = crossed_.data(), *const size = crossed_size_.data();
  for (int64_t n = 1; n < groups; ++n) {
    const double *D = &column.between[static_cast<size_t>(n * groups)], *own = column.own.data(), *w = weight_.data();
    double* G = &gram_[n * groups];
    G[0] = 0;
    for (int64_t m = 1; m < n; ++m) G[m] *= (own[m] - D[m]) * w[m] - (own[n] - D[m]) * w[n];
    for (int64_t m = 1; m < n; ++m) crossed[m] -= G[m] * mu[n], size[m] += std::abs(G[m]) * mu[n];
    crossed[n] += sum(n, [&](int64_t m) { return G[m] * mu[m]; });
    size[n] += sum(n, [&](int64_t m) { return std::abs(G[m]) * mu[m]; });
  }
}

// For m != n, with y = D a and, unmasked, the query itself as one more key q of weight b = w_0, whose logit is that of group 0:
//   d^2 L / dq_m dq_n = E a_m a_n (D_mn - 2 y_m - 2 y_n + 3 a^T D a),
// moments of second, third and fourth order, the integrands of which are the nodes' times 2/s, 1 and s/3. Sorted by what depends on one
// of the two alone, with (D u)_n whole and o = sum D_q,n u_n, it is, times m p w of both,
//   C_mn + C_nm + D_mn sum_j (2/s) f_2 z_m (1 - s w_m) z_n (1 - s w_n),   C_mn = sum_j z_m z_n ( s/2 (f_4 u^T D u + f_3 (sum D_ll u_l w_l
//     + 2 b o) + f_2 b^2 D_qq) + 2 f_3 (D u)_m (s w_m - 1) + f_2 (D_mm w_m (s w_m - 2) + 2 b D_qm (s w_m - 1)) ).
// The key q with n adds to the entries of group 0, times m p w of n and b, the same with one u less, f_(r-1) for f_r, and D_q,. for D_m,.
[[gnu::cold]] void ColumnIntegral::add_curvature(const FeatureColumn& column, std::vector<double>& hessian) {
  const int64_t groups = column.groups(), J = nodes_;
  const double N = static_cast<double>(column.length), b = column.masked ? 0.0 : weight_[0];
  const double* const at = memory_.data();
  const double *f1 = at + F1 * J, *f2 = at + F2 * J, *f3 = at + F3 * J, *whole = at + phi * J;
  const double *t = at + T * J, *d1 = at + D1 * J, *o = at + to_zero * J;
  const double *leading = leading_.data(), value = column.value;
  std::vector<double> common(static_cast<size_t>(J)), product(static_cast<size_t>(groups * groups)), mass(static_cast<size_t>(groups));
  for (int64_t j = 0; j < J; ++j) {
    const double f4 = whole[j] > 0 ? f3[j] * (N - 3) / whole[j] : 0;
    common[j] = 0.5 * s_[j] * (f4 * t[j] + f3[j] * d1[j] + (b > 0 ? 2 * b * f3[j] * o[j] + b * b * value * f2[j] : 0));
  }
  const auto zero_of = [&](int64_t n) { return b > 0 ? column.to_nothing[n] : 0.0; };
  for (int64_t n = 0; n < groups; ++n) {
    const double w = weight_[n], own = column.own[n], zero = zero_of(n);
    const double *z = &z_[n * J], *du = &du_[n * J];
    double* const row = &scaled_[n * J];
    mass[n] = column.multiplicity[n] * column.probability[n] * w;
    double with_query = 0;
    for (int64_t j = 0; j < J; ++j) {
      const double sw = s_[j] * w, y = n > 0 ? du[j] + leading[j] : 0;
      row[j] = z[j] * (common[j] + 2 * f3[j] * y * (sw - 1) + f2[j] * (own * w * (sw - 2) + 2 * b * zero * (sw - 1)));
      if (b > 0)
        with_query += z[j] * (2 / s_[j] * f1[j] * zero - 2 * (f2[j] * (o[j] + y) + f1[j] * (w * (zero + own) + b * (value + zero))) +
                              s_[j] * (f3[j] * t[j] + f2[j] * (d1[j] + 2 * w * y + 2 * b * o[j]) +
                                       f1[j] * (w * w * own + 2 * b * w * zero + b * b * value)));
    }
    if (n > 0) hessian[n] += b * mass[n] * with_query, hessian[n * groups] += b * mass[n] * with_query;
  }
  table_->gemm(groups, groups, J, scaled_.data(), J, 1, across_.data(), groups, product.data(), groups, false);
  for (int64_t m = 0; m < groups; ++m)
    for (int64_t n = 0; n < groups; ++n) hessian[m * groups + n] += mass[m] * mass[n] * (product[m * groups + n] + product[n * groups + m]);
  for (int64_t n = 0; n < groups; ++n)
    for (int64_t j = 0; j < J; ++j) scaled_[n * J + j] = 2 / s_[j] * f2[j] * z_[n * J + j] * (1 - s_[j] * weight_[n]);
  for (int64_t j = 0; j < J; ++j)
    for (int64_t n = 0; n < groups; ++n) across_[j * groups + n] *= 1 - s_[j] * weight_[n];
  table_->gemm(groups, groups, J, scaled_.data(), J, 1, across_.data(), groups, product.data(), groups, false);
  for (int64_t m = 0; m < groups; ++m)
    for (int64_t n = 0; n < groups; ++n) {
      const auto at_mn = static_cast<size_t>(m * groups + n);
      hessian[at_mn] += column.between[at_mn] * mass[m] * mass[n] * product[at_mn];
    }
}

void ColumnIntegral::integrate(const FeatureColumn& column, bool with_attention, ColumnValue& out) {
  const int64_t groups = column.groups(), J = nodes_;
  const bool linear = column.own.empty();
  double* const at = memory_.data();
  const auto row = [&](Row r) { return at + r * J; };
  const double *r = row(R), *r1 = row(R1), *t = row(T), *d1 = row(D1), *y1 = row(Y1), *d2 = row(D2), *o = row(to_zero), *o1 = row(to_zero1);
  const double *f0 = row(F0), *f1 = row(F1), *f2 = row(F2), *f3 = row(F3), *s2 = row(squares);
  const double wk = weight_[0], scale_k = column.probability[0] * wk, own = column.masked ? 0.0 : wk, nothing = linear ? 1.0 : column.value;
  query_.resize(static_cast<size_t>(J));
  for (int64_t j = 0; j < J; ++j) query_[j] = scale_k * z_[j];
  const double* uk = query_.data();

  // 1. the loss, and the slope at the query's own logit
  out.loss += 0.5 * sum(J, [&](int64_t j) {
    return f3[j] * (uk[j] + r[j]) * t[j] + f2[j] * ((uk[j] + r[j]) * d1[j] + 2 * y1[j]) + f1[j] * d2[j];
  });
  out.descent[0] += sum(J, [&](int64_t j) { return uk[j] * (f3[j] * t[j] + f2[j] * d1[j]); });
  if (!column.masked) {  // b, the query's own weight, counts once: a factor w_k, and no derivative of the generating function
    out.loss += 0.5 * sum(J, [&](int64_t j) {
      const double v = uk[j] + r[j];
      const double once = f2[j] * (t[j] + 2 * o[j] * v) + f1[j] * (d1[j] + 2 * o1[j]);
      return own * (once + own * (f1[j] * (2 * o[j] + nothing * v) + own * nothing * f0[j]));
    });
    out.descent[0] += sum(J, [&](int64_t j) {
      return own * (f2[j] * (t[j] + o[j] * (uk[j] - r[j])) + f1[j] * (d1[j] - o1[j]) + own * f1[j] * (o[j] - nothing * r[j]));
    });
  }

  // 2. the slopes at the other logits, and attention: sums over nodes, of all features at once
  const double *rest = row(rest_R), *rest1 = row(rest_R1), *rest2 = row(rest_squares), *away = row(apart), *far = row(apart_size), *first_du = leading_.data();
  node_.resize(static_cast<size_t>(parts * J)), sums_.resize(static_cast<size_t>(parts * groups));
  if (!linear) pull_.resize(static_cast<size_t>(2 * J));
  for (int64_t j = 0; j < J; ++j) {
    double* const part = &node_[j * parts];
    const double v = uk[j] + r[j];
    if (linear) {
      part[among_1] = f3[j] * s2[j] + f2[j] * r1[j], part[among_w] = f2[j] * r[j], part[among_square] = f3[j] * r[j];
      part[query_1] = uk[j] * (own * f2[j] + f3[j] * r[j]), part[query_w] = 2 * f2[j] * uk[j] + own * f1[j];
      part[query_square] = f3[j] * uk[j] + own * f2[j];
    } else {
      double *by_difference = &pull_[j], *by_du = &pull_[J + j];
      *by_difference = f3[j] * r[j], *by_du = f3[j] * uk[j] + own * f2[j];
      part[among_1] = f3[j] * away[j], part[among_w] = f3[j] * far[j];
      part[query_1] = *by_du * first_du[j] - own * (2 * f2[j] * o[j] + own * nothing * f1[j]), part[query_w] = f2[j] * uk[j] + own * f1[j];
      part[by_zero] = own * (f2[j] * v + own * f1[j]), part[by_zero_w] = -own * f1[j];
    }
    part[attention_1] = f3[j] * v * v + f2[j] * (uk[j] * wk + r1[j] + own * 2 * v) + own * own * f1[j];
    part[attention_w] = 2 * (f2[j] * v + own * f1[j]), part[attention_w2] = f1[j];
  }
  const int64_t of_z = with_attention ? among_square : linear ? by_zero : attention_1;
  table_->gemm(groups, of_z, J, z_.data(), J, 1, node_.data(), parts, sums_.data(), parts, false);
  if (linear)
    table_->gemm(groups, 2, J, square_.data(), J, 1, &node_[among_square], parts, &sums_[among_square], parts, false);
  for (int64_t n = 0; n < groups; ++n) {
    const double *part = &sums_[n * parts], w = weight_[n], scale = column.probability[n] * w;
    if (with_attention) out.attention[n] += scale * (part[attention_1] + w * (part[attention_w] + w * part[attention_w2]));
    if (n == 0) continue;
    if (linear) {
      const double less = w * part[among_w] + scale * part[among_square];
      among_[n] += scale * (part[among_1] - less), size_[n] += scale * (part[among_1] + less);
      out.descent[n] -= scale * (part[query_1] + w * part[query_w] + scale * part[query_square]);
      continue;
    }
    const double *z = &z_[n * J], *du = &du_[n * J], zero = column.masked ? 0.0 : column.to_nothing[n];
    const double *by_difference = &pull_[0], *by_du = &pull_[J];
    const double among = sum(J, [&](int64_t j) { return z[j] * du[j] * by_difference[j]; });
    const double among_size = sum(J, [&](int64_t j) { return z[j] * std::abs(du[j]) * by_difference[j]; });
    const double query = sum(J, [&](int64_t j) { return z[j] * du[j] * by_du[j]; });
    among_[n] += scale * ((part[among_1] - among) + crossed_[n]);
    size_[n] += scale * (part[among_w] + among_size + crossed_size_[n]);
    const double alone = part[query_1] + w * column.own[n] * part[query_w] + zero * (part[by_zero] + w * part[by_zero_w]);
    out.descent[n] -= scale * (query + alone);
  }
  if (!linear || groups < 2) return;
  for (int64_t j = 0; j < J; ++j) {  // the leaders' terms, which z_ lacks
    const int64_t n = leader_[j];
    const double *part = &node_[j * parts], z = leading_[j], w = weight_[n], u = column.probability[n] * w * z;
    if (with_attention) out.attention[n] += u * (part[attention_1] + w * (part[attention_w] + w * part[attention_w2]));
    out.descent[n] -= u * (part[query_1] + w * part[query_w] + u * part[query_square]);
    const double more = f3[j] * rest2[j] + f2[j] * rest1[j], less = (f3[j] * u + f2[j] * w) * rest[j];
    among_[n] += u * (more - less), size_[n] += u * (more + less);
  }
}

}  // namespace lamina
