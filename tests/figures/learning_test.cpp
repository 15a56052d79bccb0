// Figures of freely trained models: generalisation to unseen outputs, order of learning, independence of the basis (named A11,
// A16, A17, A21 here and in the README). Reduced sizes are stated at each test; with LAMINA_FIGURES=full (suite slow) all are those of
// the README's table, M = 2048 and H = 256 in f64.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <string_view>

#include "support/runs.hpp"

namespace lamina::tests {
namespace {

// The reduced options, or those of the full size.
std::string sized(const char* reduced, const char* full) {
  const char* wanted = std::getenv("LAMINA_FIGURES");
  return wanted && std::string_view(wanted) == "full" ? full : reduced;
}

const std::string samples = sized("samples=1024 ", "samples=2048 ");
constexpr const char* free_runs = "noise=0 record_every=500 probes=test,unseen ";

// N = 60, H = 256 as in the table, M = 1024 in place of 2048.
TEST(A11, TiedReadOutGeneralises) {
  for (const char* attention : {"linear", "relu"}) {
    const Experiment full(free_runs + samples + "steps=300 attention=" + attention);
    EXPECT_EQ(full.last("unseen_accuracy"), 1.0) << attention;
    EXPECT_NEAR(full.last("unseen_loss") / full.last("test_loss"), 1.0, 0.1) << attention;
    const Experiment w_free(free_runs + samples + "variant=w_free initialisation=gaussian steps=500 attention=" + attention);
    EXPECT_EQ(w_free.last("unseen_accuracy"), 1.0) << attention;
    EXPECT_LT(w_free.last("unseen_excess"), 1e-6) << attention;
    EXPECT_LT(w_free.last("excess"), 1e-6) << attention;
  }
}

// Reduced: M = 1024, H = 128, f32.
TEST(A11, FreeReadOutFailsOnUnseenOutputs) {
  for (const char* variant : {"uv_free", "original"})
    for (const char* attention : {"linear", "relu", "softmax"}) {
      const Experiment run(free_runs + samples + sized("precision=f32 prompt_length=128 steps=1000", "steps=1500") + " variant=" + variant +
                           " attention=" + attention);
      EXPECT_LT(run.last("loss"), 0.1) << variant << " " << attention;
      EXPECT_LE(run.last("unseen_accuracy"), 0.01) << variant << " " << attention;
      EXPECT_GT(run.last("unseen_loss"), std::log(61.0)) << variant << " " << attention;
    }
}

// Reduced: M = 1024. The feed-forward part learns the noise while attention is untrained: a plateau near (1 - a) ln 25, where
// tau is the feed-forward part's choice on every prompt and p(tau) is within 0.12 of a; the answer comes at least twice as late.
TEST(A16, FeedForwardLearnsTheNoiseFirst) {
  const Experiment run(samples + sized("precision=f32 ", "") + "variant=original noise=0.5 step_size=0.05 initial_scale=0.02 steps=900 record_every=10 "
                       "probes=predictions");
  const int64_t p = run.column("p_noise"), attention = run.column("attention_accuracy"), excess = run.column("excess");
  const int64_t noise_step = run.first_step([&](int64_t r) { return run.table->at(r, p) >= 0.4; });
  const int64_t answer_step = run.first_step([&](int64_t r) { return run.table->at(r, attention) >= 0.4; });
  ASSERT_GT(noise_step, 0);
  EXPECT_GE(answer_step < 0 ? 900 : answer_step, 2 * noise_step);
  const int64_t plateau = run.first_step([&](int64_t r) { return std::abs(run.table->at(r, excess) - 0.5 * std::log(25.0)) < 0.1; });
  ASSERT_GT(plateau, 0);
  EXPECT_LT(plateau, answer_step < 0 ? 900 : answer_step);
  EXPECT_EQ(run.at(plateau, "feed_forward_noise"), 1.0);
  EXPECT_NEAR(run.at(plateau, "p_noise"), 0.5, 0.12);
}

// Reduced: M = 1024. Free W beside a free feed-forward part on the query ends with a negative entry at tau.
TEST(A17, AttentionLearnsToAvoidTheNoise) {
  const Experiment run(samples + "variant=w_free noise=0.5 step_size=0.05 initialisation=gaussian initial_scale=0.02 steps=1000 "
                "record_every=1000 probes=w_classes,mass");
  EXPECT_LT(run.last("w_noise"), -0.7 * run.last("w_previous"));
  EXPECT_LT(run.last("mass_noise") / run.last("mass_answer"), 0.2);
}

// The same curve in the embeddings' own basis and in random orthonormal embeddings of R^128. Reduced: M = 32; M = 512 is its full size.
TEST(A21, CurvesDoNotDependOnTheBasis) {
  for (const char* optimiser : {"optimiser=ngd", "optimiser=gd step_size=0.05", "optimiser=momentum step_size=0.02"})
    for (const char* model : {"variant=full noise=0.5", "variant=w_free noise=0.5", "variant=uv_free noise=0", "variant=original noise=0.5",
                              "variant=original noise=0 attention=softmax", "variant=original noise=0 attention=relu"}) {
      const std::string line = sized("samples=32", "samples=512") + std::string(" steps=12 probes=none initialisation=gaussian ") + optimiser + " " + model;
      const Experiment own(line), dense(line + " embedding=orthonormal dimension=128");
      for (int64_t r = 0; r < own.table->rows(); ++r)
        EXPECT_NEAR(own.table->at(r, 1), dense.table->at(r, 1), 1e-9) << line << " step " << r;
    }
}

}  // namespace
}  // namespace lamina::tests
