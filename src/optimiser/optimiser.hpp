// Gradient descent and its relatives on flat vectors of doubles. They know nothing of models.
//   gd, sgd:   x -= eta g                       ngd: x -= eta g / |g| (l2, l1) or eta sign(g)
//   momentum:  v = mu v + g,  x -= eta v        adam: Kingma, Ba 2015, algorithm 1, with its bias correction
//   flow:      x follows dx/dt = -g(x) for a time eta (flow.hpp)
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/options.hpp"

namespace lamina {

// The way of x in the last update of an optimiser that moves between updates too, in consecutive pieces on each of which x is smooth.
// Moments are parts of the update, from 0, its beginning, to 1.
class Passage {
 public:
  virtual ~Passage() = default;
  virtual bool next() = 0;        // on to the next piece, at first the first; false at the end. Throws what a slope throws
  virtual double end() const = 0;  // of the present piece, in (0, 1]
  virtual void at(double moment, std::span<double> x) = 0;  // from the end of the piece before to end()
};

class Optimiser {
 public:
  virtual ~Optimiser() = default;
  // One update. False if normalised descent met a gradient of norm below 1e-30; x is then untouched.
  virtual bool step(std::span<double> x, std::span<const double> gradient) = 0;
  // What must be kept to continue with the same bits, in one vector; empty for methods without memory.
  virtual std::vector<double> state() const { return {}; }
  virtual void set_state(std::span<const double>) {}
  // Null where there is nothing between two updates, or none has been made. The optimiser must outlive it, and rest meanwhile.
  virtual std::unique_ptr<Passage> passage() const { return nullptr; }
  // Factor of the step size from here on; flow takes no notice.
  void set_rate(double rate) { rate_ = rate; }

 protected:
  double rate_ = 1;
};

// Factor of the step size of update `step`, from 0, of `steps`: 1, or (1 + cos(pi step / steps)) / 2 by the option
// step_size_schedule=cosine (Loshchilov and Hutter, arXiv 1608.03983, without restarts).
double scheduled_rate(const Settings& settings, int64_t step, int64_t steps);

// The l2 norm, in one order of summation whatever the machine; squares neither underflow nor overflow. entries: how often each counts;
// empty: once.
double l2_norm(std::span<const double> g, std::span<const double> entries = {});

std::span<const OptionRow> optimiser_options();
// The gradient at another x than the present one; what it throws ends the update and leaves x and the optimiser as they were.
using Slope = std::function<void(std::span<const double> x, std::span<double> gradient)>;
// Only flow reads the slope, and only normalised descent how often each parameter counts in norms (entries; empty: once).
std::unique_ptr<Optimiser> make_optimiser(const Settings& settings, size_t parameters, Slope slope = {}, std::vector<double> entries = {});

}  // namespace lamina
