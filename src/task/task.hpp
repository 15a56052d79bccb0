// A task: the law of the data. It says what a prompt is made of and what is to be predicted; it knows no model.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/options.hpp"

namespace lamina {

enum class Split : int32_t { train = LAMINA_SPLIT_TRAIN, test = LAMINA_SPLIT_TEST, unseen = LAMINA_SPLIT_UNSEEN };

// Token prompts, one row each. Tokens are 0..N-1, and N for tau.
struct Prompts {
  int64_t count = 0, length = 0;
  std::vector<int32_t> tokens;  // [count, length]
  std::vector<int32_t> label;   // [count]: what is scored, answer or tau
  std::vector<int32_t> answer;  // [count]: the token that the context identifies

  void resize(int64_t new_count, int64_t new_length) {
    count = new_count, length = new_length;
    tokens.resize(count * length), label.resize(count), answer.resize(count);
  }
  std::span<const int32_t> row(int64_t i) const { return {tokens.data() + i * length, static_cast<size_t>(length)}; }
  std::span<int32_t> row(int64_t i) { return {tokens.data() + i * length, static_cast<size_t>(length)}; }
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

class Task {
 public:
  virtual ~Task() = default;
  virtual const char* name() const = 0;
  virtual const RecallLaw& law() const = 0;
  // Prompts first..first+count-1 of a split: prompt i is a function of (seed, split, i) alone. Resizes `out`.
  virtual void sample(Split split, uint64_t seed, int64_t first, int64_t count, Prompts& out) const = 0;
  // Whether sample may be called on several threads at once (false for a host's callback).
  virtual bool concurrent() const { return true; }
  // Whether the split can be drawn at all (the unseen split of a task without unseen outputs cannot).
  virtual bool has(Split split) const = 0;
  virtual std::string token_text(int32_t token) const = 0;
  // The settings it was made from, so that a checkpoint can make it again; empty for host data.
  virtual const Settings& settings() const = 0;
};

// One row of the registry: everything about a task that exists before one is made.
struct TaskRow {
  const char* name;
  const char* summary;      // one sentence
  const char* description;  // the paper, and what is stated there, derived, a choice
  std::span<const OptionRow> options;
  std::span<const OptionDefault> defaults;  // for options of the model and the trainer
  std::shared_ptr<const Task> (*create)(const Settings& settings);
};

std::span<const TaskRow> task_registry();
// Throws with the known names if there is none.
const TaskRow& find_task(const std::string& name);

// Host data as tasks (host_task.cpp); names "arrays" and "callback".
std::shared_ptr<const Task> task_from_prompts(Prompts prompts, int64_t vocabulary, double noise);
std::shared_ptr<const Task> task_from_callback(const lamina_task_callback& callback);

}  // namespace lamina
