// Figures of causal structure (named C1 to C4 here and in the README): S = 10, T = 20, alpha = 0.1, epsilon = 1e-3, batches of
// 512. Expected figures are those of an independent program whose start and step sizes are not known, one batch each.
#include <gtest/gtest.h>

#include <algorithm>
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

// What ten seeds gave with 20 000 new sequences: means, and five standard deviations.
struct Spread {
  double mean, room;
};
void expect_within(double value, const Spread& s, const char* what, const std::string& where) {
  EXPECT_NEAR(value, s.mean, s.room) << what << " " << where;
}

// The attention that row `query` of A1, the position without a child, keeps on itself.
double kept_by_query(const Experiment& run) {
  const double* row = &run.trainer->model().parameters()[19 * 20];
  double z = 0;
  for (int j = 0; j < 20; ++j) z += std::exp(row[j]);
  return std::exp(row[19]) / z;
}

// C2, C3, C4: attention on the parents after stage 1, A2 after stage 2, the falls of the loss on new sequences, where they end.
TEST(C234, TwoStages) {
  struct Expected {
    const char* graph;
    int seeds;
    Spread start, first_fall, fall, excess;
    double independent_start, independent_posterior;  // of one batch of 512; 0: not known
  };
  // With graph icl fall and excess vary with the query's position (C3 below): bounds are of ten seeds, widened by a third.
  for (const Expected& e : {Expected{"chain", 2, {2.9796, .04}, {.0183, .001}, {.2737, .017}, {.9542, .04}, 2.98, 1.76},
                            Expected{"icl", 6, {2.8889, .04}, {.0092, .0005}, {.181, .06}, {.784, .07}, 2.88, 1.92},
                            Expected{"random", 2, {3.0087, .04}, {.0135, .001}, {.1593, .02}, {.9783, .04}, 0, 0}}) {
    std::vector<std::pair<double, double>> diagonals;  // by what the query's position keeps to itself
    for (int seed = 1; seed <= e.seeds; ++seed) {
      const std::string where = std::string("graph=") + e.graph + " seed=" + std::to_string(seed);
      const Experiment run = causal("evaluation_samples=20000 record_every=120 " + where);
      EXPECT_EQ(run.at(120, "parents_found"), 1);
      EXPECT_NEAR(run.at(120, "parent_attention"), 0.9925, 0.0025) << where;
      EXPECT_GT(run.at(120, "parent_attention_least"), 0.98) << where;
      EXPECT_EQ(run.last("parent_attention"), run.at(120, "parent_attention"));  // at rest in stage 2
      EXPECT_NEAR(run.at(120, "diagonal"), 0.1, 1e-15);
      EXPECT_NEAR(run.last("off_diagonal"), -(run.last("diagonal") - 0.1) / 9, 1e-12);
      EXPECT_NEAR(run.last("diagonal"), run.at(240, "diagonal"), 0.1);  // stage 2 has converged but for noise
      diagonals.emplace_back(kept_by_query(run), run.last("diagonal"));
      const double start = run.at(0, "new_loss");
      expect_within(start, e.start, "start", where);
      expect_within(start - run.at(120, "new_loss"), e.first_fall, "fall in stage 1", where);
      expect_within(start - run.last("new_loss"), e.fall, "fall", where);
      expect_within(run.last("new_excess"), e.excess, "excess", where);  // far from the posterior mean at this length
      const double posterior = run.last("new_loss") - run.last("new_excess");
      if (e.independent_start > 0) {
        constexpr double batch = 2 * 0.07;  // of a mean over 512 sequences the standard deviation is 0.07 (below)
        EXPECT_NEAR(start, e.independent_start, batch);
        EXPECT_NEAR(posterior, e.independent_posterior, batch);
      }
      std::printf("%-6s seed %d: attention on parents %.4f, least %.4f; diagonal %.3f, others %.4f; loss %.3f, %.3f, %.3f, posterior mean %.3f; "
                  "the query's position keeps %.2f\n",
                  e.graph, seed, run.at(120, "parent_attention"), run.at(120, "parent_attention_least"), run.last("diagonal"),
                  run.last("off_diagonal"), start, run.at(120, "new_loss"), run.last("new_loss"), posterior, kept_by_query(run));
    }
    // C3: the expected diagonal is 1.7 to 2.1. With graph icl it is lower the more the query's position attends to itself.
    std::ranges::sort(diagonals);
    for (size_t i = 1; i < diagonals.size(); ++i) {
      if (std::string(e.graph) == "icl") {
        EXPECT_LT(diagonals[i].second, diagonals[i - 1].second + 0.06) << "kept " << diagonals[i].first;
      }
    }
    for (const auto& [kept, diagonal] : diagonals) {
      EXPECT_GT(diagonal, 1.65) << e.graph;
      EXPECT_LT(diagonal, std::string(e.graph) == "icl" && kept < 0.74 ? 3 : 2.2) << e.graph << ", kept " << kept;
    }
  }
}

