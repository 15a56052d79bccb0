// Closed forms of the tied model on in-context recall, and their rows in the registry.
#include "theory/recall_forms.hpp"

#include <array>
#include <cmath>

#include "kernels/scalar_math.hpp"
#include "theory/recall_law.hpp"
#include "theory/theory.hpp"

namespace lamina {
namespace {

using kernels::exp;
using kernels::log;
using kernels::log1p;

double wrong_tokens(const RecallLaw& law) { return static_cast<double>(law.vocabulary) - (law.noise > 0 ? 1 : 0); }

double entropy(double alpha) { return alpha <= 0 || alpha >= 1 ? 0.0 : -alpha * log(alpha) - (1 - alpha) * log1p(-alpha); }

const char* const norms[] = {"l2", "l1", "sign"};

std::string norm_name(double number) {
  if (number != 0 && number != 1 && number != 2) fail_argument("normalisation", number, "0 (l2), 1 (l1) or 2 (sign)");
  return norms[static_cast<int>(number)];
}

double probability(const char* name, double value) {
  if (!(value >= 0 && value <= 1)) fail_argument(name, value, "in [0, 1]");
  return value;
}

}  // namespace

double population_excess(const RecallLaw& law, double lambda) {
  const CountLaw counts = count_law(law);
  const double factor = wrong_tokens(law) * (1 - law.noise);
  double sum = 0;
  for (size_t i = 0; i < counts.probability.size(); ++i)
    sum += counts.probability[i] * log1p(factor * exp(-lambda * static_cast<double>(counts.answer[i])));
  return sum;
}

double population_excess_slope(const RecallLaw& law, double lambda) {
  const CountLaw counts = count_law(law);
  const double factor = wrong_tokens(law) * (1 - law.noise);
  double sum = 0;
  for (size_t i = 0; i < counts.probability.size(); ++i) {
    const double n = static_cast<double>(counts.answer[i]), e = factor * exp(-lambda * n);
    sum -= counts.probability[i] * n * e / (1 + e);
  }
  return sum;
}

double lambda_after(const RecallLaw& law, double step_size, double steps, const std::string& normalisation) {
  const double triggers = static_cast<double>(law.triggers.size());
  const double divisor = normalisation == "l2" ? std::sqrt(triggers) : normalisation == "l1" ? triggers : 1.0;
  return step_size * steps / divisor;
}

double estimate_excess(double alpha, double estimate) {
  const auto term = [](double p, double q) { return p > 0 ? p * log(p / q) : 0.0; };
  return term(alpha, estimate) + term(1 - alpha, 1 - estimate);
}

double unforced_bayes_risk(double alpha, double answers, double mean_power) {
  return entropy(alpha) + (1 - alpha) * log(answers) * mean_power;
}

namespace {

using Arguments = std::span<const double>;
using Results = std::span<double>;

constexpr std::array rows{
    TheoryRow{"bayes_risk", "The least possible loss: h(noise), since the context identifies the answer.", "-> risk", recall_task, 0, 1,
              [](const Task* task, Arguments, Results out) { out[0] = entropy(task->law().noise); }},
    TheoryRow{"binary_entropy", "h(alpha) = -alpha ln alpha - (1 - alpha) ln(1 - alpha), in nats.", "alpha -> h", 0, 1, 1,
              [](const Task*, Arguments in, Results out) { out[0] = entropy(probability("alpha", in[0])); }},
    TheoryRow{"population_excess",
              "Population loss minus the Bayes risk of the tied model with linear or relu attention at one lambda for all triggers.",
              "lambda -> excess", recall_task, 1, 1,
              [](const Task* task, Arguments in, Results out) { out[0] = population_excess(task->law(), in[0]); }},
    TheoryRow{"population_excess_slope", "The derivative of population_excess by lambda.", "lambda -> slope", recall_task, 1, 1,
              [](const Task* task, Arguments in, Results out) { out[0] = population_excess_slope(task->law(), in[0]); }},
    TheoryRow{"lambda_after", "lambda after t steps of normalised descent from 0, uniform triggers (normalisation 0 l2, 1 l1, 2 sign).",
              "step_size, t, normalisation -> lambda", recall_task, 3, 1,
              [](const Task* task, Arguments in, Results out) { out[0] = lambda_after(task->law(), in[0], in[1], norm_name(in[2])); }},
    TheoryRow{"excess_after", "population_excess at lambda_after: the predicted curve of a run from lambda = 0.",
              "step_size, t, normalisation -> excess", recall_task, 3, 1,
              [](const Task* task, Arguments in, Results out) {
                out[0] = population_excess(task->law(), lambda_after(task->law(), in[0], in[1], norm_name(in[2])));
              }},
    TheoryRow{"asymptotic_slope", "The limit of d ln(excess) / dt under normalised descent, where a count of 1 is possible.",
              "step_size, normalisation -> slope", recall_task, 2, 1,
              [](const Task* task, Arguments in, Results out) { out[0] = -lambda_after(task->law(), in[0], 1, norm_name(in[1])); }},
    TheoryRow{"estimate_excess", "KL(alpha || estimate): the excess that remains when the noise is estimated from a sample.",
              "alpha, estimate -> excess", 0, 2, 1,
              [](const Task*, Arguments in, Results out) {
                out[0] = estimate_excess(probability("alpha", in[0]), probability("estimate", in[1]));
              }},
    TheoryRow{"sample_floor", "Its mean over training sets of M labels, to leading order: 1 / (2 M).", "M -> excess", 0, 1, 1,
              [](const Task*, Arguments in, Results out) {
                if (!(in[0] >= 1)) fail_argument("M", in[0], ">= 1");
                out[0] = 1 / (2 * in[0]);
              }},
    TheoryRow{"noise_switch_lambda", "lambda n_y beyond which the feed-forward part of n1_star alone predicts tau: ln((1-a)/a).",
              "alpha -> lambda n", 0, 1, 1,
              [](const Task*, Arguments in, Results out) {
                const double a = probability("alpha", in[0]);
                out[0] = log1p(-a) - log(a);
              }},
    TheoryRow{"softmax_floor", "The limit lambda -> infinity of the softmax model's excess at value scale s: ln(1 + wrong (1-a) e^-s).",
              "s -> excess", recall_task, 1, 1,
              [](const Task* task, Arguments in, Results out) {
                out[0] = log1p(wrong_tokens(task->law()) * (1 - task->law().noise) * exp(-in[0]));
              }},
    TheoryRow{"unforced_bayes_risk",
              "Bayes risk when no successor of the trigger need be the answer (arXiv 2406.03068): h(a) + (1-a) ln(n) E a^k.",
              "alpha, answers, mean of alpha^k -> risk", 0, 3, 1,
              [](const Task*, Arguments in, Results out) {
                out[0] = unforced_bayes_risk(probability("alpha", in[0]), in[1], in[2]);
              }},
    TheoryRow{"first_step",
              "Descent direction of W at W = 0 given one trigger (linear attention, V = I, F = 0): entries at Et(q), E(tau), E(y).",
              "-> previous, noise, answer", recall_task, 0, 3,
              [](const Task* task, Arguments, Results out) {
                const RecallLaw& law = task->law();
                const CountLaw counts = count_law(law);
                double answers = 0, noises = 0;
                for (size_t i = 0; i < counts.probability.size(); ++i) {
                  answers += counts.probability[i] * static_cast<double>(counts.answer[i]);
                  noises += counts.probability[i] * static_cast<double>(counts.noise[i]);
                }
                const double a = law.noise, K = static_cast<double>(law.vocabulary + 1);
                out[0] = (1 - a) * answers + a * noises - (answers + noises) / K;
                out[1] = noises * (a - 1 / K);
                out[2] = answers * ((1 - a) - 1 / K) / static_cast<double>(law.outputs.size());
              }},
};

}  // namespace

std::span<const TheoryRow> recall_forms() { return rows; }

}  // namespace lamina
