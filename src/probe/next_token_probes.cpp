// Probes of next-token prediction: directions against the max-margin solutions, collocations, sentences.
#include <array>
#include <cmath>
#include <limits>

#include "probe/probe.hpp"
#include "theory/max_margin.hpp"

namespace lamina {
namespace {

bool always(const Model&, const Task&, const Settings&) { return true; }

std::span<const double> values_of(const Model& model, size_t tensor) {
  const TensorInfo& t = model.tensors()[tensor];
  return std::span(model.parameters()).subspan(static_cast<size_t>(t.offset), static_cast<size_t>(t.count));
}

// <A, B> in 16 lanes, so that the error does not grow with V^2.
double product(const Model& model, std::span<const double> A, std::span<const double> B) {
  std::vector<double> terms(A.size());
  for (size_t i = 0; i < terms.size(); ++i) terms[i] = A[i] * B[i];
  return model.isa().f64->sum(static_cast<int64_t>(terms.size()), terms.data());
}

double norm(const Model& model, std::span<const double> W) { return std::sqrt(product(model, W, W)); }

// <W, M> / (|W| |M|); NaN at W = 0.
double cosine(const Model& model, std::span<const double> W, const std::vector<double>& M) {
  const double w = norm(model, W);
  return w > 0 ? product(model, W, M) / (w * norm(model, M)) : std::numeric_limits<double>::quiet_NaN();
}

void directions(const ProbeState& state, std::vector<double>& row) {
  const NextTokenLaw& law = *state.task.next_token();
  const auto ov = values_of(state.model(), 0), kq = values_of(state.model(), 1);
  const Model& m = state.model();
  row.insert(row.end(), {cosine(m, ov, feed_forward_max_margin(law)), cosine(m, kq, attention_max_margin(law)), norm(m, ov), norm(m, kq)});
}

void collocations(const ProbeState& state, std::vector<double>& row) {
  const NextTokenLaw& law = *state.task.next_token();
  const auto V = law.vocabulary;
  const auto W = values_of(state.model(), 0);
  std::vector<double> logits(static_cast<size_t>(V));
  double loss = 0, hits = 0;
  for (int64_t x = 0; x < V; ++x) {
    for (int64_t y = 0; y < V; ++y) logits[static_cast<size_t>(y)] = W[static_cast<size_t>(y * V + x)];
    loss += law.collocation_law[static_cast<size_t>(x)] *
            state.model().isa().f64->cross_entropy(V, logits.data(), law.next[static_cast<size_t>(x)], nullptr);
    bool best = true;  // strictly: at W = 0 nothing is learnt
    for (int64_t y = 0; y < V; ++y)
      best = best && (y == law.next[static_cast<size_t>(x)] || logits[static_cast<size_t>(y)] < logits[static_cast<size_t>(law.next[static_cast<size_t>(x)])]);
    hits += best;
  }
  row.push_back(loss), row.push_back(hits / static_cast<double>(V));
}

void sentences(const ProbeState& state, std::vector<double>& row) {
  const Metrics& m = state.metrics(Split::train);
  row.insert(row.end(), {m.loss.loss, m.accuracy, m.mass_answer});
}

void fresh(const ProbeState& state, std::vector<double>& row) {
  const Metrics& m = state.metrics(Split::test);
  row.insert(row.end(), {m.loss.loss, m.accuracy});
}

void extended(const ProbeState& state, std::vector<double>& row) {
  const Metrics& m = state.metrics(Split::unseen);
  row.insert(row.end(), {m.loss.loss, m.accuracy, m.mass_answer});
}

constexpr std::array rows{
    ProbeRow{"directions", next_token_task, "W_ov and W_kq against the max-margin solutions of all sentences of the law.",
             [](const Model&, const Task&) {
               return std::vector<Column>{{"ov_cosine", "cosine of W_ov and its max-margin direction"},
                                          {"kq_cosine", "cosine of W_kq and its max-margin direction"},
                                          {"ov_norm", "Frobenius norm of W_ov"},
                                          {"kq_norm", "Frobenius norm of W_kq"}};
             },
             directions, always, true},
    ProbeRow{"collocations", next_token_task, "What the feed-forward part knows of the collocations.",
             [](const Model&, const Task&) {
               return std::vector<Column>{{"collocation_loss", "cross-entropy of all collocations, each token alone"},
                                          {"collocation_accuracy", "fraction whose largest logit is the right one"}};
             },
             collocations, always, true},
    ProbeRow{"sentences", next_token_task, "The sentences that are trained on.",
             [](const Model&, const Task&) {
               return std::vector<Column>{{"sentence_loss", "cross-entropy of the sentences"},
                                          {"accuracy", "fraction whose largest logit is the label's"},
                                          {"mass_optimal", "mean attention on the optimal token"}};
             },
             sentences, always, true},
    ProbeRow{"fresh", next_token_task, "New sentences of the same law.",
             [](const Model&, const Task&) {
               return std::vector<Column>{{"fresh_loss", "cross-entropy of new sentences"},
                                          {"fresh_accuracy", "fraction of them whose largest logit is the label's"}};
             },
             fresh, always, true},
    ProbeRow{"extended_orders", next_token_task, "Sentences with tokens that were never seen with their query, ranked between those above and below.",
             [](const Model&, const Task&) {
               return std::vector<Column>{{"extended_loss", "cross-entropy of sentences under the extended orders"},
                                          {"extended_accuracy", "fraction of them whose largest logit is the label's"},
                                          {"extended_mass", "mean attention on their optimal token"}};
             },
             extended, [](const Model&, const Task& task, const Settings&) { return task.has(Split::unseen); }, true},
};

}  // namespace

std::span<const ProbeRow> next_token_probes() { return rows; }

}  // namespace lamina