// C3: what noise of the first stage leaves to the query's position moves graph icl's diagonal. Steps a twelfth as large, and twelve times
// as many, leave less of it: from half the start it is within 1.7 to 2.1 for every seed (1 to 4 gave 1.84 to 1.93, and 0.129 to 0.138).
TEST(C3, SmallerStepsOfTheFirstStageNarrowTheDiagonalOfIcl) {
  const Experiment run = causal("graph=icl initial_scale=0.05 stage_one_step_size=200 stage_one_steps=1200 steps=1400 record_every=1200 "
                                "evaluation_samples=20000");
  EXPECT_NEAR(run.last("parent_attention"), 0.993, 0.001);
  expect_within(run.last("diagonal"), {1.88, .1}, "diagonal", "graph=icl");
  expect_within(run.at(0, "new_loss") - run.last("new_loss"), {.133, .01}, "fall", "graph=icl");
  EXPECT_GT(kept_by_query(run), 0.8);
  std::printf("C3: diagonal %.3f, fall %.4f, the query's position keeps %.2f\n", run.last("diagonal"),
              run.at(0, "new_loss") - run.last("new_loss"), kept_by_query(run));
}

// C234: from beta_0 = 0.12, by such steps and a second stage of 65, seed 1 meets every figure of the independent program within its
// rounding, but for the whole fall of chain, 0.276 for 0.28 at least. Three numbers were chosen for that, so it shows what is consistent.
TEST(C234, OneSettingMeetsAllButOne) {
  for (const char* graph : {"chain", "icl"}) {
    const bool chain = std::string(graph) == "chain";
    const Experiment run = causal(std::string("initial_scale=0.12 stage_one_step_size=83 stage_one_steps=1200 steps=1265 ") +
                                  "record_every=1200 evaluation_samples=20000 graph=" + graph);
    const double start = run.at(0, "new_loss"), first = start - run.at(1200, "new_loss"), whole = start - run.last("new_loss");
    EXPECT_NEAR(run.last("parent_attention"), 0.9925, 0.0025) << graph;
    EXPECT_NEAR(first, chain ? .03 : .02, 0.01) << graph;
    EXPECT_NEAR(run.last("diagonal"), 1.9, 0.25) << graph;
    EXPECT_NEAR(whole, chain ? .275 : .16, 0.01) << graph;
    std::printf("C234: %s: falls %.4f, %.4f; diagonal %.3f\n", graph, first, whole, run.last("diagonal"));
  }
}

// C4: the falls in the first stage are proportional to beta_0: the expected 0.03 and 0.02, rounded, ask for more than 0.1.
TEST(C4, TheFirstFallIsProportionalToTheStart) {
  for (const char* graph : {"chain", "icl"}) {
    double fall[2];
    for (int i = 0; i < 2; ++i) {
      const Experiment run = causal(std::string("steps=120 record_every=120 evaluation_samples=20000 probes=new_sequences graph=") + graph +
                                    (i == 0 ? "" : " initial_scale=0.15 stage_one_step_size=667"));
      fall[i] = run.at(0, "new_loss") - run.at(120, "new_loss");
    }
    const double expected = std::string(graph) == "chain" ? 0.03 : 0.02;
    EXPECT_LT(fall[0], expected - 0.01) << graph;
    EXPECT_NEAR(fall[1], expected, 0.01) << graph;
    EXPECT_NEAR(fall[1] / fall[0], 1.5, 0.03) << graph;
    std::printf("C4: %s: fall in the first stage %.4f, %.4f from 0.15\n", graph, fall[0], fall[1]);
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
