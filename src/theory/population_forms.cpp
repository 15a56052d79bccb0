// The exact population of the feature tasks as rows of the registry: loss, gradient, infima and attention at a Q of the caller's.
#include <algorithm>
#include <array>
#include <cmath>

#include "base/error.hpp"
#include "theory/feature_binomial.hpp"
#include "theory/feature_floor.hpp"
#include "theory/feature_forms.hpp"
#include "theory/feature_population.hpp"
#include "theory/theory.hpp"

namespace lamina {

void require_matrix(const FeatureLaw& law, std::span<const double> in) {
  const int64_t wanted = law.dimension * law.dimension;
  if (std::ssize(in) != wanted)
    fail_argument("argument_count", static_cast<double>(in.size()), "dimension^2 = " + std::to_string(wanted));
  for (double q : in)
    if (!std::isfinite(q)) fail_argument("an entry of Q", q, "finite");
}

std::vector<double> logits_of(const FeatureLaw& law, std::span<const double> Q, int64_t query) {
  std::vector<double> q;
  for (int64_t n = 0; n < law.features; ++n) q.push_back(Q[static_cast<size_t>(n * law.dimension + query)]);
  return q;
}

FeaturePopulation softmax_population(const FeatureLaw& law) {
  return FeaturePopulation(law, kernels::Map::softmax, *kernels::select(nullptr)->f64, true);
}

namespace {

using Arguments = std::span<const double>;
using Results = std::span<double>;
using kernels::Map;

const FeatureLaw& law_of(const Task* task) { return *task->features(); }

double population(const Task* task, Map map, Arguments in, double* gradient) {
  const FeatureLaw& law = law_of(task);
  require_matrix(law, in);
  const auto& table = *kernels::select(nullptr)->f64;
  FeaturePopulation form(law, map, table, true);
  std::vector<double> x(static_cast<size_t>(form.variables()));
  if (!form.gather(in.data(), law.dimension, x.data())) {
    form = FeaturePopulation(law, map, table, false);
    x.resize(static_cast<size_t>(form.variables()));
    form.gather(in.data(), law.dimension, x.data());
  }
  std::vector<double> slopes(x.size());
  const Team alone(1);
  const double loss = form.loss_and_gradient(x.data(), gradient ? slopes.data() : nullptr, alone);
  if (gradient) {
    std::fill_n(gradient, law.dimension * law.dimension, 0.0);
    form.scatter(slopes.data(), gradient, law.dimension);
  }
  return loss;
}

template <Map map>
void loss(const Task* task, Arguments in, Results out) {
  out[0] = population(task, map, in, nullptr);
}
template <Map map>
void gradient(const Task* task, Arguments in, Results out) {
  population(task, map, in, out.data());
}
template <Map map>
void infimum(const Task* task, Arguments, Results out) {
  out[0] = infimum_of(law_of(task), map);
}
// Not in line: three copies of its messages would be most of this file's code.
[[gnu::noinline]] void infimum_of_query(const Task* task, Map map, Arguments in, Results out) {
  const FeatureLaw& law = law_of(task);
  if (!(in[0] >= 0 && in[0] < static_cast<double>(law.features) && std::floor(in[0]) == in[0]))
    fail_argument("k", in[0], "a feature in [0, " + std::to_string(law.features - 1) + "]");
  out[0] = infimum_of(law, map, static_cast<int64_t>(in[0]));
}
template <Map map>
void query_infimum(const Task* task, Arguments in, Results out) {
  infimum_of_query(task, map, in, out);
}

void attention(const Task* task, Arguments in, Results out) {
  const FeatureLaw& law = law_of(task);
  require_matrix(law, in);
  std::ranges::fill(out, 0.0);
  FeaturePopulation form = softmax_population(law);
  for (int64_t k = 0; k < law.features; ++k) {
    const ColumnValue column = form.column(k, logits_of(law, in, k));
    for (int64_t n = 0; n < law.features; ++n) out[n * law.dimension + k] = column.attention[n];
  }
}

void binomial(const Task* task, Arguments in, Results out) {
  const FeatureLaw& law = law_of(task);
  const char* const wrong = !law.masked           ? "mask is no, must be yes for binomial_loss"
                            : law.length < 0      ? "prompt_length is inf, must be finite for binomial_loss"
                            : law.moments.empty() ? nullptr
                                                  : "second_moments is given, must be empty for binomial_loss";
  if (wrong) fail(LAMINA_E_UNSUPPORTED, wrong);
  for (int i = 0; i < 2; ++i)
    if (!std::isfinite(in[i])) fail_argument(i ? "B" : "A", in[i], "finite");
  const BinomialValue value = binomial_value(law, law.watched[0], in[0], in[1]);
  out[0] = value.loss, out[1] = value.alpha;
}

// L_k at Q = 0: 1/2 (1 - 2 p_k + P2 + (1 - P2) / N), P2 = sum p^2.
void at_zero(const Task* task, Arguments, Results out) {
  const FeatureLaw& law = law_of(task);
  out[0] = softmax_population(law).column(law.watched[0], std::vector<double>(static_cast<size_t>(law.features), 0.0)).loss;
}

constexpr std::array rows{
    TheoryRow{"population_loss", "The exact population loss of softmax attention at a merged matrix Q [d,d], by rows (row: key).",
              "Q -> loss", feature_task, -1, 1, loss<Map::softmax>},
    TheoryRow{"population_gradient", "Its gradient [d,d].", "Q -> gradient", feature_task, -1, -1, gradient<Map::softmax>},
    TheoryRow{"linear_population_loss", "The exact population loss of linear attention, divided by N, at Q [d,d]; the mask changes nothing.",
              "Q -> loss", feature_task, -1, 1, loss<Map::linear>},
    TheoryRow{"linear_population_gradient", "Its gradient [d,d].", "Q -> gradient", feature_task, -1, -1, gradient<Map::linear>},
    TheoryRow{"relu_population_loss", "The exact population loss of relu attention, divided by N, at Q [d,d]; the mask changes nothing.",
              "Q -> loss", feature_task, -1, 1, loss<Map::relu>},
    TheoryRow{"relu_population_gradient", "Its gradient [d,d]; at a logit of 0 the one from above.", "Q -> gradient", feature_task, -1, -1,
              gradient<Map::relu>},
    TheoryRow{"loss_infimum",
              "The infimum of the population loss of softmax attention at this prompt length; given second_moments, the least that descents found.",
              "-> loss", feature_task, 0, 1, infimum<Map::softmax>},
    TheoryRow{"linear_loss_infimum", "The same of linear attention.", "-> loss", feature_task, 0, 1, infimum<Map::linear>},
    TheoryRow{"relu_loss_infimum", "The same of relu attention: least squares over weights that are not negative.", "-> loss", feature_task, 0, 1,
              infimum<Map::relu>},
    TheoryRow{"query_infimum", "loss_infimum given that the query is feature k.", "k -> loss", feature_task, 1, 1,
              query_infimum<Map::softmax>, "--arguments 3"},
    TheoryRow{"linear_query_infimum", "The same of linear attention.", "k -> loss", feature_task, 1, 1, query_infimum<Map::linear>, "--arguments 3"},
    TheoryRow{"relu_query_infimum", "The same of relu attention.", "k -> loss", feature_task, 1, 1, query_infimum<Map::relu>, "--arguments 3"},
    TheoryRow{"binomial_loss",
              "Loss of the first watched query, and minus the gradient by A, with logit A on its own feature and B on all others: a sum over its "
              "count, as exact near the floor as far from it (mask=yes, f linear).",
              "A, B -> loss, alpha", feature_task, 2, 2, binomial},
    TheoryRow{"population_attention", "Mean attention E a_n, of softmax, of query k (column) to feature n (row) [d,d].", "Q -> attention",
              feature_task, -1, -1, attention},
    TheoryRow{"loss_at_zero", "The population loss of the first watched query at Q = 0, of softmax attention.", "-> loss", feature_task, 0, 1, at_zero},
};

}  // namespace

std::span<const TheoryRow> population_forms() { return rows; }

}  // namespace lamina
