// Each optimiser on small vectors against its closed form.
#include "optimiser/optimiser.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace lamina {
namespace {

std::unique_ptr<Optimiser> make(std::initializer_list<std::pair<const char*, const char*>> set, size_t n) {
  Options options;
  for (const auto& [key, value] : set) options.set(key, std::string(value));
  return make_optimiser(Settings(optimiser_options(), options), n);
}

TEST(Optimiser, GradientDescentOnAQuadratic) {
  // x -= eta x: x_t = (1 - eta)^t.
  const auto gd = make({{"optimiser", "gd"}, {"step_size", "0.25"}}, 1);
  double x = 1;
  for (int t = 0; t < 10; ++t) {
    const double g = x;
    EXPECT_TRUE(gd->step({&x, 1}, {&g, 1}));
  }
  EXPECT_DOUBLE_EQ(x, std::pow(0.75, 10));
}

TEST(Optimiser, CosineScheduleFallsFromOneToZero) {
  Options options;
  options.set("step_size_schedule", std::string("cosine"));
  const Settings cosine(optimiser_options(), options), constant(optimiser_options(), {});
  for (const int64_t steps : {1, 2, 7, 1000, 131072})
    for (int64_t step = 0; step < steps; step += std::max<int64_t>(1, steps / 97)) {
      const long double want = (1 + std::cos(3.14159265358979323846L * static_cast<long double>(step) / static_cast<long double>(steps))) / 2;
      const double rate = scheduled_rate(cosine, step, steps);
      EXPECT_NEAR(rate / static_cast<double>(want), 1, 1e-13) << step << " of " << steps;
      EXPECT_EQ(scheduled_rate(constant, step, steps), 1);
    }
  EXPECT_EQ(scheduled_rate(cosine, 0, 10), 1);
  EXPECT_EQ(scheduled_rate(cosine, 10, 10), 0);
}

TEST(Optimiser, TheRateIsAFactorOfEveryStepSize) {
  for (const char* name : {"gd", "sgd", "ngd", "momentum", "adam"}) {
    const auto whole = make({{"optimiser", name}}, 2), half = make({{"optimiser", name}}, 2);
    half->set_rate(0.5);
    const double g[2] = {0.3, -2};
    double x[2] = {}, y[2] = {};
    whole->step(x, g), half->step(y, g);
    for (int i = 0; i < 2; ++i) EXPECT_DOUBLE_EQ(y[i], x[i] / 2) << name;
  }
}

TEST(Optimiser, NormalisedStepsHaveLengthEta) {
  const double g[3] = {3, -4, 12};
  double l2[3] = {}, l1[3] = {}, sign[3] = {};
  make({{"step_size", "0.5"}}, 3)->step(l2, g);
  make({{"step_size", "0.5"}, {"normalisation", "l1"}}, 3)->step(l1, g);
  make({{"step_size", "0.5"}, {"normalisation", "sign"}}, 3)->step(sign, g);
  for (int i = 0; i < 3; ++i) {
    EXPECT_NEAR(l2[i], -0.5 * g[i] / 13, 1e-15);
    EXPECT_NEAR(l1[i], -0.5 * g[i] / 19, 1e-15);
    EXPECT_EQ(sign[i], g[i] > 0 ? -0.5 : 0.5);
  }
}

TEST(Optimiser, NormalisedDescentSurvivesTinyAndHugeGradients) {
  for (const double size : {1e-29, 1e-200, 1e200}) {
    const double g[2] = {3 * size, 4 * size};
    double x[2] = {1, 1};
    const bool moved = make({{"step_size", "1"}}, 2)->step(x, g);
    EXPECT_EQ(moved, size > 1e-30) << size;
    EXPECT_NEAR(x[0], moved ? 0.4 : 1.0, 1e-15) << size;
  }
  const double zero[2] = {0, 0};
  double x[2] = {1, 2};
  for (const char* norm : {"l2", "l1", "sign"}) EXPECT_FALSE(make({{"normalisation", norm}}, 2)->step(x, zero));
  EXPECT_EQ(x[0], 1);
  EXPECT_EQ(x[1], 2);
}

TEST(Optimiser, MomentumUnderAConstantGradient) {
  // v_t = (1 - mu^t) / (1 - mu), x_t = -eta sum_s v_s.
  const auto momentum = make({{"optimiser", "momentum"}, {"step_size", "0.1"}, {"momentum", "0.5"}}, 1);
  double x = 0, want = 0;
  const double g = 1;
  for (int t = 1; t <= 12; ++t) {
    momentum->step({&x, 1}, {&g, 1});
    want -= 0.1 * (1 - std::pow(0.5, t)) / 0.5;
    EXPECT_NEAR(x, want, 1e-15);
  }
}

TEST(Optimiser, AdamUnderAConstantGradientMovesEtaAStep) {
  // Bias-corrected moments of a constant are the constant and its square: x_t = -eta t g / (|g| + epsilon).
  const auto adam = make({{"optimiser", "adam"}, {"step_size", "0.01"}}, 2);
  double x[2] = {};
  const double g[2] = {1e-3, -50};
  for (int t = 1; t <= 50; ++t) {
    adam->step(x, g);
    for (int i = 0; i < 2; ++i) EXPECT_NEAR(x[i], -0.01 * t * g[i] / (std::abs(g[i]) + 1e-8), 1e-12);
  }
}

TEST(Optimiser, StateContinuesWithTheSameBits) {
  for (const char* name : {"momentum", "adam"}) {
    const auto whole = make({{"optimiser", name}}, 3), first = make({{"optimiser", name}}, 3), second = make({{"optimiser", name}}, 3);
    double a[3] = {1, 2, 3}, b[3] = {1, 2, 3};
    const auto gradient = [](const double* x, double* g) {
      for (int i = 0; i < 3; ++i) g[i] = std::sin(x[i]) + 0.1 * i;
    };
    double g[3];
    for (int t = 0; t < 20; ++t) gradient(a, g), whole->step(a, g);
    for (int t = 0; t < 9; ++t) gradient(b, g), first->step(b, g);
    second->set_state(first->state());
    for (int t = 9; t < 20; ++t) gradient(b, g), second->step(b, g);
    for (int i = 0; i < 3; ++i) EXPECT_EQ(a[i], b[i]) << name;
  }
}

}  // namespace
}  // namespace lamina
