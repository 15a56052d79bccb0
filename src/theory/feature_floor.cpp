// Infima of the population losses; the formulas are in the header.
#include "theory/feature_floor.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "kernels/scalar_math.hpp"
#include "theory/feature_population.hpp"
#include "theory/least_squares.hpp"

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

Grouped grouped(const FeatureLaw& law, int64_t query, bool absent) {
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
    column.own[m] = distance(law, query, all.member[m], all.member[m]);
    column.to_nothing[m] = moment(law, query, query) - moment(law, all.member[m], query);
    for (size_t n = 1; n < groups; ++n)
      column.between[m * groups + n] = distance(law, query, all.member[m], m == n ? second[n] : all.member[n]);
    double& within = column.between[m * groups + m];  // a member meets itself too
    within += (column.own[m] - within) / column.multiplicity[m];
  }
  return all;
}

// The least loss of the column over the logits of groups 1.., from `logits`, which become the minimum's; that of the query stays, or
// is of no account. Descent with step sizes of Barzilai and Borwein, in units of the inverse curvature of E a_n^2.
double minimise(const FeatureColumn& column, std::vector<double>& logits) {
  const size_t groups = logits.size();
  ColumnIntegral integral(kernels::select(nullptr)->table<double>());
  ColumnValue value, next;
  integral.evaluate(column, logits, false, value);
  const bool absent = column.probability[0] == 0;
  if (absent && groups == 2) return value.loss;  // a shift of all logits changes nothing
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
      candidate[0] = absent ? *std::max_element(candidate.begin() + 1, candidate.end()) : logits[0];
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
    rate = bent > 0 ? std::min(moved / bent, absent ? 1e3 : 1e12) : 2 * rate;
    logits = candidate;
    std::swap(value, next);
  }
  return value.loss;
}

double softmax_infimum(const FeatureLaw& law, int64_t query, std::vector<double>& by_feature) {
  if (!law.masked) {
    if (!law.moments.empty()) {
      const Grouped all = grouped(law, query, false);
      double least = std::numeric_limits<double>::infinity();
      for (const double start : {-20.0, -3.0, 0.0, 3.0}) {
        std::vector<double> logits(all.member.size(), start);
        logits[0] = 0;
        least = std::min(least, minimise(all.column, logits));
      }
      return least;
    }
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
  std::vector<double> logits(absence.member.size());
  for (size_t n = 1; n < logits.size(); ++n) logits[n] = by_feature[absence.member[n]];
  logits[0] = *std::max_element(logits.begin() + 1, logits.end());
  const double loss = minimise(absence.column, logits);
  for (size_t n = 1; n < logits.size(); ++n) by_feature[absence.member[n]] = logits[n];
  return absent * loss;
}

// M = (1 - 1/N) P Gm P + diag(Gm_nn p_n) / N, of which 1/2 Gm_kk + min_g 1/2 g^T M g - b^T g is the infimum, b = (P Gm)_k.
LeastSquares least_squares(const FeatureLaw& law) {
  const double one = 1 / static_cast<double>(law.length);
  const int64_t K = law.features;
  std::vector<double> M(static_cast<size_t>(K * K));
  for (int64_t m = 0; m < K; ++m) {
    for (int64_t n = 0; n < K; ++n) M[m * K + n] = (1 - one) * law.probability[m] * moment(law, m, n) * law.probability[n];
    M[m * K + m] += one * law.probability[m] * moment(law, m, m);
  }
  return LeastSquares(std::move(M), K);
}

// Infima of one law, one query after another: what they share is made once.
class Infima {
 public:
  Infima(const FeatureLaw& law, kernels::Map map) : law_(law), map_(map), by_feature_(static_cast<size_t>(law.features), 0.0) {
    if (law.length >= 0 && map != kernels::Map::softmax && !law.moments.empty()) squares_.emplace(least_squares(law));
  }

  double of(int64_t query) {
    if (law_.length < 0) return 0;
    if (map_ == kernels::Map::softmax) return softmax_infimum(law_, query, by_feature_);
    const double p = law_.probability[query];
    if (!squares_) return 0.5 * (1 - p) / (1 + (static_cast<double>(law_.length) - 1) * p);
    std::vector<double> b(static_cast<size_t>(law_.features));
    for (int64_t n = 0; n < law_.features; ++n) b[n] = law_.probability[n] * moment(law_, n, query);
    const std::vector<double> g = map_ == kernels::Map::relu ? squares_->solve_nonnegative(b) : squares_->solve(b);
    return std::max(0.0, 0.5 * moment(law_, query, query) + squares_->objective(g, b));
  }

 private:
  const FeatureLaw& law_;
  kernels::Map map_;
  std::vector<double> by_feature_;  // softmax: each minimum begins at that of the query before
  std::optional<LeastSquares> squares_;
};

}  // namespace

double infimum_of(const FeatureLaw& law, kernels::Map map, int64_t query) { return Infima(law, map).of(query); }

double infimum_of(const FeatureLaw& law, kernels::Map map) {
  Infima infima(law, map);
  double sum = 0;
  for (const std::vector<int64_t>& alike : feature_classes(law))
    sum += static_cast<double>(alike.size()) * law.probability[alike[0]] * infima.of(alike[0]);
  return sum;
}

}  // namespace lamina
