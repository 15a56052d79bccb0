// What a run descends: the mean cross-entropy over a fixed set, over fresh samples at every step, or over the exact law.
#pragma once
#include <cstdint>
#include <memory>

#include "base/parallel.hpp"
#include "model/model.hpp"
#include "task/task.hpp"

namespace lamina {

class Objective {
 public:
  virtual ~Objective() = default;
  // Loss and gradient for update number `step`, a function of the step and the model's parameters alone.
  virtual Loss loss_and_gradient(const Model& model, int64_t step, double* gradient, bool with_excess) = 0;
  // Metrics over what the objective reads at `step`.
  virtual Metrics measure(const Model& model, int64_t step) = 0;
};

// data = population | fresh | fixed of the settings. Throws where no exact population form is built in.
std::unique_ptr<Objective> make_objective(std::shared_ptr<const Task> task, const Model& model, const Settings& settings,
                                          const Team& team);

}  // namespace lamina
