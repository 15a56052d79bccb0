// Figures of in-context convergence that are times, as crossings that the trainer finds (named F4 to F13 here and in the
// README).
#include <gtest/gtest.h>

#include <cmath>

#include "support/runs.hpp"

namespace lamina::tests {
namespace {

// The steps of all crossings of a run that records nothing else; -1 where one was not reached.
std::vector<int64_t> crossed(const std::string& line, const std::string& crossings) {
  const Experiment run("probes=none threads=1 record_every=100000000 crossings=" + crossings + " " + line,
                       "in_context_convergence");
  std::vector<int64_t> steps;
  for (const Crossing& crossing : run.trainer->crossings()) steps.push_back(crossing.step);
  return steps;
}

using Steps = std::vector<int64_t>;

TEST(F4, StepOfAttentionOneHalf) {
  const std::pair<int, int64_t> cases[] = {{5, 32}, {10, 145}, {20, 546}, {40, 1994}, {80, 7379}};
  for (const auto& [K, t] : cases)
    EXPECT_EQ(crossed("prompt_length=inf steps=8000 features=" + std::to_string(K), "attention_0=0.5"), Steps{t}) << K;
}

TEST(F5, StepsToALoss) {
  const std::string losses = "loss=0.1,loss=0.01,loss=1e-3,loss=1e-4";
  EXPECT_EQ(crossed("prompt_length=inf steps=24000 features=10", losses), (Steps{166, 493, 2809, 23913}));
  EXPECT_EQ(crossed("prompt_length=inf steps=51000 features=20", losses), (Steps{586, 1288, 6198, 50802}));
  EXPECT_EQ(crossed("prompt_length=inf steps=216582 features=80", losses), (Steps{7528, 10485, 30962, 216582}));
}

TEST(F9, FinitePrompts) {
  const std::pair<const char*, int64_t> cases[] = {{"50", 639},   {"100", 585},  {"200", 564}, {"400", 554},
                                                   {"1000", 549}, {"8000", 546}, {"inf", 546}};
  for (const auto& [N, t] : cases)
    EXPECT_EQ(crossed(std::string("features=20 steps=700 prompt_length=") + N, "attention_0=0.5"), Steps{t}) << N;
}

TEST(F10, DominantAndRareFeature) {
  EXPECT_EQ(crossed("features=20 dominant=0.5 prompt_length=inf steps=97000",
                    "loss_0=0.1,loss_0=0.01,loss_0=1e-3,loss_0=1e-4,loss_1=0.1,loss_1=0.01,loss_1=1e-3,loss_1=1e-4"),
            (Steps{4, 74, 564, 5023, 1331, 2651, 11924, 96304}));
}

// The switch of leadership is the sign change of beta_kn; the blow-up is attention 1/2.
TEST(F12, SwitchAndF13BlowUp) {
  struct Case {
    int K;
    int64_t turn;
    double blow_up;  // of K^2
  };
  for (const Case& c : {Case{20, 420, 3.135}, Case{50, 2567, 2.782}, Case{100, 9528, 2.539}}) {
    const Steps steps =
        crossed("prompt_length=inf dominant=0.5 steps=26000 features=" + std::to_string(c.K), "beta_1_2=0,attention_1=0.5");
    EXPECT_EQ(steps[0], c.turn) << c.K;
    EXPECT_NEAR(static_cast<double>(steps[1]) / (c.K * c.K), c.blow_up, 6e-4) << c.K;
  }
  for (const auto& [dominant, blow_up] : {std::pair{"0.3", 1.913}, std::pair{"0.7", 4.836}}) {
    const Steps steps = crossed(std::string("prompt_length=inf features=50 steps=13000 dominant=") + dominant, "attention_1=0.5");
    EXPECT_NEAR(static_cast<double>(steps[0]) / 2500, blow_up, 6e-4) << dominant;
  }
}

TEST(F15, AttentionOfARareQueryToTheDominantFeature) {
  const Experiment run(
      "features=100 dominant=0.5 prompt_length=inf steps=25000 probes=none record_every=100000 "
      "crossings=attention_1_0=0.25,beta_1_2=0,phase_1=2,phase_1=3,phase_1=4",
      "in_context_convergence");
  const int64_t want[] = {2705, 9528, 9528, 20926, 24433};
  for (size_t i = 0; i < std::size(want); ++i) EXPECT_EQ(run.trainer->crossings()[i].step, want[i]) << run.trainer->crossings()[i].signal;
}

}  // namespace
}  // namespace lamina::tests
