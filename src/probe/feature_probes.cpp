// Probes of tasks on features: quantities of the watched columns of Q, whatever data the run descends. Population values by theory.
#include <algorithm>
#include <array>
#include <cmath>

#include "probe/probe.hpp"
#include "theory/feature_phase.hpp"
#include "theory/feature_population.hpp"

namespace lamina {
namespace {

bool always(const Model&, const Task&, const Settings&) { return true; }
bool softmax(const Model& model, const Task&, const Settings&) { return model.settings().is("attention", "softmax"); }

std::string name_of(const char* letter, int64_t k) { return std::string(letter) + "_" + std::to_string(k); }
std::string name_of(const char* letter, int64_t k, int64_t n) { return name_of(letter, k) + "_" + std::to_string(n); }

// use(query, others, column) for each watched query.
template <class Use>
void each_watched(const ProbeState& state, Use use) {
  const std::span<const WatchedQuery> watched = state.watched();
  for (size_t i = 0; i < watched.size(); ++i) use(watched[i].query, watched[i].others, state.column(i));
}

std::vector<Column> weight_columns(const Model&, const Task& task) {
  std::vector<Column> columns;
  for (int64_t k : task.features()->watched) {
    columns.push_back({name_of("A", k), "v_k^T Q v_k"});
    for (int64_t n : leading_others(*task.features(), k)) columns.push_back({name_of("B", k, n), "v_n^T Q v_k: query k, key n"});
  }
  return columns;
}

void weights(const ProbeState& state, std::vector<double>& row) {
  const int64_t stride = state.task.features()->dimension;
  const std::vector<double>& Q = state.model().parameters();
  for (const auto& [k, others] : state.watched()) {
    row.push_back(Q[k * stride + k]);
    for (int64_t n : others) row.push_back(Q[n * stride + k]);
  }
}

std::vector<Column> increment_columns(const Model&, const Task& task) {
  std::vector<Column> columns;
  for (int64_t k : task.features()->watched) {
    columns.push_back({name_of("loss", k), "population loss given that the query is feature k"});
    columns.push_back({name_of("alpha", k), "minus the population gradient by A_k"});
    for (int64_t n : leading_others(*task.features(), k)) columns.push_back({name_of("beta", k, n), "minus the population gradient by B_k_n"});
  }
  return columns;
}

void increments(const ProbeState& state, std::vector<double>& row) {
  each_watched(state, [&](int64_t k, const std::vector<int64_t>& others, const ColumnValue& column) {
    const double p = state.task.features()->probability[k];
    row.push_back(column.loss), row.push_back(p * column.descent[k]);
    for (int64_t n : others) row.push_back(p * column.descent[n]);
  });
}

std::vector<Column> attention_columns(const Model&, const Task& task) {
  std::vector<Column> columns;
  for (int64_t k : task.features()->watched) {
    columns.push_back({name_of("attention", k), "mean weight that query k puts on all copies of its own feature"});
    for (int64_t n : leading_others(*task.features(), k))
      columns.push_back({name_of("attention", k, n), "mean weight that query k puts on all copies of feature n"});
  }
  return columns;
}

void attentions(const ProbeState& state, std::vector<double>& row) {
  each_watched(state, [&](int64_t k, const std::vector<int64_t>& others, const ColumnValue& column) {
    row.push_back(column.attention[k]);
    for (int64_t n : others) row.push_back(column.attention[n]);
  });
}

std::vector<Column> phase_columns(const Model&, const Task& task) {
  std::vector<Column> columns;
  for (int64_t k : task.features()->watched)
    columns.push_back({name_of("phase", k), "1 suppression of the dominant feature, 2 switching of leadership, 3 growth, 4 convergence"});
  return columns;
}

bool has_phases(const Model& model, const Task& task, const Settings& training) {
  return softmax(model, task, training) && !phaseless(*task.features());
}

// The largest phase so far, until that is the last.
bool follow_phases(const ProbeState& state, std::span<double> numbers) {
  for (size_t i = 0; i < numbers.size(); ++i)
    if (numbers[i] != 4) numbers[i] = std::fmax(numbers[i], state.phase(i));
  return std::ranges::any_of(numbers, [](double phase) { return phase != 4; });
}

// Column sums of Q stay 0, and entries off the span of the features too.
void invariants(const ProbeState& state, std::vector<double>& row) {
  const FeatureLaw& law = *state.task.features();
  const std::vector<double>& Q = state.model().parameters();
  double largest = 0, off = 0;
  for (int64_t k = 0; k < law.dimension; ++k) {
    double sum = 0;
    for (int64_t n = 0; n < law.dimension; ++n) {
      const double q = Q[n * law.dimension + k];
      sum += q;
      if (n >= law.features || k >= law.features) off = std::max(off, std::abs(q));
    }
    largest = std::max(largest, std::abs(sum));
  }
  row.push_back(largest), row.push_back(off);
}

constexpr std::array rows{
    ProbeRow{"weights", feature_task, "The entries A_k and B_k_n of Q for the watched queries.", weight_columns, weights, always, true},
    ProbeRow{"increments", feature_task, "Population loss of each watched query, and what its weights gain per unit of step size.",
             increment_columns, increments, always, true},
    ProbeRow{"attention", feature_task, "Mean attention of the watched queries to their own and other features.", attention_columns,
             attentions, softmax, true},
    ProbeRow{"phase", feature_task, "The phase that each watched query has come to, by gradient signals at every step so far.",
             phase_columns, nullptr, has_phases, true, false, follow_phases},
    ProbeRow{"invariants", feature_task, "What gradient descent on softmax attention conserves exactly.",
             [](const Model&, const Task&) {
               return std::vector<Column>{{"column_sum", "largest absolute sum of a column of Q"},
                                          {"off_span", "largest absolute entry of Q outside the span of the features"}};
             },
             invariants, softmax, true},
};

}  // namespace

std::span<const ProbeRow> feature_probes() { return rows; }

}  // namespace lamina
