// Figures of causal structure (named C1 to C4 here and in the README): S = 10, T = 20, alpha = 0.1, epsilon = 1e-3, batches of
// 512. Expected figures are those of an independent program whose start and step sizes are not known, one batch each.
#include <gtest/gtest.h>

#include <cmath>

#include "support/runs.hpp"

namespace lamina::tests {
namespace {

Experiment causal(const std::string& line) { return Experiment(line, "causal_structure"); }

const char* const graphs[] = {"chain", "icl", "random"};

// C1: after one step A1 is minus the first gradient: its largest entry over j <= i is the parent's at every node that has one.
TEST(C1, TheFirstGradientFindsTheParents) {
  for (const char* graph : graphs)
    for (int seed = 1; seed <= 5; ++seed) {
      const std::string number = std::to_string(seed);
      const Experiment run = causal(std::string("steps=1 probes=parents graph=") + graph + " seed=" + number + " law_seed=" + number);
      EXPECT_EQ(run.at(1, "parents_found"), 1) << graph << " " << seed;
    }
}

// C2, C3, C4 over three seeds: attention on the parents after stage 1, A2 after stage 2, losses on 20 000 new sequences.
TEST(C234, TwoStages) {
  struct Expected {
    const char* graph;
    double start, first, second, posterior;  // losses of one batch
  };
  for (const Expected& e : {Expected{"chain", 2.98, 2.95, 2.69, 1.76}, Expected{"icl", 2.88, 2.86, 2.72, 1.92}, Expected{"random", 0, 0, 0, 0}})
    for (int seed = 1; seed <= 3; ++seed) {
      const std::string number = std::to_string(seed);
      const Experiment run = causal(std::string("evaluation_samples=20000 record_every=120 graph=") + e.graph + " seed=" + number + " law_seed=" + number);
      EXPECT_EQ(run.at(120, "parents_found"), 1);
      EXPECT_NEAR(run.at(120, "parent_attention"), 0.9925, 0.0025) << e.graph << " " << seed;
      EXPECT_GT(run.at(120, "parent_attention_least"), 0.98) << e.graph << " " << seed;
      EXPECT_EQ(run.last("parent_attention"), run.at(120, "parent_attention"));  // at rest in stage 2
      EXPECT_NEAR(run.at(120, "diagonal"), 0.1, 1e-15);
      // Expected 1.7 to 2.1. With graph icl half of the rows of A1 have no parent, and what the batches of stage 1 leave in them shows.
      EXPECT_GT(run.last("diagonal"), 1.6) << e.graph << " " << seed;
      EXPECT_LT(run.last("diagonal"), std::string(e.graph) == "icl" ? 3 : 2.2) << e.graph << " " << seed;
      EXPECT_NEAR(run.last("off_diagonal"), -(run.last("diagonal") - 0.1) / 9, 1e-12);
      EXPECT_LT(run.at(120, "new_loss"), run.at(0, "new_loss"));
      EXPECT_LT(run.last("new_loss"), run.at(120, "new_loss") - 0.08);
      EXPECT_GT(run.last("new_excess"), 0.5);  // far from the posterior mean at this length
      const double posterior = run.last("new_loss") - run.last("new_excess");
      if (e.start > 0) {
        constexpr double batch = 0.08;  // a mean over 512 sequences has a standard deviation of 0.07 (below)
        EXPECT_NEAR(run.at(0, "new_loss"), e.start, batch);
        EXPECT_NEAR(run.at(120, "new_loss"), e.first, batch);
        EXPECT_NEAR(run.last("new_loss"), e.second, batch);
        EXPECT_NEAR(posterior, e.posterior, batch);
      }
      std::printf("%-6s seed %d: attention on parents %.4f, least %.4f; diagonal %.3f, others %.4f; loss %.3f, %.3f, %.3f, posterior mean %.3f\n",
                  e.graph, seed, run.at(120, "parent_attention"), run.at(120, "parent_attention_least"), run.last("diagonal"),
                  run.last("off_diagonal"), run.at(0, "new_loss"), run.at(120, "new_loss"), run.last("new_loss"), posterior);
    }
}

TEST(C4, ABatchOf512IsThatUncertain) {
  const Experiment run = causal("graph=icl initial_scale=0 steps=100 stage_one_steps=101 probes=none");  // beta_0 = 0: nothing moves
  double sum = 0, squares = 0;
  for (int t = 0; t < 100; ++t) sum += run.at(t, "loss"), squares += run.at(t, "loss") * run.at(t, "loss");
  const double deviation = std::sqrt(squares / 100 - sum * sum / 1e4);
  EXPECT_NEAR(deviation, 0.07, 0.02);
  std::printf("C4: loss of a batch of 512 %.3f with deviation %.3f\n", sum / 100, deviation);
}

// Rows of A1 and A2 keep their sums: softmax over positions sees no common part.
TEST(Invariants, RowSumsAreConserved) {
  const Experiment run = causal("graph=random probes=none record_every=320");
  const std::vector<double>& w = run.trainer->model().parameters();
  for (int i = 0; i < 20; ++i) {
    double sum = 0;
    for (int j = 0; j < 20; ++j) sum += w[static_cast<size_t>(i * 20 + j)];
    EXPECT_NEAR(sum, 0, 1e-12);
    for (int j = i + 1; j < 20; ++j) EXPECT_EQ(w[static_cast<size_t>(i * 20 + j)], 0);  // causal
  }
  for (int q = 0; q < 10; ++q) {
    double sum = 0;
    for (int s = 0; s < 10; ++s) sum += w[static_cast<size_t>(400 + q * 10 + s)];
    EXPECT_NEAR(sum, 0.1, 1e-12);
  }
}

}  // namespace
}  // namespace lamina::tests
