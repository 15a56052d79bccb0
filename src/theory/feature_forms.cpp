// Closed forms on features, and their rows in the registry.
#include "theory/feature_forms.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "base/error.hpp"
#include "kernels/scalar_math.hpp"
#include "theory/feature_floor.hpp"
#include "theory/feature_population.hpp"
#include "theory/theory.hpp"

namespace lamina {
namespace {

using kernels::exp;
using kernels::log;

constexpr double undefined = std::numeric_limits<double>::quiet_NaN();

bool balanced(const FeatureLaw& law) {
  for (double p : law.probability)
    if (p != law.probability[0]) return false;
  return true;
}

// Feature 0 among others that are alike.
bool one_apart(const FeatureLaw& law) {
  for (int64_t k = 2; k < law.features; ++k)
    if (law.probability[k] != law.probability[1]) return false;
  return true;
}

// L_k of the flow at attention a.
double flow_loss(double K, double a) { return 0.5 * (1 - a) * (1 - a) * K / (K - 1); }

}  // namespace

double flow_integral(double a) {
  const double rest = 1 - a;
  return 3 * log(a / rest) - 1 / a + 2 / rest + 1 / (2 * rest * rest);
}

double flow_time(double K, double p, double attention) {
  const double ratio = (K - 1) / K;
  return ratio * ratio / p * (flow_integral(attention) - flow_integral(p));
}

double flow_time_to_loss(double K, double p, double eps) { return flow_time(K, p, 1 - std::sqrt(2 * eps * (K - 1) / K)); }

// Newton's method in the log-odds z of a, where F rises by 1 / (a (1-a)^2) per unit, inside a bracket that halves.
double flow_attention(double K, double p, double time, double start) {
  const double ratio = K / (K - 1), want = flow_integral(start) + p * ratio * ratio * time;
  const auto attention = [](double z) { return 1 / (1 + exp(-z)); };
  double low = log(start / (1 - start)), high = low + 1, z = low;
  while (flow_integral(attention(high)) < want && high < 30) high += high - low;
  for (int iteration = 0; iteration < 200; ++iteration) {
    const double a = attention(z), error = flow_integral(a) - want;
    (error > 0 ? high : low) = z;
    const double next = z - error * a * (1 - a) * (1 - a);
    const double before = z;
    z = next > low && next < high ? next : 0.5 * (low + high);
    if (std::abs(z - before) < 1e-14 * (1 + std::abs(z))) break;
  }
  return attention(z);
}

bool has_prediction(const FeatureLaw& law) { return law.masked && law.moments.empty(); }

const char* feature_prediction(const FeatureLaw& law) {
  if (!balanced(law) && one_apart(law)) return "gradient flow from Q = 0 for infinite prompts, of the rare features after their blow-up, many features";
  return balanced(law) ? "loss of gradient flow from Q = 0 for infinite prompts" : "K / (4 eta t), to which the loss tends for infinite prompts";
}

double predicted_excess(const FeatureLaw& law, double time) {
  const double K = static_cast<double>(law.features);
  if (balanced(law)) return flow_loss(K, flow_attention(K, 1 / K, time, 1 / K));
  if (one_apart(law)) {
    const double p = law.probability[0], rare = law.probability[1], blow_up = K * K / (1 - p);
    if (time < blow_up || p < rare) return undefined;
    return p * flow_loss(K, flow_attention(K, p, time, p)) + (1 - p) * flow_loss(K, flow_attention(K, rare, time - blow_up, 0.5));
  }
  const double late = K / (4 * time);
  return late < 0.125 ? late : undefined;
}

int phase_of(const FeatureLaw& law, int64_t query, const ColumnValue& column) {
  int64_t leader = query == 0 ? 1 : 0;
  for (int64_t n = 0; n < law.features; ++n)
    if (n != query && law.probability[n] > law.probability[leader]) leader = n;
  if (column.descent[query] < -column.descent[leader]) return 1;
  if (column.attention[query] >= 0.5) return 4;
  return column.attention[query] < column.attention[leader] ? 2 : 3;
}

namespace {

using Arguments = std::span<const double>;
using Results = std::span<double>;

const FeatureLaw& law_of(const Task* task) { return *task->features(); }

kernels::Map map_of(const Task* task) {
  (void)task;
  return kernels::Map::softmax;
}

void require_matrix(const FeatureLaw& law, Arguments in) {
  const int64_t wanted = law.dimension * law.dimension;
  if (std::ssize(in) != wanted)
    fail_argument("argument_count", static_cast<double>(in.size()), "dimension^2 = " + std::to_string(wanted));
  for (double q : in)
    if (!std::isfinite(q)) fail_argument("an entry of Q", q, "finite");
}

double positive(const char* name, double value) {
  if (!(value > 0)) fail_argument(name, value, "positive");
  return value;
}

// Feature 0 among others that are alike: what the closed flow is about.
double first_of_alike(const FeatureLaw& law) {
  if (!one_apart(law))
    fail(LAMINA_E_UNSUPPORTED, "feature_law is one with unequal features besides feature 0, must be balanced or dominant for a closed flow");
  if (!law.moments.empty()) fail(LAMINA_E_UNSUPPORTED, "second_moments is given, must be empty for a closed flow");
  return law.probability[0];
}

// L_k at Q = 0: 1/2 (1 - 2 p_k + P2 + (1 - P2) / N), P2 = sum p^2.
double loss_at_zero(const FeatureLaw& law, int64_t k) {
  FeaturePopulation form(law, kernels::Map::softmax, *kernels::select(nullptr)->f64, true);
  return form.column(k, std::vector<double>(static_cast<size_t>(law.features), 0.0)).loss;
}

ColumnValue column_at(const FeatureLaw& law, int64_t k, Arguments Q) {
  std::vector<double> q;
  for (int64_t n = 0; n < law.features; ++n) q.push_back(Q[n * law.dimension + k]);
  return FeaturePopulation(law, kernels::Map::softmax, *kernels::select(nullptr)->f64, true).column(k, q);
}

double population(const Task* task, Arguments in, double* gradient) {
  const FeatureLaw& law = law_of(task);
  require_matrix(law, in);
  FeaturePopulation form(law, map_of(task), *kernels::select(nullptr)->f64, true);
  std::vector<double> x(static_cast<size_t>(form.variables()));
  if (!form.gather(in.data(), law.dimension, x.data())) {
    form = FeaturePopulation(law, map_of(task), *kernels::select(nullptr)->f64, false);
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

constexpr std::array rows{
    TheoryRow{"population_loss", "The exact population loss of softmax attention at a merged matrix Q [d,d], by rows (row: key).",
              "Q -> loss", feature_task, -1, 1, [](const Task* task, Arguments in, Results out) { out[0] = population(task, in, nullptr); }},
    TheoryRow{"population_gradient", "Its gradient [d,d].", "Q -> gradient", feature_task, -1, -1,
              [](const Task* task, Arguments in, Results out) { population(task, in, out.data()); }},
    TheoryRow{"loss_infimum", "The infimum of the population loss at this prompt length.", "-> loss", feature_task, 0, 1,
              [](const Task* task, Arguments, Results out) { out[0] = infimum_of(law_of(task), map_of(task)); }},
    TheoryRow{"linear_loss_infimum", "The same of linear attention.", "-> loss", feature_task, 0, 1,
              [](const Task* task, Arguments, Results out) { out[0] = infimum_of(law_of(task), kernels::Map::linear); }},
    TheoryRow{"population_attention", "Mean attention E a_n of query k (column) to feature n (row) [d,d].", "Q -> attention", feature_task, -1, -1,
              [](const Task* task, Arguments in, Results out) {
                const FeatureLaw& law = law_of(task);
                require_matrix(law, in);
                std::ranges::fill(out, 0.0);
                for (int64_t k = 0; k < law.features; ++k) {
                  const ColumnValue column = column_at(law, k, in);
                  for (int64_t n = 0; n < law.features; ++n) out[n * law.dimension + k] = column.attention[n];
                }
              }},
    TheoryRow{"phase_of_query", "The phase of the first watched query: 1 suppression, 2 switching of leadership, 3 growth, 4 convergence.",
              "Q -> phase", feature_task, -1, 1,
              [](const Task* task, Arguments in, Results out) {
                const FeatureLaw& law = law_of(task);
                require_matrix(law, in);
                out[0] = phase_of(law, law.watched[0], column_at(law, law.watched[0], in));
              }},
    TheoryRow{"loss_at_zero", "The population loss of the first watched query at Q = 0.", "-> loss", feature_task, 0, 1,
              [](const Task* task, Arguments, Results out) { out[0] = loss_at_zero(law_of(task), law_of(task).watched[0]); }},
    TheoryRow{"flow_time", "eta t at which gradient flow from Q = 0 has attention a on feature 0, the others alike, N = infinity.", "a -> eta t",
              feature_task, 1, 1,
              [](const Task* task, Arguments in, Results out) {
                const FeatureLaw& law = law_of(task);
                const double p = first_of_alike(law);
                if (!(in[0] >= p && in[0] < 1)) fail_argument("a", in[0], "in [" + number_text(p) + ", 1)");
                out[0] = flow_time(static_cast<double>(law.features), p, in[0]);
              }},
    TheoryRow{"flow_time_to_loss", "eta t from which the loss of query 0 is at most eps.", "eps -> eta t", feature_task, 1, 1,
              [](const Task* task, Arguments in, Results out) {
                const FeatureLaw& law = law_of(task);
                const double p = first_of_alike(law);
                const double K = static_cast<double>(law.features), eps = positive("eps", in[0]);
                out[0] = eps < flow_loss(K, p) ? flow_time_to_loss(K, p, eps) : 0;
              }},
    TheoryRow{"flow_attention", "Attention of query 0 to its own feature at eta t.", "eta t -> a", feature_task, 1, 1,
              [](const Task* task, Arguments in, Results out) {
                const FeatureLaw& law = law_of(task);
                if (!(in[0] >= 0)) fail_argument("eta t", in[0], ">= 0");
                const double p = first_of_alike(law);
                out[0] = flow_attention(static_cast<double>(law.features), p, in[0], p);
              }},
    TheoryRow{"late_time", "The limit of eta t at which the loss of the first watched query is eps, as eps falls: 1 / (4 p_k eps).",
              "eps -> eta t", feature_task, 1, 1,
              [](const Task* task, Arguments in, Results out) {
                out[0] = 1 / (4 * law_of(task).probability[law_of(task).watched[0]] * positive("eps", in[0]));
              }},
    TheoryRow{"switch_time", "eta t / K^2 at which leadership switches in a rare column, K large: 1 / (3 (1 - p_1)); then A = ln(3/2).", "-> scaled time",
              feature_task, 0, 1, [](const Task* task, Arguments, Results out) { out[0] = 1 / (3 * (1 - law_of(task).probability[0])); }},
    TheoryRow{"blow_up_time", "eta t / K^2 at which a rare column's attention leaves 0, K large: 1 / (1 - p_1).", "-> scaled time", feature_task, 0, 1,
              [](const Task* task, Arguments, Results out) { out[0] = 1 / (1 - law_of(task).probability[0]); }},
    TheoryRow{"early_rare_logits", "A and B_1 of a rare column at eta t before the blow-up, K large.", "eta t -> A, B_1", feature_task, 1, 2,
              [](const Task* task, Arguments in, Results out) {
                const FeatureLaw& law = law_of(task);
                const double K = static_cast<double>(law.features), p = law.probability[0], tau = in[0] / (K * K), odds = p / (1 - p);
                if (!(tau >= 0 && (1 - p) * tau < 1)) fail_argument("eta t", in[0], "in [0, " + number_text(K * K / (1 - p)) + ")");
                out[0] = -kernels::log1p(-(1 - p) * tau);
                out[1] = -0.5 * kernels::log1p(2 * K * (1 - p) * odds * odds * tau);
              }},
};

}  // namespace

std::span<const TheoryRow> feature_forms() { return rows; }

}  // namespace lamina
