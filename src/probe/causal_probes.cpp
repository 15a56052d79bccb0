// Probes of causal structure: what A1 knows of the graph, what A2 is, losses beside the posterior mean's.
#include <algorithm>
#include <array>
#include <limits>

#include "model/catformer_model.hpp"
#include "probe/probe.hpp"

namespace lamina {
namespace {

bool always(const Model&, const Task&, const Settings&) { return true; }

bool is_catformer(const Model& model, const Task&, const Settings&) { return model.settings().is("variant", "catformer"); }

// Entries of the matrices between positions and between tokens, whichever the model.
struct Entries {
  explicit Entries(const ProbeState& state)
      : whole(is_catformer(state.model(), state.task, state.training)), at(*state.task.causal()),
        parameters(state.model().parameters().data()) {}
  const double* positions(size_t i) const { return parameters + (whole ? at.positions(i, 0) : i * at.T); }
  double tokens(size_t query, size_t attended) const { return parameters[whole ? at.tokens(query, attended) : at.T * at.T + query * at.S + attended]; }
  bool whole;
  CatformerPlaces at;
  const double* parameters;
};

// softmax(A1) at the parents, and whether A1 is largest there. Roots have none and are left out.
void parents(const ProbeState& state, std::vector<double>& row) {
  const CausalLaw& law = *state.task.causal();
  double found = 0, sum = 0, least = std::numeric_limits<double>::infinity(), nodes = 0;
  std::vector<double> P(static_cast<size_t>(law.length));
  for (size_t i = 0; i < law.parent.size(); ++i) {
    if (law.parent[i] < 0) continue;
    const double* A = Entries(state).positions(i);
    const auto n = static_cast<int64_t>(i) + 1;
    const double most = *std::max_element(A, A + n);
    for (int64_t j = 0; j < n; ++j) P[static_cast<size_t>(j)] = A[j] - most;
    state.model().isa().f64->exp(n, P.data(), P.data());
    double z = 0;
    for (int64_t j = 0; j < n; ++j) z += P[static_cast<size_t>(j)];
    const double weight = P[static_cast<size_t>(law.parent[i])] / z;
    found += std::count(A, A + n, most) == 1 && A[law.parent[i]] == most;
    sum += weight, least = std::min(least, weight), nodes += 1;
  }
  row.insert(row.end(), {found / nodes, sum / nodes, least});
}

bool has_parents(const Model&, const Task& task, const Settings&) {
  return std::ranges::any_of(task.causal()->parent, [](int32_t parent) { return parent >= 0; });
}

// The diagonal of an S x S matrix: mean, least, largest; the mean of the other entries.
template <class Entry>
void diagonal_of(size_t S, Entry entry, std::vector<double>& row) {
  double diagonal = 0, others = 0, least = std::numeric_limits<double>::infinity(), most = -least;
  for (size_t s = 0; s < S; ++s)
    for (size_t t = 0; t < S; ++t) {
      const double value = entry(s, t);
      if (s != t) others += value;
      else diagonal += value, least = std::min(least, value), most = std::max(most, value);
    }
  const auto n = static_cast<double>(S);
  row.insert(row.end(), {diagonal / n, least, most, others / (n * (n - 1))});
}

void token_matrix(const ProbeState& state, std::vector<double>& row) {
  const Entries entries(state);
  diagonal_of(entries.at.S, [&](size_t s, size_t t) { return entries.tokens(s, t); }, row);
}

void read_out(const ProbeState& state, std::vector<double>& row) {
  const Entries entries(state);
  diagonal_of(entries.at.S, [&](size_t s, size_t y) { return entries.parameters[entries.at.read_out(s, y)]; }, row);
}

void first_layer(const ProbeState& state, std::vector<double>& row) { row.push_back(state.metrics(Split::test).mass_parent); }

void masses(const ProbeState& state, std::vector<double>& row) {
  const Metrics& m = state.metrics(Split::train);
  row.insert(row.end(), {m.mass_answer, m.loss.loss - m.loss.excess});
}

void fresh(const ProbeState& state, std::vector<double>& row) {
  const Metrics& m = state.metrics(Split::test);
  row.insert(row.end(), {m.loss.loss, m.loss.excess, m.accuracy});
}

constexpr std::array rows{
    ProbeRow{"parents", causal_task, "What A1 knows of the graph, over the positions that have a parent (catformer: its block between positions).",
             [](const Model&, const Task&) {
               return std::vector<Column>{{"parents_found", "fraction whose largest entry of A1 is the parent's"},
                                          {"parent_attention", "mean of softmax(A1) at the parent"},
                                          {"parent_attention_least", "the least of them"}};
             },
             parents, has_parents, true},
    ProbeRow{"token_matrix", causal_task, "A2, which compares the query with the attended token (catformer: that block of it).",
             [](const Model&, const Task&) {
               return std::vector<Column>{{"diagonal", "mean of the diagonal of A2"},
                                          {"diagonal_least", "its least entry"},
                                          {"diagonal_most", "its largest entry"},
                                          {"off_diagonal", "mean of the other entries"}};
             },
             token_matrix, always, true},
    ProbeRow{"read_out", causal_task, "The block of W that reads tokens the second layer attends to.",
             [](const Model&, const Task&) {
               return std::vector<Column>{{"read_out_diagonal", "mean of the diagonal of that block"},
                                          {"read_out_least", "its least entry"},
                                          {"read_out_most", "its largest entry"},
                                          {"read_out_others", "mean of the other entries"}};
             },
             read_out, is_catformer, true},
    ProbeRow{"first_layer", causal_task, "Attention of the first layer on new sequences, tokens' part in it too.",
             [](const Model&, const Task&) {
               return std::vector<Column>{{"mass_parent", "mean attention of a position on its parent"}};
             },
             first_layer, is_catformer, true},
    ProbeRow{"children", causal_task, "Attention on the right positions, and what the best estimate from them loses.",
             [](const Model&, const Task&) {
               return std::vector<Column>{{"mass_children", "mean attention on children of the query's copies"},
                                          {"posterior_loss", "loss of the posterior mean from their counts, the same epsilon in it"}};
             },
             masses, always, true},
    ProbeRow{"new_sequences", causal_task, "New sequences of the same law.",
             [](const Model&, const Task&) {
               return std::vector<Column>{{"new_loss", "loss on new sequences"},
                                          {"new_excess", "that minus the loss of the posterior mean"},
                                          {"new_accuracy", "fraction whose largest prediction is the likeliest token"}};
             },
             fresh, always, true},
};

}  // namespace

std::span<const ProbeRow> causal_probes() { return rows; }

}  // namespace lamina
