// Quantiles and least squares; sums are of deviations from the mean, in the order of the points.
#include "ensemble/statistics.hpp"

#include <boost/math/distributions/students_t.hpp>
#include <cmath>
#include <limits>

namespace lamina {
namespace {

constexpr double unknown = std::numeric_limits<double>::quiet_NaN();

double mean(std::span<const double> values) {
  double sum = 0;
  for (double v : values) sum += v;
  return sum / static_cast<double>(values.size());
}

}  // namespace

double quantile(std::span<const double> ascending, double p) {
  if (ascending.empty()) return unknown;
  const double h = p * static_cast<double>(ascending.size() - 1);
  const auto below = static_cast<size_t>(h);
  const double fraction = h - static_cast<double>(below), low = ascending[below];
  if (fraction == 0 || ascending[below + 1] == low) return low;  // also where both are infinite
  return low + fraction * (ascending[below + 1] - low);
}

double student_quantile(double confidence, int64_t freedom) {
  return boost::math::quantile(boost::math::complement(boost::math::students_t(static_cast<double>(freedom)), (1 - confidence) / 2));
}

Line fit_line(std::span<const double> x, std::span<const double> y, double confidence) {
  Line line{static_cast<int64_t>(x.size()), unknown, unknown, unknown, unknown, unknown, unknown};
  if (x.size() < 2) return line;
  const double x_mean = mean(x), y_mean = mean(y);
  double xx = 0, xy = 0, yy = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double u = x[i] - x_mean, v = y[i] - y_mean;
    xx += u * u, xy += u * v, yy += v * v;
  }
  if (!(xx > 0)) return line;
  line.slope = xy / xx, line.intercept = y_mean - line.slope * x_mean;
  double residual = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double r = (y[i] - y_mean) - line.slope * (x[i] - x_mean);
    residual += r * r;
  }
  if (yy > 0) line.r_squared = 1 - residual / yy;
  const int64_t freedom = line.points - 2;
  if (freedom < 1) return line;
  line.error = std::sqrt(residual / static_cast<double>(freedom) / xx);
  const double reach = student_quantile(confidence, freedom) * line.error;
  line.lower = line.slope - reach, line.upper = line.slope + reach;
  return line;
}

}  // namespace lamina
