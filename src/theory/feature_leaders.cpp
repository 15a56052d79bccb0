// Of the integral of feature_column.hpp: which feature leads where, the two parts of the slopes put together, the diagonal of the second
// derivatives, and an infinite prompt.
#include <algorithm>
#include <cmath>

#include "kernels/scalar_math.hpp"
#include "theory/feature_column.hpp"

namespace lamina {

// Which other group has the largest m u at each node: lines ln(m p w) - s w, of which the upper hull is walked, from the steepest on. Of
// weights within 5 % of each other the one with the largest m p w stands for all: until e^{-45} none of them leads it by more than 10.
void ColumnIntegral::find_leaders(const FeatureColumn& column) {
  const int64_t groups = column.groups();
  leader_.assign(static_cast<size_t>(nodes_), 0), leading_.assign(static_cast<size_t>(nodes_), 0.0);
  if (groups < 2) return;
  height_.resize(static_cast<size_t>(groups));
  for (int64_t n = 0; n < groups; ++n) height_[n] = column.multiplicity[n] * column.probability[n];
  table_->log(groups, height_.data(), height_.data());
  constexpr double slots_by_log = 20;
  const double high = kernels::log(750 / s_[0]), low = -5 - kernels::log(s_[nodes_ - 1]);  // above s w = 750 at all nodes, below e^{-5}
  const auto slots = static_cast<int64_t>(slots_by_log * (high - low)) + 1;
  slot_.assign(static_cast<size_t>(slots), 0), hull_.clear();
  for (int64_t n = 1; n < groups; ++n) {
    if (weight_[n] == 0) continue;
    height_[n] += log_weight_[n];
    const auto place = static_cast<int64_t>(std::clamp(slots_by_log * (high - log_weight_[n]), 0.0, static_cast<double>(slots - 1)));
    if (int32_t& held = slot_[place]; held == 0 || height_[n] > height_[held]) held = static_cast<int32_t>(n);
  }
  const auto crossing = [&](int64_t m, int64_t n) { return (height_[m] - height_[n]) / (weight_[m] - weight_[n]); };
  for (const int64_t n : slot_) {
    if (n == 0) continue;
    while (hull_.size() > 1 && crossing(hull_.back(), n) <= crossing(hull_[hull_.size() - 2], hull_.back())) hull_.pop_back();
    hull_.push_back(n);
  }
  if (hull_.empty()) hull_.push_back(1);
  size_t at = 0;
  for (int64_t j = 0; j < nodes_; ++j) {
    while (at + 1 < hull_.size() && crossing(hull_[at], hull_[at + 1]) < s_[j]) ++at;
    leader_[j] = hull_[at];
  }
}

// The slopes are the part among the other features, if it has digits, plus the part with the query; the largest follows from all.
void ColumnIntegral::close(const FeatureColumn& column, ColumnValue& out) {
  const int64_t groups = column.groups();
  bool digits = false;
  for (int64_t n = 1; n < groups; ++n) digits = digits || std::abs(among_[n]) > unknown * size_[n];
  int64_t largest = 1;
  const auto all = [&](int64_t n) { return column.multiplicity[n] * out.descent[n]; };
  for (int64_t n = 1; n < groups; ++n) {
    if (digits) out.descent[n] += among_[n];
    if (std::abs(all(n)) > std::abs(all(largest))) largest = n;
  }
  if (groups < 2) return;
  double rest = out.descent[0];
  for (int64_t n = 1; n < groups; ++n)
    if (n != largest) rest += all(n);
  out.descent[largest] = -rest / column.multiplicity[largest];
}

void ColumnIntegral::evaluate(const FeatureColumn& column, std::span<const double> logits, ColumnValue& out, std::vector<double>& hessian) {
  const auto groups = static_cast<size_t>(column.groups());
  hessian.assign(groups * groups, 0.0);
  hessian_ = &hessian;
  evaluate(column, logits, false, out);
  hessian_ = nullptr;
  for (size_t n = 0; n < groups; ++n) {
    double rest = 0;
    for (size_t m = 0; m < groups; ++m)
      if (m != n) rest += hessian[n * groups + m];
    hessian[n * groups + n] = -rest;
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
  const bool linear = column.own.empty();
  std::vector<double>& y = out.descent;  // D a, less its value at D = 1 if that is not given
  double T = linear ? S2 + R * R : 0;
  int64_t leader = 0;
  for (int64_t n = 1; n < groups; ++n) {
    if (column.multiplicity[n] * a[n] > column.multiplicity[leader] * a[leader] || leader == 0) leader = n;
    y[n] = linear ? a[n] : 0;
    for (int64_t m = 1; m < groups && !linear; ++m) y[n] += column.multiplicity[m] * column.between[n * groups + m] * a[m];
    if (!linear) T += column.multiplicity[n] * a[n] * y[n];
  }
  const double first = y[leader];
  double spread = 0;
  for (int64_t n = 1; n < groups; ++n) spread += column.multiplicity[n] * a[n] * (y[n] - first);
  out.loss = 0.5 * T;
  for (int64_t n = 1; n < groups; ++n) {
    const double whole = linear ? S2 : T, own = y[n] * R;
    among_[n] = a[n] * (std::abs(own) < 0.5 * whole ? whole - own : spread - (y[n] - first) * R);
    size_[n] = a[n] * (whole + std::abs(own));
    out.descent[n] = -a[n] * a[0] * (linear ? R + a[n] : y[n]);
  }
  out.descent[0] = a[0] * T;
}

}  // namespace lamina
