// Linear attention on linear regression, read in blocks and literally: the same predictions, losses and gradients; blocks that stay.
#include <gtest/gtest.h>

#include "support/regression.hpp"

namespace lamina {
namespace {

using namespace tests;

std::unique_ptr<Model> model_for(const Task& task, const std::string& line) {
  return make_model(task, Settings(model_options(), options_of(line), find_task("linear_regression").defaults));
}

// 2 n prompts: n drawn ones, and each again with all labels of the other sign.
Prompts with_mirrors(const Task& task, int64_t count, int64_t d) {
  Prompts prompts, both;
  task.sample(Split::train, 1, 0, count, prompts);
  both.resize(2 * count, prompts.length);
  both.values = prompts.values;
  for (size_t i = 0; i < prompts.values.size(); ++i)
    both.values.push_back(i % static_cast<size_t>(d + 1) == static_cast<size_t>(d) ? -prompts.values[i] : prompts.values[i]);
  return both;
}

TEST(RegressionModel, PredictionsOfTheBlocksAreThoseOfTheLiteralForm) {
  // f = E + W_PV E E^T W_KQ E / N written out here, entry (d+1, N+1).
  std::mt19937_64 random(1);
  constexpr size_t d = 3, D = 4;
  constexpr int64_t N = 6;
  const auto task = regression_task_of(regression_options("prompt_length=6", rotated(spectrum(d, 10, random), random), d));
  const auto block = model_for(*task, "initialisation=gaussian variant=full"), literal = model_for(*task, "initialisation=gaussian variant=original");
  Prompts prompts;
  task->sample(Split::train, 2, 0, 20, prompts);
  std::vector<double> yhat(20), same(20), weights(20 * 7), same_weights(20 * 7);
  block->forward(prompts, LogitPart::all, yhat.data(), weights.data());
  literal->forward(prompts, LogitPart::all, same.data(), same_weights.data());
  for (size_t i = 0; i < weights.size(); ++i) EXPECT_NEAR(weights[i], same_weights[i], 1e-14);
  // The literal form also with every parameter random.
  std::vector<double> x(2 * D * D);
  std::normal_distribution<double> normal;
  const auto dense = model_for(*task, "variant=original");
  for (double& entry : x) entry = normal(random);
  dense->set_parameters(x);
  std::vector<double> dense_yhat(20);
  dense->forward(prompts, LogitPart::all, dense_yhat.data(), nullptr);
  const auto written_out = [&](const std::vector<double>& parameters, std::span<const double> row) {
    Matrix E(D * (N + 1));
    for (size_t n = 0; n <= N; ++n)
      for (size_t j = 0; j < D; ++j) E[j * (N + 1) + n] = n == N && j == d ? 0 : row[n * D + j];
    const auto P = [&](size_t i, size_t j) { return parameters[i * D + j]; };
    const auto W = [&](size_t i, size_t j) { return parameters[D * D + i * D + j]; };
    double f = E[d * (N + 1) + N];
    for (size_t a = 0; a < D; ++a)
      for (size_t n = 0; n <= N; ++n)
        for (size_t b = 0; b < D; ++b)
          for (size_t c = 0; c < D; ++c) f += P(d, a) * E[a * (N + 1) + n] * E[b * (N + 1) + n] * W(b, c) * E[c * (N + 1) + N] / N;
    return f;
  };
  for (int64_t i = 0; i < 20; ++i) {
    EXPECT_NEAR(yhat[i], same[i], 1e-13);
    EXPECT_NEAR(same[i], written_out(literal->parameters(), prompts.values_of(i)), 1e-13);
    EXPECT_NEAR(dense_yhat[i], written_out(x, prompts.values_of(i)), 1e-12 * (1 + std::abs(dense_yhat[i])));
  }
}

TEST(RegressionModel, GradientsAreDifferencesOfLosses) {
  std::mt19937_64 random(2);
  std::normal_distribution<double> normal;
  for (const std::string variant : {"full", "original"})
    for (const int64_t count : {1, 300, 700}) {
      const auto task = regression_task_of(options_of("dimension=3 prompt_length=5"));
      const auto model = model_for(*task, "variant=" + variant);
      Prompts prompts;
      task->sample(Split::train, 2, 0, count, prompts);
      std::vector<double> x(model->parameters().size()), gradient(x.size()), again(x.size());
      for (double& entry : x) entry = normal(random);
      model->set_parameters(x);
      const Team one(1), several(3);
      const auto compiled = model->compile(prompts, {}, one);
      const double loss = model->loss_and_gradient(*compiled, one, gradient.data(), false).loss;
      EXPECT_EQ(loss, model->loss_and_gradient(*compiled, several, again.data(), false).loss);
      EXPECT_EQ(gradient, again);
      for (size_t i = 0; i < x.size(); ++i) {
        constexpr double h = 1e-3;  // of fourth order on a polynomial of degree four
        const auto at = [&](double step) {
          std::vector<double> moved = x;
          moved[i] += step;
          model->set_parameters(moved);
          return model->loss_and_gradient(*compiled, one, nullptr, false).loss;
        };
        const double difference = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h);
        EXPECT_NEAR(gradient[i], difference, 1e-10 * (1 + loss)) << variant << " " << i;
      }
    }
}

TEST(RegressionModel, DescentOfTheLiteralFormNeverLeavesTheBlocks) {
  // On samples that come with their mirrors the part of the gradient outside the blocks cancels, as it does in expectation.
  constexpr int64_t d = 4, D = 5;
  std::mt19937_64 random(3);
  const auto task = regression_task_of(regression_options("prompt_length=7", rotated(spectrum(d, 10, random), random), d));
  const auto block = model_for(*task, "initialisation=gaussian variant=full"), literal = model_for(*task, "initialisation=gaussian variant=original");
  const Prompts prompts = with_mirrors(*task, 256, d);
  const Team team(1);
  const auto in_blocks = block->compile(prompts, {}, team), literally = literal->compile(prompts, {}, team);
  std::vector<double> g(block->parameters().size()), G(literal->parameters().size());
  for (int step = 0; step < 400; ++step) {
    const double loss = block->loss_and_gradient(*in_blocks, team, g.data(), false).loss;
    ASSERT_NEAR(literal->loss_and_gradient(*literally, team, G.data(), false).loss, loss, 1e-12) << step;
    for (size_t i = 0; i < g.size(); ++i) block->mutable_parameters()[i] -= 0.05 * g[i];
    for (size_t i = 0; i < G.size(); ++i) literal->mutable_parameters()[i] -= 0.05 * G[i];
  }
  const std::vector<double>&x = block->parameters(), &X = literal->parameters();
  EXPECT_GT(x[0], 1);  // it has learnt
  for (int64_t i = 0; i < D; ++i)
    for (int64_t j = 0; j < D; ++j) {
      EXPECT_NEAR(X[i * D + j], i == d && j == d ? x[0] : 0, 1e-12);
      EXPECT_NEAR(X[D * D + i * D + j], i < d && j < d ? x[1 + i * d + j] : 0, 1e-12);
    }
}

TEST(RegressionModel, ARunOfTheLiteralFormFollowsTheBlocksWithinItsSamples) {
  // The product that predicts; noise moves the balance of its factors.
  const std::string line = "data=fresh optimiser=sgd batch=512 step_size=0.05 steps=300 record_every=300 initialisation=gaussian variant=";
  const Experiment block(line + "full", "linear_regression"), literal(line + "original", "linear_regression");
  EXPECT_NEAR(literal.last("u") * literal.last("U_0"), block.last("u") * block.last("U_0"), 0.03);
  // The risk of its blocks alone, and what the noise elsewhere adds.
  constexpr size_t d = 5, D = d + 1;
  const std::vector<double>& X = literal.trainer->model().parameters();
  std::vector<double> x{X[D * D - 1]};
  for (size_t i = 0; i < d; ++i) x.insert(x.end(), &X[D * D + i * D], &X[D * D + i * D] + d);
  const double of_blocks = 2 * theory("regression_loss", *literal.trainer->task(), x, 1)[0];
  EXPECT_NEAR(of_blocks, block.last("risk"), 0.01);
  EXPECT_GT(literal.last("risk"), of_blocks);
  EXPECT_LT(literal.last("risk"), of_blocks + 0.05);
  EXPECT_LT(literal.last("off_blocks"), 0.1);
}

TEST(RegressionModel, SaysWhatMeansNothing) {
  const auto task = regression_task_of(options_of(""));
  for (const char* line : {"variant=w_free", "variant=uv_free", "initialisation=zero", "initialisation=c0"}) EXPECT_THROW(model_for(*task, line), Error) << line;
  EXPECT_THROW(trainer_of("initialisation=identity"), Error);
  const auto wider = regression_task_of(options_of("dimension=7"));
  EXPECT_THROW(Trainer(task, model_for(*wider, "").get(), Options()), Error);
}

}  // namespace
}  // namespace lamina
