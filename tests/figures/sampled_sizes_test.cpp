// Sampled descent and fixed sets of in-context convergence (F19, F20 here and in the README) at random K, d, p, N and eta: runs of the
// trainer against the literal model in long double, token by token, on the same prompts.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/random.hpp"
#include "support/runs.hpp"

namespace lamina::tests {
namespace {

using Real = long double;
using Vector = std::vector<Real>;

constexpr const char* convergence = "in_context_convergence";

// Loss and gradient of prompts with their labels, token by token.
Vector literal_gradient(const Prompts& prompts, const FeatureLaw& law, const Vector& Q, Real& loss) {
  const auto d = static_cast<size_t>(law.dimension), length = static_cast<size_t>(prompts.length);
  Vector gradient(d * d, 0), a(length);
  loss = 0;
  for (int64_t i = 0; i < prompts.count; ++i) {
    const auto tokens = prompts.row(i);
    const auto y = prompts.values_of(i);
    const auto query = static_cast<size_t>(tokens.back());
    const size_t keys = law.masked ? length - 1 : length;
    Real z = 0, mean = 0;
    for (size_t j = 0; j < keys; ++j) z += a[j] = expl(Q[static_cast<size_t>(tokens[j]) * d + query]);
    const auto label = [&](size_t j) { return j + 1 == length ? Real(0) : Real(y[j]); };
    for (size_t j = 0; j < keys; ++j) mean += (a[j] /= z) * label(j);
    const Real delta = mean - Real(y[length - 1]), weight = 1 / Real(prompts.count);
    loss += weight * delta * delta / 2;
    for (size_t j = 0; j < keys; ++j)
      gradient[static_cast<size_t>(tokens[j]) * d + query] += weight * delta * a[j] * (label(j) - mean);
  }
  return gradient;
}

double largest_difference(const Vector& Q, const std::vector<double>& other) {
  Real most = 0, largest = 0;
  for (size_t i = 0; i < Q.size(); ++i) most = std::max(most, std::abs(Q[i] - Real(other[i]))), largest = std::max(largest, std::abs(Q[i]));
  return static_cast<double>(most / largest);
}

// F19: sampled descent of raw labels step by step on the same prompts, and its distance to the population, which falls as the inverse
// root of the batch.
TEST(SampledSizes, SampledDescentStepByStep) {
  double few = 0, many = 0;
  for (uint64_t number = 0; number < 10; ++number) {
    Random random(number, Purpose::weights, 39);
    const auto K = 3 + static_cast<int>(random.below(10)), N = 2 + static_cast<int>(random.below(60));
    const auto d = K + static_cast<int>(random.below(4));
    const int batch = 8 + static_cast<int>(random.below(90)), steps = 40;
    const double eta = std::pow(10.0, random.uniform() - 0.3);
    const std::string laws[] = {"", " dominant=" + number_text(0.2 + 0.6 * random.uniform()), " feature_law=zipf"};
    const std::string size = "features=" + std::to_string(K) + " dimension=" + std::to_string(d) + " prompt_length=" + std::to_string(N);
    const std::string line = size + laws[number % 3] + (number % 4 == 3 ? " mask=no" : "") + " step_size=" + number_text(eta) +
                             " probes=none record_every=1 steps=" + std::to_string(steps) + " data=";
    const Experiment run(line + "fresh seed=" + std::to_string(number) + " batch=" + std::to_string(batch), convergence);
    const Task& task = *run.trainer->task();
    Vector Q(static_cast<size_t>(d * d), 0);
    for (int t = 0; t <= steps; ++t) {
      Prompts prompts;
      task.sample(Split::train, number, t * batch, batch, prompts);
      Real loss = 0;
      const Vector gradient = literal_gradient(prompts, *task.features(), Q, loss);
      EXPECT_NEAR(run.at(t, "loss") / static_cast<double>(loss), 1, 1e-11) << line << " batch " << batch << " step " << t;
      for (size_t i = 0; t < steps && i < Q.size(); ++i) Q[i] -= eta * gradient[i];
    }
    EXPECT_LT(largest_difference(Q, run.trainer->model().parameters()), 1e-11) << line << " batch " << batch;

    const Experiment exact(line + "population", convergence);
    const auto square = [&](int of_batch) {  // of the distance, over seeds
      double sum = 0;
      for (int seed = 0; seed < 4; ++seed) {
        const Experiment sampled(line + "fresh seed=" + std::to_string(100 + seed) + " batch=" + std::to_string(of_batch), convergence);
        for (size_t i = 0; i < Q.size(); ++i) {
          const double e = sampled.trainer->model().parameters()[i] - exact.trainer->model().parameters()[i];
          sum += e * e;
        }
      }
      return sum;
    };
    const double one = square(2048), other = square(128);
    many += one / (one + other / 16), few += other / 16 / (one + other / 16);
  }
  std::printf("sampled descent, batch 128 against 2048: mean square distance 16 x %.2f\n", few / many);
  EXPECT_NEAR(few / many, 1, 0.25);
}

// F20: full-batch descent on a set of raw labels step by step; a query that no prompt asks for keeps its column and its first loss.
TEST(SampledSizes, FixedSetsStepByStep) {
  int left = 0, learnt = 0;
  for (uint64_t number = 0; number < 10; ++number) {
    Random random(number, Purpose::weights, 40);
    const auto K = 4 + static_cast<int>(random.below(12)), N = 3 + static_cast<int>(random.below(60));
    const int samples = K / 2 + static_cast<int>(random.below(3 * K)), steps = 400;
    const double eta = std::pow(10.0, random.uniform() - 0.3);
    const std::string laws[] = {"", " dominant=" + number_text(0.2 + 0.5 * random.uniform()), " feature_law=zipf"};
    std::string line = "features=" + std::to_string(K) + laws[number % 3] + " prompt_length=" + std::to_string(N) +
                       " data=fixed samples=" + std::to_string(samples) + " step_size=" + number_text(eta) +
                       " seed=" + std::to_string(number) + " record_every=100 steps=" + std::to_string(steps) + " watched=0";
    for (int k = 1; k < K; ++k) line += "," + std::to_string(k);
    const Experiment run(line, convergence);
    const FeatureLaw& law = *run.trainer->task()->features();
    Prompts prompts;
    run.trainer->task()->sample(Split::train, number, 0, samples, prompts);
    Vector Q(static_cast<size_t>(K * K), 0);
    for (int t = 0; t <= steps; ++t) {
      Real loss = 0;
      const Vector gradient = literal_gradient(prompts, law, Q, loss);
      if (t % 100 == 0) {
        EXPECT_NEAR(run.at(t, "loss") / static_cast<double>(loss), 1, 1e-9) << line << " step " << t;
      }
      for (size_t i = 0; t < steps && i < Q.size(); ++i) Q[i] -= eta * gradient[i];
    }
    EXPECT_LT(largest_difference(Q, run.trainer->model().parameters()), 1e-9) << line;
    Real P2 = 0;
    for (const double p : law.probability) P2 += Real(p) * p;
    for (int k = 0; k < K; ++k) {
      bool asked = false;
      for (int64_t i = 0; i < samples; ++i) asked = asked || prompts.row(i).back() == k;
      ++(asked ? learnt : left);
      Real largest = 0;
      for (int n = 0; n < K; ++n)
        largest = std::max(largest, std::abs(Real(run.trainer->model().parameters()[static_cast<size_t>(n * K + k)])));
      EXPECT_EQ(largest > 0, asked) << line << " query " << k;
      if (asked) continue;
      const Real first = (1 - 2 * Real(law.probability[static_cast<size_t>(k)]) + P2 + (1 - P2) / N) / 2;
      EXPECT_NEAR(run.last("loss_" + std::to_string(k)), static_cast<double>(first), 1e-13) << line << " query " << k;
    }
  }
  std::printf("fixed sets: %d columns asked for, %d not\n", learnt, left);
  EXPECT_GT(left, 10);
  EXPECT_GT(learnt, 10);
}

}  // namespace
}  // namespace lamina::tests
