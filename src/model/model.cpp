// What all models share, their options, and the choice of the one that fits.
#include "model/model.hpp"

#include <array>
#include <cmath>

#include "model/causal_model.hpp"
#include "model/decoder_model.hpp"
#include "model/dense_model.hpp"
#include "model/feature_model.hpp"
#include "model/regression_model.hpp"
#include "model/rotation_model.hpp"
#include "model/tied_model.hpp"
#include "model/token_model.hpp"

namespace lamina {
namespace {

constexpr std::array rows{
    OptionRow{"variant", OptionKind::word, "full", 0, 0, "full|w_free|uv_free|original|reduced|catformer",
              "What is learnt: lambda of a tied W (full), W, lambda and the value and read-out matrices, or all matrices; of causal_structure: "
              "the theory's two matrices in two stages (reduced), or both attention layers and the read-out of one-hot streams (catformer)."},
    OptionRow{"attention", OptionKind::word, "linear", 0, 0, "softmax|linear|relu", "The map from scores to weights."},
    OptionRow{"feed_forward", OptionKind::word, "query_and_attention", 0, 0, "none|query|query_and_attention",
              "What the feed-forward part reads: nothing, x_H, or x_H + phi (variant w_free: query, unless set)."},
    OptionRow{"initialisation", OptionKind::word, "zero", 0, 0,
              "zero|gaussian|identity|c0|n1_star|n1_prime|c1|n2|relu_selector",
              "Where free parameters start, and at which construction the held ones stay; zero and gaussian hold the recommended "
              "construction (variants uv_free and original: gaussian, unless set). identity is for linear_regression."},
    OptionRow{"initial_scale", OptionKind::number, "0", -1e6, 1e6, "",
              "Standard deviation of gaussian entries (0 means 0.05), lambda at the start of a construction, sigma of linear_regression, a of "
              "mesa_optimisation, or beta_0 of causal_structure."},
    OptionRow{"value_scale", OptionKind::number, "1", -1e6, 1e6, "", "s, the factor of V in the constructions, at the start; b of mesa_optimisation."},
    OptionRow{"train_value_scale", OptionKind::word, "auto", 0, 0, "auto|yes|no",
              "Whether s is learnt; auto: in variant full with softmax attention, whose loss else stays above the Bayes risk."},
    OptionRow{"train_noise_logit", OptionKind::word, "no", 0, 0, "no|yes",
              "Whether the noise logit of the feed-forward part is learnt in variant full, else it is ln(alpha / (1 - alpha))."},
    OptionRow{"suppression", OptionKind::number, "0", 0, 1e6, "", "beta, what the constructions' W subtracts at tau."},
    OptionRow{"embedding", OptionKind::word, "one_hot", 0, 0, "one_hot|orthonormal",
              "The basis: the embeddings' own, exact and fast, or random orthonormal vectors in R^dimension, dense."},
    OptionRow{"dimension", OptionKind::integer, "0", 0, 65536, "",
              "d of orthonormal embeddings, at least 2 (vocabulary + 1); 0 means just that."},
    OptionRow{"precision", OptionKind::word, "f64", 0, 0, "f64|f32", "The type that the model computes in; parameters are f64."},
    OptionRow{"isa", OptionKind::text, "", 0, 0, "", "Instruction set to run, one of those the library lists; empty: the fastest."},
    OptionRow{"threads", OptionKind::integer, "0", 0, 1024, "", "Threads at most; 0 means all available. Never changes a bit."},
    OptionRow{"seed", OptionKind::integer, "1", 0, 9007199254740992.0, "", "Seed of samples and of initial values."},
};

std::unique_ptr<Model> make_recall_model(const Task& task, const Settings& settings, const kernels::InstructionSet& isa) {
  if (settings.is("initialisation", "identity")) fail(LAMINA_E_OPTION, "initialisation is identity, must be another for task " + std::string(task.name()));
  if (settings.is("embedding", "orthonormal")) return make_dense_model(task.law(), settings, isa);
  if (settings.is("variant", "full")) return make_tied_model(task.law(), settings, isa);
  return make_token_model(task.law(), settings, isa);
}

// One row for each kind of task.
constexpr struct {
  TaskKind kind;
  std::unique_ptr<Model> (*make)(const Task& task, const Settings& settings, const kernels::InstructionSet& isa);
} makers[] = {
    {recall_task, make_recall_model},
    {feature_task, make_feature_model},
    {next_token_task, make_decoder_model},
    {causal_task, make_causal_model},
    {regression_task, make_regression_model},
    {rotation_task, make_rotation_model},
};

}  // namespace

void fail_other_law(const std::string& what, double of_model, double of_task) {
  fail(LAMINA_E_ARGUMENT, "model is made for " + what + " " + number_text(of_model) + ", must be made for the task's " + number_text(of_task));
}

void Model::require_law_of(const Task& given) const {
  const RecallLaw& task = given.law();
  if (law_.vocabulary != task.vocabulary)
    fail_other_law("vocabulary", static_cast<double>(law_.vocabulary), static_cast<double>(task.vocabulary));
  if (law_.triggers != task.triggers)
    fail_other_law("other triggers, in number", static_cast<double>(law_.triggers.size()), static_cast<double>(task.triggers.size()));
  if (law_.noise != task.noise) fail_other_law("noise", law_.noise, task.noise);
}

// Any cut into parts gives the same prompts, since each is a function of its number alone.
std::unique_ptr<CompiledPrompts> Model::draw(const Task& task, const Draw& which, const Team& team, Prompts& drawn,
                                             std::unique_ptr<CompiledPrompts>) const {
  if (!task.concurrent() || team.threads() == 1) {
    task.sample(Split::train, which.seed, which.first, which.count, drawn);
  } else {
    constexpr int64_t part = 64;
    drawn.resize(which.count, task.positions());
    drawn.values.resize(static_cast<size_t>(which.count * task.values()));
    team.for_each((which.count + part - 1) / part, [&](int64_t chunk, int) {
      const int64_t first = chunk * part, count = std::min(part, which.count - first);
      Prompts some;
      task.sample(Split::train, which.seed, which.first + first, count, some);
      for (int64_t i = 0; i < count; ++i) drawn.copy_row(first + i, some, i);
    });
  }
  if (which.averaged) drawn.values.clear();
  return compile(drawn, {}, team);
}

void Model::set_parameters(std::span<const double> values) {
  if (values.size() != parameters_.size())
    fail_argument("count", static_cast<double>(values.size()), "the parameter count " + std::to_string(parameters_.size()));
  for (double value : values)
    if (!std::isfinite(value)) fail_argument("a parameter", value, "finite");
  parameters_.assign(values.begin(), values.end());
}

bool Model::has_tensor(const std::string& name) const {
  for (const TensorInfo& t : tensors_)
    if (t.name == name) return true;
  return false;
}

std::span<double> Model::tensor(const std::string& name) {
  for (const TensorInfo& t : tensors_)
    if (t.name == name) return {parameters_.data() + t.offset, static_cast<size_t>(t.count)};
  fail(LAMINA_E_ARGUMENT, "the model has no tensor " + name);
}

std::span<const OptionRow> model_options() { return rows; }

kernels::Map attention_map(const Settings& settings) {
  if (settings.is("attention", "softmax")) return kernels::Map::softmax;
  return settings.is("attention", "relu") ? kernels::Map::relu : kernels::Map::linear;
}

std::unique_ptr<Model> make_model(const Task& task, const Settings& given) {
  Settings settings = given;
  const bool free_matrices = task.kind() == recall_task && (settings.is("variant", "uv_free") || settings.is("variant", "original"));
  // Free value and read-out matrices at zero are a saddle without a gradient.
  if (free_matrices) settings.assume("initialisation", "gaussian");
  // w_free needs V = I and F on the query: under V = I - E(tau) E(tau)^T the column W[., E(tau)] has no gradient.
  if (settings.is("variant", "w_free")) settings.assume("feed_forward", "query");
  const std::string& name = settings.text("isa");
  const kernels::InstructionSet* isa = kernels::select(name.empty() ? nullptr : name.c_str());
  if (!isa) {
    std::string known;
    for (int32_t i = 0; i < kernels::count(); ++i) known += (i ? ", " : "") + std::string(kernels::at(i)->name);
    fail(LAMINA_E_UNSUPPORTED, "isa is " + (name.empty() ? "forced by LAMINA_ISA to a name" : name) +
                                   " that this build does not have or this CPU cannot run; allowed: " + known);
  }
  if (task.kind() != causal_task && (settings.is("variant", "reduced") || settings.is("variant", "catformer")))
    fail(LAMINA_E_OPTION, "variant is \"" + settings.text("variant") + "\", which is of causal_structure, must be another for task " + task.name());
  std::unique_ptr<Model> model;
  for (const auto& maker : makers)
    if (maker.kind == task.kind()) model = maker.make(task, settings, *isa);
  model->kind_ = task.kind(), model->form_ = task.form();
  return model;
}

}  // namespace lamina
