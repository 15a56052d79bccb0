// The population objective of linear regression in context: exact loss and gradient by theory, at the model's own parameters.
#include "theory/regression_population.hpp"
#include "train/objective.hpp"

namespace lamina {
namespace {

class RegressionObjective final : public Objective {
 public:
  RegressionObjective(const RegressionLaw& law, const Model& model)
      : population_(law, law.length, *model.isa().f64), literal_(model.settings().is("variant", "original")) {}

  Loss loss_and_gradient(const Model& model, int64_t, double* gradient, bool) override {
    const std::span<const double> x = model.parameters();
    const auto value = literal_ ? population_.literal_loss_and_gradient(x, gradient) : population_.loss_and_gradient(x, gradient);
    return {value.loss, value.excess};
  }

  Metrics measure(const Model& model, int64_t step) override {
    Metrics metrics;
    metrics.loss = loss_and_gradient(model, step, nullptr, false);
    return metrics;
  }

 private:
  RegressionPopulation population_;
  bool literal_;
};

}  // namespace

std::unique_ptr<Objective> make_regression_population(const RegressionLaw& law, const Model& model) {
  return std::make_unique<RegressionObjective>(law, model);
}

}  // namespace lamina
