// Columns of all queries put together, and the ties between entries of Q.
#include "theory/feature_population.hpp"

#include <algorithm>
#include <utility>

#include "theory/feature_phase.hpp"

namespace lamina {
namespace {

double moment_of(const FeatureLaw& law, int64_t m, int64_t n) {
  return law.moments.empty() ? (m == n ? 1.0 : 0.0) : law.moments[static_cast<size_t>(m * law.features + n)];
}

// Whether swapping features m and n changes neither p nor Gm.
bool exchangeable(const FeatureLaw& law, int64_t m, int64_t n) {
  if (law.probability[static_cast<size_t>(m)] != law.probability[static_cast<size_t>(n)]) return false;
  if (law.moments.empty()) return true;
  if (moment_of(law, m, m) != moment_of(law, n, n)) return false;
  for (int64_t l = 0; l < law.features; ++l)
    if (l != m && l != n && moment_of(law, m, l) != moment_of(law, n, l)) return false;
  return true;
}

}  // namespace

std::vector<std::vector<int64_t>> feature_classes(const FeatureLaw& law) {
  std::vector<std::vector<int64_t>> classes;
  for (int64_t n = 0; n < law.features; ++n) {
    const auto found = std::ranges::find_if(classes, [&](const auto& members) { return exchangeable(law, members[0], n); });
    if (found == classes.end())
      classes.push_back({n});
    else
      found->push_back(n);
  }
  return classes;
}

std::vector<int64_t> leading_others(const FeatureLaw& law, int64_t query) {
  std::vector<int64_t> others;
  for (const std::vector<int64_t>& members : feature_classes(law)) {
    const auto other = std::ranges::find_if(members, [query](int64_t n) { return n != query; });
    if (other != members.end() && others.size() < 4) others.push_back(*other);
  }
  return others;
}

FeaturePopulation::FeaturePopulation(const FeatureLaw& law, kernels::Map map, const kernels::Table<double>& table, bool tied)
    : law_(law), map_(map), table_(&table), one_{ColumnIntegral(table), {}} {
  const int64_t K = law.features;
  variable_.assign(static_cast<size_t>(K * K), 0);
  std::vector<std::vector<int64_t>> classes;
  // Linear and relu attention read Gm by features.
  if (tied && (map == kernels::Map::softmax || law.moments.empty()))
    classes = feature_classes(law);
  else
    for (int64_t n = 0; n < K; ++n) classes.push_back({n});
  for (const std::vector<int64_t>& alike : classes) {
    const int64_t query = alike[0];
    std::vector<std::vector<int64_t>> groups{{query}};
    for (const std::vector<int64_t>& members : classes) {
      std::vector<int64_t> others;
      std::ranges::copy_if(members, std::back_inserter(others), [&](int64_t n) { return n != query; });
      if (!others.empty()) groups.push_back(std::move(others));
    }
    Part made = part_of(query, groups, static_cast<double>(alike.size()));
    made.first = variables();
    for (int64_t member : made.member) entry_of_.push_back(member * K + query);
    parts_.push_back(std::move(made));
    // The other queries of the class: their own entry, and those to each class without themselves.
    const Part& part = parts_.back();
    for (int64_t k : alike) {
      int64_t variable = part.first + 1;
      for (const std::vector<int64_t>& members : classes) {
        bool any = false;
        for (int64_t n : members)
          if (n != k) variable_[n * K + k] = variable, any = true;
        variable += any;
      }
      variable_[k * K + k] = part.first;
    }
  }
}

FeaturePopulation::Part FeaturePopulation::part_of(int64_t query, const std::vector<std::vector<int64_t>>& groups, double queries) const {
  const size_t count = groups.size();
  Part part;
  part.query = query;
  part.probability = queries * law_.probability[static_cast<size_t>(query)];
  FeatureColumn& column = part.column;
  column.length = law_.length, column.masked = law_.masked, column.value = moment(query, query);
  for (const std::vector<int64_t>& members : groups) {
    part.member.push_back(members[0]);
    column.probability.push_back(law_.probability[static_cast<size_t>(members[0])]);
    column.multiplicity.push_back(static_cast<double>(members.size()));
  }
  if (!law_.moments.empty()) {
    // E (f(v_m) - f(v_k)) (f(v_n) - f(v_k))
    const auto distance = [&](int64_t m, int64_t n) { return (moment(m, n) - moment(m, query)) + (moment(query, query) - moment(n, query)); };
    column.between.assign(count * count, 0.0), column.own.assign(count, 0.0), column.to_nothing.assign(count, 0.0);
    for (size_t m = 1; m < count; ++m) {
      for (size_t n = 1; n < count; ++n)
        column.between[m * count + n] = distance(groups[m][0], m == n && groups[m].size() > 1 ? groups[n][1] : groups[n][0]);
      column.own[m] = distance(groups[m][0], groups[m][0]);
      double& within = column.between[m * count + m];  // a member meets itself too
      within += (column.own[m] - within) / column.multiplicity[m];
      column.to_nothing[m] = moment(query, query) - moment(groups[m][0], query);
    }
  }
  return part;
}

std::vector<double> FeaturePopulation::entries() const {
  std::vector<double> entries(entry_of_.size());
  for (int64_t variable : variable_) entries[static_cast<size_t>(variable)] += 1;
  return entries;
}

bool FeaturePopulation::gather(const double* Q, int64_t stride, double* x) const {
  const int64_t K = law_.features;
  for (int64_t v = 0; v < variables(); ++v) x[v] = Q[entry_of_[v] / K * stride + entry_of_[v] % K];
  for (int64_t n = 0; n < K; ++n)
    for (int64_t k = 0; k < K; ++k)
      if (Q[n * stride + k] != x[variable_[n * K + k]]) return false;
  return true;
}

void FeaturePopulation::scatter(const double* x, double* Q, int64_t stride) const {
  const int64_t K = law_.features;
  for (int64_t n = 0; n < K; ++n)
    for (int64_t k = 0; k < K; ++k) Q[n * stride + k] = x[variable_[n * K + k]];
}

double FeaturePopulation::loss_and_gradient(const double* x, double* gradient, const Team& team) {
  const auto count = static_cast<int64_t>(parts_.size());
  slots_.resize(static_cast<size_t>(team.threads()), Slot{ColumnIntegral(*table_), {}});
  losses_.resize(parts_.size());
  const auto add = [&](int64_t i, int slot) {
    Part& part = parts_[i];
    const bool asked = std::exchange(part.asked, false);
    ColumnValue& value = asked ? part.value : slots_[slot].value;
    evaluate(part, x + part.first, asked, slots_[slot].integral, value);
    if (asked) part.at.assign(x + part.first, x + part.first + part.member.size());
    losses_[i] = part.probability * value.loss;
    if (!gradient) return;
    const double p = law_.probability[part.query];
    for (size_t n = 0; n < value.descent.size(); ++n) gradient[part.first + n] = -p * value.descent[n];
  };
  if (count < 8)  // a column costs microseconds
    for (int64_t i = 0; i < count; ++i) add(i, 0);
  else
    team.for_each(count, add);
  double loss = 0;
  for (double part : losses_) loss += part;
  return loss;
}

size_t FeaturePopulation::place_of(int64_t query) const {
  const int64_t own = variable_[query * law_.features + query];
  return static_cast<size_t>(std::ranges::lower_bound(parts_, own, {}, &Part::first) - parts_.begin());
}

FeaturePopulation::Grouped FeaturePopulation::grouped(int64_t query, std::span<const double> logits, std::vector<double>& x) {
  const int64_t K = law_.features;
  const Part& part = parts_[place_of(query)];
  const auto group = [&](int64_t n) { return variable_[n * K + query] - part.first; };
  x.resize(part.member.size());
  for (int64_t n = 0; n < K; ++n) x[group(n)] = logits[n];
  bool alike = true;
  for (int64_t n = 0; n < K; ++n) alike = alike && x[group(n)] == logits[n];
  if (alike) return {&part, true};
  const auto [place, fresh] = alone_.try_emplace(query);
  if (fresh) {
    std::vector<std::vector<int64_t>> groups{{query}};
    for (int64_t n = 0; n < K; ++n)
      if (n != query) groups.push_back({n});
    place->second = part_of(query, groups, 1);
  }
  x.resize(static_cast<size_t>(K));
  for (int64_t n = 0; n < K; ++n) x[n] = logits[place->second.member[n]];
  return {&place->second, false};
}

ColumnValue FeaturePopulation::column(int64_t query, std::span<const double> logits) {
  const int64_t K = law_.features;
  const bool softmax = map_ == kernels::Map::softmax;
  std::vector<double> x;
  const auto [part, tied] = grouped(query, logits, x);
  evaluate(*part, x.data(), softmax, one_.integral, one_.value);
  ColumnValue all;
  all.loss = one_.value.loss;
  all.descent.resize(static_cast<size_t>(K)), all.attention.resize(softmax ? all.descent.size() : 0);
  for (int64_t i = 0; i < K; ++i) {
    const int64_t n = tied ? i : part->member[i], group = tied ? variable_[n * K + query] - part->first : i;
    all.descent[n] = one_.value.descent[group];
    if (softmax) all.attention[n] = one_.value.attention[group];
  }
  return all;
}

int FeaturePopulation::phase(int64_t query, std::span<const double> logits) {
  std::vector<double> x;
  const Part& part = *grouped(query, logits, x).part;
  evaluate(part, x.data(), true, one_.integral, one_.value);
  return phase_of(part.column, x, one_.value, one_.integral);
}

int FeaturePopulation::phase_at(int64_t query, const double* x) {
  Part& part = parts_[place_of(query)];
  part.asked = true;
  const std::span<const double> logits(x + part.first, part.member.size());
  if (!std::ranges::equal(part.at, logits)) {
    evaluate(part, logits.data(), true, one_.integral, part.value);
    part.at.assign(logits.begin(), logits.end());
  }
  return phase_of(part.column, logits, part.value, one_.integral);
}

void FeaturePopulation::evaluate(const Part& part, const double* x, bool with_attention, ColumnIntegral& integral, ColumnValue& out) const {
  if (map_ == kernels::Map::softmax)
    integral.evaluate(part.column, {x, part.member.size()}, with_attention, out);
  else
    evaluate_linear(part, x, out);
}

void FeaturePopulation::evaluate_linear(const Part& part, const double* g, ColumnValue& out) const {
  const size_t groups = part.member.size();  // the query's first
  const double one = law_.length < 0 ? 0.0 : 1 / static_cast<double>(law_.length);
  const bool relu = map_ == kernels::Map::relu, linear = law_.moments.empty();
  const std::vector<double>&p = part.column.probability, &multiplicity = part.column.multiplicity;
  std::vector<double> h(groups), e(groups);
  for (size_t n = 0; n < groups; ++n) h[n] = relu && !(g[n] > 0) ? 0.0 : p[n] * g[n], e[n] = h[n] - (n == 0 ? 1 : 0);
  out.descent.resize(groups);
  out.loss = 0;
  for (size_t n = 0; n < groups; ++n) {
    const int64_t feature = part.member[n];
    double error = linear ? e[n] : 0, mean = linear ? h[n] : 0;  // (Gm e)_n, (Gm h)_n
    for (size_t m = 0; m < groups && !linear; ++m) {
      const double moment_here = moment(feature, part.member[m]);
      error += moment_here * e[m], mean += moment_here * h[m];
    }
    const double own_g = relu && !(g[n] > 0) ? 0.0 : g[n], varied = one * (moment(feature, feature) * own_g - mean);
    out.descent[n] = relu && g[n] < 0 ? 0.0 : -p[n] * (error + varied);
    out.loss += 0.5 * multiplicity[n] * (e[n] * error + h[n] * varied);
  }
}

double FeaturePopulation::excess(const double* x) {
  if (!optima_) optima_ = std::make_shared<LinearOptima>(law_, map_);
  const int64_t K = law_.features;
  std::vector<double> g(static_cast<size_t>(K));
  double sum = 0;
  for (const Part& part : parts_) {
    for (int64_t n = 0; n < K; ++n) {
      const double score = x[variable_[n * K + part.query]];
      g[n] = map_ == kernels::Map::relu && !(score > 0) ? 0.0 : score;
    }
    sum += part.probability * optima_->excess(part.query, g);
  }
  return sum;
}

}  // namespace lamina
