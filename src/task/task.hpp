// A task: the law of the data. It says what a prompt is made of and what is to be predicted; it knows no model.
#pragma once
#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "base/memory.hpp"
#include "base/options.hpp"

namespace lamina {

enum class Split : int32_t { train = LAMINA_SPLIT_TRAIN, test = LAMINA_SPLIT_TEST, unseen = LAMINA_SPLIT_UNSEEN };

// Prompts, one row each: recall tasks have tokens 0..N-1, N for tau, and a label and an answer; feature tasks have features
// 0..K-1 and values. What the values of another kind are stands at its law.
struct Prompts {
  int64_t count = 0, length = 0;
  std::vector<int32_t> tokens;  // [count, length]
  std::vector<int32_t> label;   // [count]: what is scored, answer or tau
  std::vector<int32_t> answer;  // [count]: the token that the context identifies
  std::vector<double> values;   // [count, Task::values()]: of features y at each position, the query's (the target) last; or empty

  void resize(int64_t new_count, int64_t new_length) {
    const double numbers = static_cast<double>(new_count) * static_cast<double>(new_length + 2);
    allocate("prompts", numbers * sizeof(int32_t), [&] {
      tokens.resize(new_count * new_length), label.resize(new_count), answer.resize(new_count);
    });
    count = new_count, length = new_length;
  }
  std::span<const int32_t> row(int64_t i) const { return {tokens.data() + i * length, static_cast<size_t>(length)}; }
  std::span<int32_t> row(int64_t i) { return {tokens.data() + i * length, static_cast<size_t>(length)}; }
  std::span<const double> values_of(int64_t i) const { return std::span(values).subspan(i * width(), width()); }
  std::span<double> values_of(int64_t i) { return std::span(values).subspan(i * width(), width()); }
  size_t width() const { return count ? values.size() / static_cast<size_t>(count) : 0; }
  // Row `to` becomes row `i` of `from`, which has the same length and as many values.
  void copy_row(int64_t to, const Prompts& from, int64_t i) {
    std::ranges::copy(from.row(i), row(to).begin());
    label[to] = from.label[i], answer[to] = from.answer[i];
    if (!from.values.empty()) std::ranges::copy(from.values_of(i), values_of(to).begin());
  }
};

class CountedPrompts;  // counted_prompts.hpp

// Prompts of a feature task by what their loss depends on: how often each feature occurs among the labelled tokens, and its label.
struct FeatureCounts {
  int64_t features = 0;
  std::vector<int32_t> query;          // [count]
  std::vector<double> occurs, label;   // [count, features]; the query's label is the target. No labels: none are wanted

