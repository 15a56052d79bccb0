// What a run descends: the mean loss over a fixed set, over fresh samples at every step, or over the exact law.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>

#include "base/parallel.hpp"
#include "model/model.hpp"
#include "optimiser/optimiser.hpp"
#include "task/task.hpp"

namespace lamina {

class Objective {
 public:
  virtual ~Objective() = default;
  // What descent moves: the model's parameters themselves, or fewer numbers that stand for them while symmetry keeps others equal.
  virtual std::span<double> variables(Model& model) { return model.mutable_parameters(); }
  // Takes the variables from the model's parameters; puts them there. Nothing to do where they are the same.
  virtual void read(const Model&) {}
  virtual void write(Model&) const {}
  // Loss and gradient by the variables for update number `step`, a function of the step and the variables alone.
  virtual Loss loss_and_gradient(const Model& model, int64_t step, double* gradient, bool with_excess) = 0;
  // How many parameters each variable stands for; empty: one each. Norms of the gradient count every parameter.
  virtual std::vector<double> entries() const { return {}; }
  // Factor of the step size for that update.
  virtual double rate(int64_t) const { return 1; }
  // The phase of a query, where the variables are those of the exact population of features.
  virtual std::optional<int> phase(int64_t) { return std::nullopt; }
  // Metrics over what the objective reads at `step`.
  virtual Metrics measure(const Model& model, int64_t step) = 0;
};

// data = population | averaged | fresh | fixed of the settings. Throws where no exact population form is built in. twin may be
// null: an objective of the same task, kind of model and settings, whose prompts are used too; only one thread at a time may then
// use either.
std::unique_ptr<Objective> make_objective(std::shared_ptr<const Task> task, const Model& model, const Settings& settings,
                                          const Team& team, const Objective* twin = nullptr);
// The exact law of a task on features, of linear regression or of rotating sequences, whatever data the run descends; null for others.
std::unique_ptr<Objective> make_exact(const Task& task, const Model& model, const Settings& settings, const Team& team);
// The exact population of a task on features (feature_objective.cpp). tied: for descent, which keeps entries equal that symmetry does.
std::unique_ptr<Objective> make_feature_population(const FeatureLaw& law, const Model& model, const Team& team, bool tied);
// Training in two stages (staged_objective.cpp), of models with tensors of a stage; the second descends the samples.
bool is_staged(const Model& model);
std::unique_ptr<Objective> make_staged(const Task& task, const Model& model, const Settings& settings, const Team& team,
                                       std::unique_ptr<Objective> samples);
const Objective* samples_of(const Objective* objective);  // of a staged one; any other itself
// Of linear regression in context (regression_objective.cpp).
std::unique_ptr<Objective> make_regression_population(const RegressionLaw& law, const Model& model);
// Of rotating sequences (rotation_objective.cpp).
std::unique_ptr<Objective> make_rotation_population(const RotationLaw& law, const Model& model);

}  // namespace lamina
