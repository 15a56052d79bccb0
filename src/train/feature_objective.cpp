// The population objective of tasks on features: exact loss and gradient by theory, with one variable for all entries of Q that
// exchangeability keeps equal, where the optimiser treats entries one by one and Q starts so.
#include <cmath>

#include "theory/feature_population.hpp"
#include "train/objective.hpp"

namespace lamina {
namespace {

// Norms of the whole gradient count every entry.
bool entrywise(const Settings& settings) { return !settings.is("optimiser", "ngd") || settings.is("normalisation", "sign"); }

class FeatureObjective final : public Objective {
 public:
  FeatureObjective(const FeatureLaw& law, const Model& model, const Settings& settings, const Team& team)
      : team_(team), stride_(law.dimension), law_(law), tied_(entrywise(settings)), population_(law, attention_map(model.settings()), *model.isa().f64, tied_) {
    read(model);
  }

  std::span<double> variables(Model&) override { return x_; }
  void read(const Model& model) override {
    entries_.clear();
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

  double norm(std::span<const double> gradient) override {
    if (entries_.empty()) entries_ = population_.entries();
    std::vector<double> scaled(gradient.begin(), gradient.end());
    for (size_t i = 0; i < scaled.size(); ++i) scaled[i] *= std::sqrt(entries_[i]);
    return l2_norm(scaled);
  }

  Metrics measure(const Model& model, int64_t step) override {
    Metrics metrics;
    metrics.loss = loss_and_gradient(model, step, nullptr, false);
    return metrics;
  }

 private:
  const Team& team_;
  int64_t stride_;
  FeatureLaw law_;
  bool tied_;
  FeaturePopulation population_;
  std::vector<double> x_, entries_;
};

}  // namespace

std::unique_ptr<Objective> make_feature_population(const FeatureLaw& law, const Model& model, const Settings& settings, const Team& team) {
  return std::make_unique<FeatureObjective>(law, model, settings, team);
}

}  // namespace lamina
