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
    start_ = snapshot();
  }

  bool step(std::span<double> x, std::span<const double> gradient) override {
    if (!ready_) begin(x, gradient);
    while (to_time() < end_of(stretches_)) advance();  // after set_state: through the last stretch again
    if (!under_way_) start_ = snapshot(), under_way_ = true;
    const double time = end_of(stretches_ + 1);
    while (to_time() < time) advance();
    calculate(time);
    std::ranges::copy(try_, x.begin());
    ++stretches_, under_way_ = false;
    return true;
  }

  // As it was when the last stretch began, so that its way can be found again after set_state too; stretches_ is of now.
  std::vector<double> state() const override {
    std::vector<double> state = start_;
    state[0] = static_cast<double>(stretches_);
    return state;
  }
  void set_state(std::span<const double> state) override {
    stretches_ = static_cast<int64_t>(state[0]), from_time_ = state[1], length_ = state[2], next_ = state[3];
    std::ranges::copy(state.subspan(4), from_.begin());
    start_.assign(state.begin(), state.end());
    ready_ = under_way_ = false;
  }

  std::unique_ptr<Passage> passage() const override;

 private:
  friend class FlowPassage;

  double to_time() const { return from_time_ + length_; }
  double end_of(int64_t stretches) const { return stretch_ * static_cast<double>(stretches); }

  // Stretches made, where the step under way began and how long it is (0 at first), the next one's length, and x at its beginning.
  State snapshot() const {
    State all{static_cast<double>(stretches_), from_time_, length_, next_};
    all.insert(all.end(), from_.begin(), from_.end());
    return all;
  }

  // x at a time of the step under way into try_.
  void calculate(double time) { stepper_.calc_state(time, try_, from_, from_descent_, from_time_, to_, to_descent_, to_time()); }

  void descent(const State& x, State& out) const {
    slope_(x, out);
    for (double& g : out) g = -g;
  }

  // At the first update, or the first after set_state, when the step under way is made again with the same bits.
  void begin(std::span<const double> x, std::span<const double> gradient) {
    if (stretches_ == 0 && length_ == 0) {
      std::ranges::copy(x, from_.begin());
      std::ranges::transform(gradient, from_descent_.begin(), std::negate<>());
    } else {
      descent(from_, from_descent_);
    }
    if (length_ > 0) attempt(from_, from_descent_, from_time_, length_);
    else try_ = from_, try_descent_ = from_descent_;
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
  bool ready_ = false, under_way_ = false;  // under_way_: the last stretch begun has been left before its end
  State start_;                             // the snapshot from which it began
  State from_, to_, from_descent_, to_descent_, try_, try_descent_, error_;
};

// The steps of the last stretch made again, with the same bits, from the state in which it began.
class FlowPassage final : public Passage {
 public:
  explicit FlowPassage(const Flow& flow) : flow_(flow), start_(flow.end_of(flow.stretches_ - 1)), end_(flow.end_of(flow.stretches_)) {
    flow_.set_state(flow.state());
  }

  bool next() override {
    if (flow_.ready_ && flow_.to_time() >= end_) return false;
    const double passed = flow_.ready_ ? flow_.to_time() : start_;
    if (!flow_.ready_) flow_.begin({}, {});
    while (flow_.to_time() <= passed) flow_.advance();
    return true;
  }
  double end() const override { return flow_.to_time() >= end_ ? 1 : (flow_.to_time() - start_) / flow_.stretch_; }
  void at(double moment, std::span<double> x) override {
    flow_.calculate(moment == 1 ? end_ : start_ + moment * flow_.stretch_);
    std::ranges::copy(flow_.try_, x.begin());
  }

 private:
  Flow flow_;
  double start_, end_;
};

std::unique_ptr<Passage> Flow::passage() const {
  return stretches_ > 0 && !under_way_ ? std::make_unique<FlowPassage>(*this) : nullptr;
}

}  // namespace

std::unique_ptr<Optimiser> make_flow(const Settings& settings, size_t parameters, Slope slope) {
  return std::make_unique<Flow>(settings, parameters, std::move(slope));
}

}  // namespace lamina
