// Figures of in-context convergence as runs of the trainer (named F1 to F24 here and in the README): reference trajectories,
// invariants, samples, other laws and other classes of functions.
#include <gtest/gtest.h>

#include <cmath>

#include "support/runs.hpp"
#include "theory/feature_floor.hpp"
#include "theory/feature_population.hpp"

namespace lamina::tests {
namespace {

double entry(const Experiment& run, int64_t n, int64_t k) {
  const int64_t d = run.trainer->task()->features()->dimension;
  return run.trainer->model().parameters()[n * d + k];
}

TEST(F1, Balanced) {
  const Experiment run("features=10 prompt_length=50 steps=400", "in_context_convergence");
  EXPECT_NEAR(run.at(0, "loss"), .459, 1e-14);
  EXPECT_NEAR(run.at(0, "alpha_0"), 8.82e-3, 1e-15);
  EXPECT_NEAR(run.at(1, "A_0"), .00882, 1e-14);
  EXPECT_NEAR(run.at(1, "B_0_1"), -.00098, 1e-14);
  EXPECT_NEAR(run.at(1, "loss"), .4581328521, 1e-10);
  EXPECT_NEAR(run.at(100, "A_0"), 1.2168216234, 1e-9);
  EXPECT_NEAR(run.at(100, "B_0_1"), -.1352024026, 1e-9);
  EXPECT_NEAR(run.at(100, "loss"), .2895706438, 1e-9);
  EXPECT_NEAR(run.at(100, "attention_0"), .2911715577, 1e-9);
  EXPECT_NEAR(run.at(100, "alpha_0"), 1.5284148891e-2, 1e-11);
  EXPECT_NEAR(run.at(200, "A_0"), 2.5437410342, 1e-9);
  EXPECT_NEAR(run.at(200, "loss"), .0902728779, 1e-9);
  EXPECT_NEAR(run.at(400, "A_0"), 3.5870879716, 1e-9);
  EXPECT_NEAR(run.at(400, "B_0_1"), -.3985653302, 1e-9);
  EXPECT_NEAR(run.at(400, "loss"), .0224176672, 1e-9);
  EXPECT_NEAR(run.at(400, "attention_0"), .8281594598, 1e-9);
  EXPECT_EQ(entry(run, 3, 3), run.last("A_0"));
  EXPECT_EQ(entry(run, 9, 3), run.last("B_0_1"));
}

TEST(F2, Imbalanced) {
  const Experiment run("features=10 prompt_length=50 dominant=0.5 steps=100", "in_context_convergence");
  EXPECT_NEAR(run.at(0, "loss_0"), .1461111111, 1e-10);
  EXPECT_NEAR(run.at(0, "alpha_0"), 7.0233333333e-2, 1e-12);
  EXPECT_NEAR(run.at(100, "A_0"), 1.9557859407, 1e-9);
  EXPECT_NEAR(run.at(100, "loss_0"), .0067673673, 1e-9);
  EXPECT_NEAR(run.at(0, "loss_1"), .5905555556, 1e-10);
  EXPECT_NEAR(run.at(0, "alpha_1"), 3.5019204390e-3, 1e-12);
  EXPECT_NEAR(run.at(0, "beta_1_0"), -7.3197530864e-3, 1e-12);
  EXPECT_NEAR(run.at(100, "A_1"), .4321436287, 1e-9);
  EXPECT_NEAR(run.at(100, "B_1_0"), -.6053072950, 1e-9);
  EXPECT_NEAR(run.at(100, "B_1_2"), .0216454583, 1e-9);
  EXPECT_NEAR(run.at(100, "loss_1"), .4887034803, 1e-9);
}

double largest_entry(const Experiment& run) {
  double largest = 0;
  for (double q : run.trainer->model().parameters()) largest = std::max(largest, std::abs(q));
  return largest;
}

TEST(F3, ColumnSumsAfterHundredThousandSteps) {
  for (const char* line : {"features=10 prompt_length=50 dominant=0.5", "features=6 prompt_length=20 feature_law=zipf mask=no", "features=20 prompt_length=inf"}) {
    const Experiment run(std::string("steps=100000 record_every=100000 probes=invariants ") + line, "in_context_convergence");
    EXPECT_LT(run.last("column_sum"), 1e-12 * largest_entry(run)) << line;
  }
}

TEST(F3, AdamBreaksTheColumnSums) {
  const Experiment run("features=10 dominant=0.5 prompt_length=50 steps=50 optimiser=adam step_size=0.05 probes=invariants", "in_context_convergence");
  EXPECT_GT(run.last("column_sum"), 0.1);
}

// I4: exchangeable features stay equal when every entry is free (l2-normalised descent ties nothing).
TEST(F3, ExchangeableEntriesStayEqual) {
  const Experiment run("features=8 dominant=0.3 prompt_length=30 steps=200 optimiser=ngd step_size=0.05 record_every=200", "in_context_convergence");
  const double largest = largest_entry(run);
  for (int k = 1; k < 8; ++k)
    for (int n = 1; n < 8; ++n)
      EXPECT_NEAR(entry(run, n, k), n == k ? entry(run, 1, 1) : entry(run, 2, 1), 1e-12 * largest);
}

TEST(F18, FloorsOfLinearAttention) {
  struct Case {
    int K, N;
    double linear, softmax, room;  // room: half a unit of the figure's last digit, relative
  };
  for (const Case& c : {Case{20, 100, .079832, 3.1441e-3, 2e-5}, {20, 1000, .009323, 2.8e-23, 2e-2}, {10, 50, .076271, 2.91e-3, 2e-3},
                        {20, 50, .5 * .95 / 3.45, 4.1226e-2, 2e-5}, {20, 200, .5 * .95 / 10.95, 1.8532e-5, 3e-5}, {20, 400, .5 * .95 / 20.95, 6.48e-10, 1e-3}}) {
    const auto task = convergence_task("features=" + std::to_string(c.K) + " prompt_length=" + std::to_string(c.N));
    EXPECT_NEAR(infimum_of(*task->features(), kernels::Map::linear), c.linear, 6e-7);
    EXPECT_NEAR(infimum_of(*task->features(), kernels::Map::softmax) / c.softmax, 1, c.room) << c.K << " " << c.N;
  }
  const Experiment run("features=10 prompt_length=50 attention=linear step_size=20 steps=3000", "in_context_convergence");
  EXPECT_NEAR(run.last("loss"), .076271, 6e-7);
  EXPECT_NEAR(run.last("excess"), 0, 1e-9);
}

// The infimum of linear attention for other classes of functions: the closed form where the identity is given as a matrix, and where
// descent ends where it is not diagonal.
TEST(F18, LinearFloorOfOtherFunctions) {
  for (const int N : {1, 2, 7}) {
    const std::string law = "features=3 feature_weights=3,2,1 prompt_length=" + std::to_string(N);
    for (int k = 0; k < 3; ++k)
      EXPECT_NEAR(infimum_of(*convergence_task(law + " second_moments=1,0,0,0,1,0,0,0,1")->features(), kernels::Map::linear, k),
                  infimum_of(*convergence_task(law)->features(), kernels::Map::linear, k), 1e-15);
    const Experiment run(law + " second_moments=2,0.5,-0.3,0.5,1,0.2,-0.3,0.2,1.5 attention=linear step_size=2 steps=20000 record_every=20000",
                         "in_context_convergence");
    EXPECT_GT(run.at(0, "excess"), 0.05);
    EXPECT_NEAR(run.last("excess"), 0, 1e-12) << N;
  }
}

// relu'(0) = 1: a run from zero moves at once, and on this law it ends where linear attention does.
TEST(F18, ReluStartsAtItsKink) {
  const Experiment relu("features=10 prompt_length=50 attention=relu step_size=20 steps=3000", "in_context_convergence");
  EXPECT_LT(relu.at(1, "loss"), relu.at(0, "loss"));
  EXPECT_NEAR(relu.last("loss"), .076271, 6e-7);
}

TEST(F19, SampledDescent) {
  const std::string law = "features=6 dimension=8 prompt_length=60 dominant=0.5 step_size=4 steps=200 record_every=200 ";
  const Experiment exact(law, "in_context_convergence");
  EXPECT_NEAR(entry(exact, 0, 0), 2.922, 1e-3);
  EXPECT_NEAR(entry(exact, 1, 1), 3.836, 1e-3);
  EXPECT_NEAR(entry(exact, 0, 1), -1.781, 1e-3);
  const auto error = [&](const std::string& data) {
    const Experiment run(law + data, "in_context_convergence");
    double largest = 0;
    for (int n = 0; n < 8; ++n)
      for (int k = 0; k < 8; ++k) largest = std::max(largest, std::abs(entry(run, n, k) - entry(exact, n, k)));
    return largest;
  };
  EXPECT_LT(error("data=averaged batch=4096"), 0.01);
}

TEST(F23, ZipfFeaturesConvergeInTheirOrder) {
  std::string line = "features=20 feature_law=zipf prompt_length=inf steps=26000 probes=none record_every=100000 crossings=";
  for (int k = 0; k < 20; ++k) line += (k ? ",loss_" : "loss_") + std::to_string(k) + "=0.01,loss_" + std::to_string(k) + "=0.001";
  line += " watched=0";
  for (int k = 1; k < 20; ++k) line += "," + std::to_string(k);
  const Experiment run(line, "in_context_convergence");
  const auto& crossings = run.trainer->crossings();
  ASSERT_EQ(crossings.size(), 40u);
  const int64_t want[] = {150, 334, 546, 783, 1042};
  for (size_t k = 0; k < 5; ++k) EXPECT_EQ(crossings[2 * k].step, want[k]) << k;
  EXPECT_EQ(crossings[38].step, 7381);
  double least = 9, most = 0;
  for (size_t k = 0; k < 20; ++k) {
    if (k > 0) {
      EXPECT_GT(crossings[2 * k].step, crossings[2 * k - 2].step) << k;
    }
    const double scaled = 4 * run.trainer->task()->features()->probability[k] * 1e-3 * static_cast<double>(crossings[2 * k + 1].step);
    least = std::min(least, scaled), most = std::max(most, scaled);
  }
  EXPECT_NEAR(least, 1.127, 1e-3);
  EXPECT_NEAR(most, 1.381, 1e-3);
}

std::string matrix(int K, double (*entry)(int, int)) {
  std::string text = " second_moments=";
  for (int m = 0; m < K; ++m)
    for (int n = 0; n < K; ++n) text += (m + n ? "," : "") + std::to_string(entry(m, n));
  return text;
}

// Bit for bit where both matrices are given, on the exact law and on samples: a factor of 4 commutes with every rounding. The identity
// that is not given takes a shorter way, the same to rounding.
TEST(F24, ScaleOfLabelsIsAStepSize) {
  const std::string four = matrix(6, [](int m, int n) { return m == n ? 4.0 : 0.0; }), one = matrix(6, [](int m, int n) { return m == n ? 1.0 : 0.0; });
  for (const char* data : {"data=population", "data=population prompt_length=inf", "data=averaged batch=16", "data=population mask=no"}) {
    const std::string law = std::string("features=6 prompt_length=30 steps=300 record_every=300 ") + data;
    const Experiment scaled(law + four, "in_context_convergence"), eta(law + one + " step_size=4", "in_context_convergence"),
        plain(law + " step_size=4", "in_context_convergence");
    const auto &a = scaled.trainer->model().parameters(), &b = eta.trainer->model().parameters(), &c = plain.trainer->model().parameters();
    EXPECT_GT(a[0], 1) << data;
    EXPECT_EQ(a, b) << data;
    for (size_t i = 0; i < 36; ++i) EXPECT_NEAR(a[i], c[i], 1e-12 * a[0]) << data;
    EXPECT_EQ(scaled.last("loss"), 4 * eta.last("loss")) << data;
  }
}

TEST(F24, CommonPartOfLabelsChangesTheRateAlone) {
  const std::string law = "features=6 prompt_length=30 steps=300 record_every=300 ";
  const Experiment half(law + matrix(6, [](int m, int n) { return m == n ? 1.0 : 0.5; }), "in_context_convergence"),
      eta(law + "step_size=0.5", "in_context_convergence");
  for (size_t i = 0; i < 36; ++i) EXPECT_NEAR(half.trainer->model().parameters()[i], eta.trainer->model().parameters()[i], 1e-12);
}

TEST(F24, TwinsShareTheAttention) {
  const Experiment run("features=6 prompt_length=inf steps=20000 record_every=10000 watched=0 " +
                           matrix(6, [](int m, int n) { return m == n || (m < 2 && n < 2) ? 1.0 : 0.0; }),
                       "in_context_convergence");
  EXPECT_EQ(entry(run, 0, 0), entry(run, 1, 0));
  EXPECT_NEAR(2 * entry(run, 0, 0) + 4 * entry(run, 2, 0), 0, 1e-12);
  EXPECT_NEAR(run.last("attention_0"), run.last("attention_0_1"), 1e-12);
  EXPECT_LT(run.last("loss_0"), 1e-3);
  // The figure's logits 2.643, 2.643, -1.322, ... of a step and a length that it does not give: passed on the way, the others at minus
  // half of it by I1, the attention equal, the loss what that attention leaves.
  const Experiment way("features=6 prompt_length=inf steps=4000 record_every=4000 watched=0 crossings=A_0=2.643" +
                           matrix(6, [](int m, int n) { return m == n || (m < 2 && n < 2) ? 1.0 : 0.0; }),
                       "in_context_convergence");
  const int64_t step = way.trainer->crossings()[0].step;
  ASSERT_GT(step, 0);
  const Experiment there("features=6 prompt_length=inf watched=0 record_every=10000 steps=" + std::to_string(step) +
                             matrix(6, [](int m, int n) { return m == n || (m < 2 && n < 2) ? 1.0 : 0.0; }),
                         "in_context_convergence");
  EXPECT_NEAR(entry(there, 0, 0), 2.643, 5e-4);
  EXPECT_EQ(entry(there, 0, 0), entry(there, 1, 0));
  for (int n = 2; n < 6; ++n) EXPECT_NEAR(entry(there, n, 0), -1.322, 1e-3);
  const double others = 4 / (4 + 2 * std::exp(1.5 * entry(there, 0, 0)));
  EXPECT_NEAR(there.last("loss_0"), 0.5 * (others * others + others * others / 4), 1e-12);
}

}  // namespace
}  // namespace lamina::tests
