// Backward against central differences of forward, for every variant, map, feed-forward part, construction and basis; and the
// fast paths against the plain one.
#include <gtest/gtest.h>

#include <cmath>

#include "base/random.hpp"
#include "model/soft_loss.hpp"
#include "support/runs.hpp"

namespace lamina::tests {
namespace {

constexpr const char* small = "vocabulary=14 triggers=3 outputs=5 unseen_outputs=2 prompt_length=21 occurrences=3 ";

Prompts some_prompts(const Task& task, int64_t count) {
  Prompts prompts;
  task.sample(Split::train, 5, 0, count, prompts);
  return prompts;
}

// Moves every parameter off its start, so that no gradient is zero by symmetry and no ReLU sits at its kink.
void shake(Model& model, double size) {
  Random random(11, Purpose::weights, 99);
  for (double& x : model.mutable_parameters()) x += size * random.normal();
}

using Case = std::tuple<const char*, const char*, const char*, const char*, const char*>;
class Gradient : public ::testing::TestWithParam<Case> {};

std::string line_of(const Case& c) {
  const auto& [variant, attention, feed_forward, noise, embedding] = c;
  return std::string(small) + "variant=" + variant + " attention=" + attention + " feed_forward=" + feed_forward +
         " noise=" + noise + " embedding=" + embedding + " train_value_scale=yes train_noise_logit=yes initialisation=gaussian";
}

std::string name_of(const ::testing::TestParamInfo<Case>& info) {
  const auto& [variant, attention, feed_forward, noise, embedding] = info.param;
  return std::string(variant) + "_" + attention + "_" + feed_forward + (noise[1] ? "_noisy_" : "_noiseless_") + embedding;
}

TEST_P(Gradient, MatchesCentralDifferences) {
  const std::string line = line_of(GetParam());
  const auto task = recall_task(line);
  const auto model = model_of(*task, line);
  shake(*model, 0.3);
  const Team team(1);
  const auto set = model->compile(some_prompts(*task, 40), {}, team);
  const size_t n = model->parameters().size();
  std::vector<double> gradient(n);
  model->loss_and_gradient(*set, team, gradient.data(), false);
  double largest = 0;
  for (double g : gradient) largest = std::max(largest, std::abs(g));
  ASSERT_GT(largest, 1e-6);
  // Every tensor is visited: a stride coprime to the row lengths.
  for (size_t i = 0; i < n; i += n > 400 ? n / 97 : 1) {
    const double h = 1e-5, x = model->parameters()[i];
    const auto loss_at = [&](double value) {
      model->mutable_parameters()[i] = value;
      const double loss = model->loss_and_gradient(*set, team, nullptr, false).loss;
      model->mutable_parameters()[i] = x;
      return loss;
    };
    const double difference = (loss_at(x - 2 * h) - 8 * loss_at(x - h) + 8 * loss_at(x + h) - loss_at(x + 2 * h)) / (12 * h);
    EXPECT_NEAR(gradient[i], difference, 1e-6 * std::max(largest, std::abs(difference))) << "parameter " << i;
  }
}

TEST_P(Gradient, FastPathMatchesPlainForward) {
  const std::string line = line_of(GetParam());
  const auto task = recall_task(line);
  const auto model = model_of(*task, line);
  shake(*model, 0.3);
  const Team team(2);
  const Prompts prompts = some_prompts(*task, 60);
  const Metrics fast = model->measure(*model->compile(prompts, {}, team), team);

  const int64_t K = task->law().vocabulary + 1, H = prompts.length;
  const double alpha = task->law().noise;
  std::vector<double> xi(60 * K), attention(60 * K), feed_forward(60 * K), a(60 * H);
  model->forward(prompts, LogitPart::all, xi.data(), a.data());
  model->forward(prompts, LogitPart::attention, attention.data(), nullptr);
  model->forward(prompts, LogitPart::feed_forward, feed_forward.data(), nullptr);
  Metrics plain;
  for (int64_t n = 0; n < 60; ++n) {
    const double* x = &xi[n * K];
    const int32_t y = prompts.answer[n];
    double z = 0;
    for (int64_t j = 0; j < K; ++j) z += std::exp(x[j]);
    const double lse = std::log(z);
    plain.loss.loss += lse - x[prompts.label[n]];
    plain.loss.excess += lse - (1 - alpha) * x[y] - alpha * x[K - 1] - binary_entropy(alpha);
    plain.answer_probability += std::exp(x[y] - lse), plain.noise_probability += std::exp(x[K - 1] - lse);
    plain.accuracy += std::max_element(x, x + K - 1) - x == y;
    plain.attention_accuracy += std::max_element(&attention[n * K], &attention[n * K] + K) - &attention[n * K] == y;
    plain.feed_forward_noise += std::max_element(&feed_forward[n * K], &feed_forward[n * K] + K) - &feed_forward[n * K] == K - 1;
    const auto z_n = prompts.row(n);
    for (int64_t h = 0; h < H; ++h) {
      const bool after = h > 0 && z_n[h - 1] == z_n[H - 1];
      (after && z_n[h] == y ? plain.mass_answer : after && z_n[h] == K - 1 ? plain.mass_noise : plain.mass_other) += a[n * H + h];
    }
  }
  EXPECT_NEAR(fast.loss.loss, plain.loss.loss / 60, 1e-12);
  EXPECT_NEAR(fast.loss.excess, plain.loss.excess / 60, 1e-12);
  EXPECT_NEAR(fast.answer_probability, plain.answer_probability / 60, 1e-13);
  EXPECT_NEAR(fast.noise_probability, plain.noise_probability / 60, 1e-13);
  EXPECT_NEAR(fast.mass_answer, plain.mass_answer / 60, 1e-12);
  EXPECT_NEAR(fast.mass_noise, plain.mass_noise / 60, 1e-12);
  EXPECT_NEAR(fast.mass_other, plain.mass_other / 60, 1e-11);
  EXPECT_NEAR(fast.accuracy, plain.accuracy / 60, 1e-12);
  EXPECT_NEAR(fast.attention_accuracy, plain.attention_accuracy / 60, 1e-12);
  EXPECT_NEAR(fast.feed_forward_noise, plain.feed_forward_noise / 60, 1e-12);
}

INSTANTIATE_TEST_SUITE_P(All, Gradient,
                         ::testing::Combine(::testing::Values("full", "w_free", "uv_free", "original"),
                                            ::testing::Values("linear", "relu", "softmax"),
                                            ::testing::Values("query", "query_and_attention"), ::testing::Values("0", "0.4"),
                                            ::testing::Values("one_hot", "orthonormal")),
                         name_of);

TEST(Gradient, ConstructionsOfTheTiedModel) {
  for (const char* sampler : {"s1", "s3"})
    for (const char* construction : {"n1_star", "n1_prime", "n2", "relu_selector", "c0"})
      for (const char* attention : {"linear", "relu", "softmax"}) {
        const std::string line = std::string(small) + "triggers_per_prompt=2 noise=0.3 train_value_scale=yes train_noise_logit=yes initial_scale=0.8 suppression=0.2 attention=" +
                                 attention + " initialisation=" + construction + " sampler=" + sampler;
        const auto task = recall_task(line);
        const auto tied = model_of(*task, line);
        const auto dense = model_of(*task, line + " embedding=orthonormal");
        const Team team(1);
        const Prompts prompts = some_prompts(*task, 50);
        std::vector<double> a(tied->parameters().size()), b(a.size());
        ASSERT_EQ(tied->parameters(), dense->parameters());
        const Loss first = tied->loss_and_gradient(*tied->compile(prompts, {}, team), team, a.data(), true);
        const Loss second = dense->loss_and_gradient(*dense->compile(prompts, {}, team), team, b.data(), true);
        EXPECT_NEAR(first.loss, second.loss, 1e-12) << line;
        EXPECT_NEAR(first.excess, second.excess, 1e-12) << line;
        for (size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 1e-12) << line << " parameter " << i;
      }
}

// The list of pairs, taken by prompts of many distinct tokens, against the plain forward and differences.
TEST(Gradient, ManyDistinctTokensTakeTheList) {
  for (const char* attention : {"linear", "relu", "softmax"}) {
    const std::string line = std::string("vocabulary=300 triggers=2 outputs=3 unseen_outputs=0 prompt_length=60 occurrences=2 noise=0.3 "
                                         "variant=w_free initialisation=gaussian initial_scale=0.3 attention=") + attention;
    const auto task = recall_task(line);
    const auto model = model_of(*task, line);
    const Team team(1);
    const Prompts prompts = some_prompts(*task, 6);
    const auto set = model->compile(prompts, {}, team);
    std::vector<double> gradient(model->parameters().size()), xi(6 * 301);
    const double loss = model->loss_and_gradient(*set, team, gradient.data(), false).loss;
    model->forward(prompts, LogitPart::all, xi.data(), nullptr);
    double plain = 0;
    for (int64_t n = 0; n < 6; ++n) {
      double z = 0;
      for (int64_t j = 0; j < 301; ++j) z += std::exp(xi[n * 301 + j]);
      plain += (std::log(z) - xi[n * 301 + prompts.label[n]]) / 6;
    }
    EXPECT_NEAR(loss, plain, 1e-12);
    int checked = 0;
    for (size_t i = 0; i < gradient.size() && checked < 40; i += 7) {
      if (gradient[i] == 0) continue;
      ++checked;
      const double x = model->parameters()[i], h = 1e-5;
      model->mutable_parameters()[i] = x + h;
      const double up = model->loss_and_gradient(*set, team, nullptr, false).loss;
      model->mutable_parameters()[i] = x - h;
      const double down = model->loss_and_gradient(*set, team, nullptr, false).loss;
      model->mutable_parameters()[i] = x;
      EXPECT_NEAR(gradient[i], (up - down) / (2 * h), 1e-6 * std::max(1e-2, std::abs(gradient[i]))) << attention << " " << i;
    }
    EXPECT_EQ(checked, 40);
  }
}

// The excess keeps its relative accuracy far below the rounding of the loss.
TEST(SoftLoss, ExcessWithoutCancellation) {
  for (const double delta : {1e-3, 1e-8, 1e-13}) {
    // p = target but for delta moved from the answer to the rest: KL = -(1-a) ln(1 - delta/(1-a)), exactly.
    const double a = 0.3, p = 0.7 - delta;
    const double kl = excess_of({std::log(p), std::log(a), p, a, delta, 0.0}, a);
    EXPECT_NEAR(kl / (-0.7 * std::log1p(-delta / 0.7)), 1.0, 4e-3 * std::min(1.0, 1e-13 / delta) + 1e-12);
  }
}

}  // namespace
}  // namespace lamina::tests
