// The tableau and the continuous extension are Boost.Odeint's; the control of the step is here, because its powers must not pass
// through libm, whose bits depend on the CPU.
#include "optimiser/flow.hpp"

#include <algorithm>
#include <boost/numeric/odeint/stepper/runge_kutta_dopri5.hpp>
#include <cmath>
#include <limits>

#include "kernels/scalar_math.hpp"

namespace lamina {
namespace {

using State = std::vector<double>;

class Flow final : public Optimiser {
 public:
  Flow(const Settings& settings, size_t parameters, Slope slope)
      : slope_(std::move(slope)), stretch_(settings.number("step_size")), absolute_(settings.number("absolute_tolerance")),
        relative_(settings.number("relative_tolerance")), next_(stretch_) {
    for (State* all : {&from_, &to_, &from_descent_, &to_descent_, &try_, &try_descent_, &error_}) all->assign(parameters, 0.0);
  }

  bool step(std::span<double> x, std::span<const double> gradient) override {
    if (!ready_) begin(x, gradient);
    const double time = stretch_ * static_cast<double>(stretches_ + 1);
    while (to_time() < time) advance();
    stepper_.calc_state(time, try_, from_, from_descent_, from_time_, to_, to_descent_, to_time());
    std::ranges::copy(try_, x.begin());
    ++stretches_;
    return true;
  }

  // Stretches made, where the step under way began and how long it is, the next one's length, and x at its beginning.
  std::vector<double> state() const override {
    std::vector<double> all{static_cast<double>(stretches_), from_time_, length_, next_};
    all.insert(all.end(), from_.begin(), from_.end());
    return all;
  }
  void set_state(std::span<const double> state) override {
    stretches_ = static_cast<int64_t>(state[0]), from_time_ = state[1], length_ = state[2], next_ = state[3];
    std::ranges::copy(state.subspan(4), from_.begin());
    ready_ = false;
  }

 private:
  double to_time() const { return from_time_ + length_; }

  void descent(const State& x, State& out) const {
    slope_(x, out);
    for (double& g : out) g = -g;
  }

  // At the first update, or the first after set_state, when the step under way is made again with the same bits.
  void begin(std::span<const double> x, std::span<const double> gradient) {
    if (length_ > 0) {
      descent(from_, from_descent_);
      attempt(from_, from_descent_, from_time_, length_);
    } else {
      std::ranges::copy(x, try_.begin());
      std::ranges::transform(gradient, try_descent_.begin(), std::negate<>());
    }
    to_ = try_, to_descent_ = try_descent_;
    ready_ = true;
  }

  // x and its descent at time + length into try_ and try_descent_; the largest error of an entry as a multiple of what is allowed.
  double attempt(const State& x, const State& descent_at_x, double time, double length) {
    const auto system = [this](const State& at, State& out, double) { descent(at, out); };
    stepper_.do_step(system, x, descent_at_x, time, try_, try_descent_, length, error_);
    double worst = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      const double ratio = std::abs(error_[i]) / (absolute_ + relative_ * std::max(std::abs(x[i]), std::abs(try_[i])));
      if (!(ratio <= worst)) worst = std::isfinite(ratio) ? ratio : std::numeric_limits<double>::infinity();
    }
    return worst;
  }

  // One accepted step from where the last one ended. What a slope throws leaves everything as it was.
  void advance() {
    const double time = to_time();
    double length = next_, error = attempt(to_, to_descent_, time, length), growth = 5;
    while (!(error <= 1)) {
      length *= std::max(0.2, factor(error)), growth = 1;
      if (!(length > 4 * std::numeric_limits<double>::epsilon() * time))
        fail(LAMINA_E_UNSUPPORTED, "optimiser is flow, which cannot hold its tolerances beyond time " + number_text(time) +
                                       ": loosen them, or the flow ends there");
      error = attempt(to_, to_descent_, time, length);
    }
    from_time_ = time, length_ = length, next_ = length * std::min(growth, factor(error));
    std::swap(from_, to_), std::swap(from_descent_, to_descent_);
    std::swap(to_, try_), std::swap(to_descent_, try_descent_);
  }

  // Of the length, for an error of about 0.6: the error grows as the fifth power.
  static double factor(double error) { return error < 1e-10 ? 5 : std::isinf(error) ? 0.2 : 0.9 * kernels::exp(-0.2 * kernels::log(error)); }

  Slope slope_;
  double stretch_, absolute_, relative_;
  boost::numeric::odeint::runge_kutta_dopri5<State> stepper_;  // holds the stages of its last step, for calc_state
  int64_t stretches_ = 0;
  double from_time_ = 0, length_ = 0, next_;  // the step under way: from from_ to to_
  bool ready_ = false;
  State from_, to_, from_descent_, to_descent_, try_, try_descent_, error_;
};

}  // namespace

std::unique_ptr<Optimiser> make_flow(const Settings& settings, size_t parameters, Slope slope) {
  return std::make_unique<Flow>(settings, parameters, std::move(slope));
}

}  // namespace lamina
