// What crossings read: the run at its present step and, under gradient flow, at moments of the update that led there.
#include "train/evaluation.hpp"
#include "train/trainer.hpp"

namespace lamina {

// The run is taken to those moments itself, so that columns are measured as at a step, and is put back at the end.
class Trainer::Retrace final : public Moments {
 public:
  explicit Retrace(Trainer& trainer) : run_(trainer) {}
  Retrace(const Retrace&) = delete;
  Retrace& operator=(const Retrace&) = delete;
  ~Retrace() override {
    if (!passage_) return;
    std::ranges::copy(variables_, run_.objective_->variables(*run_.model_).begin());
    run_.gradient_.swap(gradient_);
    run_.loss_ = loss_, run_.evaluated_ = evaluated_, run_.evaluated_excess_ = evaluated_excess_;
    run_.evaluation_->forget();
  }

  double loss() override { return run_.evaluate(false).loss; }
  double excess() override { return run_.evaluate(true).excess - run_.infimum(); }
  const ProbeState& state() override { return run_.state(); }

  bool turn_back() override {
    const std::span<const double> variables = run_.objective_->variables(*run_.model_);
    variables_.assign(variables.begin(), variables.end());
    gradient_ = run_.gradient_;
    loss_ = run_.loss_, evaluated_ = run_.evaluated_, evaluated_excess_ = run_.evaluated_excess_;
    passage_ = run_.optimiser_->passage();
    return passage_ != nullptr;
  }
  bool next() override { return passage_->next(); }
  double end() const override { return passage_->end(); }
  void go_to(double moment) override {
    if (moment == moment_) return;
    passage_->at(moment, run_.objective_->variables(*run_.model_));
    run_.evaluated_ = -1, run_.evaluation_->forget();
    moment_ = moment;
  }

 private:
  Trainer& run_;
  std::unique_ptr<Passage> passage_;  // of the last update, once taken up; what follows is of the step then
  std::vector<double> variables_, gradient_;
  Loss loss_;
  int64_t evaluated_ = -1;
  bool evaluated_excess_ = false;
  double moment_ = 1;
};

bool Trainer::look() {
  if (!crossings_->open()) return false;
  Retrace now(*this);
  return crossings_->look(step_, now);
}

}  // namespace lamina