  void resize(int64_t count, int64_t new_features, bool labelled) {
    const auto prompts = static_cast<size_t>(count), numbers = prompts * static_cast<size_t>(new_features), labels = labelled ? numbers : 0;
    allocate("prompts", 8.0 * static_cast<double>(numbers + labels), [&] { query.resize(prompts), occurs.resize(numbers), label.resize(labels); });
    features = new_features;
  }
};

// What the model, the closed forms and the probes need to know of a recall task.
struct RecallLaw {
  enum class Sampler { s1, s2, s3, other };
  Sampler sampler = Sampler::other;
  int64_t vocabulary = 0;           // N; tau = N
  int64_t length = 0;               // H; -1 for an infinite prompt
  double noise = 0;                 // alpha
  int64_t occurrences = 0;          // m_max of S1 and S3
  std::vector<int32_t> triggers;    // Q
  std::vector<double> trigger_law;  // P_Q, sums to 1
  std::vector<int32_t> outputs;     // O, training
  std::vector<int32_t> unseen;      // O_test
  std::vector<double> output_law;   // P_O(.|q) [triggers, outputs], rows sum to 1; empty: uniform
  int64_t chain_tokens = 0;         // S2 with the uniform bigram law: how many tokens it is uniform over; 0: given laws
};

// What they need to know of a task whose tokens are orthonormal features and whose labels are a random function f of them.
struct FeatureLaw {
  int64_t features = 0;             // K
  int64_t dimension = 0;            // d >= K; feature k is the basis vector e_k of R^d
  int64_t length = 0;               // N, without the query; -1 for an infinite prompt
  bool masked = true;               // the query does not attend to itself
  std::vector<double> probability;  // p [K], sums to 1
  std::vector<double> moments;      // Gm [K,K] = E f(v_m) f(v_n), symmetric; empty: the identity
  std::vector<int64_t> watched;     // queries that probes follow
};

// What they need to know of a task whose sentences are followed by the collocation n(x) of their optimal token x under the order
// of their query, the last token. A prompt's answer is x, its label n(x).
struct NextTokenLaw {
  int64_t vocabulary = 0, length = 0;   // V; L, the query included
  std::vector<int32_t> next;            // n [V], one to one
  std::vector<double> collocation_law;  // weights of the first stage [V], sum to 1
  std::vector<int32_t> level;           // [query, token]: higher is better; -1: never in a sentence of that query
};

// What they need to know of a task whose tokens are vectors x ~ N(0, Lambda) of R^d with labels y = <w, x>, w ~ N(0, I) fresh for
// each prompt. The values of a prompt are x_1, y_1, .., x_N, y_N, x_query, y_query; its tokens mean nothing.
struct RegressionLaw {
  int64_t dimension = 0;            // d
  int64_t length = 0;               // N, without the query; -1 for an infinite prompt
  std::vector<double> eigenvalues;  // [d] of Lambda, positive
  std::vector<double> basis;        // V [d,d], Lambda = V diag(eigenvalues) V^T; empty: the identity
  bool random = false;              // each prompt has eigenvalues of its own: these times independent numbers of Exp(1)

