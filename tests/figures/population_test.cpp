// Figures of training on the exact law, against closed forms of the in-context recall system (named A3 to A8, A14 here and in
// the README).
#include <gtest/gtest.h>

#include <cmath>

#include "support/runs.hpp"
#include "theory/recall_forms.hpp"

namespace lamina::tests {
namespace {

void expect_relative(double got, double want, double tolerance) { EXPECT_NEAR(got / want, 1.0, tolerance) << "got " << got << ", want " << want; }

// xi = lambda_q n e_y with any orthonormal embeddings, d = 128.
TEST(A3, LogitsOfTheTiedModelInRandomEmbeddings) {
  const auto task = recall_task("noise=0 occurrences=4");
  Prompts prompts;
  task->sample(Split::train, 3, 0, 20, prompts);
  for (const char* attention : {"linear", "relu"}) {
    const auto model = model_of(*task, std::string("embedding=orthonormal dimension=128 initial_scale=0.7 initialisation=c0 attention=") + attention);
    std::vector<double> xi(20 * 61);
    model->forward(prompts, LogitPart::all, xi.data(), nullptr);
    for (int64_t i = 0; i < 20; ++i) {
      const auto z = prompts.row(i);
      double n = 0;
      for (size_t h = 1; h < z.size(); ++h) n += z[h - 1] == z.back() && z[h] == prompts.answer[i];
      for (int64_t j = 0; j <= 60; ++j) EXPECT_NEAR(xi[i * 61 + j], j == prompts.answer[i] ? 0.7 * n : 0.0, 1e-12) << attention;
    }
  }
}

TEST(A3, ReluEqualsLinearWhereLambdaIsPositive) {
  const Experiment linear("noise=0.5 attention=linear steps=50 samples=256"), relu("noise=0.5 attention=relu steps=50 samples=256");
  for (int64_t r = 0; r < linear.table->rows(); ++r) EXPECT_EQ(linear.table->at(r, 1), relu.table->at(r, 1));
}

TEST(A4, OneTriggerOneOccurrence) {
  const Experiment run("noise=0 triggers=1 occurrences=1 data=population steps=200");
  const double want[] = {4.110873864, .339522451, .002720292, 1.8354e-5, 1.24e-7}, digits[] = {1e-9, 2e-9, 2e-7, 3e-5, 4e-3};
  for (int i = 0; i < 5; ++i) {
    expect_relative(run.at(50 * i, "loss"), want[i], digits[i]);
    expect_relative(run.at(50 * i, "loss"), std::log1p(60 * std::exp(-5.0 * i)), 1e-12);
  }
}

TEST(A5, FiveTriggersPopulation) {
  const Experiment run("noise=0 data=population steps=400");
  const double want[] = {1.059752e-1, 1.559896e-3, 1.788507e-5, 2.043079e-7};
  for (int i = 0; i < 4; ++i) expect_relative(run.at(100 * (i + 1), "loss"), want[i], 5e-7);
  for (int t = 0; t <= 400; t += 40) expect_relative(run.at(t, "excess"), run.at(t, "predicted"), 1e-12);
}

// The predicted curve is the curve, with noise too, for every normalisation.
TEST(A5, PredictionsHoldForEveryNormalisationAndNoise) {
  for (const char* norm : {"l2", "l1", "sign"})
    for (const char* noise : {"0", "0.2", "0.8"}) {
      const Experiment run(std::string("data=population steps=120 normalisation=") + norm + " noise=" + noise);
      for (int t : {0, 1, 60, 120}) expect_relative(run.at(t, "excess"), run.at(t, "predicted"), 1e-11);
    }
}

TEST(A6, AsymptoticSlopes) {
  const std::pair<const char*, double> cases[] = {{"l2", -.04472}, {"l1", -.02000}, {"sign", -.1}};
  for (const auto& [norm, slope] : cases) {
    // Far enough that n = 1 alone is left: lambda = 40 at the end.
    const int steps = static_cast<int>(std::lround(40 / -slope));
    const Experiment run(std::string("noise=0 data=population record_every=10 normalisation=") + norm + " steps=" + std::to_string(steps));
    const double a = run.at(steps / 10 * 10 - 100, "loss"), b = run.at(steps / 10 * 10, "loss");
    EXPECT_NEAR(std::log(b / a) / 100, slope, 5e-6) << norm;
  }
}

// lambda_q - lambda_q' -> ln(P(q) / P(q')) under l2 and l1, 0 under sign.
TEST(A6, OffsetsOfUnequalTriggers) {
  const double weights[] = {0.4, 0.25, 0.2, 0.1, 0.05};
  for (const char* norm : {"l2", "l1", "sign"}) {
    const Experiment run(std::string("noise=0 data=population trigger_weights=0.4,0.25,0.2,0.1,0.05 record_every=1000 normalisation=") + norm +
                  " steps=" + (norm[0] == 's' ? "300" : "1500"));
    for (int q = 1; q < 5; ++q) {
      const double offset = run.last("lambda_0") - run.last("lambda_" + std::to_string(q));
      EXPECT_NEAR(offset, norm[0] == 's' ? 0.0 : std::log(weights[0] / weights[q]), 1e-4) << norm << " " << q;
    }
  }
}

TEST(A7, PlainGradientDescentIsSublinear) {
  const Experiment run("noise=0 triggers=1 occurrences=1 data=population optimiser=gd step_size=1 steps=10000 record_every=1000");
  EXPECT_NEAR(run.at(1000, "loss") * 1000, 1.0070, 5e-5);
  EXPECT_NEAR(run.at(10000, "loss") * 10000, 1.0008, 5e-5);
}

TEST(A8, ExcessAtFixedLambda) {
  const double lambda[] = {0.5, 1, 2, 4, 8};
  const std::pair<const char*, std::array<double, 5>> cases[] = {
      {"0", {2.68323339, 1.56263700, .62264304, .15234700, .00398693}},
      {"0.2", {2.71276016, 1.75590378, .77986463, .19056545, .00470771}},
      {"0.5", {2.62195023, 1.92626246, 1.00789218, .24020155, .00541700}}};
  for (const auto& [noise, want] : cases)
    for (int i = 0; i < 5; ++i) {
      const Experiment run(std::string("data=population steps=0 initial_scale=") + std::to_string(lambda[i]) + " initialisation=" +
                    (noise[1] ? "n1_star" : "c0") + " noise=" + noise);
      EXPECT_NEAR(run.last("excess"), want[i], 5e-9) << noise << " " << lambda[i];
      EXPECT_NEAR(population_excess(recall_task(std::string("noise=") + noise)->law(), lambda[i]), want[i], 5e-9);
    }
}

// With the feed-forward part on the query alone, linear attention cannot reach the Bayes risk when n_y varies: the least excess
// over (lambda, gamma) for n_y uniform on 1..5. The law as a training set: 5 counts x 10 labels, of which 10 alpha are tau.
TEST(A14, ParallelFeedForwardCannotReachBayes) {
  const std::pair<double, double> cases[] = {{0.2, .738}, {0.5, .645}, {0.8, .295}};
  for (const auto& [noise, want] : cases) {
    Prompts prompts;
    prompts.resize(50, 11);
    for (int i = 0; i < 50; ++i) {
      std::ranges::fill(prompts.row(i), 2);
      for (int k = 0; k <= i / 10; ++k) prompts.row(i)[2 * k] = 0, prompts.row(i)[2 * k + 1] = 1;
      prompts.row(i)[10] = 0;
      prompts.answer[i] = 1, prompts.label[i] = i % 10 < std::lround(10 * noise) ? 60 : 1;
    }
    Trainer trainer(task_from_prompts(prompts, 60, noise), nullptr,
                    options_of("feed_forward=query train_noise_logit=yes optimiser=adam step_size=0.02 steps=4000 samples=50 "
                               "record_every=1000 probes=none"));
    EXPECT_EQ(trainer.run(0), LAMINA_OK);
    const auto table = trainer.trajectory();
    EXPECT_NEAR(table->at(4, 2), want, 1e-2) << noise;
    EXPECT_NEAR(table->at(4, 2), table->at(3, 2), 1e-6) << noise;  // a minimum: the last thousand steps change nothing
  }
}

}  // namespace
}  // namespace lamina::tests
