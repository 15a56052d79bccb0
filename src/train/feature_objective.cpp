// The population objective of tasks on features: exact loss and gradient by theory, with one variable for all entries of Q that
// exchangeability keeps equal, where Q starts so.
#include "theory/feature_population.hpp"
#include "train/objective.hpp"

namespace lamina {
namespace {

class FeatureObjective final : public Objective {
 public:
  FeatureObjective(const FeatureLaw& law, const Model& model, const Team& team, bool tied)
      : team_(team), stride_(law.dimension), law_(law), population_(law, attention_map(model.settings()), *model.isa().f64, tied) {
    read(model);
  }

  std::span<double> variables(Model&) override { return x_; }
  void read(const Model& model) override {
    x_.resize(static_cast<size_t>(population_.variables()));
    if (population_.gather(model.parameters().data(), stride_, x_.data())) return;
    population_ = FeaturePopulation(law_, attention_map(model.settings()), *model.isa().f64, false);
    x_.resize(static_cast<size_t>(population_.variables()));
    population_.gather(model.parameters().data(), stride_, x_.data());
  }
  void write(Model& model) const override { population_.scatter(x_.data(), model.mutable_parameters().data(), stride_); }

  // Softmax has its excess measured by the trainer, from the infimum.
  Loss loss_and_gradient(const Model& model, int64_t, double* gradient, bool with_excess) override {
    const double loss = population_.loss_and_gradient(x_.data(), gradient, team_);
    const bool own = with_excess && law_.length >= 0 && attention_map(model.settings()) != kernels::Map::softmax;
    return {loss, own ? population_.excess(x_.data()) : loss};
  }

  std::vector<double> entries() const override {
    return population_.variables() < law_.features * law_.features ? population_.entries() : std::vector<double>();
  }

  std::optional<int> phase(int64_t query) override { return population_.phase_at(query, x_.data()); }

  Metrics measure(const Model& model, int64_t step) override {
    Metrics metrics;
    metrics.loss = loss_and_gradient(model, step, nullptr, false);
    return metrics;
  }

 private:
  const Team& team_;
  int64_t stride_;
  FeatureLaw law_;
  FeaturePopulation population_;
  std::vector<double> x_;
};

}  // namespace

std::unique_ptr<Objective> make_feature_population(const FeatureLaw& law, const Model& model, const Team& team, bool tied) {
  return std::make_unique<FeatureObjective>(law, model, team, tied);
}

}  // namespace lamina
