// Closed forms on features, and their rows in the registry.
#include "theory/feature_forms.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "base/error.hpp"
#include "kernels/scalar_math.hpp"
#include "theory/feature_floor.hpp"
#include "theory/feature_phase.hpp"
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

double late_time(double K, double p, double eps) { return (K - 1) / (4 * K * p * eps); }

bool has_prediction(const FeatureLaw& law) { return law.masked && law.moments.empty(); }

const char* feature_prediction(const FeatureLaw& law) {
  if (!balanced(law) && one_apart(law)) return "gradient flow from Q = 0 for infinite prompts, of the rare features after their blow-up, many features";
  return balanced(law) ? "loss of gradient flow from Q = 0 for infinite prompts" : "(K - 1) / (4 eta t), to which the loss tends for infinite prompts";
}

double predicted_excess(const FeatureLaw& law, double time) {
  const double K = static_cast<double>(law.features);
  if (balanced(law)) return flow_loss(K, flow_attention(K, 1 / K, time, 1 / K));
  if (one_apart(law)) {
    const double p = law.probability[0], rare = law.probability[1], blow_up = K * K / (1 - p);
    if (time < blow_up || p < rare) return undefined;
    return p * flow_loss(K, flow_attention(K, p, time, p)) + (1 - p) * flow_loss(K, flow_attention(K, rare, time - blow_up, 0.5));
  }
  const double late = (K - 1) / (4 * time);
  return late < 0.125 ? late : undefined;
}

