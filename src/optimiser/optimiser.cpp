// Gradient descent and its relatives; the update of each is its formula in optimiser.hpp.
#include "optimiser/optimiser.hpp"

#include <array>
#include <cmath>

#include "optimiser/flow.hpp"

namespace lamina {
namespace {

constexpr double vanished = 1e-30;

class Descent final : public Optimiser {
 public:
  explicit Descent(double step_size) : step_size_(step_size) {}
  bool step(std::span<double> x, std::span<const double> gradient) override {
    const double rate = rate_ * step_size_;
    for (size_t i = 0; i < x.size(); ++i) x[i] -= rate * gradient[i];
    return true;
  }

 private:
  double step_size_;
};

// The sum of f over g in 16 lanes and a fixed tree: the same bits however wide the machine's registers are.
template <class Function>
double lane_sum(std::span<const double> g, Function f) {
  constexpr size_t lanes = 16;
  double lane[lanes] = {};
  size_t i = 0;
  for (; i + lanes <= g.size(); i += lanes)
    for (size_t j = 0; j < lanes; ++j) lane[j] += f(g[i + j]);
  for (size_t j = 0; i + j < g.size(); ++j) lane[j] += f(g[i + j]);
  for (size_t half = lanes / 2; half > 0; half /= 2)
    for (size_t j = 0; j < half; ++j) lane[j] += lane[j + half];
  return lane[0];
}

enum class Norm { l2, l1, sign };

double norm_of(std::span<const double> g, Norm norm, std::span<const double> entries) {
  if (!entries.empty()) {
    std::vector<double> counted(g.begin(), g.end());
    for (size_t i = 0; i < counted.size(); ++i) counted[i] *= norm == Norm::l2 ? std::sqrt(entries[i]) : entries[i];
    return norm_of(counted, norm, {});
  }
  const auto root = [&](double sum) { return norm == Norm::l2 ? std::sqrt(sum) : sum; };
  const double sum = norm == Norm::l2 ? lane_sum(g, [](double a) { return a * a; }) : lane_sum(g, [](double a) { return std::abs(a); });
  if (sum > 1e-250 && sum < 1e250) return root(sum);
  // Squares that underflow or overflow: the largest entry is taken out first.
  double largest = 0;
  for (double a : g) largest = std::max(largest, std::abs(a));
  if (largest == 0) return 0;
  return largest * root(lane_sum(g, [&](double a) {
    const double ratio = std::abs(a) / largest;
    return norm == Norm::l2 ? ratio * ratio : ratio;
  }));
}

class NormalisedDescent final : public Optimiser {
 public:
  NormalisedDescent(double step_size, Norm norm, std::vector<double> entries)
      : step_size_(step_size), norm_(norm), entries_(std::move(entries)) {}
  bool step(std::span<double> x, std::span<const double> gradient) override {
    const double norm = norm_of(gradient, norm_, entries_);
    if (!(norm >= vanished)) return false;
    if (norm_ == Norm::sign) {
      for (size_t i = 0; i < x.size(); ++i) x[i] -= rate_ * step_size_ * ((gradient[i] > 0) - (gradient[i] < 0));
    } else {
      const double rate = rate_ * step_size_ / norm;
      for (size_t i = 0; i < x.size(); ++i) x[i] -= rate * gradient[i];
    }
    return true;
  }

 private:
  double step_size_;
  Norm norm_;
  std::vector<double> entries_;
};

class Momentum final : public Optimiser {
 public:
  Momentum(double step_size, double momentum, size_t parameters)
      : step_size_(step_size), momentum_(momentum), velocity_(parameters) {}
  bool step(std::span<double> x, std::span<const double> gradient) override {
    for (size_t i = 0; i < x.size(); ++i) {
      velocity_[i] = momentum_ * velocity_[i] + gradient[i];
      x[i] -= rate_ * step_size_ * velocity_[i];
    }
    return true;
  }
  std::vector<double> state() const override { return velocity_; }
  void set_state(std::span<const double> state) override { velocity_.assign(state.begin(), state.end()); }

