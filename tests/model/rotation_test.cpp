// Linear attention on rotating sequences, in blocks and literally: the same predictions, losses and gradients; against the formula
// written out with std::complex, and against differences.
#include <gtest/gtest.h>

#include <complex>
#include <random>

#include "support/runs.hpp"

namespace lamina {
namespace {

using Complex = std::complex<double>;

std::shared_ptr<const Task> task_for(const std::string& line) { return tests::task_of("mesa_optimisation", line); }
std::unique_ptr<Model> model_for(const Task& task, const std::string& line) {
  return make_model(task, Settings(model_options(), tests::options_of(line), find_task("mesa_optimisation").defaults));
}

// yhat_t = P E_t E_t^H Q e_t / (t-1), t from 2, of a literal model's parameters.
std::vector<Complex> written_out(const std::vector<double>& x, std::span<const double> sequence, size_t d, size_t t) {
  const size_t D = 2 * d, p = d * D, q = D * D;
  const auto P = [&](size_t i, size_t j) { return Complex(x[i * D + j], x[p + i * D + j]); };
  const auto Q = [&](size_t i, size_t j) { return Complex(x[2 * p + i * D + j], x[2 * p + q + i * D + j]); };
  const auto e = [&](size_t s, size_t j) {  // s from 1
    if (j >= d && s == 1) return Complex(0);
    const size_t row = j < d ? s - 1 : s - 2, column = j < d ? j : j - d;
    return Complex(sequence[row * D + 2 * column], sequence[row * D + 2 * column + 1]);
  };
  std::vector<Complex> yhat(d);
  for (size_t i = 0; i < d; ++i)
    for (size_t a = 0; a < D; ++a)
      for (size_t s = 1; s <= t; ++s)
        for (size_t b = 0; b < D; ++b)
          for (size_t c = 0; c < D; ++c) yhat[i] += P(i, a) * e(s, a) * std::conj(e(s, b)) * Q(b, c) * e(t, c) / static_cast<double>(t - 1);
  return yhat;
}

TEST(RotationModel, PredictionsAndLossesAreTheFormulaWrittenOut) {
  constexpr size_t d = 2, T = 6;
  const auto task = task_for("dimension=2 prompt_length=6");
  Prompts prompts;
  task->sample(Split::train, 1, 0, 5, prompts);
  const auto literal = model_for(*task, "variant=original initial_scale=0.7 value_scale=0.4"), block = model_for(*task, "initial_scale=0.7 value_scale=0.4");
  std::mt19937_64 random(1);
  std::normal_distribution<double> normal;
  const Team team(1);
  for (const bool moved : {false, true}) {
    std::vector<double> x = literal->parameters();
    if (moved)
      for (double& entry : x) entry += 0.3 * normal(random);
    literal->set_parameters(x);
    std::vector<double> yhat(5 * 2 * d), weights(5 * T), same(yhat), same_weights(weights);
    literal->forward(prompts, LogitPart::all, yhat.data(), weights.data());
    block->forward(prompts, LogitPart::all, same.data(), same_weights.data());
    double loss = 0;
    for (size_t i = 0; i < 5; ++i) {
      const auto row = prompts.values_of(static_cast<int64_t>(i));
      const std::vector<Complex> last = written_out(x, row, d, T);
      for (size_t j = 0; j < d; ++j) {
        EXPECT_NEAR(yhat[i * 2 * d + 2 * j], last[j].real(), 1e-12 * (1 + std::abs(last[j])));
        EXPECT_NEAR(yhat[i * 2 * d + 2 * j + 1], last[j].imag(), 1e-12 * (1 + std::abs(last[j])));
      }
      for (size_t t = 2; t < T; ++t) {
        const std::vector<Complex> guess = written_out(x, row, d, t);
        for (size_t j = 0; j < d; ++j) loss += 0.1 * std::norm(guess[j] - Complex(row[t * 2 * d + 2 * j], row[t * 2 * d + 2 * j + 1]));
      }
    }
    EXPECT_NEAR(literal->loss_and_gradient(*literal->compile(prompts, {}, team), team, nullptr, false).loss, loss, 1e-12 * (1 + loss));
    if (moved) continue;
    EXPECT_NEAR(block->loss_and_gradient(*block->compile(prompts, {}, team), team, nullptr, false).loss, loss, 1e-12 * (1 + loss));
    for (size_t i = 0; i < yhat.size(); ++i) EXPECT_NEAR(yhat[i], same[i], 1e-13 * (1 + std::abs(yhat[i])));
    for (size_t i = 0; i < weights.size(); ++i) EXPECT_NEAR(weights[i], same_weights[i], 1e-13 * (1 + std::abs(weights[i])));
  }
}

TEST(RotationModel, GradientsAreDifferencesOfLosses) {
  const auto task = task_for("dimension=2 prompt_length=7");
  Prompts prompts;
  task->sample(Split::train, 2, 0, 70, prompts);
  std::mt19937_64 random(2);
  std::normal_distribution<double> normal;
  const Team one(1), several(3);
  for (const char* variant : {"variant=full", "variant=original"}) {
    const auto model = model_for(*task, variant);
    const auto compiled = model->compile(prompts, {}, several);
    std::vector<double> x(model->parameters().size()), gradient(x.size()), again(x.size());
    for (double& entry : x) entry = 0.5 * normal(random);
    model->set_parameters(x);
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
      EXPECT_NEAR(gradient[i], (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h), 1e-10 * (1 + loss)) << variant << " " << i;
    }
  }
}

TEST(RotationModel, SaysWhatMeansNothing) {
  const auto task = task_for("");
  EXPECT_THROW(model_for(*task, "variant=w_free"), Error);
  EXPECT_THROW(Trainer(task, model_for(*task_for("dimension=7"), "").get(), Options()), Error);
}

}  // namespace
}  // namespace lamina
