// The one-dimensional integral over all groups and nodes, and its limit for an infinite prompt; the formulas are in the header.
#include "theory/feature_column.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "kernels/scalar_math.hpp"

namespace lamina {
namespace {

constexpr double step = 0.2, left = -13.0, log_right = 3.8066624897703196;  // ln 45
constexpr int64_t piece_nodes = 1000;  // in a piece, s grows by e^{200}: s^3 w^3 stays within the range of double

// Rows of memory_: sums over groups at each node, then factors.
enum Row : int { phi, missing, log_phi, power, R, R1, T, D1, Y1, D2, to_zero, to_zero1, squares, F0, F1, F2, F3, c1, c2, c3, rows };

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
  weight_.resize(static_cast<size_t>(groups)), relative_.resize(static_cast<size_t>(groups));
  bool finite = true;
  for (int64_t n = 0; n < groups; ++n) relative_[n] = logits[n] - largest, finite = finite && std::isfinite(relative_[n]);
  if (!finite) {
    out.loss = std::numeric_limits<double>::quiet_NaN();
    for (auto* values : {&out.descent, &out.attention}) std::ranges::fill(*values, out.loss);
    return;
  }
  if (column.length < 0) {
    table_->exp(groups, relative_.data(), weight_.data());
    return limit(column, out);
  }
  const double log_length = kernels::log(static_cast<double>(column.length)), first = left - log_length;
  const double dead = 7 - first;  // from the first node of a piece on, e^{-s w} = 0
  const double least = *std::ranges::min_element(relative_);
  if (-least < log_right - first) {
    sorted_.assign({0.0, least});  // one run
  } else {
    sorted_ = relative_;
    std::ranges::sort(sorted_, std::greater<>());
  }
  const auto count = static_cast<int64_t>(sorted_.size());
  for (int64_t from = 0, to = 1; from < count; from = to++) {
    while (to < count && sorted_[to - 1] - sorted_[to] < log_right - first) ++to;
    const double top = sorted_[from], width = log_right - (sorted_[to - 1] - top) - left + (to < count ? log_length : 0.0);
    auto nodes = static_cast<int64_t>(width / step) + 2;
    for (double shift = -top; nodes > 0; shift += piece_nodes * step, nodes -= piece_nodes) {
      for (int64_t n = 0; n < groups; ++n) weight_[n] = std::min(relative_[n] + shift, dead);
      table_->exp(groups, weight_.data(), weight_.data());
      make_nodes(column.length, std::min(nodes, piece_nodes));
      make_moments(column);
      integrate(column, with_attention, out);
    }
  }
}

// N = infinity: a_n = p_n w_n / sum, and the query's own weight vanishes.
void ColumnIntegral::limit(const FeatureColumn& column, ColumnValue& out) {
  const int64_t groups = column.groups();
  std::vector<double>& a = out.attention;
  double total = 0, R = 0, S2 = 0;
  for (int64_t n = 0; n < groups; ++n) {
    a[n] = column.probability[n] * weight_[n];
    total += column.multiplicity[n] * a[n];
  }
  for (int64_t n = 0; n < groups; ++n) {
    a[n] /= total;
    if (n > 0) R += column.multiplicity[n] * a[n], S2 += column.multiplicity[n] * a[n] * a[n];
  }
  if (column.own.empty()) {
    out.loss = 0.5 * (S2 + R * R);
    out.descent[0] = a[0] * (S2 + R * R);
    for (int64_t n = 1; n < groups; ++n) out.descent[n] = a[n] * (S2 - a[n] * (R + a[0]) - R * a[0]);
    return;
  }
  double T = 0;
  for (int64_t n = 1; n < groups; ++n) {
    double y = (column.own[n] - column.between[n * groups + n]) * a[n];
    for (int64_t m = 1; m < groups; ++m) y += column.multiplicity[m] * column.between[n * groups + m] * a[m];
    out.descent[n] = y;
    T += column.multiplicity[n] * a[n] * y;
  }
  out.loss = 0.5 * T;
  out.descent[0] = a[0] * T;
  for (int64_t n = 1; n < groups; ++n) out.descent[n] = a[n] * (T - out.descent[n] * (R + a[0]));
}

void ColumnIntegral::make_nodes(int64_t length, int64_t count) {
  nodes_ = count;
  if (grid_length_ == length && static_cast<int64_t>(s_.size()) >= nodes_) return;
  grid_length_ = length;
  s_.resize(static_cast<size_t>(nodes_));
  const double first = left - kernels::log(static_cast<double>(length));
  for (int64_t j = 0; j < nodes_; ++j) s_[j] = first + step * static_cast<double>(j);
  table_->exp(nodes_, s_.data(), s_.data());
}

// phi, u and the factors f_r h s^3 / 2 at each node.
void ColumnIntegral::make_moments(const FeatureColumn& column) {
  const int64_t groups = column.groups(), J = nodes_, size = groups * J;
  x_.resize(static_cast<size_t>(size)), z_.resize(static_cast<size_t>(size)), u_.resize(static_cast<size_t>(size));
  memory_.assign(static_cast<size_t>(rows * J), 0.0);
  double* const at = memory_.data();
  // e^{-s w} and e^{-s w} - 1, the one from the other: up to s w = 1/2 by expm1, beyond by exp.
  for (int64_t n = 0; n < groups; ++n) {
    const auto small = static_cast<int64_t>(std::lower_bound(s_.begin(), s_.begin() + J, 0.5 / weight_[n]) - s_.begin());
    double *x = &x_[n * J], *z = &z_[n * J];
    for (int64_t j = 0; j < J; ++j) x[j] = -s_[j] * weight_[n];
    table_->exp(J - small, x + small, z + small);
    table_->expm1(small, x, x);
    for (int64_t j = 0; j < small; ++j) z[j] = 1 + x[j];
    for (int64_t j = small; j < J; ++j) x[j] = z[j] - 1;
  }
  for (int64_t n = 0; n < groups; ++n) {
    const double mass = column.multiplicity[n] * column.probability[n], scale = column.probability[n] * weight_[n];
    const double *z = &z_[n * J], *missed = &x_[n * J];
    double *u = &u_[n * J], *whole = at + phi * J, *part = at + missing * J;
    for (int64_t j = 0; j < J; ++j) {
      whole[j] += mass * z[j], part[j] += mass * missed[j];
      u[j] = scale * z[j];
    }
  }
  // log phi, from 1 - phi while that is small.
  double *lost = at + missing * J, *whole = at + phi * J, *logarithm = at + log_phi * J, *rest = at + power * J;
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
    const double w = step * 0.5 * s_[j] * s_[j] * s_[j] * rest[j] * (column.masked ? 1.0 : own[j]), f = whole[j];
    const double f1 = N < 2 ? w : N < 3 ? w * f : w * f * f, f2 = N < 3 ? w : w * f;
    at[F3 * J + j] = N * (N - 1) * (N - 2) * w;
    at[F2 * J + j] = N * (N - 1) * f2;
    at[F1 * J + j] = N * f1;
    at[F0 * J + j] = f1 * f;
  }
}