 private:
  double step_size_, momentum_;
  std::vector<double> velocity_;
};

// State: first moments, second moments, beta1^t, beta2^t.
class Adam final : public Optimiser {
 public:
  Adam(const Settings& settings, size_t parameters)
      : step_size_(settings.number("step_size")), beta1_(settings.number("beta1")), beta2_(settings.number("beta2")),
        epsilon_(settings.number("epsilon")), state_(2 * parameters + 2, 0.0) {
    state_[2 * parameters] = state_[2 * parameters + 1] = 1;
  }
  bool step(std::span<double> x, std::span<const double> gradient) override {
    const size_t n = x.size();
    double *first = state_.data(), *second = first + n, &power1 = state_[2 * n], &power2 = state_[2 * n + 1];
    power1 *= beta1_, power2 *= beta2_;
    for (size_t i = 0; i < n; ++i) {
      first[i] = beta1_ * first[i] + (1 - beta1_) * gradient[i];
      second[i] = beta2_ * second[i] + (1 - beta2_) * gradient[i] * gradient[i];
      x[i] -= rate_ * step_size_ * (first[i] / (1 - power1)) / (std::sqrt(second[i] / (1 - power2)) + epsilon_);
    }
    return true;
  }
  std::vector<double> state() const override { return state_; }
  void set_state(std::span<const double> state) override { state_.assign(state.begin(), state.end()); }

 private:
  double step_size_, beta1_, beta2_, epsilon_;
  std::vector<double> state_;
};

constexpr double below_one = 0.9999999999999999;
constexpr std::array rows{
    OptionRow{"optimiser", OptionKind::word, "ngd", 0, 0, "gd|ngd|sgd|momentum|adam|flow",
              "How the parameters move: gradient descent, normalised, stochastic (minibatches), heavy ball, Adam, or gradient flow, "
              "each update a stretch of time step_size; Adam, and the norms l1 and sign, depend on the basis in which free matrices "
              "are written."},
    OptionRow{"normalisation", OptionKind::word, "l2", 0, 0, "l2|l1|sign",
              "For ngd: divide the whole gradient by its l2 or l1 norm, or take the sign of each entry."},
    OptionRow{"step_size", OptionKind::number, "0.1", 1e-12, 1e6, "", "eta, the factor of each update."},
    OptionRow{"step_size_schedule", OptionKind::word, "constant", 0, 0, "constant|cosine",
              "Whether the step size stays, or falls as (1 + cos(pi t / steps)) / 2 from update t = 0 to the last."},
    OptionRow{"momentum", OptionKind::number, "0.9", 0, below_one, "", "mu of momentum: v = mu v + g."},
    OptionRow{"beta1", OptionKind::number, "0.9", 0, below_one, "", "Decay of Adam's first moment."},
    OptionRow{"beta2", OptionKind::number, "0.999", 0, below_one, "", "Decay of Adam's second moment."},
    OptionRow{"epsilon", OptionKind::number, "1e-8", 1e-300, 1, "", "Added to the root in Adam's denominator."},
    OptionRow{"relative_tolerance", OptionKind::number, "1e-10", 1e-14, 1, "",
              "For flow: the error that a step of the integrator may make in each variable, as a part of it ..."},
    OptionRow{"absolute_tolerance", OptionKind::number, "1e-12", 1e-300, 1, "", "... and beside that part."},
};

}  // namespace

double scheduled_rate(const Settings& settings, int64_t step, int64_t steps) {
  if (!settings.is("step_size_schedule", "cosine")) return 1;
  // (1 + cos 2y) / 2 = cos(y)^2 = 1 - sin(y)^2, y = pi step / (2 steps): the sine of at most pi / 4 by its series, to the last bit or two.
  const int64_t nearer = std::min(step, steps - step);
  const double y = 1.5707963267948966 * (static_cast<double>(nearer) / static_cast<double>(steps)), square = y * y;
  double sine = 0;
  for (double k = 19; k > 1; k -= 2) sine = (1 + sine) * (-square / (k * (k - 1)));
  sine = y * (1 + sine);
  return nearer == step ? 1 - sine * sine : sine * sine;
}

double l2_norm(std::span<const double> g, std::span<const double> entries) { return norm_of(g, Norm::l2, entries); }

std::span<const OptionRow> optimiser_options() { return rows; }

std::unique_ptr<Optimiser> make_optimiser(const Settings& settings, size_t parameters, Slope slope, std::vector<double> entries) {
  const double step_size = settings.number("step_size");
  const std::string& name = settings.text("optimiser");
  if (name == "ngd") {
    const std::string& norm = settings.text("normalisation");
    const Norm kind = norm == "l2" ? Norm::l2 : norm == "l1" ? Norm::l1 : Norm::sign;
    return std::make_unique<NormalisedDescent>(step_size, kind, std::move(entries));
  }
  if (name == "momentum") return std::make_unique<Momentum>(step_size, settings.number("momentum"), parameters);
  if (name == "flow") return make_flow(settings, parameters, std::move(slope));
  if (name == "adam") return std::make_unique<Adam>(settings, parameters);
  return std::make_unique<Descent>(step_size);
}

}  // namespace lamina
