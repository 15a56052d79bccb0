// Crossings: the first step at which a column of the trajectory reaches a value, coming from the side on which it began. Each
// column is looked at after every update, so the step is exact; rows of the trajectory are not what is searched.
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
  double before = std::numeric_limits<double>::quiet_NaN();  // the signal at step - 1; NaN where step is 0
  double after = std::numeric_limits<double>::quiet_NaN();   // and at step
};

class Crossings {
 public:
  // text: "column=value,column=value,..." over loss, excess and the columns of all probes that suit the run.
  Crossings(const std::string& text, const Model& model, const Task& task, const std::function<bool(const ProbeRow&)>& suits);

  const std::vector<Crossing>& all() const { return all_; }
  bool open() const { return open_ > 0; }  // some are still to come
  bool watch_excess() const;               // and one of them reads the excess
  bool watch(const ProbeRow& probe) const;  // or a column of this probe
  // Looks at a step; whether a signal crossed. The same step may be shown again. The state is asked for only where a probe is
  // to be measured, and a probe whose crossings have all been found is not.
  bool look(int64_t step, double loss, double excess, const std::function<const ProbeState&()>& state);

  // What must be kept to go on: state_size numbers a crossing.
  static constexpr size_t state_size = 6;
  std::vector<double> state() const;
  void set_state(const std::vector<double>& state);

 private:
  struct Source {
    size_t column;    // of values_: 0 loss, 1 excess, then those of probes_
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

  std::vector<Crossing> all_;
  std::vector<Source> sources_;  // of each
  std::vector<Watched> probes_;
  size_t columns_ = 2, open_ = 0;
  std::vector<double> values_, row_;
};

}  // namespace lamina
