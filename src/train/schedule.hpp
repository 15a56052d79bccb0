// Which steps have a row in the trajectory: 0, the last, every so many, and so many per factor of ten.
#pragma once
#include <cmath>
#include <cstdint>

#include "base/options.hpp"
#include "kernels/scalar_math.hpp"

namespace lamina {

class Schedule {
 public:
  explicit Schedule(const Settings& settings)
      : last_(settings.integer("steps")),
        per_decade_(settings.integer("record_per_decade")),
        every_(per_decade_ > 0 && !settings.given("record_every") ? 0 : settings.integer("record_every")) {}

  // Steps are asked for in ascending order.
  bool due(int64_t step) {
    if (step == 0 || step == last_ || (every_ > 0 && step % every_ == 0)) return true;
    if (per_decade_ == 0) return false;
    while (next_ < step) next_ = logarithmic(++index_);
    return next_ == step;
  }

 private:
  // 10^(j / m) rounded to the nearest integer; powers of ten are exact.
  int64_t logarithmic(int64_t j) const {
    double power = 1;
    for (int64_t decade = 0; decade < j / per_decade_; ++decade) power *= 10;
    const double ln10 = 2.302585092994046;
    if (j % per_decade_ != 0)
      power *= kernels::exp(ln10 * static_cast<double>(j % per_decade_) / static_cast<double>(per_decade_));
    return static_cast<int64_t>(std::floor(power + 0.5));
  }

  int64_t last_, per_decade_, every_;
  int64_t index_ = 0, next_ = 1;
};

}  // namespace lamina
