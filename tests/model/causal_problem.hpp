// A model of causal_structure with random parameters and prompts for it, shared by the tests of both variants.
#pragma once
#include "base/random.hpp"
#include "support/runs.hpp"

namespace lamina::tests {

struct CausalProblem {
  std::shared_ptr<const Task> task;
  std::unique_ptr<Model> model;
  Prompts prompts;
};

// `model` and `task` are options; `scale` is the deviation of the normal numbers that are added to the model's start.
inline CausalProblem causal_problem(const std::string& model, const std::string& task, int64_t count, double scale) {
  CausalProblem p;
  p.task = task_of("causal_structure", task);
  p.model = model_of(*p.task, model);
  Random random(1, Purpose::weights, 0);
  for (double& w : p.model->mutable_parameters()) w += scale * random.normal();
  p.task->sample(Split::train, 1, 0, count, p.prompts);
  return p;
}

}  // namespace lamina::tests
