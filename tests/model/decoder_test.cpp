// The decoder of next_token against a plain program in long double: loss, excess, gradient entry by entry, also where attention
// and logits are nearly decided.
#include <gtest/gtest.h>

#include <cmath>

#include "base/random.hpp"
#include "support/runs.hpp"

namespace lamina::tests {
namespace {

using Real = long double;

struct Plain {
  Real loss = 0, excess = 0;
  std::vector<Real> gradient;
};

// -log p_label, by the log of the odds against it.
Real cross_entropy(const std::vector<Real>& x, int label, std::vector<Real>& r) {
  Real odds = 0;
  r.resize(x.size());
  for (size_t y = 0; y < x.size(); ++y)
    if (static_cast<int>(y) != label) odds += std::exp(x[y] - x[label]);
  r[label] = 0;
  for (size_t y = 0; y < x.size(); ++y)
    if (static_cast<int>(y) != label) r[y] = std::exp(x[y] - x[label]) / (1 + odds), r[label] -= r[y];
  return std::log1p(odds);
}

Plain plain(const std::vector<double>& parameters, const Prompts& prompts, int V) {
  Plain out;
  out.gradient.assign(parameters.size(), 0);
  const auto ov = [&](int y, int x) { return static_cast<Real>(parameters[static_cast<size_t>(y * V + x)]); };
  for (int64_t i = 0; i < prompts.count; ++i) {
    const auto row = prompts.row(i);
    const int q = row.back(), label = prompts.label[i];
    std::vector<Real> a, x(static_cast<size_t>(V), 0), r, alone(x), ignored;
    Real z = 0, most = -1e30L;
    for (int token : row) a.push_back(parameters[static_cast<size_t>((V + token) * V + q)]), most = std::max(most, a.back());
    for (Real& s : a) s = std::exp(s - most), z += s;
    for (Real& s : a) s /= z;
    for (int y = 0; y < V; ++y) {
      for (size_t j = 0; j < row.size(); ++j) x[y] += a[j] * ov(y, row[j]);
      alone[y] = ov(y, prompts.answer[i]);
    }
    const Real loss = cross_entropy(x, label, r);
    out.loss += loss / prompts.count, out.excess += (loss - cross_entropy(alone, label, ignored)) / prompts.count;
    for (size_t j = 0; j < row.size(); ++j) {
      Real slope = 0;
      for (size_t l = 0; l < row.size(); ++l)
        for (int y = 0; y < V; ++y) slope += a[j] * a[l] * r[y] * (ov(y, row[j]) - ov(y, row[l]));
      out.gradient[static_cast<size_t>((V + row[j]) * V + q)] += slope / prompts.count;
      for (int y = 0; y < V; ++y) out.gradient[static_cast<size_t>(y * V + row[j])] += r[y] * a[j] / prompts.count;
    }
  }
  return out;
}

TEST(Decoder, LossExcessAndGradientAgainstLongDouble) {
  for (const double scale : {0.3, 3.0, 12.0}) {
    const auto task = task_of("next_token", "vocabulary=7 optimal_tokens=2 other_tokens=3 prompt_length=6");
    const NextTokenLaw& law = *task->next_token();
    const auto model = model_of(*task, "");
    std::vector<double> parameters(model->parameters());
    Random random(1, Purpose::weights, 0);
    for (double& w : parameters) w = random.normal();
    // Towards the solution, so that p_label and the attention come close to 1.
    for (int x = 0; x < 7; ++x) parameters[static_cast<size_t>(law.next[x] * 7 + x)] += scale;
    for (int q = 0; q < 7; ++q)
      for (int x = 0; x < 7; ++x) parameters[static_cast<size_t>((7 + x) * 7 + q)] += scale * law.level[q * 7 + x];
    model->set_parameters(parameters);
    Prompts prompts;
    task->sample(Split::train, 1, 0, 300, prompts);
    const Plain want = plain(parameters, prompts, 7);
    std::vector<double> gradient(parameters.size());
    for (int threads : {1, 2}) {
      const Team team(threads);
      const Loss loss = model->loss_and_gradient(*model->compile(prompts, {}, team), team, gradient.data(), true);
      EXPECT_NEAR(loss.loss / static_cast<double>(want.loss), 1, 1e-13);
      EXPECT_NEAR(loss.excess / static_cast<double>(want.excess), 1, 1e-11);
      for (size_t i = 0; i < gradient.size(); ++i)
        EXPECT_NEAR(gradient[i], static_cast<double>(want.gradient[i]), 1e-12 * std::abs(static_cast<double>(want.gradient[i])) + 1e-17) << i;
    }
  }
}

TEST(Decoder, BitsDoNotDependOnThreads) {
  const auto task = task_of("next_token", "");
  const auto model = model_of(*task, "");
  std::vector<double> parameters(model->parameters());
  Random random(2, Purpose::weights, 0);
  for (double& w : parameters) w = random.normal();
  model->set_parameters(parameters);
  Prompts prompts;
  task->sample(Split::train, 1, 0, 1000, prompts);
  std::vector<double> one(parameters.size()), two(one);
  const Team alone(1), pair(2);
  const Loss a = model->loss_and_gradient(*model->compile(prompts, {}, alone), alone, one.data(), true);
  const Loss b = model->loss_and_gradient(*model->compile(prompts, {}, pair), pair, two.data(), true);
  EXPECT_EQ(a.loss, b.loss);
  EXPECT_EQ(a.excess, b.excess);
  EXPECT_EQ(one, two);
}

// The excess is no difference of losses: with 1e-9 of the attention elsewhere it keeps the digits that a difference of two losses
// loses, and long double has enough of them to tell.
TEST(Decoder, ExcessKeepsItsDigitsWhereAttentionIsNearlyRight) {
  const auto task = task_of("next_token", "vocabulary=6 optimal_tokens=2 other_tokens=3");
  const NextTokenLaw& law = *task->next_token();
  const auto model = model_of(*task, "");
  std::vector<double> parameters(model->parameters());
  Random random(4, Purpose::weights, 0);
  for (double& w : parameters) w = 0.3 * random.normal();
  for (int x = 0; x < 6; ++x) parameters[static_cast<size_t>(law.next[static_cast<size_t>(x)] * 6 + x)] += 3;
  for (int q = 0; q < 6; ++q)
    for (int x = 0; x < 6; ++x) parameters[static_cast<size_t>((6 + x) * 6 + q)] += 20.0 * law.level[static_cast<size_t>(q * 6 + x)];
  model->set_parameters(parameters);
  Prompts prompts;
  task->sample(Split::train, 1, 0, 200, prompts);
  const Team team(1);
  const Loss got = model->loss_and_gradient(*model->compile(prompts, {}, team), team, nullptr, true);
  const Plain want = plain(parameters, prompts, 6);
  EXPECT_LT(got.excess, 1e-7 * got.loss);
  EXPECT_GT(got.excess, 1e-11 * got.loss);
  EXPECT_NEAR(got.excess / static_cast<double>(want.excess), 1, 1e-9);
  std::printf("excess %.3e of a loss of %.3e, relative error %.1e\n", got.excess, got.loss, got.excess / static_cast<double>(want.excess) - 1);
}

// A sentence of one token is a collocation: the attention has nothing to choose.
TEST(Decoder, ForwardOfSentences) {
  const auto task = task_of("next_token", "vocabulary=5 optimal_tokens=1 other_tokens=2");
  const auto model = model_of(*task, "");
  std::vector<double> parameters(model->parameters());
  Random random(3, Purpose::weights, 0);
  for (double& w : parameters) w = random.normal();
  model->set_parameters(parameters);
  Prompts prompts;
  prompts.resize(1, 1);
  prompts.tokens = {3};
  std::vector<double> logits(5), weight(1);
  model->forward(prompts, LogitPart::all, logits.data(), weight.data());
  EXPECT_EQ(weight[0], 1);
  for (int y = 0; y < 5; ++y) EXPECT_EQ(logits[y], parameters[static_cast<size_t>(y * 5 + 3)]);
}

}  // namespace
}  // namespace lamina::tests
