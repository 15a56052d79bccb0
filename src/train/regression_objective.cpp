// The population objective of linear regression in context: exact loss and gradient by theory, at the model's own parameters.
#include "theory/regression_population.hpp"
#include "train/objective.hpp"

namespace lamina {
namespace {

class RegressionObjective final : public Objective {
 public:
  RegressionObjective(const RegressionLaw& law, const Model& model) : population_(law, law.length, *model.isa().f64) {}

  Loss loss_and_gradient(const Model& model, int64_t, double* gradient, bool) override {
    const auto value = population_.loss_and_gradient(model.parameters(), gradient);
    return {value.loss, value.excess};
  }

  Metrics measure(const Model& model, int64_t step) override {
    Metrics metrics;
    metrics.loss = loss_and_gradient(model, step, nullptr, false);
    return metrics;
  }

 private:
  RegressionPopulation population_;
};

}  // namespace

std::unique_ptr<Objective> make_regression_population(const RegressionLaw& law, const Model& model) {
  if (!model.settings().is("variant", "full"))
    fail(LAMINA_E_UNSUPPORTED, "data is population, but an exact form is built in for variant=full only; use data=fresh");
  return std::make_unique<RegressionObjective>(law, model);
}

}  // namespace lamina
