// Infima of the population losses; the formulas are in the header.
#include "theory/feature_floor.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/scalar_math.hpp"
#include "theory/feature_minimum.hpp"
#include "theory/feature_population.hpp"

namespace lamina {
namespace {

double moment(const FeatureLaw& law, int64_t m, int64_t n) {
  return law.moments.empty() ? (m == n ? 1.0 : 0.0) : law.moments[static_cast<size_t>(m * law.features + n)];
}

double distance(const FeatureLaw& law, int64_t query, int64_t m, int64_t n) {
  return (moment(law, m, n) - moment(law, m, query)) + (moment(law, query, query) - moment(law, n, query));
}

// The column of a query that is a key itself; or the law given that no copy of the query's feature is in the prompt, a column
// whose query has probability 0.
struct Grouped {
  double probability = 0;  // of a position that the query's feature holds
  FeatureColumn column;
  std::vector<int64_t> member;  // a feature of each group, the query first
};

[[gnu::cold]] Grouped grouped(const FeatureLaw& law, int64_t query, bool absent) {
  Grouped all;
  FeatureColumn& column = all.column;
  column.length = law.length, column.masked = absent, column.value = moment(law, query, query);
  column.probability = {absent ? 0 : law.probability[query]}, column.multiplicity = {1}, all.member = {query};
  std::vector<int64_t> second{query};
  for (const std::vector<int64_t>& members : feature_classes(law)) {
    std::vector<int64_t> others;
    for (int64_t n : members)
      if (n == query || (absent && distance(law, query, n, n) == 0))
        all.probability += law.probability[n];
      else
        others.push_back(n);
    if (others.empty()) continue;
    column.probability.push_back(law.probability[others[0]]);
    column.multiplicity.push_back(static_cast<double>(others.size()));
    all.member.push_back(others[0]), second.push_back(others.size() > 1 ? others[1] : others[0]);
  }
  const size_t groups = all.member.size();
  if (absent) {
    double rest = 0;
    for (size_t n = 1; n < groups; ++n) rest += column.multiplicity[n] * column.probability[n];
    for (double& p : column.probability) p /= rest;
  }
  if (law.moments.empty()) return all;
  column.between.assign(groups * groups, 0.0), column.own.assign(groups, 0.0), column.to_nothing.assign(groups, 0.0);
  for (size_t m = 1; m < groups; ++m) {
    column.own[m] = std::max(0.0, distance(law, query, all.member[m], all.member[m]));
    column.to_nothing[m] = moment(law, query, query) - moment(law, all.member[m], query);
    for (size_t n = 1; n < groups; ++n)
      column.between[m * groups + n] = distance(law, query, all.member[m], m == n ? second[n] : all.member[n]);
    double& within = column.between[m * groups + m];  // a member meets itself too
    within += (column.own[m] - within) / column.multiplicity[m];
  }
  return all;
}

// The least loss of a column without the query's feature, f linear, over the logits of groups 1.., from `logits`, which become the
// minimum's. Descent with step sizes of Barzilai and Borwein, in units of the inverse curvature of E a_n^2.
[[gnu::cold]] double minimise(const FeatureColumn& column, std::vector<double>& logits) {
  const size_t groups = logits.size();
  ColumnIntegral integral(kernels::select(nullptr)->table<double>());
  ColumnValue value, next;
  integral.evaluate(column, logits, false, value);
  if (groups == 2) return value.loss;  // a shift of all logits changes nothing
  std::vector<double> unit(groups), candidate(groups);
  for (size_t n = 1; n < groups; ++n)
    unit[n] = 1 / (column.probability[n] * (column.probability[n] + 1 / static_cast<double>(column.length)));
  double rate = 0.25;
  for (int iteration = 0; iteration < 400; ++iteration) {
    double slope = 0;
    for (size_t n = 1; n < groups; ++n) slope += column.multiplicity[n] * unit[n] * value.descent[n] * value.descent[n];
    if (slope < 1e-16 * value.loss) break;
    for (;;) {
      for (size_t n = 1; n < groups; ++n) candidate[n] = logits[n] + std::clamp(rate * unit[n] * value.descent[n], -1.0, 1.0);
      candidate[0] = *std::max_element(candidate.begin() + 1, candidate.end());
      integral.evaluate(column, candidate, false, next);
      if (next.loss <= value.loss * (1 + 1e-13) || rate < 1e-6) break;
      rate *= 0.25;
    }
    double moved = 0, bent = 0;
    for (size_t n = 1; n < groups; ++n) {
      const double step = candidate[n] - logits[n];
      moved += column.multiplicity[n] * step * step / unit[n];
      bent += column.multiplicity[n] * step * (value.descent[n] - next.descent[n]);
    }
    rate = bent > 0 ? std::min(moved / bent, 1e3) : 2 * rate;
    logits = candidate;
    std::swap(value, next);
  }
  return value.loss;
}

[[gnu::cold]] double softmax_infimum(const FeatureLaw& law, int64_t query, std::vector<double>& by_feature) {
  if (!law.masked) {
    if (!law.moments.empty()) return least_loss(grouped(law, query, false).column);
    FeatureColumn alone;
    alone.length = law.length, alone.masked = false;
    alone.probability = {law.probability[query], 1 - law.probability[query]}, alone.multiplicity = {1, 1};
    ColumnIntegral integral(kernels::select(nullptr)->table<double>());
    ColumnValue value;
    integral.evaluate(alone, std::vector<double>{0, -200}, false, value);
    return value.loss;
  }
  const Grouped absence = grouped(law, query, true);
  const double absent = absence.probability >= 1 ? 0.0 : kernels::exp(static_cast<double>(law.length) * kernels::log1p(-absence.probability));
  if (absence.member.size() < 2 || absent == 0) return 0;
  if (!law.moments.empty()) return absent * least_loss(absence.column);
  std::vector<double> logits(absence.member.size());
  for (size_t n = 1; n < logits.size(); ++n) logits[n] = by_feature[absence.member[n]];
  logits[0] = *std::max_element(logits.begin() + 1, logits.end());
  const double loss = minimise(absence.column, logits);
  for (size_t n = 1; n < logits.size(); ++n) by_feature[absence.member[n]] = logits[n];
  return absent * loss;
}

// Infima of one law, one query after another: what they share is made once.
class Infima {
 public:
  Infima(const FeatureLaw& law, kernels::Map map) : law_(law), by_feature_(static_cast<size_t>(law.features), 0.0) {
    if (map != kernels::Map::softmax && law.length >= 0) linear_.emplace(law, map);
  }