  // The sigma with sigma^2 |Gamma| sqrt(d) = 1/2, Gamma = (1 + 1/N) Lambda + tr(Lambda) / N: a start that converges.
  double small_scale() const;
};

// What they need to know of a task of sequences x_{t+1} = W x_t in C^d, W = diag(e^{i theta_j}) with uniform phases fresh for each.
// The values of a prompt are Re, Im of x_1 .. x_T; its tokens mean nothing.
struct RotationLaw {
  enum class Start { gaussian, sparse, ones };
  int64_t dimension = 0;  // d
  int64_t length = 0;     // T
  Start start = Start::gaussian;
  double scale = 1;  // of x_1: real N(0, scale^2 I), +-scale on one random coordinate, scale on all
};

// What they need to know of a task whose sequences follow a transition matrix of their own along a graph of parents. A prompt's
// values are the row of its last token, the query: the law of what follows.
struct CausalLaw {
  int64_t vocabulary = 0, length = 0;  // S; T, the query included
  std::vector<int32_t> parent;         // of positions 0..T-2, each before its child; -1: a root
  double concentration = 0;            // alpha of the Dirichlet rows
  double smoothing = 0;                // epsilon of the loss -sum_y pi_y log(f_y + epsilon)
};

// Which law a task has; bits, so that what serves several kinds can say so.
enum TaskKind : unsigned { recall_task = 1, feature_task = 2, next_token_task = 4, regression_task = 8, rotation_task = 16, causal_task = 32 };
inline constexpr int task_kinds = 6;

// How prompts of a kind cross to a host, in doubles: prompts [count, length, width], targets [count, target_width].
struct PromptShape {
  int64_t length = 0;  // -1: infinite
  int64_t width = 1, target_width = 2;
  int64_t vocabulary = 0;  // 0 where a host cannot know the prompts by tokens alone
  int64_t outputs = 0;     // of a model for one prompt
  int64_t texts = 0;       // tokens 0..texts-1 have a text
};
class PromptForm {
 public:
  virtual ~PromptForm() = default;
  virtual PromptShape shape() const = 0;
  virtual void give(const Prompts& drawn, double* prompts, double* targets) const = 0;
  // Checked: a number that is none of a prompt throws LAMINA_E_ARGUMENT with its place. Any length.
  virtual Prompts take(const double* prompts, int64_t count, int64_t length) const = 0;
  virtual void take_targets(const double* targets, Prompts& prompts) const = 0;
};
std::shared_ptr<const PromptForm> recall_form(const RecallLaw& law);    // prompt_form.cpp
std::shared_ptr<const PromptForm> feature_form(const FeatureLaw& law);  // prompt_form.cpp

// Every task has one of the laws: models, objectives, closed forms and probes ask for the one that they are about. What is the
// same question for every kind is a virtual function, so that a new kind changes no code but its own.
class Task {
 public:
  virtual ~Task() = default;
  virtual const char* name() const = 0;
  virtual const RecallLaw* recall() const { return nullptr; }
  virtual const FeatureLaw* features() const { return nullptr; }
  virtual const NextTokenLaw* next_token() const { return nullptr; }
  virtual const RegressionLaw* regression() const { return nullptr; }
  virtual const RotationLaw* rotation() const { return nullptr; }
  virtual const CausalLaw* causal() const { return nullptr; }
  virtual TaskKind kind() const { return recall_task; }
  // The law of a recall task; throws LAMINA_E_UNSUPPORTED for another.
  const RecallLaw& law() const;
  // Positions of a prompt, the query's included; -1 for an infinite one.
  virtual int64_t positions() const { return law().length; }
  // Numbers beside the tokens of a prompt.
  virtual int64_t values() const { return 0; }
  virtual std::shared_ptr<const PromptForm> form() const { return recall_form(law()); }
  // Prompts first..first+count-1 of a split: prompt i is a function of (seed, split, i) alone. Resizes `out`.
  virtual void sample(Split split, uint64_t seed, int64_t first, int64_t count, Prompts& out) const = 0;
  // Where it draws the same prompts by counts of features: how; null from other tasks. Owned by the task.
  virtual const CountedPrompts* counted() const { return nullptr; }
  // The same prompts into rows at..at+count-1 of `out`; false from a task that cannot draw them so.
  virtual bool sample_counts(Split, uint64_t, int64_t /*first*/, int64_t /*count*/, int64_t /*at*/, FeatureCounts&) const { return false; }
  // Prompts that a first stage of training descends in place of samples, with weights that sum to 1; false if there are none.
  virtual bool first_stage(Prompts&, std::vector<double>&) const { return false; }
  // Whether sample may be called on several threads at once (false for a host's callback).
  virtual bool concurrent() const { return true; }
  // Whether the split can be drawn at all (the unseen split of a task without unseen outputs cannot).
  virtual bool has(Split split) const = 0;
  virtual std::string token_text(int32_t token) const = 0;
  // The settings it was made from, so that a checkpoint can make it again; empty for host data.
  virtual const Settings& settings() const = 0;
  // A number that follows from the task and `key` alone: computed when first asked for, and kept for all that share the task, on any
  // thread. A failure keeps nothing.
  double kept(int key, const std::function<double()>& compute) const;

 private:
  mutable std::mutex kept_mutex_;
  mutable std::map<int, double> kept_;
};

// One row of the registry: everything about a task that exists before one is made.
struct TaskRow {
  const char* name;
  TaskKind kind;
  const char* summary;      // one sentence
  const char* description;  // the paper, and what is stated there, derived, a choice
  std::span<const OptionRow> options;
  std::span<const OptionDefault> defaults;  // for options of the model and the trainer
  std::span<const char* const> without;     // options of the model and the trainer that mean nothing here
  std::shared_ptr<const Task> (*create)(const Settings& settings);
};

inline constexpr const char* without_stages[] = {"stage_one_steps", "stage_one_step_size"};  // of a task that is trained in one

std::span<const TaskRow> task_registry();
// Throws with the known names if there is none.
const TaskRow& find_task(const std::string& name);

// Host data as tasks (host_task.cpp); names "arrays" and "callback".
std::shared_ptr<const Task> task_from_prompts(Prompts prompts, int64_t vocabulary, double noise);
std::shared_ptr<const Task> task_from_callback(const lamina_task_callback& callback);

}  // namespace lamina
