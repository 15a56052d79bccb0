// Gradient flow against closed solutions: alone, and as the optimiser of population and fixed objectives.
#include <gtest/gtest.h>

#include <cmath>

#include "optimiser/optimiser.hpp"
#include "support/runs.hpp"

namespace lamina {
namespace {

using tests::Experiment;
using tests::trainer_of;

std::unique_ptr<Optimiser> flow(const std::string& line, size_t n, Slope slope) {
  return make_optimiser(Settings(optimiser_options(), tests::options_of("optimiser=flow " + line)), n, std::move(slope));
}

// Of the quadratic 1/2 sum_i rate_i x_i^2: x_i = e^{-rate_i t}.
const std::vector<double> rates{0.01, 1, 50};
void quadratic(std::span<const double> x, std::span<double> g) {
  for (size_t i = 0; i < x.size(); ++i) g[i] = rates[i] * x[i];
}

std::vector<double> after(const std::string& line, int updates) {
  const auto optimiser = flow(line, 3, quadratic);
  std::vector<double> x{1, 1, 1}, g(3);
  for (int n = 0; n < updates; ++n) {
    quadratic(x, g);
    EXPECT_TRUE(optimiser->step(x, g));
  }
  return x;
}

TEST(Flow, FollowsAQuadraticAtEveryAskedTime) {
  // Stretches far shorter and far longer than the integrator's own steps.
  for (const double stretch : {1e-4, 0.03, 1.0, 40.0})
    for (const int updates : {1, 2, 7, 50}) {
      const std::vector<double> x = after("step_size=" + std::to_string(stretch), updates);
      for (size_t i = 0; i < 3; ++i) EXPECT_NEAR(x[i], std::exp(-rates[i] * stretch * updates), 2e-9) << stretch << " " << updates << " " << i;
    }
}

TEST(Flow, ErrorsFollowTheTolerance) {
  // dx/dt = -x^2 from 1 is 1 / (1 + t).
  const auto slope = [](std::span<const double> x, std::span<double> g) { g[0] = x[0] * x[0]; };
  double before = 1;
  for (const char* tolerance : {"1e-3", "1e-5", "1e-7", "1e-9", "1e-11", "1e-13"}) {
    const auto optimiser = flow("step_size=0.37 relative_tolerance=" + std::string(tolerance) + " absolute_tolerance=1e-15", 1, slope);
    double x = 1, g = 1, error = 0;
    for (int n = 1; n <= 10; ++n) {
      g = x * x;
      optimiser->step({&x, 1}, {&g, 1});
      error = std::max(error, std::abs(x * (1 + 0.37 * n) - 1));
    }
    EXPECT_LT(error, 10 * std::stod(tolerance)) << tolerance;
    EXPECT_LT(error, before / 10) << tolerance;
    before = error;
  }
}

TEST(Flow, StateRestoredInTheMiddleContinuesWithTheSameBits) {
  const std::string line = "step_size=0.02";
  const auto whole = flow(line, 3, quadratic);
  auto parts = flow(line, 3, quadratic);
  std::vector<double> x{1, 1, 1}, y{1, 1, 1}, g(3);
  EXPECT_EQ(parts->state().size(), whole->state().size());
  for (int n = 0; n < 60; ++n) {
    quadratic(x, g);
    whole->step(x, g);
    const std::vector<double> state = parts->state();
    parts = flow(line, 3, quadratic);
    parts->set_state(state);
    quadratic(y, g);
    parts->step(y, g);
    EXPECT_EQ(x, y) << n;
  }
}

// Also of an optimiser that was restored just after an update, and of one whose update a slope ended.
TEST(Flow, AWayThroughAnUpdateIsTheOneItTook) {
  for (const double stretch : {1e-3, 0.03, 1.0, 40.0}) {
    const std::string line = "step_size=" + std::to_string(stretch);
    bool ends = false;
    const Slope ending = [&](std::span<const double> at, std::span<double> out) {
      if (ends) throw std::runtime_error("ended");
      quadratic(at, out);
    };
    auto optimiser = flow(line, 3, ending);
    EXPECT_EQ(optimiser->passage(), nullptr);
    std::vector<double> x{1, 1, 1}, g(3), there(3);
    for (int n = 0; n < 6; ++n) {
      quadratic(x, g);
      optimiser->step(x, g);
      if (n % 2) {
        const std::vector<double> state = optimiser->state();
        optimiser = flow(line, 3, ending);
        optimiser->set_state(state);
      }
      ends = true;
      EXPECT_THROW(optimiser->passage()->next(), std::runtime_error);
      ends = false;
      const auto passage = optimiser->passage();
      double begin = 0;
      int pieces = 0;
      for (; passage->next(); begin = passage->end(), ++pieces) {
        ASSERT_GT(passage->end(), begin);
        for (const double part : {0.0, 0.3, 0.9, 1.0}) {
          const double moment = part == 1 ? passage->end() : begin + part * (passage->end() - begin);
          passage->at(moment, there);
          for (size_t i = 0; i < 3; ++i) EXPECT_NEAR(there[i], std::exp(-rates[i] * stretch * (n + moment)), 2e-9) << stretch;
        }
      }
      EXPECT_EQ(begin, 1);
      EXPECT_EQ(there, x);
      EXPECT_TRUE(stretch < 0.1 || pieces > 3) << pieces;
    }
  }
}

TEST(Flow, AnUpdateEndedByASlopeGoesOnToTheSameBits) {
  const std::string line = "step_size=1";
  const auto whole = flow(line, 3, quadratic);
  std::vector<double> x{1, 1, 1}, g(3);
  int left = 1 << 30, ended = 0;
  const Slope ending = [&](std::span<const double> at, std::span<double> out) {
    if (--left < 0) throw std::runtime_error("ended");
    quadratic(at, out);
  };
  auto parts = flow(line, 3, ending);
  for (int n = 0; n < 5; ++n) {
    std::vector<double> y = x;
    quadratic(x, g);
    whole->step(x, g);
    quadratic(y, g);
    for (const bool restored : {false, true}) {
      left = 30 + n;
      try {
        std::vector<double> z = y;
        parts->step(z, g);
        ADD_FAILURE() << "few slopes";
      } catch (const std::runtime_error&) {
        ++ended;
      }
      if (!restored) continue;
      const std::vector<double> state = parts->state();
      parts = flow(line, 3, ending);
      parts->set_state(state);
    }
    left = 1 << 30;
    parts->step(y, g);
    EXPECT_EQ(y, x) << n;
    EXPECT_EQ(parts->state(), whole->state()) << n;
  }
  EXPECT_EQ(ended, 10);
}

TEST(Flow, EndOfASolutionIsAnErrorThatLeavesEverythingAsItWas) {
  // dx/dt = x^2 from 1 is 1 / (1 - t).
  const auto explosion = [](std::span<const double> x, std::span<double> g) { g[0] = -x[0] * x[0]; };
  const auto optimiser = flow("step_size=0.4", 1, explosion);
  double x = 1, g = -1;
  optimiser->step({&x, 1}, {&g, 1});
  EXPECT_NEAR(x, 1 / 0.6, 1e-9);
  optimiser->step({&x, 1}, {&g, 1});
  EXPECT_NEAR(x, 1 / 0.2, 1e-8);
  const double before = x;
  EXPECT_THROW(optimiser->step({&x, 1}, {&g, 1}), Error);
  EXPECT_EQ(x, before);
}

TEST(Flow, SoftmaxAttentionOnFeaturesFollowsItsClosedFlow) {
  // Infinite prompts, equal features: the closed flow has no free constant.
  const Experiment run("features=10 prompt_length=inf optimiser=flow step_size=1.5 steps=300 relative_tolerance=1e-11", "in_context_convergence");
  ASSERT_EQ(run.status, LAMINA_OK);
  for (int64_t row = 0; row < run.table->rows(); ++row)
    EXPECT_NEAR(run.table->at(row, run.column("excess")), run.table->at(row, run.column("predicted")), 1e-9) << row;
}

TEST(Flow, IsTheLimitOfGradientDescentOnPopulationsAndFixedSets) {
  // Descent with step eta differs from flow by c eta: halving eta halves the difference.
  for (const std::string line : {"data=population noise=0.2 attention=linear", "data=fixed samples=64 variant=w_free noise=0",
                                 "data=fixed samples=64 variant=original noise=0.2"}) {
    const std::string common = " triggers=2 outputs=4 unseen_outputs=2 vocabulary=12 prompt_length=32 probes=none " + line;
    const auto loss = [&](const std::string& method) { return Experiment(common + " " + method).last("loss"); };
    const double limit = loss("optimiser=flow step_size=0.5 steps=4");
    const double coarse = loss("optimiser=gd step_size=0.02 steps=100") - limit, fine = loss("optimiser=gd step_size=0.01 steps=200") - limit;
    EXPECT_NEAR(coarse / fine, 2, 0.1) << line;
    EXPECT_NE(fine, 0) << line;
  }
}

TEST(Flow, AResumedRunHasTheBitsOfAnUninterruptedOne) {
  const std::string path = testing::TempDir() + "flow.safetensors", line = "optimiser=flow data=population step_size=3 steps=40";
  const Experiment whole(line);
  const auto first = trainer_of(line);
  ASSERT_EQ(first->run(17), LAMINA_OK);
  first->save(path);
  const auto second = Trainer::load(path, nullptr);
  ASSERT_EQ(second->run(0), LAMINA_OK);
  EXPECT_EQ(second->trajectory()->values(), whole.table->values());
}

TEST(Flow, AStopEndsAnUpdateUnderWay) {
  const auto trainer = trainer_of("optimiser=flow data=population step_size=1e6 steps=3");
  int64_t asked = 0;
  trainer->on_progress([&](const Progress& at) { return asked = at.step, trainer->stop(), true; }, 0);
  EXPECT_EQ(trainer->run(0), LAMINA_STOPPED);
  EXPECT_EQ(trainer->step(), asked);
  trainer->on_progress(nullptr, 0);
  EXPECT_EQ(trainer->run(0), LAMINA_OK);
}

TEST(Flow, RefusesDataThatChangeFromStepToStep) {
  for (const char* line : {"data=fresh", "data=fixed batch=16", "data=population precision=f32"})
    EXPECT_THROW(trainer_of(std::string("optimiser=flow ") + line), Error) << line;
}

}  // namespace
}  // namespace lamina
