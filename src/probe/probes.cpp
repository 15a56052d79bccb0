// The registry of probes: each is a name, columns with definitions, and a few lines that fill them.
#include <array>
#include <limits>

#include "probe/probe.hpp"

namespace lamina {
namespace {

constexpr double undefined = std::numeric_limits<double>::quiet_NaN();

bool always(const Model&, const Task&, const Settings&) { return true; }

template <class... Names>
std::vector<Column> columns_of(Names... columns) {
  return {columns...};
}

std::span<const double> values_of(const Model& model, const char* tensor) {
  for (const TensorInfo& t : model.tensors())
    if (t.name == tensor) return {model.parameters().data() + t.offset, static_cast<size_t>(t.count)};
  return {};
}

// ---- parameters ----

bool has_lambda(const Model& model, const Task&, const Settings&) { return model.has_tensor("lambda"); }

std::vector<Column> lambda_columns(const Model& model, const Task& task) {
  std::vector<Column> columns;
  for (size_t i = 0; i < values_of(model, "lambda").size(); ++i)
    columns.push_back({"lambda_" + std::to_string(i),
                       "W[E(q), Et(q)] of trigger " + task.token_text(task.law().triggers[i]) + ", learnt"});
  return columns;
}

void lambdas(const ProbeState& state, std::vector<double>& row) {
  for (double value : values_of(state.model(), "lambda")) row.push_back(value);
}

bool scale_trained(const Model& model, const Task&, const Settings&) {
  for (const TensorInfo& t : model.tensors())
    if ((t.name == "value_scale" || t.name == "noise_logit") && t.trained) return true;
  return false;
}

void scales(const ProbeState& state, std::vector<double>& row) {
  for (const char* name : {"value_scale", "noise_logit"}) {
    const auto values = values_of(state.model(), name);
    row.push_back(values.empty() ? undefined : values[0]);
  }
}

bool has_w(const Model& model, const Task&, const Settings&) {
  return model.has_tensor("W") && model.settings().is("embedding", "one_hot");
}

// Means over the triggers q of W[E(q), .] by the class of the column.
void w_classes(const ProbeState& state, std::vector<double>& row) {
  const RecallLaw& law = state.task.law();
  const auto W = values_of(state.model(), "W");
  const int64_t K = law.vocabulary + 1, D = 2 * K;
  std::vector<char> special(K, 0);
  for (const auto* tokens : {&law.triggers, &law.outputs, &law.unseen})
    for (int32_t j : *tokens) special[j] = 1;
  std::vector<int32_t> neutral;
  for (int32_t j = 0; j < law.vocabulary; ++j)
    if (!special[j]) neutral.push_back(j);
  const auto mean = [&](const std::vector<int32_t>& tokens) {
    double sum = 0;
    for (int32_t q : law.triggers)
      for (int32_t j : tokens) sum += W[q * D + j];
    return tokens.empty() ? undefined : sum / static_cast<double>(tokens.size() * law.triggers.size());
  };
  double own = 0;
  for (int32_t q : law.triggers) own += W[q * D + K + q];
  row.push_back(own / static_cast<double>(law.triggers.size()));
  row.push_back(mean({static_cast<int32_t>(law.vocabulary)}));
  row.push_back(mean(law.outputs)), row.push_back(mean(law.unseen)), row.push_back(mean(neutral));
}

// ---- metrics ----

void masses(const ProbeState& state, std::vector<double>& row) {
  const Metrics& m = state.metrics(Split::train);
  row.insert(row.end(), {m.mass_answer, m.mass_noise, m.mass_other});
}

void predictions(const ProbeState& state, std::vector<double>& row) {
  const Metrics& m = state.metrics(Split::train);
  row.insert(row.end(), {m.accuracy, m.attention_accuracy, m.feed_forward_noise, m.answer_probability, m.noise_probability});
}

void test_split(const ProbeState& state, std::vector<double>& row) {
  const Metrics& m = state.metrics(Split::test);
  row.insert(row.end(), {m.loss.loss, m.loss.excess, m.accuracy});
}

void unseen_split(const ProbeState& state, std::vector<double>& row) {
  const Metrics& m = state.metrics(Split::unseen);
  row.insert(row.end(), {m.loss.loss, m.loss.excess, m.accuracy, m.attention_accuracy, m.feed_forward_noise});
}

// ---- the exact law ----

std::vector<Column> population_columns(const Model& model, const Task&) {
  return {{"population_loss", "the loss on the exact law, whatever data the run descends"},
          {"population_excess", "of population_loss: " + model.excess_column().definition}};
}

void population(const ProbeState& state, std::vector<double>& row) {
  const Loss loss = state.exact();
  row.insert(row.end(), {loss.loss, loss.excess});
}

bool has_test(const Model&, const Task& task, const Settings&) { return task.law().length > 0 && task.has(Split::test); }
bool has_unseen(const Model&, const Task& task, const Settings&) { return task.law().length > 0 && task.has(Split::unseen); }

constexpr std::array rows{
    ProbeRow{"lambda", recall_task, "Each lambda.", lambda_columns, lambdas, has_lambda, true},
    ProbeRow{"scale", recall_task, "The value scale s and the noise logit l.",
             [](const Model&, const Task&) {
               return columns_of(Column{"value_scale", "s, the factor of V"},
                                 Column{"noise_logit", "l, the log odds of tau that the feed-forward part adds"});
             },
             scales, scale_trained, true},
    ProbeRow{"w_classes", recall_task, "Entries of W by class of the key, means over the triggers q.",
             [](const Model&, const Task&) {
               return columns_of(Column{"w_previous", "mean of W[E(q), Et(q)]"}, Column{"w_noise", "mean of W[E(q), E(tau)]"},
                                 Column{"w_seen", "mean of W[E(q), E(y)] over outputs y"},
                                 Column{"w_unseen", "mean of W[E(q), E(y)] over unseen outputs y"},
                                 Column{"w_neutral", "mean of W[E(q), E(j)] over the other tokens j"});
             },
             w_classes, has_w, true},
    ProbeRow{"mass", recall_task, "Attention mass by class of the key, means over the training data.",
             [](const Model&, const Task&) {
               return columns_of(Column{"mass_answer", "sum of weights after the trigger on the answer"},
                                 Column{"mass_noise", "sum of weights after the trigger on tau"},
                                 Column{"mass_other", "sum of weights on all other positions"});
             },
             masses, always, true},
    ProbeRow{"predictions", recall_task, "What the whole model, attention alone and the feed-forward part alone predict on the training data.",
             [](const Model&, const Task&) {
               return columns_of(Column{"accuracy", "fraction whose largest logit but tau's is the answer's"},
                                 Column{"attention_accuracy", "fraction whose largest attention-only logit is the answer's"},
                                 Column{"feed_forward_noise", "fraction whose largest feed-forward-only logit is tau's"},
                                 Column{"p_answer", "mean probability of the answer"},
                                 Column{"p_noise", "mean probability of tau"});
             },
             predictions, always, true},
    ProbeRow{"test", recall_task, "Fresh prompts of the training law.",
             [](const Model&, const Task&) {
               return columns_of(Column{"test_loss", "cross-entropy on fresh prompts"},
                                 Column{"test_excess", "soft loss on fresh prompts minus h(noise)"},
                                 Column{"seen_accuracy", "fraction of fresh prompts whose largest logit but tau's is the answer's"});
             },
             test_split, has_test, true},
    ProbeRow{"unseen", recall_task, "Prompts whose answers never occurred as answers in training.",
             [](const Model&, const Task&) {
               return columns_of(
                   Column{"unseen_loss", "cross-entropy on prompts with unseen answers"},
                   Column{"unseen_excess", "soft loss on prompts with unseen answers minus h(noise)"},
                   Column{"unseen_accuracy", "fraction of them whose largest logit but tau's is the answer's"},
                   Column{"unseen_attention_accuracy", "fraction of them whose largest attention-only logit is the answer's"},
                   Column{"unseen_feed_forward_noise", "fraction of them whose largest feed-forward-only logit is tau's"});
             },
             unseen_split, has_unseen, true},
    ProbeRow{"population", feature_task | regression_task | rotation_task,
             "Loss and excess on the exact law at these parameters, where the columns loss and excess are of samples. The cost is a step's of "
             "data=population from parameters without symmetry.",
             population_columns, population, always, false},
};

}  // namespace

const Model& ProbeState::model() const { return present_model(); }

std::span<const ProbeRow> probe_registry() {
  static const auto all = [] {
    std::vector<ProbeRow> joined;
    for (const auto more : {prediction_probes(), std::span<const ProbeRow>(rows), feature_probes(), next_token_probes(), regression_probes(),
                            rotation_probes(), causal_probes()})
      joined.insert(joined.end(), more.begin(), more.end());
    return joined;
  }();
  return all;
}

const ProbeRow& find_probe(const std::string& name) {
  std::string known;
  for (const ProbeRow& row : probe_registry()) {
    if (row.name == name) return row;
    known += (known.empty() ? "" : ", ") + std::string(row.name);
  }
  fail(LAMINA_E_OPTION, "probe is " + name + ", must be one of " + known);
}

}  // namespace lamina
