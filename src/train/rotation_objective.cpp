// The population objective of the blocks a, b on rotating sequences: exact loss and gradient by theory.
#include "theory/rotation_population.hpp"
#include "train/objective.hpp"

namespace lamina {
namespace {

class RotationObjective final : public Objective {
 public:
  explicit RotationObjective(const RotationLaw& law) : population_(law) {}

  Loss loss_and_gradient(const Model& model, int64_t, double* gradient, bool) override {
    const double a = model.parameters()[0], b = model.parameters()[1], excess = population_.excess(a * b);
    if (gradient) gradient[0] = b * population_.slope(a * b), gradient[1] = a * population_.slope(a * b);
    return {population_.infimum + excess, excess};
  }

  Metrics measure(const Model& model, int64_t step) override {
    Metrics metrics;
    metrics.loss = loss_and_gradient(model, step, nullptr, false);
    return metrics;
  }

 private:
  RotationPopulation population_;
};

}  // namespace

std::unique_ptr<Objective> make_rotation_population(const RotationLaw& law, const Model& model) {
  if (!model.settings().is("variant", "full"))
    fail(LAMINA_E_UNSUPPORTED, "data is population, but an exact form is built in for variant=full only; use data=fresh or data=fixed");
  return std::make_unique<RotationObjective>(law);
}

}  // namespace lamina