// Sums over features other than the query: R = sum u, R1 = sum u w, T = u.D u, D1 = sum D_nn u w, Y1 = sum u w (D u),
// D2 = sum D_nn u w^2, and with the vector D_0 towards the value 0 of an unmasked query: sum D_0 u, sum D_0 u w.
void ColumnIntegral::add_pairs(const FeatureColumn& column) {
  const int64_t groups = column.groups(), J = nodes_, size = groups * J;
  coupling_.assign(static_cast<size_t>(groups * groups), 0.0);
  for (int64_t n = 1; n < groups; ++n)
    for (int64_t m = 1; m < groups; ++m)
      coupling_[n * groups + m] = column.multiplicity[m] * column.between[n * groups + m] +
                                  (n == m ? column.own[n] - column.between[n * groups + n] : 0.0);
  for (auto* array : {&du_, &duw_, &uw_}) array->resize(static_cast<size_t>(size));
  for (int64_t n = 0; n < groups; ++n)
    for (int64_t j = 0; j < J; ++j) uw_[n * J + j] = u_[n * J + j] * weight_[n];
  table_->gemm(groups, J, groups, coupling_.data(), groups, 1, u_.data(), J, du_.data(), J, false);
  table_->gemm(groups, J, groups, coupling_.data(), groups, 1, uw_.data(), J, duw_.data(), J, false);
  double* const at = memory_.data();
  for (int64_t n = 1; n < groups; ++n) {
    const double m = column.multiplicity[n], own = column.own[n], w = weight_[n], zero = column.masked ? 0.0 : column.to_nothing[n];
    const double *u = &u_[n * J], *du = &du_[n * J];
    for (int64_t j = 0; j < J; ++j) {
      const double mu = m * u[j];
      at[R * J + j] += mu, at[R1 * J + j] += mu * w;
      at[T * J + j] += mu * du[j], at[Y1 * J + j] += mu * w * du[j];
      at[D1 * J + j] += own * mu * w, at[D2 * J + j] += own * mu * w * w;
      at[to_zero * J + j] += zero * mu, at[to_zero1 * J + j] += zero * mu * w;
    }
  }
}

