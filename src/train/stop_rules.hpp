// When a run ends before its last step: targets for the loss, the excess and the gradient's norm, and a limit of time. A target
// ends the run once, at the first step at which it holds; the run then goes on past it. The limit counts the seconds of
// training since the start, or since it last ended the run.
#pragma once
#include <array>
#include <vector>

#include "base/options.hpp"

namespace lamina {

class StopRules {
 public:
  explicit StopRules(const Settings& settings)
      : targets_{settings.number("loss_target"), settings.number("excess_target"), settings.number("gradient_target")},
        seconds_(settings.number("time_limit")) {}

  bool watch_excess() const { return waits(1); }
  bool watch_gradient() const { return waits(2); }
  // Whether a target holds for the first time; what is not watched is not read.
  bool reached(double loss, double excess, double gradient) {
    const std::array now{loss, excess, gradient};
    bool any = false;
    for (size_t i = 0; i < now.size(); ++i)
      if (waits(i) && now[i] <= targets_[i]) reached_[i] = 1, any = true;
    return any;
  }
  bool out_of_time(double seconds) {
    if (seconds_ == 0 || seconds - from_ < seconds_) return false;
    from_ = seconds;
    return true;
  }

  std::vector<double> state() const { return {reached_[0], reached_[1], reached_[2], from_}; }
  void set_state(const std::vector<double>& state) { reached_ = {state.at(0), state.at(1), state.at(2)}, from_ = state.at(3); }

 private:
  bool waits(size_t i) const { return targets_[i] > 0 && reached_[i] == 0; }

  std::array<double, 3> targets_, reached_{};  // loss, excess, gradient; a target of 0 is none
  double seconds_, from_ = 0;
};

}  // namespace lamina
