// Probes of linear regression in context: the blocks u and U of the model, in the eigenvectors of the covariance, and its exact risk.
#include <algorithm>
#include <array>
#include <cmath>

#include "probe/probe.hpp"
#include "theory/regression_population.hpp"

namespace lamina {
namespace {

constexpr int64_t most_entries = 4;

bool always(const Model&, const Task&, const Settings&) { return true; }
bool literal(const Model& model, const Task&, const Settings&) { return model.settings().is("variant", "original"); }

// u, U [d,d], also of a literal model.
std::vector<double> blocks(const ProbeState& state) {
  const std::vector<double>& all = state.model().parameters();
  if (state.model().has_tensor("u")) return all;
  const int64_t d = state.task.regression()->dimension, D = d + 1;
  std::vector<double> taken{all[D * D - 1]};
  for (int64_t i = 0; i < d; ++i) taken.insert(taken.end(), all.begin() + D * D + i * D, all.begin() + D * D + i * D + d);
  return taken;
}

RegressionPopulation population(const ProbeState& state) {
  const RegressionLaw& law = *state.task.regression();
  return RegressionPopulation(law, law.length, *state.model().isa().f64);
}

// |p|^2 - |K|^2 of the last row p of W_PV and the first d columns K of W_KQ: the prediction reads them as a product. Gradient flow
// moves no other entry.
double conserved(const ProbeState& state) {
  const std::vector<double>& x = state.model().parameters();
  if (state.model().has_tensor("u")) return conserved_quantity(x);
  const int64_t d = state.task.regression()->dimension, D = d + 1;
  double difference = 0;
  for (int64_t j = 0; j < D; ++j) {
    difference += x[D * d + j] * x[D * d + j];
    for (int64_t k = 0; k < d; ++k) difference -= x[D * D + j * D + k] * x[D * D + j * D + k];
  }
  return difference;
}

double risk(const ProbeState& state) {
  const RegressionPopulation form = population(state);
  const std::vector<double>& x = state.model().parameters();
  return 2 * (state.model().has_tensor("u") ? form.loss_and_gradient(x, nullptr) : form.literal_loss_and_gradient(x, nullptr)).loss;
}

std::vector<Column> entry_columns(const Model&, const Task& task) {
  std::vector<Column> columns{{"u", "last entry of W_PV"}};
  for (int64_t i = 0; i < std::min(task.regression()->dimension, most_entries); ++i)
    columns.push_back({"U_" + std::to_string(i), "v^T U v for eigenvector v = " + std::to_string(i) + " of the covariance"});
  columns.push_back({"U_mixed", "largest |v^T U v'| of two eigenvectors"});
  return columns;
}

void entries(const ProbeState& state, std::vector<double>& row) {
  const std::vector<double> x = blocks(state), U = population(state).to_basis(std::span(x).subspan(1));
  const int64_t d = state.task.regression()->dimension;
  row.push_back(x[0]);
  double mixed = 0;
  for (int64_t i = 0; i < d; ++i)
    for (int64_t j = 0; j < d; ++j)
      if (i != j) mixed = std::max(mixed, std::abs(U[i * d + j]));
  for (int64_t i = 0; i < std::min(d, most_entries); ++i) row.push_back(U[i * d + i]);
  row.push_back(mixed);
}

void distance(const ProbeState& state, std::vector<double>& row) {
  const std::vector<double> x = blocks(state), limit = population(state).limit(x);
  double value = std::abs(x[0] - limit[0]), matrix = 0;
  for (size_t i = 1; i < x.size(); ++i) matrix = std::max(matrix, std::abs(x[i] - limit[i]));
  row.insert(row.end(), {value, matrix});
}

void off_blocks(const ProbeState& state, std::vector<double>& row) {
  const std::vector<double>& x = state.model().parameters();
  const int64_t D = state.task.regression()->dimension + 1;
  double largest = 0;
  for (int64_t i = 0; i < D * D; ++i) {
    if (i != D * D - 1) largest = std::max(largest, std::abs(x[i]));
    if (i / D == D - 1 || i % D == D - 1) largest = std::max(largest, std::abs(x[D * D + i]));
  }
  row.push_back(largest);
}

constexpr std::array rows{
    ProbeRow{"linear_attention", regression_task, "u, and U in the eigenvectors of the covariance.", entry_columns, entries, always, true},
    ProbeRow{"distance_to_limit", regression_task, "How far u and U are from where gradient flow from here ends.",
             [](const Model&, const Task&) {
               return std::vector<Column>{{"u_distance", "|u - u*|"}, {"U_distance", "largest entry of |U - U*|"}};
             },
             distance, always, true},
    ProbeRow{"conserved", regression_task, "What gradient flow conserves.",
             [](const Model& model, const Task&) {
               const bool blocks = model.has_tensor("u");
               return std::vector<Column>{{"conserved", blocks ? "u^2 - |U|_F^2" : "|last row of W_PV|^2 - |first d columns of W_KQ|^2"}};
             },
             [](const ProbeState& state, std::vector<double>& row) { row.push_back(conserved(state)); }, always, true},
    ProbeRow{"risk", regression_task, "The exact E(yhat - y)^2 on the law, whatever data the run descends.",
             [](const Model&, const Task&) { return std::vector<Column>{{"risk", "E(yhat - y)^2 on the law, twice the population loss"}}; },
             [](const ProbeState& state, std::vector<double>& row) { row.push_back(risk(state)); }, always, true},
    ProbeRow{"off_blocks", regression_task, "What gradient flow never moves away from 0 in W_PV and W_KQ.",
             [](const Model&, const Task&) { return std::vector<Column>{{"off_blocks", "largest absolute entry outside u and U"}}; }, off_blocks,
             literal, true},
};

}  // namespace

std::span<const ProbeRow> regression_probes() { return rows; }

}  // namespace lamina
