// Training in two stages: the first `stage_one_steps` updates move the tensors of stage 1, the others those of stage 2. The
// gradient of what rests is 0, so that optimisers without memory leave it alone and the norm of normalised descent is that of
// the stage.
#include <algorithm>

#include "train/objective.hpp"

namespace lamina {
namespace {

class Staged final : public Objective {
 public:
  Staged(const Task& task, const Model& model, const Settings& settings, const Team& team, std::unique_ptr<Objective> samples)
      : team_(team), first_steps_(settings.integer("stage_one_steps")), samples_(std::move(samples)) {
    const double first = settings.number("stage_one_step_size");
    if (first != 0) first_rate_ = first / settings.number("step_size");
    Prompts prompts;
    std::vector<double> weights;
    if (task.first_stage(prompts, weights)) first_ = model.compile(prompts, weights, team_);
  }

  Loss loss_and_gradient(const Model& model, int64_t step, double* gradient, bool with_excess) override {
    const int stage = step < first_steps_ ? 1 : 2;
    Loss loss;
    if (stage == 1 && first_) {  // realisable: the least loss is 0
      loss = model.loss_and_gradient(*first_, team_, gradient, false);
      loss.excess = loss.loss;
    } else {
      loss = samples_->loss_and_gradient(model, step, gradient, with_excess);
    }
    if (gradient)
      for (const TensorInfo& t : model.tensors())
        if (t.stage != 0 && t.stage != stage) std::fill_n(gradient + t.offset, t.count, 0.0);
    return loss;
  }

  double rate(int64_t step) const override { return step < first_steps_ ? first_rate_ : 1; }

  // Of the samples in both stages.
  Metrics measure(const Model& model, int64_t step) override { return samples_->measure(model, step); }

  const Objective* samples() const { return samples_.get(); }

 private:
  const Team& team_;
  int64_t first_steps_;
  double first_rate_ = 1;
  std::unique_ptr<CompiledPrompts> first_;
  std::unique_ptr<Objective> samples_;
};

}  // namespace

bool is_staged(const Model& model) {
  return std::ranges::any_of(model.tensors(), [](const TensorInfo& t) { return t.stage != 0; });
}

std::unique_ptr<Objective> make_staged(const Task& task, const Model& model, const Settings& settings, const Team& team,
                                       std::unique_ptr<Objective> samples) {
  const std::string& optimiser = settings.text("optimiser");
  if (optimiser != "gd" && optimiser != "ngd" && optimiser != "sgd")
    fail(LAMINA_E_OPTION, "optimiser is " + optimiser + ", must be gd, ngd or sgd for a task trained in stages: what another keeps of one "
                          "stage would move its tensors in the next");
  return std::make_unique<Staged>(task, model, settings, team, std::move(samples));
}

const Objective* samples_of(const Objective* objective) {
  const auto* staged = dynamic_cast<const Staged*>(objective);
  return staged ? staged->samples() : objective;
}

}  // namespace lamina