  double of(int64_t query) {
    if (law_.length < 0) return 0;
    return linear_ ? linear_->infimum(query) : softmax_infimum(law_, query, by_feature_);
  }

 private:
  const FeatureLaw& law_;
  std::vector<double> by_feature_;  // softmax: each minimum begins at that of the query before
  std::optional<LinearOptima> linear_;
};

}  // namespace

LinearOptima::LinearOptima(FeatureLaw law, kernels::Map map)
    : law_(std::move(law)), map_(map), optima_(static_cast<size_t>(law_.features)) {
  if (law_.moments.empty()) return;
  const double one = 1 / static_cast<double>(law_.length);
  const int64_t K = law_.features;
  std::vector<double> M(static_cast<size_t>(K * K));
  for (int64_t m = 0; m < K; ++m) {
    for (int64_t n = 0; n < K; ++n) M[m * K + n] = (1 - one) * law_.probability[m] * moment(law_, m, n) * law_.probability[n];
    M[m * K + m] += one * law_.probability[m] * moment(law_, m, m);
  }
  squares_.emplace(std::move(M), K);
}

std::vector<double> LinearOptima::linear_term(int64_t query) const {
  std::vector<double> b(static_cast<size_t>(law_.features));
  for (int64_t n = 0; n < law_.features; ++n) b[n] = law_.probability[n] * moment(law_, n, query);
  return b;
}

const LinearOptima::Optimum& LinearOptima::optimum(int64_t query) {
  std::optional<Optimum>& made = optima_[static_cast<size_t>(query)];
  if (made) return *made;
  made.emplace();
  const std::vector<double> b = linear_term(query);
  if (map_ == kernels::Map::linear) {
    made->g = squares_->solve(b);
    return *made;
  }
  made->g = squares_->solve_nonnegative(b);
  made->slope = squares_->residual(made->g, b);
  for (size_t n = 0; n < b.size(); ++n) made->slope[n] = made->g[n] > 0 ? 0 : std::max(0.0, -made->slope[n]);
  return *made;
}

double LinearOptima::infimum(int64_t query) {
  const double p = law_.probability[query];
  if (!squares_) return 0.5 * (1 - p) / (1 + (static_cast<double>(law_.length) - 1) * p);
  return std::max(0.0, 0.5 * moment(law_, query, query) + squares_->objective(optimum(query).g, linear_term(query)));
}

double LinearOptima::excess(int64_t query, std::span<const double> g) {
  double sum = 0;
  if (!squares_) {  // M is diagonal
    const double one = 1 / static_cast<double>(law_.length);
    for (int64_t n = 0; n < law_.features; ++n) {
      const double p = law_.probability[n], factor = (1 - one) * p + one, error = n == query ? (factor * g[n] - 1) / factor : g[n];
      sum += 0.5 * p * factor * error * error;
    }
    return sum;
  }
  const Optimum& best = optimum(query);
  std::vector<double> error(g.begin(), g.end());
  for (size_t n = 0; n < error.size(); ++n) error[n] -= best.g[n];
  sum = squares_->square(error);
  for (size_t n = 0; n < best.slope.size(); ++n) sum += best.slope[n] * g[n];
  return sum;
}

double infimum_of(const FeatureLaw& law, kernels::Map map, int64_t query) { return Infima(law, map).of(query); }

double infimum_of(const FeatureLaw& law, kernels::Map map, const Team& team) {
  Infima infima(law, map);
  const std::vector<std::vector<int64_t>> classes = feature_classes(law);
  std::vector<double> each(classes.size());
  const auto find = [&](int64_t i, int) { each[i] = infima.of(classes[i][0]); };
  if (map == kernels::Map::softmax && !law.moments.empty())  // nothing is shared by queries
    team.for_each(static_cast<int64_t>(classes.size()), find);
  else
    for (size_t i = 0; i < classes.size(); ++i) find(static_cast<int64_t>(i), 0);
  double sum = 0;
  for (size_t i = 0; i < classes.size(); ++i) sum += static_cast<double>(classes[i].size()) * law.probability[classes[i][0]] * each[i];
  return sum;
}

}  // namespace lamina
