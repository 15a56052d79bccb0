// The population objectives of rotating sequences, of the blocks a, b and of every entry: exact loss and gradient by theory.
#include "theory/rotation_literal.hpp"
#include "theory/rotation_population.hpp"
#include "train/objective.hpp"

namespace lamina {
namespace {

class RotationObjective : public Objective {
 public:
  Metrics measure(const Model& model, int64_t step) override {
    Metrics metrics;
    metrics.loss = loss_and_gradient(model, step, nullptr, false);
    return metrics;
  }
};

class BlockObjective final : public RotationObjective {
 public:
  explicit BlockObjective(const RotationLaw& law) : population_(law) {}

  Loss loss_and_gradient(const Model& model, int64_t, double* gradient, bool) override {
    const double a = model.parameters()[0], b = model.parameters()[1], excess = population_.excess(a * b);
    if (gradient) gradient[0] = b * population_.slope(a * b), gradient[1] = a * population_.slope(a * b);
    return {population_.infimum + excess, excess};
  }

 private:
  RotationPopulation population_;
};

class LiteralObjective final : public RotationObjective {
 public:
  LiteralObjective(const RotationLaw& law, const kernels::Table<double>& table) : population_(law, table) {}

  Loss loss_and_gradient(const Model& model, int64_t, double* gradient, bool) override {
    const auto value = population_.loss_and_gradient(model.parameters(), gradient);
    return {value.loss, value.excess};
  }

 private:
  RotationLiteralPopulation population_;
};

}  // namespace

std::unique_ptr<Objective> make_rotation_population(const RotationLaw& law, const Model& model) {
  if (model.settings().is("variant", "original")) return std::make_unique<LiteralObjective>(law, *model.isa().f64);
  return std::make_unique<BlockObjective>(law);
}

}  // namespace lamina
