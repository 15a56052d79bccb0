// The disentangled transformer of causal_structure against its definition: dense one-hot streams and matrix products in complex
// long double, the gradient by the complex step.
#include <gtest/gtest.h>

#include <cmath>
#include <complex>

#include "causal_problem.hpp"
#include "model/catformer_model.hpp"

namespace lamina::tests {
namespace {

using Number = std::complex<long double>;
using Vector = std::vector<Number>;

// Attention with scores x_i^T A x_j over j <= i; the outputs are appended to the stream, and the weights returned.
std::vector<Vector> attend(std::vector<Vector>& stream, const Number* A) {
  const size_t T = stream.size(), n = stream[0].size();
  std::vector<Vector> weights(T), out;
  for (size_t i = 0; i < T; ++i) {
    Number z = 0;
    Vector sum(n);
    for (size_t j = 0; j <= i; ++j) {
      Number score = 0;
      for (size_t r = 0; r < n; ++r)
        for (size_t c = 0; c < n; ++c) score += stream[i][r] * A[r * n + c] * stream[j][c];
      weights[i].push_back(std::exp(score));
      z += weights[i].back();
    }
    for (size_t j = 0; j <= i; ++j) {
      weights[i][j] /= z;
      for (size_t c = 0; c < n; ++c) sum[c] += weights[i][j] * stream[j][c];
    }
    Vector both = stream[i];
    both.insert(both.end(), sum.begin(), sum.end());
    out.push_back(std::move(both));
  }
  stream = std::move(out);
  return weights;
}

Vector numbers(const Model& model) { return {model.parameters().begin(), model.parameters().end()}; }

struct Outcome {
  Number loss = 0, posterior = 0;
  std::vector<Number> logits, weights;  // of the last prompt; the second layer's
  Number on_parents = 0;                // the first layer's, mean over positions and prompts
};

Outcome define(const CausalLaw& law, const Vector& parameters, const Prompts& prompts) {
  const auto S = static_cast<size_t>(law.vocabulary), T = static_cast<size_t>(law.length), d = S + T;
  const Number *A1 = parameters.data(), *A2 = A1 + d * d, *W = A2 + 4 * d * d;
  const auto count = static_cast<long double>(prompts.count);
  Outcome out;
  for (int64_t n = 0; n < prompts.count; ++n) {
    const auto x = prompts.row(n);
    const auto pi = prompts.values_of(n);
    std::vector<Vector> stream(T, Vector(d));
    for (size_t i = 0; i < T; ++i) stream[i][static_cast<size_t>(x[i])] = stream[i][S + i] = 1;
    const auto first = attend(stream, A1), second = attend(stream, A2);
    out.logits.assign(S, 0), out.weights = second.back();
    Number z = 0;
    for (size_t y = 0; y < S; ++y) {
      for (size_t c = 0; c < 4 * d; ++c) out.logits[y] += stream.back()[c] * W[c * S + y];
      z += std::exp(out.logits[y]);
    }
    for (size_t y = 0; y < S; ++y) out.loss -= static_cast<long double>(pi[y]) * std::log(std::exp(out.logits[y]) / z) / count;
    long double nodes = 0, children = 0;
    Number mass = 0;
    std::vector<long double> counts(S, 0);
    for (size_t i = 0; i + 1 < T; ++i) {
      if (law.parent[i] < 0) continue;
      mass += first[i][static_cast<size_t>(law.parent[i])], nodes += 1;
      if (x[static_cast<size_t>(law.parent[i])] == x[T - 1]) counts[static_cast<size_t>(x[i])] += 1, children += 1;
    }
    out.on_parents += mass / nodes / count;
    const auto alpha = static_cast<long double>(law.concentration);
    for (size_t y = 0; y < S; ++y)
      out.posterior -= static_cast<long double>(pi[y]) * std::log((alpha + counts[y]) / (static_cast<long double>(S) * alpha + children)) / count;
  }
  return out;
}

CausalProblem problem(const std::string& line, int64_t count, double scale) {
  return causal_problem("variant=catformer", line, count, scale);
}

const char* const lines[] = {"vocabulary=3 parents=-1,0,0,1,2", "vocabulary=2 prompt_length=4 graph=icl concentration=1",
                             "vocabulary=4 prompt_length=3 graph=chain"};

TEST(Catformer, LossMetricsAndForwardAgainstTheDefinition) {
  for (const char* line : lines)
    for (const double scale : {0.0, 0.5, 3.0}) {
      const CausalProblem p = problem(line, 150, scale);  // blocks of 64: two and a part
      const Outcome want = define(*p.task->causal(), numbers(*p.model), p.prompts);
      const Team alone(1);
      const auto compiled = p.model->compile(p.prompts, {}, alone);
      const Loss got = p.model->loss_and_gradient(*compiled, alone, nullptr, true);
      const auto loss = static_cast<double>(want.loss.real()), posterior = static_cast<double>(want.posterior.real());
      EXPECT_NEAR(got.loss / loss, 1, 1e-13) << line << " " << scale;
      EXPECT_NEAR(got.excess, loss - posterior, 1e-13 * loss);
      const Metrics metrics = p.model->measure(*compiled, alone);
      EXPECT_NEAR(metrics.loss.loss / loss, 1, 1e-13);
      EXPECT_NEAR(metrics.loss.excess, got.excess, 1e-13 * loss);
      EXPECT_NEAR(metrics.mass_parent, static_cast<double>(want.on_parents.real()), 1e-13);
      EXPECT_NEAR(metrics.mass_answer + metrics.mass_other, 1, 1e-13);
      const auto S = static_cast<size_t>(p.task->causal()->vocabulary), T = static_cast<size_t>(p.task->causal()->length);
      std::vector<double> logits(150 * S), own(logits), rest(logits), weights(150 * T);
      p.model->forward(p.prompts, LogitPart::all, logits.data(), weights.data());
      p.model->forward(p.prompts, LogitPart::feed_forward, own.data(), nullptr);
      p.model->forward(p.prompts, LogitPart::attention, rest.data(), nullptr);
      for (size_t y = 0; y < S; ++y) {
        EXPECT_NEAR(logits[149 * S + y], static_cast<double>(want.logits[y].real()), 1e-13 * (1 + scale));
        EXPECT_NEAR(own[149 * S + y] + rest[149 * S + y], logits[149 * S + y], 1e-14 * (1 + scale));
      }
      for (size_t j = 0; j < T; ++j) EXPECT_NEAR(weights[149 * T + j], static_cast<double>(want.weights[j].real()), 1e-13);
    }
}

TEST(Catformer, GradientAgainstTheComplexStep) {
  constexpr long double h = 1e-30L;
  for (const char* line : lines)
    for (const double scale : {0.0, 0.5, 3.0}) {
      const CausalProblem p = problem(line, 4, scale);
      Vector parameters = numbers(*p.model);
      std::vector<double> gradient(parameters.size());
      const Team alone(1);
      p.model->loss_and_gradient(*p.model->compile(p.prompts, {}, alone), alone, gradient.data(), false);
      double largest = 0;
      for (double g : gradient) largest = std::max(largest, std::abs(g));
      for (size_t i = 0; i < gradient.size(); ++i) {
        parameters[i] += Number(0, h);
        const auto want = static_cast<double>(define(*p.task->causal(), parameters, p.prompts).loss.imag() / h);
        parameters[i] -= Number(0, h);
        ASSERT_NEAR(gradient[i], want, 1e-13 * largest) << line << " scale " << scale << " parameter " << i;
      }
    }
}

TEST(Catformer, GradientsAddUpWithTheSameBitsOnAnyNumberOfThreads) {
  const CausalProblem p = problem("vocabulary=5 prompt_length=9 graph=random", 1300, 1);  // 21 blocks of 64, in two rounds
  std::vector<double> weights(1300), gradient(p.model->parameters().size()), again(gradient), part(gradient), sum(gradient.size(), 0.0);
  for (size_t n = 0; n < weights.size(); ++n) weights[n] = (1 + static_cast<double>(n % 7)) / 5000;
  const Team alone(1), pair(2);
  const Loss all = p.model->loss_and_gradient(*p.model->compile(p.prompts, weights, alone), alone, gradient.data(), true);
  const Loss same = p.model->loss_and_gradient(*p.model->compile(p.prompts, weights, pair), pair, again.data(), true);
  EXPECT_EQ(gradient, again);
  EXPECT_EQ(all.loss, same.loss);
  EXPECT_EQ(all.excess, same.excess);
  double loss = 0, largest = 0;
  Prompts one;
  for (int64_t n = 0; n < 1300; ++n) {
    p.task->sample(Split::train, 1, n, 1, one);
    loss += weights[static_cast<size_t>(n)] * p.model->loss_and_gradient(*p.model->compile(one, {}, alone), alone, part.data(), false).loss;
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += weights[static_cast<size_t>(n)] * part[i];
  }
  EXPECT_NEAR(all.loss / loss, 1, 1e-14);
  for (double g : gradient) largest = std::max(largest, std::abs(g));
  for (size_t i = 0; i < sum.size(); ++i) EXPECT_NEAR(gradient[i], sum[i], 1e-14 * largest);
}

// What the definition says of zero matrices: attention is uniform and cannot move, for W reads nothing; the loss is log S.
TEST(Catformer, AtZeroOnlyTheReadOutMoves) {
  const CausalProblem p = problem("graph=icl", 20000, 0);
  const CausalLaw& law = *p.task->causal();
  const auto S = static_cast<size_t>(law.vocabulary), T = static_cast<size_t>(law.length), d = S + T;
  std::vector<double> gradient(p.model->parameters().size());
  const Team alone(1);
  const Loss loss = p.model->loss_and_gradient(*p.model->compile(p.prompts, {}, alone), alone, gradient.data(), true);
  EXPECT_NEAR(loss.loss, std::log(10.0), 1e-12);
  for (size_t i = 0; i < 5 * d * d; ++i) ASSERT_EQ(gradient[i], 0) << i;
  const double* dW = &gradient[5 * d * d];
  double largest = 0;
  for (size_t i = 0; i < 4 * d * S; ++i) largest = std::max(largest, std::abs(dW[i]));
  for (size_t c = 0; c < 4 * d; ++c) {
    double sum = 0;
    for (size_t y = 0; y < S; ++y) sum += dW[c * S + y];
    EXPECT_NEAR(sum, 0, 1e-15);  // softmax sees no part common to all logits
  }
  for (size_t i = 0; i < d * S; ++i) EXPECT_NEAR(dW[d * S + i], dW[2 * d * S + i], 1e-15);  // both layers attend alike
  // Position j of the second layer's average has weight 1 / T, of the average of averages the sum of 1 / (T (i + 1)) over i >= j.
  for (size_t y = 0; y < S; ++y) {
    double harmonic = 0;
    for (size_t j = T; j-- > 0;) {
      harmonic += 1 / static_cast<double>(j + 1);
      EXPECT_NEAR(dW[(2 * d + S + j) * S + y], dW[(d - 1) * S + y] / static_cast<double>(T), 1e-15);
      EXPECT_NEAR(dW[(3 * d + S + j) * S + y], dW[(d - 1) * S + y] / static_cast<double>(T) * harmonic, 1e-15);
    }
  }
  // Tokens are frequent together with what follows them: the read-out of an averaged token is raised towards itself.
  for (size_t s = 0; s < S; ++s) EXPECT_LT(dW[(2 * d + s) * S + s], -0.2 * largest);
}

TEST(Catformer, TheMechanismPredictsFromChildren) {
  const auto task = task_of("causal_structure", "graph=chain vocabulary=4 prompt_length=40 concentration=0.5");
  const CausalLaw& law = *task->causal();
  const auto model = model_of(*task, "variant=catformer");
  const CatformerPlaces at(law);
  const auto W = model->mutable_parameters();
  for (size_t i = 1; i < at.T; ++i) W[at.positions(i, i - 1)] = 60;
  for (size_t s = 0; s < at.S; ++s) W[at.tokens(s, s)] = 60, W[at.read_out(s, s)] = 4;
  Prompts prompts;
  task->sample(Split::test, 1, 0, 2000, prompts);
  const Team alone(1);
  const Metrics m = model->measure(*model->compile(prompts, {}, alone), alone);
  EXPECT_GT(m.mass_parent, 1 - 1e-12);
  EXPECT_GT(m.mass_answer, 0.85);  // but where the last position is its own query's child, or no copy has one
  EXPECT_LT(m.loss.excess, 0.2);
  EXPECT_LT(m.loss.loss, std::log(4.0) - 0.2);
}

TEST(Catformer, VariantsOfOtherTasksAreRefused) {
  const auto causal = task_of("causal_structure", "");
  EXPECT_EQ(model_of(*causal, "variant=reduced")->parameters().size(), 500u);
  EXPECT_EQ(model_of(*causal, "")->parameters().size(), 500u);
  for (const char* variant : {"full", "original"}) {
    try {
      model_of(*causal, std::string("variant=") + variant);
      ADD_FAILURE() << variant;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("must be reduced or catformer"), std::string::npos) << error.what();
    }
  }
  const auto recall = task_of("in_context_recall", "");
  EXPECT_THROW(model_of(*recall, "variant=catformer"), Error);
}

}  // namespace
}  // namespace lamina::tests
