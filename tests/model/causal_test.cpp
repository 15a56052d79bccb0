// The reduced model of causal_structure against a plain program in long double: loss, excess, gradient entry by entry.
#include <gtest/gtest.h>

#include <cmath>

#include "causal_problem.hpp"

namespace lamina::tests {
namespace {

using Real = long double;

// Everything by its definition: the derivative of the loss by each number, chained by hand the long way round.
Real plain(const CausalProblem& p, std::vector<Real>& gradient, Real& excess) {
  const CausalLaw& law = *p.task->causal();
  const int T = static_cast<int>(law.length), S = static_cast<int>(law.vocabulary);
  const std::vector<double>& w = p.model->parameters();
  gradient.assign(w.size(), 0);
  Real total = 0;
  excess = 0;
  for (int64_t n = 0; n < p.prompts.count; ++n) {
    const auto x = p.prompts.row(n);
    const auto pi = p.prompts.values_of(n);
    std::vector<Real> P(static_cast<size_t>(T * T), 0), s(static_cast<size_t>(T), 0), a(s), f(static_cast<size_t>(S), 0);
    for (int i = 0; i < T; ++i) {
      Real z = 0;
      for (int j = 0; j <= i; ++j) z += std::exp(static_cast<Real>(w[i * T + j]));
      for (int j = 0; j <= i; ++j) P[i * T + j] = std::exp(static_cast<Real>(w[i * T + j])) / z;
      for (int j = 0; j <= i; ++j) s[i] += P[i * T + j] * w[T * T + x[T - 1] * S + x[j]];
    }
    Real z = 0;
    for (int i = 0; i < T; ++i) z += std::exp(s[i]);
    for (int i = 0; i < T; ++i) a[i] = std::exp(s[i]) / z, f[x[i]] += a[i];
    Real loss = 0, posterior = 0, children = 0;
    std::vector<Real> counts(f.size(), 0);
    for (int i = 0; i + 1 < T; ++i)
      if (law.parent[i] >= 0 && x[law.parent[i]] == x[T - 1]) counts[x[i]] += 1, children += 1;
    for (int y = 0; y < S; ++y) {
      loss -= pi[y] * std::log(f[y] + law.smoothing);
      posterior -= pi[y] * std::log((law.concentration + counts[y]) / (S * static_cast<Real>(law.concentration) + children) + law.smoothing);
    }
    total += loss / p.prompts.count, excess += (loss - posterior) / p.prompts.count;
    for (int i = 0; i < T; ++i) {
      Real ds = 0;  // dL/ds_i = sum_k dL/da_k da_k/ds_i
      for (int k = 0; k < T; ++k) ds -= pi[x[k]] / (f[x[k]] + law.smoothing) * a[k] * ((i == k) - a[i]) / p.prompts.count;
      for (int j = 0; j <= i; ++j) {
        gradient[static_cast<size_t>(T * T + x[T - 1] * S + x[j])] += ds * P[i * T + j];
        for (int k = 0; k <= i; ++k)
          gradient[static_cast<size_t>(i * T + j)] += ds * w[T * T + x[T - 1] * S + x[k]] * P[i * T + k] * ((j == k) - P[i * T + j]);
      }
    }
  }
  return total;
}

TEST(Causal, LossExcessAndGradientAgainstLongDouble) {
  for (const char* line : {"vocabulary=4 prompt_length=7 graph=random", "vocabulary=3 parents=-1,0,0,1,2", "vocabulary=10 concentration=1"})
    for (const double scale : {0.0, 1.0, 4.0}) {
      const CausalProblem p = causal_problem("initial_scale=1", line, 150, scale);
      std::vector<Real> want;
      Real excess;
      const Real loss = plain(p, want, excess);
      std::vector<double> gradient(p.model->parameters().size()), again(gradient);
      const Team alone(1), pair(2);
      const Loss got = p.model->loss_and_gradient(*p.model->compile(p.prompts, {}, alone), alone, gradient.data(), true);
      EXPECT_NEAR(got.loss / static_cast<double>(loss), 1, 1e-13);
      EXPECT_NEAR(got.excess, static_cast<double>(excess), 1e-12);
      double largest = 0;
      for (double g : gradient) largest = std::max(largest, std::abs(g));
      for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(gradient[i], static_cast<double>(want[i]), 1e-13 * largest) << line << " " << i;
      p.model->loss_and_gradient(*p.model->compile(p.prompts, {}, pair), pair, again.data(), true);
      EXPECT_EQ(gradient, again);
    }
}

TEST(Causal, ForwardIsALawAndAttendsToChildrenAtTheSolution) {
  const auto task = task_of("causal_structure", "graph=icl");
  const CausalLaw& law = *task->causal();
  const auto model = model_of(*task, "initial_scale=50");
  const auto A1 = model->tensor("A1");
  for (size_t i = 0; i < law.parent.size(); ++i)
    if (law.parent[i] >= 0) A1[i * 20 + static_cast<size_t>(law.parent[i])] = 50;
  Prompts prompts;
  task->sample(Split::test, 1, 0, 200, prompts);
  std::vector<double> f(2000), weights(4000);
  model->forward(prompts, LogitPart::all, f.data(), weights.data());
  for (int64_t n = 0; n < 200; ++n) {
    double sum = 0, all = 0, children = 0, wrong = 0;
    for (int y = 0; y < 10; ++y) sum += f[n * 10 + y];
    const auto row = prompts.row(n);
    for (int i = 0; i < 20; ++i) {
      all += weights[n * 20 + i];
      if (i == 19 || law.parent[i] < 0) continue;
      (row[law.parent[i]] == row[19] ? children : wrong) += row[law.parent[i]] == row[19] ? 1.0 : weights[n * 20 + i];
    }
    EXPECT_NEAR(sum, 1, 1e-14);
    EXPECT_NEAR(all, 1, 1e-14);
    EXPECT_LT(children > 0 ? wrong : 0, 1e-12);  // positions whose parent is another token have nothing where some have the query's
  }
}

}  // namespace
}  // namespace lamina::tests
