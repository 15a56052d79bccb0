// A one-layer transformer read at the last position of a prompt. Of tokens:
//   x_h = E(z_h) + Et(z_{h-1}),  s_h = x_H^T W x_h,  a = map(s),  phi = V sum_h a_h x_h,
//   g = x_H + phi or x_H,  xi = U (phi + F g),  p = softmax(xi).
// Embeddings E, Et are orthonormal, so that in their own basis the model is a function of token pairs: scores are look-ups.
// Notation: N regular tokens, tau = N, K = N + 1 logits, D = 2 K basis vectors (E(j) = e_j, Et(j) = e_{K+j}).
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/options.hpp"
#include "base/parallel.hpp"
#include "kernels/kernels.hpp"
#include "task/task.hpp"

namespace lamina {

struct TensorInfo {
  std::string name;
  std::vector<int64_t> shape;
  int64_t offset = 0, count = 0;
  bool trained = true;
  int stage = 0;  // of a training in two, 1 or 2: the other leaves it alone; 0: moves in both
};

enum class LogitPart : int32_t { all = 0, attention = 1, feed_forward = 2 };  // as LAMINA_LOGITS*

// Mean cross-entropy in nats, and the soft loss (expectation over the label) minus the Bayes risk h(noise).
struct Loss {
  double loss = 0, excess = 0;
};

// Weighted means over a set of prompts.
struct Metrics {
  Loss loss;
  double accuracy = 0;              // largest logit but tau's is the answer's (ties: lower token)
  double attention_accuracy = 0;    // largest attention-only logit, tau's included, is the answer's
  double feed_forward_noise = 0;    // largest feed-forward-only logit is tau's
  double answer_probability = 0, noise_probability = 0;            // p(answer), p(tau)
  double mass_answer = 0, mass_noise = 0, mass_other = 0;          // sum of a_h: after the trigger on the answer, on tau; elsewhere
  double mass_parent = 0;           // of two layers of attention: the first's on the parent, mean over positions that have one
};

// A set of prompts in the form in which one model reads it fastest; made by Model::compile, readable only by that model.
class CompiledPrompts {
 public:
  virtual ~CompiledPrompts() = default;
};

// A column of a run's table.
struct Column {
  std::string name;
  std::string definition;  // one line
};

class Model {
 public:
  virtual ~Model() = default;
  virtual std::unique_ptr<Model> clone() const = 0;

  const std::vector<TensorInfo>& tensors() const { return tensors_; }
  const std::vector<double>& parameters() const { return parameters_; }
  std::span<double> mutable_parameters() { return parameters_; }
  void set_parameters(std::span<const double> values);  // checked: the count, and finite
  const RecallLaw& law() const { return law_; }  // of a model of recall
  // How a host gives it prompts, and how many numbers it predicts for one.
  const PromptForm& form() const { return *form_; }
  // Throws unless prompts of the task are such as it was made for.
  virtual void require_law_of(const Task& task) const;
  // What the columns loss and excess of a run hold.
  virtual Column loss_column() const { return {"loss", "the objective descended: mean cross-entropy in nats"}; }
  virtual Column excess_column() const { return {"excess", "soft loss on the same data minus the Bayes risk h(noise)"}; }
  TaskKind kind() const { return kind_; }
  const Settings& settings() const { return settings_; }
  const kernels::InstructionSet& isa() const { return *isa_; }
  // The mutable view of one tensor; throws if there is none of that name.
  std::span<double> tensor(const std::string& name);
  bool has_tensor(const std::string& name) const;

  // weights [count] sum to 1 (empty: all equal). Labels are scored; answers fix the soft loss.
  virtual std::unique_ptr<CompiledPrompts> compile(const Prompts& prompts, std::span<const double> weights, const Team& team) const = 0;
  // New prompts of the training split, drawn and compiled: first..first+count-1 under a seed, equal weights; averaged: without labels.
  // drawn is memory for prompts, last (or null) what an earlier call of this model gave, both to be used again.
  struct Draw {
    uint64_t seed;
    int64_t first, count;
    bool averaged;
  };
  virtual std::unique_ptr<CompiledPrompts> draw(const Task& task, const Draw& which, const Team& team, Prompts& drawn,
                                                std::unique_ptr<CompiledPrompts> last) const;
  // gradient [parameters] may be null; entries of held tensors are 0. The excess is computed only where it is asked for.
  virtual Loss loss_and_gradient(const CompiledPrompts& prompts, const Team& team, double* gradient, bool with_excess) const = 0;
  virtual Metrics measure(const CompiledPrompts& prompts, const Team& team) const = 0;
  // Logits [count, K] of a part and attention weights [count, length] for prompts of any length; either may be null.
  virtual void forward(const Prompts& prompts, LogitPart part, double* logits, double* weights) const = 0;

 protected:
  std::vector<TensorInfo> tensors_;
  std::vector<double> parameters_;
  RecallLaw law_;
  TaskKind kind_ = recall_task;
  std::shared_ptr<const PromptForm> form_;
  Settings settings_;
  const kernels::InstructionSet* isa_ = nullptr;

  friend std::unique_ptr<Model> make_model(const Task& task, const Settings& settings);  // gives it kind and form
};

// Throws "model is made for `what` a, must be made for the task's b".
[[noreturn]] void fail_other_law(const std::string& what, double of_model, double of_task);

std::span<const OptionRow> model_options();
kernels::Map attention_map(const Settings& settings);  // the option attention
std::unique_ptr<Model> make_model(const Task& task, const Settings& settings);

}  // namespace lamina