void ColumnIntegral::integrate(const FeatureColumn& column, bool with_attention, ColumnValue& out) {
  const int64_t groups = column.groups(), J = nodes_;
  const bool linear = column.own.empty();
  double* const at = memory_.data();
  const auto row = [&](Row r) { return at + r * J; };
  if (linear) {
    double *r = row(R), *r1 = row(R1), *s2 = row(squares), *y1 = row(Y1), *d2 = row(D2);
    for (int64_t n = 1; n < groups; ++n) {
      const double m = column.multiplicity[n], w = weight_[n];
      const double* u = &u_[n * J];
      for (int64_t j = 0; j < J; ++j) {
        const double mu = m * u[j], muw = mu * w;
        r[j] += mu, r1[j] += muw, s2[j] += mu * u[j];
        y1[j] += muw * u[j], d2[j] += muw * w;
      }
    }
    for (int64_t j = 0; j < J; ++j) {  // D = 1 + [m = n]
      row(T)[j] = s2[j] + r[j] * r[j], row(D1)[j] = 2 * r1[j];
      y1[j] += r[j] * r1[j], d2[j] *= 2;
      row(to_zero)[j] = r[j], row(to_zero1)[j] = r1[j];
    }
  } else {
    add_pairs(column);
  }
  const double *r = row(R), *r1 = row(R1), *t = row(T), *d1 = row(D1), *y1 = row(Y1), *d2 = row(D2), *o = row(to_zero), *o1 = row(to_zero1);
  const double *f0 = row(F0), *f1 = row(F1), *f2 = row(F2), *f3 = row(F3), *uk = &u_[0];
  const double wk = weight_[0], own = column.masked ? 0.0 : wk, nothing = linear ? 1.0 : column.value;

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

  // 2. the slopes at the other logits
  if (linear) {
    double *a = row(c1), *b = row(c2), *c = row(c3);
    const double* s2 = row(squares);
    for (int64_t j = 0; j < J; ++j) {
      a[j] = f3[j] * (s2[j] - uk[j] * r[j]) + f2[j] * (r1[j] - own * uk[j]);
      b[j] = -f3[j] * (r[j] + uk[j]) - own * f2[j];
      c[j] = -f2[j] * (r[j] + 2 * uk[j]) - own * f1[j];
    }
    for (int64_t n = 1; n < groups; ++n) {
      const double* u = &u_[n * J];
      const double w = weight_[n];
      out.descent[n] += sum(J, [&](int64_t j) { return u[j] * (a[j] + b[j] * u[j] + w * c[j]); });
    }
  } else {
    for (int64_t n = 1; n < groups; ++n) {
      const double *u = &u_[n * J], *du = &du_[n * J], *duw = &duw_[n * J];
      const double w = weight_[n], dn = column.own[n], zero = column.masked ? 0.0 : column.to_nothing[n];
      out.descent[n] += sum(J, [&](int64_t j) {
        const double v = uk[j] + r[j];
        const double with_self = f2[j] * (2 * o[j] - du[j] - zero * v) + f1[j] * (w * (zero - dn) + own * (nothing - zero));
        return u[j] * (f3[j] * (t[j] - du[j] * v) + f2[j] * (d1[j] + w * du[j] - dn * w * v - duw[j]) + own * with_self);
      });
    }
  }

  // 3. attention
  if (!with_attention) return;
  for (int64_t n = 0; n < groups; ++n) {
    const double* u = &u_[n * J];
    const double w = weight_[n];
    out.attention[n] += sum(J, [&](int64_t j) {
      const double v = uk[j] + r[j], v1 = uk[j] * wk + r1[j];
      const double alone = f3[j] * v * v + f2[j] * (2 * w * v + v1) + f1[j] * w * w;
      return u[j] * (alone + own * (2 * (f2[j] * v + f1[j] * w) + own * f1[j]));
    });
  }
}

}  // namespace lamina
