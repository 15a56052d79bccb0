// Newton's method over levels of logits; the formulas are in the header.
#include "theory/feature_minimum.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/cholesky.hpp"
#include "base/random.hpp"
#include "kernels/scalar_math.hpp"

namespace lamina {
namespace {

constexpr double apart = 2000;  // between levels; no step moves a logit as far

// Cold: what is called is hot, this is made small.
class Descent {
 public:
  explicit Descent(const FeatureColumn& column)
      : column_(column), integral_(kernels::select(nullptr)->table<double>()), groups_(column.probability.size()),
        first_(column.probability[0] == 0 ? 1 : 0), split_(45 + kernels::log(static_cast<double>(column.length))) {}

  // The loss at the end of a descent from the logits q, which become those of the end.
  [[gnu::cold]] double run(std::vector<double>& q);
  // The same order of logits, with at most `gap` between one and the next.
  [[gnu::cold]] std::vector<double> drawn_together(const std::vector<double>& q, double gap) const;

 private:
  struct Value {
    double loss = 0;
    std::vector<double> slope;  // dL/dq of each group, all members together
  };

  [[gnu::cold]] std::vector<size_t> descending(const std::vector<double>& q) const;
  [[gnu::cold]] void space(std::vector<double>& q) const;
  [[gnu::cold]] void evaluate(const std::vector<double>& q, Value& out, bool curved);
  [[gnu::cold]] void add_level(std::span<const size_t> members, const std::vector<double>& q, double mass, double below, double chance,
                               Value& out, bool curved);
  [[gnu::cold]] double newton(const Value& value);

