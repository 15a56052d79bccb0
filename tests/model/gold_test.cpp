// One small prompt, by hand: logits, losses and gradients of every attention map against figures computed elsewhere.
// Tokens 0..3, tau = 4, q = 0, answer 2.
#include <gtest/gtest.h>

#include <cmath>

#include "model/soft_loss.hpp"
#include "support/runs.hpp"

namespace lamina::tests {
namespace {

constexpr int64_t K = 5, D = 10;

Prompts one_prompt() {
  Prompts p;
  p.resize(1, 9);
  p.tokens = {0, 2, 3, 0, 4, 3, 0, 2, 0};
  p.label = {2}, p.answer = {2};
  return p;
}

std::shared_ptr<const Task> one_prompt_task(double noise) { return task_from_prompts(one_prompt(), 4, noise); }

std::vector<double> logits_of(const Model& model) {
  std::vector<double> xi(K);
  model.forward(one_prompt(), LogitPart::all, xi.data(), nullptr);
  return xi;
}

Loss loss_of(const Model& model, double* gradient = nullptr) {
  const Team team(1);
  return model.loss_and_gradient(*model.compile(one_prompt(), {}, team), team, gradient, true);
}

void expect_near(const std::vector<double>& got, const std::vector<double>& want, double tolerance) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], want[i], tolerance) << "entry " << i;
}

TEST(Gold, NoiselessLogitsAndLoss) {
  const auto task = one_prompt_task(0);
  for (const char* map : {"linear", "relu"}) {
    const auto model = model_of(*task, std::string("attention=") + map + " initialisation=c0 initial_scale=1.5");
    expect_near(logits_of(*model), {0, 0, 3, 0, 1.5}, 1e-9);
    EXPECT_NEAR(loss_of(*model).loss, 0.316627603126, 1e-9) << map;
  }
  const auto softmax = model_of(*task, "attention=softmax initialisation=c1 initial_scale=1.5");
  expect_near(logits_of(*softmax), {.2057076973, 0, .4609589694, .1028538487, .2304794847}, 1e-9);
  EXPECT_NEAR(loss_of(*softmax).loss, 1.360605376702, 1e-9);
}

TEST(Gold, NoisyConstructionReachesTheFigures) {
  const auto task = one_prompt_task(0.3);
  for (const char* construction : {"n1_star", "n1_prime"}) {
    const auto model = model_of(*task, std::string("initial_scale=1.5 initialisation=") + construction);
    expect_near(logits_of(*model), {0, 0, 3, 0, 2.1527021396}, 1e-9);
    EXPECT_NEAR(loss_of(*model).excess, 0.099440586620, 1e-9) << construction;
  }
  EXPECT_NEAR(binary_entropy(0.3), 0.610864302055, 1e-12);
}

// M[i][j] = scale (((37 i + 17 j) mod 23) / 23 - 0.5)
void fill(std::span<double> M, int64_t columns, double scale) {
  for (size_t k = 0; k < M.size(); ++k) {
    const int64_t i = static_cast<int64_t>(k) / columns, j = static_cast<int64_t>(k) % columns;
    M[k] = scale * (static_cast<double>((37 * i + 17 * j) % 23) / 23 - 0.5);
  }
}

struct Backprop {
  const char* attention;
  const char* feed_forward;
  double loss;
  double gradient[5];  // dL/dW[0][5], dW[0][2], dV[2][2], dU[2][2], dF[4][0]
};

class GoldBackprop : public ::testing::TestWithParam<Backprop> {};

TEST_P(GoldBackprop, LossAndGradient) {
  const Backprop& want = GetParam();
  const auto task = one_prompt_task(0.3);
  const auto model = model_of(*task, std::string("variant=original attention=") + want.attention + " feed_forward=" + want.feed_forward);
  fill(model->tensor("W"), D, 0.4), fill(model->tensor("V"), D, 0.6), fill(model->tensor("U"), D, 0.8), fill(model->tensor("F"), D, 0.5);
  std::vector<double> gradient(model->parameters().size());
  EXPECT_NEAR(loss_of(*model, gradient.data()).loss, want.loss, 1e-9);
  const auto at = [&](const char* name, int64_t i, int64_t j) {
    for (const TensorInfo& t : model->tensors())
      if (t.name == name) return gradient[t.offset + i * D + j];
    return std::nan("");
  };
  const double got[5] = {at("W", 0, 5), at("W", 0, 2), at("V", 2, 2), at("U", 2, 2), at("F", 4, 0)};
  for (int i = 0; i < 5; ++i) EXPECT_NEAR(got[i], want.gradient[i], 1e-9) << "entry " << i;
}

INSTANTIATE_TEST_SUITE_P(
    Maps, GoldBackprop,
    ::testing::Values(
        Backprop{"linear", "query_and_attention", 1.647478391945,
                 {.2376424147288, .0792864984938, -.0726524245320, -.2904525412949, .4870674452458}},
        Backprop{"linear", "query", 1.676668930024,
                 {.3396224170284, .1167124227549, -.1045553889760, -.3936538498673, .2993932397376}},
        Backprop{"relu", "query_and_attention", 1.613450275566,
                 {.2017970016465, .0554829234501, -.0711706648250, -.0128896886148, .3727798258300}},
        Backprop{"softmax", "query_and_attention", 1.573511617733,
                 {.0248051696580, .0043355103367, -.0321611673020, .1402794093198, .3167699603685}}));

}  // namespace
}  // namespace lamina::tests
