// The sets that probes read: what the objective descends, fresh prompts of the same law, and prompts with unseen answers. Each
// is drawn once, when first asked for, and measured at most once per recorded step.
#pragma once
#include <array>
#include <memory>

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
};

}  // namespace lamina
