// Quantiles against their definition on sorted copies; the line against exact cases and published quantiles of t; how often its
// confidence interval covers the truth.
#include "ensemble/statistics.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/random.hpp"

namespace lamina::tests {
namespace {

TEST(Quantile, IsLinearBetweenOrderStatistics) {
  Random random(1, Purpose::train, 0);
  for (int64_t n = 1; n < 40; ++n) {
    std::vector<double> values;
    for (int64_t i = 0; i < n; ++i) values.push_back(random.normal());
    std::sort(values.begin(), values.end());
    for (int64_t k = 0; k <= 100; ++k) {
      // In exact arithmetic: rank (n - 1) k / 100, its whole part and its remainder.
      const int64_t low = (n - 1) * k / 100, rest = (n - 1) * k % 100, high = std::min(low + 1, n - 1);
      const double expected = (values[low] * static_cast<double>(100 - rest) + values[high] * static_cast<double>(rest)) / 100;
      EXPECT_NEAR(quantile(values, static_cast<double>(k) / 100), expected, 1e-13) << n << " " << k;
    }
    EXPECT_EQ(quantile(values, 0), values.front());
    EXPECT_EQ(quantile(values, 1), values.back());
  }
}

TEST(Quantile, OfInfinitiesAndOfNothing) {
  const double inf = std::numeric_limits<double>::infinity();
  const std::vector<double> values{1, 2, inf, inf};
  EXPECT_EQ(quantile(values, 1.0 / 3), 2);
  EXPECT_EQ(quantile(values, 0.5), inf);
  EXPECT_EQ(quantile(values, 0.9), inf);
  EXPECT_TRUE(std::isnan(quantile({}, 0.5)));
}

TEST(Student, QuantilesArePublishedOnes) {
  // Two-sided 90, 95, 99 %.
  const struct {
    int64_t freedom;
    double q90, q95, q99;
  } table[] = {{1, 6.3138, 12.7062, 63.6567}, {2, 2.9200, 4.3027, 9.9248}, {5, 2.0150, 2.5706, 4.0321}, {10, 1.8125, 2.2281, 3.1693},
               {30, 1.6973, 2.0423, 2.7500}, {120, 1.6577, 1.9799, 2.6174}};
  for (const auto& row : table) {
    EXPECT_NEAR(student_quantile(0.90, row.freedom), row.q90, 6e-5);
    EXPECT_NEAR(student_quantile(0.95, row.freedom), row.q95, 6e-5);
    EXPECT_NEAR(student_quantile(0.99, row.freedom), row.q99, 6e-5);
  }
}

TEST(Line, OfPointsOnALineIsThatLine) {
  std::vector<double> x, y;
  for (int i = 0; i < 10; ++i) x.push_back(0.5 * i), y.push_back(3 - 2 * x.back());
  const Line line = fit_line(x, y, 0.95);
  EXPECT_EQ(line.points, 10);
  EXPECT_NEAR(line.slope, -2, 1e-14);
  EXPECT_NEAR(line.intercept, 3, 1e-14);
  EXPECT_NEAR(line.error, 0, 1e-14);
  EXPECT_NEAR(line.r_squared, 1, 1e-14);
}

// Four points by hand: slope 0.8, residuals .2 -.6 .6 -.2, their squares .8, error sqrt(.4 / 5).
TEST(Line, OfFourPoints) {
  const std::vector<double> x{0, 1, 2, 3}, y{1.2, 1.2, 3.2, 3.2};
  const Line line = fit_line(x, y, 0.95);
  EXPECT_NEAR(line.slope, 0.8, 1e-14);
  EXPECT_NEAR(line.intercept, 1, 1e-14);
  EXPECT_NEAR(line.error, std::sqrt(0.08), 1e-14);
  const double t = 0.95 / std::sqrt(2 * 0.975 * 0.025);  // the quantile of two degrees of freedom in closed form
  EXPECT_NEAR(line.upper - line.slope, t * std::sqrt(0.08), 1e-12);
  EXPECT_NEAR(line.slope - line.lower, t * std::sqrt(0.08), 1e-12);
  EXPECT_NEAR(line.r_squared, 0.8, 1e-14);
}

TEST(Line, OfTooFewPointsKnowsLess) {
  const std::vector<double> none, one{1}, two{1, 2}, same{1, 1, 1}, y{1, 3, 5};
  EXPECT_TRUE(std::isnan(fit_line(none, none, 0.9).slope));
  EXPECT_TRUE(std::isnan(fit_line(one, one, 0.9).slope));
  EXPECT_EQ(fit_line(two, two, 0.9).slope, 1);
  EXPECT_TRUE(std::isnan(fit_line(two, two, 0.9).error));
  EXPECT_TRUE(std::isnan(fit_line(same, y, 0.9).slope));
}

// The interval covers the true slope as often as it says: 4 standard deviations of the binomial.
TEST(Line, ItsIntervalCoversTheTruthAsOftenAsItSays) {
  constexpr int trials = 20000;
  for (const int points : {3, 5, 20})
    for (const double confidence : {0.5, 0.9, 0.99}) {
      int covered = 0;
      for (int t = 0; t < trials; ++t) {
        Random random(static_cast<uint64_t>(points), Purpose::test, static_cast<uint64_t>(t));
        std::vector<double> x, y;
        for (int i = 0; i < points; ++i) x.push_back(std::log(1 + i)), y.push_back(2 * x.back() + 0.3 * random.normal() + 1);
        const Line line = fit_line(x, y, confidence);
        covered += line.lower <= 2 && 2 <= line.upper;
      }
      EXPECT_NEAR(covered / double{trials}, confidence, 4 * std::sqrt(confidence * (1 - confidence) / trials)) << points;
    }
}

}  // namespace
}  // namespace lamina::tests
