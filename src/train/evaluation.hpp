// What probes read: the set that the objective descends, fresh prompts of the same law, prompts with unseen answers, the exact
// law of features. Each is made once, when first asked for, and a set is measured at most once a step.
#pragma once
#include <array>
#include <memory>

#include "theory/feature_population.hpp"
#include "theory/rotation_population.hpp"
#include "train/objective.hpp"

namespace lamina {

class Evaluation {
 public:
  Evaluation(std::shared_ptr<const Task> task, const Settings& settings, const Team& team)
      : task_(std::move(task)), settings_(settings), team_(team) {}

  void begin(const Model& model, Objective& objective, int64_t step) {
    model_ = &model, objective_ = &objective, step_ = step;
    measured_ = {};
  }

  const Metrics& at(Split split) {
    const auto index = static_cast<size_t>(split);
    if (!measured_[index]) {
      if (split == Split::train) {
        metrics_[index] = objective_->measure(*model_, step_);
      } else {
        if (!sets_[index]) sets_[index] = draw(split);
        metrics_[index] = model_->measure(*sets_[index], team_);
      }
      measured_[index] = true;
    }
    return metrics_[index];
  }

  const FeaturePopulation& population() {
    if (!population_)
      population_ = std::make_unique<FeaturePopulation>(*task_->features(), attention_map(model_->settings()), *model_->isa().f64, true);
    return *population_;
  }
  const RotationPopulation& rotation() {
    if (!rotation_) rotation_ = std::make_unique<RotationPopulation>(*task_->rotation());
    return *rotation_;
  }

 private:
  std::unique_ptr<CompiledPrompts> draw(Split split) const {
    Prompts prompts;
    task_->sample(split, static_cast<uint64_t>(settings_.integer("seed")), 0, settings_.integer("evaluation_samples"), prompts);
    return model_->compile(prompts, {}, team_);
  }

  std::shared_ptr<const Task> task_;
  const Settings& settings_;
  const Team& team_;
  const Model* model_ = nullptr;
  Objective* objective_ = nullptr;
  int64_t step_ = 0;
  std::array<bool, 3> measured_{};
  std::array<Metrics, 3> metrics_{};
  std::array<std::unique_ptr<CompiledPrompts>, 3> sets_;
  std::unique_ptr<FeaturePopulation> population_;
  std::unique_ptr<RotationPopulation> rotation_;
};

}  // namespace lamina
