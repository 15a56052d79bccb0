// Statistics of samples: quantiles, and a straight line by least squares with a confidence interval for its slope.
#pragma once
#include <cstdint>
#include <span>

namespace lamina {

// Of ascending values without NaN: with h = p (n - 1), the value at h, linear between neighbours (the default of R and NumPy).
// NaN for none.
double quantile(std::span<const double> ascending, double p);

// y = intercept + slope x + noise; what cannot be estimated from so few points is NaN.
struct Line {
  int64_t points = 0;
  double slope, intercept;
  double error;         // standard error of the slope
  double lower, upper;  // interval for the slope: exact for independent normal noise of equal variance
  double r_squared;
};
Line fit_line(std::span<const double> x, std::span<const double> y, double confidence);

// The quantile of Student's t with `freedom` degrees of freedom that leaves (1 - confidence) / 2 above it.
double student_quantile(double confidence, int64_t freedom);

}  // namespace lamina
