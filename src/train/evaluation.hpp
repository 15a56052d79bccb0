// What probes read: the set that the objective descends, fresh prompts of the same law, prompts with unseen answers, the exact
// laws. Each is made once, when first asked for, and a set or law is measured at most once a step.
#pragma once
#include <algorithm>
#include <array>
#include <memory>

#include "probe/probe.hpp"
#include "theory/feature_population.hpp"
#include "theory/rotation_population.hpp"
#include "train/objective.hpp"

namespace lamina {

class Evaluation {
 public:
  Evaluation(std::shared_ptr<const Task> task, const Settings& settings, const Team& team)
      : task_(std::move(task)), settings_(settings), team_(team) {}

  void begin(Model& model, Objective& objective, int64_t step) {
    if (step != step_) measured_ = {}, exact_measured_ = false, std::ranges::fill(columns_measured_, false);
    model_ = &model, objective_ = &objective, step_ = step, written_ = false;
  }

  // The parameters have been moved within the step.
  void forget() { step_ = -1; }

  // With the parameters of the present step: they cost d^2 where descent moves fewer numbers.
  const Model& model() {
    if (!written_) objective_->write(*model_);
    written_ = true;
    return *model_;
  }

  const Metrics& at(Split split) {
    const auto index = static_cast<size_t>(split);
    if (!measured_[index]) {
      if (split == Split::train) {
        metrics_[index] = objective_->measure(model(), step_);
      } else {
        if (!sets_[index]) sets_[index] = draw(split);
        metrics_[index] = model().measure(*sets_[index], team_);
      }
      measured_[index] = true;
    }
    return metrics_[index];
  }

  // The loss on the exact law, of tasks that have one (make_exact), and the excess as its objective measures it.
  const Loss& exact() {
    if (!exact_) exact_ = make_exact(*task_, *model_, settings_, team_);
    if (!exact_measured_) {
      exact_->read(model());
      exact_loss_ = exact_->loss_and_gradient(*model_, step_, nullptr, true);
      exact_measured_ = true;
    }
    return exact_loss_;
  }

  // Of tasks on features.
  std::span<const WatchedQuery> watched() {
    const FeatureLaw& law = *task_->features();
    if (watched_.empty())
      for (const int64_t k : law.watched) watched_.push_back({k, leading_others(law, k)});
    return watched_;
  }
  // The exact law's value of a watched query's column.
  const ColumnValue& column(size_t i) {
    const std::vector<int64_t>& queries = task_->features()->watched;
    columns_.resize(queries.size()), columns_measured_.resize(queries.size());
    if (!columns_measured_[i]) columns_[i] = population().column(queries[i], logits_of(queries[i]));
    columns_measured_[i] = true;
    return columns_[i];
  }
  int phase(size_t i) {
    const int64_t query = task_->features()->watched[i];
    if (const auto phase = objective_->phase(query)) return *phase;
    return population().phase(query, logits_of(query));
  }
  const RotationPopulation& rotation() {
    if (!rotation_) rotation_ = std::make_unique<RotationPopulation>(*task_->rotation());
    return *rotation_;
  }

 private:
  FeaturePopulation& population() {
    if (!population_)
      population_ = std::make_unique<FeaturePopulation>(*task_->features(), attention_map(model_->settings()), *model_->isa().f64, true);
    return *population_;
  }
  std::vector<double> logits_of(int64_t query) {
    const FeatureLaw& law = *task_->features();
    const std::vector<double>& Q = model().parameters();
    std::vector<double> logits(static_cast<size_t>(law.features));
    for (size_t n = 0; n < logits.size(); ++n) logits[n] = Q[n * static_cast<size_t>(law.dimension) + static_cast<size_t>(query)];
    return logits;
  }

  std::unique_ptr<CompiledPrompts> draw(Split split) const {
    Prompts prompts;
    task_->sample(split, static_cast<uint64_t>(settings_.integer("seed")), 0, settings_.integer("evaluation_samples"), prompts);
    return model_->compile(prompts, {}, team_);
  }

  std::shared_ptr<const Task> task_;
  const Settings& settings_;
  const Team& team_;
  Model* model_ = nullptr;
  Objective* objective_ = nullptr;
  int64_t step_ = -1;
  bool written_ = false;
  std::array<bool, 3> measured_{};
  std::array<Metrics, 3> metrics_{};
  std::array<std::unique_ptr<CompiledPrompts>, 3> sets_;
  std::unique_ptr<Objective> exact_;
  Loss exact_loss_;
  bool exact_measured_ = false;
  std::vector<WatchedQuery> watched_;
  std::unique_ptr<FeaturePopulation> population_;
  std::vector<ColumnValue> columns_;  // [watched]
  std::vector<char> columns_measured_;
  std::unique_ptr<RotationPopulation> rotation_;
};

}  // namespace lamina
