// Crossings: the first step at which a column of the trajectory reaches a value, coming from the side on which it began. Each
// column is looked at after every update, so the step is exact; rows of the trajectory are not what is searched. Where there is a way
// between two steps, as of gradient flow, the moment is found on it: in its first piece (Passage) at whose end the column has reached
// the value, by Alefeld, Potra, Shi's algorithm 748 (ACM Trans. Math. Softw. 21, 1995). A column that is back at the step's end is not
// seen; of several moments in one piece it is any.
#pragma once
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "probe/probe.hpp"

namespace lamina {

struct Crossing {
  std::string signal;  // a column's name
  double value;
  int64_t step = -1;                                         // -1: not yet
  double time = std::numeric_limits<double>::quiet_NaN();    // in steps: the moment in (step - 1, step], or step; NaN: not yet
  double before = std::numeric_limits<double>::quiet_NaN();  // the signal at step - 1; NaN where step is 0
  double after = std::numeric_limits<double>::quiet_NaN();   // and at step
};

// What columns are read from: the run at the present step, or on the way to it.
class Moments {
 public:
  virtual ~Moments() = default;
  virtual double loss() = 0;
  virtual double excess() = 0;
  virtual const ProbeState& state() = 0;
  // Takes up the way from the step before; false if there is none. Then as in Passage: the next piece of it, its end, and there to go.
  virtual bool turn_back() = 0;
  virtual bool next() = 0;
  virtual double end() const = 0;
  virtual void go_to(double moment) = 0;
};

class Crossings {
 public:
  // text: "column=value,column=value,..." over loss, excess and the columns of all probes that suit the run.
  Crossings(const std::string& text, const Model& model, const Task& task, const std::function<bool(const ProbeRow&)>& suits);

  const std::vector<Crossing>& all() const { return all_; }
  bool open() const { return open_ > 0; }  // some are still to come
  bool watch_excess() const;               // and one of them reads the excess
  bool watch(const ProbeRow& probe) const;  // or a column of this probe
  // A moment is found to this part of a step, as far as the column's own rounding and the integrator's tolerances let it.
  static constexpr double resolution = 1e-12;
  // Looks at a step; whether a signal crossed. The same step may be shown again. The state is asked for only where a probe is
  // to be measured, and a probe whose crossings have all been found is not. What `now` throws leaves everything as it was.
  bool look(int64_t step, Moments& now);

  // What must be kept to go on: state_size numbers a crossing.
  static constexpr size_t state_size = 6;
  std::vector<double> state() const;
  void set_state(const std::vector<double>& state);  // moments are the steps, until set_times
  std::vector<double> times() const;
  void set_times(const std::vector<double>& times);

 private:
  struct Source {
    size_t column;        // of values_: 0 loss, 1 excess, then those of probes_
    bool of_parameters;   // so that it has a value between steps
    double side = 0;  // sign of signal - value at the first look
    double last = std::numeric_limits<double>::quiet_NaN();
    int64_t seen = -1;
  };
  struct Watched {
    const ProbeRow* probe;
    size_t first, columns;
  };
  size_t column_of(const std::string& signal, const Model& model, const Task& task, const std::function<bool(const ProbeRow&)>& suits);
  bool wanted(size_t first, size_t columns) const;
  const Watched* probe_of(size_t column) const;  // null: loss or excess
  void measure(const Watched& watched, Moments& now);
  double read(const Source& source, Moments& now);
  std::vector<double> times_of(const std::vector<size_t>& crossed, int64_t step, Moments& now);

  std::vector<Crossing> all_;
  std::vector<Source> sources_;  // of each
  std::vector<Watched> probes_;
  size_t columns_ = 2, open_ = 0;
  std::vector<double> values_, row_;
};

}  // namespace lamina