  const FeatureColumn& column_;
  ColumnIntegral integral_;
  size_t groups_, first_;                     // the first group with a logit
  double split_;                              // a gap beyond which what is below has no weight beside what is above
  std::vector<std::vector<size_t>> levels_;   // of the last evaluation, those with more than one group
  std::vector<double> hessian_, direction_;   // [groups, groups], of groups of one level; [groups]
  size_t ridge_ = 0;                          // the last one, by its number
};

std::vector<size_t> Descent::descending(const std::vector<double>& q) const {
  std::vector<size_t> order(groups_ - first_);
  std::iota(order.begin(), order.end(), first_);
  std::ranges::stable_sort(order, [&](size_t m, size_t n) { return q[m] > q[n]; });
  return order;
}

std::vector<double> Descent::drawn_together(const std::vector<double>& q, double gap) const {
  const std::vector<size_t> order = descending(q);
  std::vector<double> near(groups_, 0.0);
  for (size_t i = 1; i < order.size(); ++i) near[order[i]] = near[order[i - 1]] - std::min(q[order[i - 1]] - q[order[i]], gap);
  return near;
}

// Gaps between levels become the same.
void Descent::space(std::vector<double>& q) const {
  const std::vector<size_t> order = descending(q);
  double last = q[order[0]], shift = -last;
  for (size_t n : order) {
    if (const double gap = last - q[n]; gap > split_) shift += gap - apart;
    last = q[n], q[n] += shift;
  }
}

void Descent::evaluate(const std::vector<double>& q, Value& out, bool curved) {
  out.loss = 0, out.slope.assign(groups_, 0.0);
  if (curved) hessian_.assign(groups_ * groups_, 0.0), levels_.clear();
  const std::vector<size_t> order = descending(q);
  std::vector<double> mass(order.size() + 1, 0.0);  // of a group and of all after it
  for (size_t i = order.size(); i-- > 0;) mass[i] = mass[i + 1] + column_.multiplicity[order[i]] * column_.probability[order[i]];
  double above = 0;
  for (size_t from = 0, to = 1; from < order.size(); from = to++) {
    while (to < order.size() && q[order[to - 1]] - q[order[to]] <= split_) ++to;
    const double none = above < 0.5 ? kernels::log1p(-above) : kernels::log(mass[from]);
    const double chance = kernels::exp(static_cast<double>(column_.length) * none);
    if (chance == 0) break;
    const std::span<const size_t> members(&order[from], to - from);
    add_level(members, q, mass[from], mass[to], chance, out, curved);
    if (first_ == 0 && std::ranges::find(members, size_t{0}) != members.end()) break;  // the query is a key of every prompt
    for (size_t n : members) above += column_.multiplicity[n] * column_.probability[n];
  }
}

// mass: of the level and of what is below it, `below`; chance: that a prompt has nothing above.
void Descent::add_level(std::span<const size_t> members, const std::vector<double>& q, double mass, double below, double chance, Value& out,
                        bool curved) {
  const bool with_query = first_ == 0 && std::ranges::find(members, size_t{0}) != members.end();
  if (members.size() == 1 && !with_query && column_.multiplicity[members[0]] == 1) {
    const double p = column_.probability[members[0]] / mass;
    const double any = below > 0 ? -std::expm1(static_cast<double>(column_.length) * kernels::log1p(-p)) : 1;
    out.loss += chance * any * 0.5 * column_.own[members[0]];
    return;
  }
  // Its groups after that of the query, or of what is below and counts for nothing; the latter is one more group beside a query.
  const bool whole = members.size() == groups_ - first_;
  std::vector<size_t> group;
  FeatureColumn part;
  std::vector<double> logits;
  const FeatureColumn* column = &column_;
  if (whole) {
    group.resize(groups_), std::iota(group.begin(), group.end(), size_t{0});
    logits = q;
    if (first_) logits[0] = q[members[0]];
  } else {
    group.push_back(0);
    for (size_t n : members)
      if (n != 0) group.push_back(n);
    const bool one_more = with_query && below > 0;
    const size_t own = group.size(), count = own + one_more;
    const double least = q[members.back()] - apart;
    part.length = column_.length, part.masked = !with_query, part.value = column_.value;
    for (auto* values : {&part.probability, &part.own, &part.to_nothing, &logits}) values->assign(count, 0.0);
    part.multiplicity.assign(count, 1.0), part.between.assign(count * count, 0.0);
    for (size_t m = with_query ? 0 : 1; m < own; ++m) {
      const size_t n = group[m];
      part.probability[m] = column_.probability[n] / mass, part.multiplicity[m] = column_.multiplicity[n], logits[m] = q[n];
      part.own[m] = column_.own[n], part.to_nothing[m] = column_.to_nothing[n];
      for (size_t l = 0; l < own; ++l) part.between[m * count + l] = l == 0 ? 0 : column_.between[n * groups_ + group[l]];
    }
    const size_t nothing = with_query ? own : 0;
    if (!with_query || one_more) part.probability[nothing] = below / mass, logits[nothing] = below > 0 ? least : q[members[0]];
    column = &part;
  }
  ColumnValue value;
  std::vector<double> curvature;
  curved = curved && members.size() > 1;
  if (curved)
    integral_.evaluate(*column, logits, value, curvature);
  else
    integral_.evaluate(*column, logits, false, value);
  out.loss += chance * value.loss;
  const size_t count = column->probability.size();
  const size_t begin = with_query || (whole && first_ == 0) ? 0 : 1;
  for (size_t m = begin; m < group.size(); ++m) {
    out.slope[group[m]] -= chance * column->multiplicity[m] * value.descent[m];
    for (size_t n = begin; curved && n < group.size(); ++n) hessian_[group[m] * groups_ + group[n]] = chance * curvature[m * count + n];
  }
  if (curved) levels_.emplace_back(members.begin(), members.end());
}

// The step into direction_, level by level; its decrement, or 0 where no level has more than one group.
double Descent::newton(const Value& value) {
  constexpr double ridges[] = {1e-9, 1e-3, 1e-2, 0.1, 0.4, 1, 2.1};  // the last leaves every row dominated by its diagonal
  direction_.assign(groups_, 0.0);
  double decrement = 0;
  const size_t least = ridge_ > 2 ? ridge_ - 2 : 0;
  ridge_ = 0;
  for (const std::vector<size_t>& level : levels_) {
    std::vector<int64_t> rows;
    std::vector<double> size(groups_, 0.0);
    for (size_t m : level) {
      for (size_t n : level)
        if (n != m) size[m] += std::abs(hessian_[m * groups_ + n]);
      if (size[m] > std::numeric_limits<double>::min()) rows.push_back(static_cast<int64_t>(m));
    }
    if (rows.size() < 2) continue;
    const size_t count = rows.size();
    Cholesky made;
    for (size_t i = least; i < std::size(ridges); ++i) {
      std::vector<double> M = hessian_;
      for (int64_t n : rows) M[static_cast<size_t>(n) * (groups_ + 1)] += ridges[i] * size[static_cast<size_t>(n)];
      made = cholesky(M, static_cast<int64_t>(groups_), rows, 0, std::numeric_limits<double>::infinity());
      bool positive = true;
      for (size_t m = 0; m < count; ++m) positive = positive && made.factor[m * (count + 1)] > 0;
      ridge_ = std::max(ridge_, i);
      if (positive) break;
    }
    std::vector<double> y(count);
    const std::vector<double>& L = made.factor;
    for (size_t m = 0; m < count; ++m) {
      y[m] = -value.slope[static_cast<size_t>(rows[m])];
      for (size_t l = 0; l < m; ++l) y[m] -= L[m * count + l] * y[l];
      y[m] = L[m * (count + 1)] > 0 ? y[m] / L[m * (count + 1)] : 0;
    }
    size_t steadiest = 0;
    for (size_t m = count; m-- > 0;) {
      y[m] = L[m * (count + 1)] > 0 ? y[m] / L[m * (count + 1)] : 0;
      for (size_t l = 0; l < m; ++l) y[l] -= L[m * count + l] * y[m];
      if (size[static_cast<size_t>(rows[m])] > size[static_cast<size_t>(rows[steadiest])]) steadiest = m;
    }
    for (size_t m = 0; m < count; ++m) {
      const auto n = static_cast<size_t>(rows[m]);
      decrement -= value.slope[n] * y[m];
      direction_[n] = y[m] - y[steadiest];  // a shift of a level changes nothing
    }
  }
  return decrement;
}

double Descent::run(std::vector<double>& q) {
  Value value, there;
  std::vector<double> moved, best, before(groups_, 0.0);
  ridge_ = 0;
  for (int iteration = 0; iteration < 200; ++iteration) {
    space(q);
    evaluate(q, value, true);
    const double decrement = newton(value), from = value.loss;
    if (!(decrement > 1e-14 * from)) break;
    double largest = 0;
    for (double d : direction_) largest = std::max(largest, std::abs(d));
    const auto move = [&](double rate, double least) {
      moved = q;
      for (size_t n = first_; n < groups_; ++n)
        if (std::abs(direction_[n]) > least) moved[n] += rate * direction_[n];
      evaluate(moved, there, false);
      return there.loss;
    };
    double rate = std::min(1.0, 8 / largest), loss = move(rate, 0);
    const auto enough = [&] { return loss <= from - 1e-4 * rate * decrement; };
    for (int turn = 0; turn < 30 && !enough() && std::abs(loss - from) > 1e-15 * from; ++turn) rate *= 0.3, loss = move(rate, 0);
    if (!enough() || loss > from * (1 - 1e-15)) break;  // nothing is left but rounding
    best = moved;
    // Where it falls as steeply there as here, further.
    const auto steepness = [&] {
      double sum = 0;
      for (size_t n = first_; n < groups_; ++n) sum -= there.slope[n] * direction_[n];
      return sum;
    };
    for (double far = 2 * rate; steepness() > 0.5 * decrement && far * largest < 500; far *= 2) {
      const double beyond = move(far, 0);
      if (!(beyond < loss)) break;
      loss = beyond, best = moved;
    }
    // Where it falls as e^{-x}, Newton's step is 1 however far the end is; a step with a heavier diagonal is that of the one before.
    double along = 0, square = 0, square_before = 0;
    for (size_t n = first_; n < groups_; ++n)
      along += direction_[n] * before[n], square += direction_[n] * direction_[n], square_before += before[n] * before[n];
    const bool alike = square > 0.25 * square_before && square < 4 * square_before && along > 0.9 * std::sqrt(square * square_before);
    const bool again = alike && largest > 0.1;
    before = direction_;
    if ((largest > 0.5 && ridge_ == 0) || again)
      for (double far = 6 * rate; far * largest < 900; far *= 3) {
        const double beyond = move(far, 0.3 * largest);
        if (!(beyond < loss)) break;
        loss = beyond, best = moved;
      }
    q = best;
    value.loss = loss;
  }
  return value.loss;
}

}  // namespace

[[gnu::cold]] double least_loss(const FeatureColumn& column) {
  const size_t groups = column.probability.size(), first = column.probability[0] == 0 ? 1 : 0;
  Descent descent(column);
  double least = std::numeric_limits<double>::quiet_NaN();
  std::vector<double> best, q(groups, 0.0);
  const auto attempt = [&] {
    const double loss = descent.run(q);
    if (loss < least || std::isnan(least)) least = loss, best = q;
  };
  attempt();
  if (groups - first < 2 || std::isnan(least)) return least;
  std::vector<double> nearness(groups, 0.0);
  double farthest = 0;
  for (size_t n = first; n < groups; ++n) nearness[n] = n == 0 ? column.value : column.own[n], farthest = std::max(farthest, nearness[n]);
  for (double& x : nearness) x = farthest > 0 ? -kernels::log(std::max(x / farthest, 1e-6)) : 0;
  for (const double steepness : {3.0, 8.0}) {
    if (groups > (steepness < 8 ? 100 : 30)) continue;
    for (size_t n = first; n < groups; ++n) q[n] = steepness * nearness[n];
    attempt();
  }
  for (uint64_t i = 0; i < (groups <= 8 ? 2 : 0); ++i) {
    Random random(i, Purpose::weights, groups);
    for (size_t n = first; n < groups; ++n) q[n] = (i == 0 ? 1 : 4) * random.normal();
    attempt();
  }
  if (groups <= 30) {
    q = descent.drawn_together(best, 3);
    attempt();
  }
  return std::max(least, 0.0);
}

}  // namespace lamina