namespace {

using Arguments = std::span<const double>;
using Results = std::span<double>;

const FeatureLaw& law_of(const Task* task) { return *task->features(); }

double positive(const char* name, double value) {
  if (!(value > 0)) fail_argument(name, value, "positive");
  return value;
}

// What all closed courses are about: N = infinity, where the mask is of no account, or near it.
void require_linear(const FeatureLaw& law) {
  const char* const wrong = !law.moments.empty()                ? "second_moments is given, must be empty for a closed course of training"
                            : !law.masked && law.length >= 0 ? "mask is no, must be yes, or prompt_length inf, for a closed course of training"
                                                             : nullptr;
  if (wrong) fail(LAMINA_E_UNSUPPORTED, wrong);
}

// Feature 0 among others that are alike: what the closed flow is about.
double first_of_alike(const FeatureLaw& law) {
  require_linear(law);
  if (!one_apart(law))
    fail(LAMINA_E_UNSUPPORTED, "feature_law is one with unequal features besides feature 0, must be balanced or dominant for a closed flow");
  return law.probability[0];
}

// (|beta_{k,1}| - alpha_k) / (r (1 - p_1)) of a rare k at Q = 0, N = infinity: positive where its column begins in suppression.
double lead_at_zero(double K, double p) {
  const double s = 1 / (K - 1), r = s * (1 - p);
  return p * (p + s * (1 - r) - (K - 2) * s * r) - s * ((1 - r) * (1 - r) + p * p + (K - 2) * r * r);
}

// p_1 of a law whose rare columns go through a switch of leadership and a blow-up.
double first_of_rare(const FeatureLaw& law) {
  const double p = first_of_alike(law), K = static_cast<double>(law.features);
  if (law.features < 3) fail_argument("features", K, "at least 3 for the times of a rare feature");
  if (lead_at_zero(K, p) > 0) return p;
  double low = 1 / K, high = 1;
  while (high - low > 1e-12) {
    const double middle = 0.5 * (low + high);
    (lead_at_zero(K, middle) > 0 ? high : low) = middle;
  }
  fail_argument("dominant, p_1,", p, "above " + number_text(high) + " for leadership to switch in the column of a rare feature");
}

void time_to_small_loss(const Task* task, Arguments in, Results out) {
  const FeatureLaw& law = law_of(task);
  require_linear(law);
  const int64_t k = law.watched[0];
  const double p = law.probability[k], floor = infimum_of(law, kernels::Map::softmax, k);
  double start = 1 - 2 * p, squares = 0;  // L_k at Q = 0: 1/2 (1 - 2 p_k + P2 + (1 - P2) / N)
  for (double q : law.probability) squares += q * q;
  start = 0.5 * (start + squares + (law.length < 0 ? 0 : (1 - squares) / static_cast<double>(law.length)));
  if (!(in[0] > floor && in[0] < start))
    fail_argument("eps", in[0], "in (" + number_text(floor) + ", " + number_text(start) + "), between the infimum of the query's loss and its start");
  out[0] = late_time(static_cast<double>(law.features), p, in[0]);
}

void phase_of_query(const Task* task, Arguments in, Results out) {
  const FeatureLaw& law = law_of(task);
  require_matrix(law, in);
  if (const char* wrong = phaseless(law)) fail(LAMINA_E_UNSUPPORTED, wrong);
  const int64_t k = law.watched[0];
  out[0] = softmax_population(law).phase(k, logits_of(law, in, k));
}

void early_rare_logits(const Task* task, Arguments in, Results out) {
  const FeatureLaw& law = law_of(task);
  const double K = static_cast<double>(law.features), p = first_of_rare(law), tau = in[0] / (K * K), odds = p / (1 - p);
  if (!(tau >= 0 && (1 - p) * tau < 1)) fail_argument("eta t", in[0], "in [0, " + number_text(K * K / (1 - p)) + ")");
  out[0] = -kernels::log1p(-(1 - p) * tau);
  out[1] = -0.5 * kernels::log1p(2 * K * (1 - p) * odds * odds * tau);
}

constexpr std::array rows{
    TheoryRow{"phase_of_query",
              "The phase in which descent of the first watched query begins at Q: 1 suppression, 2 switching of leadership, 3 growth, 4 "
              "convergence. The largest of these at the steps of a run until one is its phase there (probe phase).",
              "Q -> phase", feature_task, -1, 1, phase_of_query},
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
                const double floor = infimum_of(law, kernels::Map::softmax, 0);
                if (!(eps > floor)) fail_argument("eps", eps, "above " + number_text(floor) + ", the infimum of the query's loss");
                out[0] = eps < flow_loss(K, p) ? flow_time_to_loss(K, p, eps) : 0;
              }},
    TheoryRow{"flow_attention", "Attention of query 0 to its own feature at eta t.", "eta t -> a", feature_task, 1, 1,
              [](const Task* task, Arguments in, Results out) {
                const FeatureLaw& law = law_of(task);
                if (!(in[0] >= 0)) fail_argument("eta t", in[0], ">= 0");
                const double p = first_of_alike(law);
                out[0] = flow_attention(static_cast<double>(law.features), p, in[0], p);
              }},
    TheoryRow{"increment_peak",
              "eta t at which alpha of feature 0, the others alike, is largest under gradient flow, which is where its attention is 1/3 "
              "(0 if it begins above), and alpha there; N = infinity.",
              "-> eta t, alpha", feature_task, 0, 2,
              [](const Task* task, Arguments, Results out) {
                const double p = first_of_alike(law_of(task)), K = static_cast<double>(law_of(task).features), a = std::max(p, 1.0 / 3);
                out[0] = a > p ? flow_time(K, p, a) : 0, out[1] = p * a * (1 - a) * (1 - a) * K / (K - 1);
              }},
    TheoryRow{"late_time",
              "To what eta t tends, as eps falls, at which the loss of the first watched query is eps: (K - 1) / (4 K p_k eps); N = infinity. Fast, as "
              "eps^(1/2), where the other features are alike; else as slowly as eps^((K + 1) / K^2).",
              "eps -> eta t", feature_task, 1, 1, time_to_small_loss, "--arguments 1e-3"},
    TheoryRow{"switch_time",
              "eta t / K^2 at which leadership switches in the column of a rare feature, p_1 fixed, K and N to infinity: 1 / (3 (1 - p_1)); then "
              "A = ln(3/2).",
              "-> scaled time", feature_task, 0, 1,
              [](const Task* task, Arguments, Results out) { out[0] = 1 / (3 * (1 - first_of_rare(law_of(task)))); },
              "dominant=0.5"},
    TheoryRow{"blow_up_time", "eta t / K^2 at which a rare column's attention leaves 0, p_1 fixed, K and N to infinity: 1 / (1 - p_1).",
              "-> scaled time", feature_task, 0, 1,
              [](const Task* task, Arguments, Results out) { out[0] = 1 / (1 - first_of_rare(law_of(task))); },
              "dominant=0.5"},
    TheoryRow{"early_rare_logits",
              "A and B_1 of a rare column at eta t before the blow-up, N = infinity, up to terms of order K^(-1/2): where the dominant feature's "
              "attention is still large, B_1 is not yet this.",
              "eta t -> A, B_1", feature_task, 1, 2, early_rare_logits, "dominant=0.5 --arguments 100"},
};

}  // namespace

std::span<const TheoryRow> feature_forms() { return rows; }

}  // namespace lamina
