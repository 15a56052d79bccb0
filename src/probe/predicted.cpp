// The probe `predicted`: the excess that a closed form gives for each step. One row for each kind of task that has one.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "probe/probe.hpp"
#include "theory/feature_forms.hpp"
#include "theory/max_margin.hpp"
#include "theory/recall_forms.hpp"
#include "theory/regression_population.hpp"
#include "theory/rotation_population.hpp"

namespace lamina {
namespace {

bool one_of(const Settings& training, std::initializer_list<const char*> optimisers) {
  return std::ranges::any_of(optimisers, [&](const char* word) { return training.is("optimiser", word); });
}

double time_of(const ProbeState& state) { return state.training.number("step_size") * static_cast<double>(state.step); }

// The closed form holds from lambda = 0 under normalised descent on the law or a sample of it, for uniform triggers.
bool recall_applies(const Model& model, const Task& task, const Settings& training) {
  const Settings& m = model.settings();
  const RecallLaw& law = task.law();
  if (!m.is("variant", "full") || m.is("attention", "softmax") || !training.is("optimiser", "ngd")) return false;
  if (m.number("initial_scale") != 0 || m.number("suppression") != 0 || m.number("value_scale") != 1) return false;
  if (m.is("train_value_scale", "yes") || m.is("train_noise_logit", "yes")) return false;
  if (law.noise > 0 && !m.is("feed_forward", "query_and_attention")) return false;
  if ((law.sampler != RecallLaw::Sampler::s1 && law.sampler != RecallLaw::Sampler::s3) || m.is("initialisation", "gaussian")) return false;
  if (law.noise > 0 && (m.is("initialisation", "c0") || m.is("initialisation", "c1") || m.is("initialisation", "n2"))) return false;
  for (double p : law.trigger_law)
    if (std::abs(p * static_cast<double>(law.trigger_law.size()) - 1) > 1e-12) return false;
  return true;
}

double recall_excess(const ProbeState& state) {
  return population_excess(state.task.law(), lambda_after(state.task.law(), state.training.number("step_size"), static_cast<double>(state.step),
                                                          state.training.text("normalisation")));
}

bool feature_applies(const Model& model, const Task& task, const Settings& training) {
  return model.settings().is("attention", "softmax") && one_of(training, {"gd", "sgd", "flow"}) && has_prediction(*task.features());
}

double feature_excess(const ProbeState& state) { return predicted_excess(*state.task.features(), time_of(state)); }

bool regression_applies(const Model& model, const Task& task, const Settings& training) {
  const Settings& m = model.settings();
  return m.is("variant", "full") && m.is("initialisation", "identity") && is_isotropic(*task.regression()) &&
         one_of(training, {"flow", "gd", "sgd"});
}

double regression_excess(const ProbeState& state) {
  const RegressionLaw& law = *state.task.regression();
  const double given = state.model().settings().number("initial_scale"), scale = given != 0 ? given : law.small_scale();
  return isotropic_excess(law, scale * scale / std::sqrt(static_cast<double>(law.dimension)), time_of(state));
}

// From a = b, which gradient flow keeps.
bool rotation_applies(const Model& model, const Task&, const Settings& training) {
  const Settings& m = model.settings();
  return m.is("variant", "full") && training.is("optimiser", "flow") && m.number("initial_scale") == m.number("value_scale") &&
         m.number("initial_scale") != 0;
}

double rotation_excess(const ProbeState& state) {
  const RotationPopulation& form = state.rotation();
  const double start = state.model().settings().number("initial_scale");
  return form.excess(form.flow(start * start, time_of(state)));
}

// Of the first stage, from 0 with equal weights; the second has a limit of its slope alone.
bool next_token_applies(const Model&, const Task& task, const Settings& training) {
  for (double p : task.next_token()->collocation_law)
    if (std::abs(p * static_cast<double>(task.next_token()->vocabulary) - 1) > 1e-12) return false;
  return training.is("optimiser", "ngd") && training.is("normalisation", "l2") && training.integer("stage_one_steps") > 0;
}

double next_token_excess(const ProbeState& state) {
  if (state.step >= state.training.integer("stage_one_steps")) return std::numeric_limits<double>::quiet_NaN();
  const double first = state.training.number("stage_one_step_size");
  return collocation_loss(static_cast<double>(state.task.next_token()->vocabulary), first != 0 ? first : state.training.number("step_size"),
                          static_cast<double>(state.step));
}

struct Prediction {
  TaskKind kind;
  std::string (*definition)(const Task& task);
  bool (*applies)(const Model& model, const Task& task, const Settings& training);
  double (*excess)(const ProbeState& state);
};

constexpr Prediction predictions[] = {
    {recall_task, [](const Task&) { return std::string("population excess at lambda = eta t / sqrt|Q| (l2), eta t / |Q| (l1), eta t (sign)"); },
     recall_applies, recall_excess},
    {feature_task, [](const Task& task) { return std::string(feature_prediction(*task.features())); }, feature_applies, feature_excess},
    {regression_task, [](const Task&) { return std::string("the logistic course of gradient flow for an isotropic covariance"); },
     regression_applies, regression_excess},
    {rotation_task, [](const Task&) { return std::string("the logistic course of a b under gradient flow from a = b"); }, rotation_applies,
     rotation_excess},
    {next_token_task, [](const Task&) { return std::string("stage 1: log(1 + (V-1) exp(-eta t / sqrt(V-1)))"); }, next_token_applies,
     next_token_excess},
};

const Prediction& prediction_of(const Task& task) {
  return *std::ranges::find(predictions, task.kind(), &Prediction::kind);
}

constexpr std::array rows{
    ProbeRow{"predicted", recall_task | feature_task | regression_task | rotation_task | next_token_task,
             "The excess that the closed form predicts for this step.",
             [](const Model&, const Task& task) { return std::vector<Column>{{"predicted", prediction_of(task).definition(task)}}; },
             [](const ProbeState& state, std::vector<double>& row) { row.push_back(prediction_of(state.task).excess(state)); },
             [](const Model& model, const Task& task, const Settings& training) { return prediction_of(task).applies(model, task, training); },
             true, true},
};

}  // namespace

std::span<const ProbeRow> prediction_probes() { return rows; }

}  // namespace lamina
