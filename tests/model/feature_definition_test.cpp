// The model of features on samples against its definition, key by key, in long double: raw labels and labels averaged out, more
// features than keys (lists) and fewer (blocks), the query among the keys or not, any second moments, every map.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/random.hpp"
#include "support/runs.hpp"
#include "theory/feature_population.hpp"

namespace lamina::tests {
namespace {

using Real = long double;

const char* const correlated = "2,0.5,-0.3,0,0,0.5,1,0.2,0,0,-0.3,0.2,1.5,0.4,0,0,0,0.4,1,-0.6,0,0,0,-0.6,0.8";

struct Exact {
  Real loss = 0;
  std::vector<Real> gradient;
};

// e is a - unit_query in feature coordinates; its query's entry by the weight elsewhere, and yhat - y_query by differences of labels, so
// that nothing cancels where softmax has converged.
Exact literal(const FeatureLaw& law, const std::string& map, const std::vector<double>& Q, const Prompts& prompts, std::span<const double> weights, bool averaged) {
  const int K = static_cast<int>(law.features), d = static_cast<int>(law.dimension), N = static_cast<int>(prompts.length) - 1;
  Exact out{0, std::vector<Real>(Q.size(), 0)};
  for (int64_t i = 0; i < prompts.count; ++i) {
    const auto x = prompts.row(i);
    const int k = x.back(), keys = map == "softmax" && !law.masked ? N + 1 : N;  // label 0: a query among the keys counts under softmax alone
    const Real weight = weights.empty() ? 1 / static_cast<Real>(prompts.count) : static_cast<Real>(weights[i]);
    std::vector<Real> a(static_cast<size_t>(keys)), slope(a);  // slope: da_j / ds_j of linear and relu
    Real z = 0, most = -1e9L;
    for (int j = 0; j < keys; ++j) most = std::max(most, static_cast<Real>(Q[x[j] * d + k]));
    for (int j = 0; j < keys; ++j) {
      const Real s = Q[x[j] * d + k];
      a[j] = map == "softmax" ? std::exp(s - most) : (map == "relu" ? std::max(s, Real(0)) : s) / N;
      slope[j] = map == "relu" && s < 0 ? 0 : Real(1) / N;
      z += a[j];
    }
    if (map == "softmax")
      for (Real& weight_of_key : a) weight_of_key /= z;
    std::vector<Real> g(a.size());  // dL / da_j
    if (averaged) {
      std::vector<Real> e(static_cast<size_t>(K), 0), moment(e);
      Real elsewhere = keys > N ? a[N] : 0;
      for (int j = 0; j < N; ++j) e[x[j]] += a[j], elsewhere += x[j] == k ? 0 : a[j];
      e[k] = map == "softmax" ? -elsewhere : e[k] - 1;
      Real square = 0;
      for (int m = 0; m < K; ++m) {
        for (int n = 0; n < K; ++n) moment[m] += (law.moments.empty() ? Real(m == n) : Real(law.moments[m * K + n])) * e[n];
        square += e[m] * moment[m];
      }
      out.loss += weight * square / 2;
      for (int j = 0; j < N; ++j) g[j] = moment[x[j]];
    } else {
      const auto y = prompts.values_of(i);
      Real delta = map == "softmax" ? (keys > N ? -a[N] * y.back() : 0) : Real(-y.back());
      for (int j = 0; j < N; ++j) delta += a[j] * (map == "softmax" ? Real(y[j]) - Real(y.back()) : Real(y[j]));
      out.loss += weight * delta * delta / 2;
      for (int j = 0; j < N; ++j) g[j] = delta * y[j];
    }
    for (int j = 0; j < keys; ++j) {
      Real ds = slope[j] * g[j];
      if (map == "softmax") {
        ds = 0;  // a_j (g_j - sum_i a_i g_i), by differences: 0 between copies of one feature
        for (int l = 0; l < keys; ++l) ds += a[j] * a[l] * (g[j] - g[l]);
      }
      out.gradient[x[j] * d + k] += weight * ds;
    }
  }
  return out;
}

struct Problem {
  std::shared_ptr<const Task> task;
  std::unique_ptr<Model> model;
  Prompts prompts;
};

Problem problem(const std::string& law, const std::string& map, double scale) {
  Problem p{convergence_task(law), nullptr, {}};
  p.model = model_of(*p.task, "attention=" + map);
  Random random(3, Purpose::weights, 0);
  for (double& q : p.model->mutable_parameters()) q = scale * random.normal();
  p.task->sample(Split::train, 1, 0, 300, p.prompts);
  return p;
}

void compare(const Problem& p, const std::string& map, bool averaged, bool weighted, const std::string& where) {
  Prompts given = p.prompts;
  if (averaged) given.values.clear();
  std::vector<double> weights;
  for (int64_t i = 0; weighted && i < given.count; ++i) weights.push_back(static_cast<double>(1 + i % 7) / 1195);
  const Exact want = literal(*p.task->features(), map, p.model->parameters(), p.prompts, weights, averaged);
  std::vector<double> gradient(p.model->parameters().size());
  const Team team(2);
  const Loss got = p.model->loss_and_gradient(*p.model->compile(given, weights, team), team, gradient.data(), false);
  EXPECT_NEAR(got.loss / static_cast<double>(want.loss), 1, 1e-13) << where;
  double largest = 1e-2 * got.loss;  // of one key the gradient is 0, a difference of terms of the loss's size
  for (double g : gradient) largest = std::max(largest, std::abs(g));
  for (size_t i = 0; i < gradient.size(); ++i) EXPECT_NEAR(gradient[i], static_cast<double>(want.gradient[i]), 1e-13 * largest) << where << " entry " << i;
}

TEST(Features, LossAndGradientAgainstTheDefinition) {
  for (const std::string size : {"features=5 dimension=7 prompt_length=3", "features=5 dimension=5 prompt_length=4", "features=5 dimension=6 prompt_length=5",
                                 "features=5 dimension=5 prompt_length=24", "features=5 dimension=5 prompt_length=1"})
    for (const char* mask : {" mask=yes", " mask=no"})
      for (const std::string& moments : {std::string(), std::string(" second_moments=") + correlated})
        for (const char* map : {"softmax", "linear", "relu"})
          for (const bool averaged : {false, true})
            for (const bool weighted : {false, true}) {
              const std::string where = size + mask + moments + " " + map + (averaged ? " averaged" : " raw") + (weighted ? " weighted" : "");
              compare(problem(size + mask + moments + " feature_law=zipf", map, 0.8), map, averaged, weighted, where);
            }
}

// However far the logits of a column spread: where a prompt lacks the largest, the others share its attention.
TEST(Features, LossAndGradientHoweverTheLogitsSpread) {
  for (const std::string size : {"features=5 prompt_length=4", "features=5 prompt_length=12"})  // lists, blocks
    for (const char* mask : {" mask=yes", " mask=no"})
      for (const bool averaged : {false, true})
        for (const double spread : {100.0, 300.0, 1000.0, 1e5})
          compare(problem(size + mask, "softmax", spread), "softmax", averaged, false, size + mask + (averaged ? " averaged " : " raw ") + std::to_string(spread));
}

// relu'(0) = 1: where every score is 0 slopes are those of linear attention, in lists, in blocks, averaged, and of the exact law.
TEST(Features, ReluSlopesAtZeroAreLinearOnes) {
  const Team team(1);
  for (const char* size : {"features=5 prompt_length=4", "features=5 prompt_length=24"})
    for (const bool averaged : {false, true}) {
      const Problem relu = problem(size, "relu", 0), linear = problem(size, "linear", 0);
      Prompts prompts = relu.prompts;
      if (averaged) prompts.values.clear();
      std::vector<double> a(25), b(25);
      relu.model->loss_and_gradient(*relu.model->compile(prompts, {}, team), team, a.data(), false);
      linear.model->loss_and_gradient(*linear.model->compile(prompts, {}, team), team, b.data(), false);
      EXPECT_EQ(a, b) << size << averaged;
      EXPECT_LT(a[0], -0.01);
      for (const bool tied : {false, true}) {
        FeaturePopulation of_relu(*relu.task->features(), kernels::Map::relu, *kernels::select(nullptr)->f64, tied),
            of_linear(*relu.task->features(), kernels::Map::linear, *kernels::select(nullptr)->f64, tied);
        std::vector<double> x(static_cast<size_t>(of_relu.variables()), 0.0), c(x), d(x);
        of_relu.loss_and_gradient(x.data(), c.data(), team), of_linear.loss_and_gradient(x.data(), d.data(), team);
        EXPECT_EQ(c, d) << size;
        EXPECT_LT(*std::ranges::min_element(c), 0);
      }
    }
}

// Where a_query is 1 within rounding losses and their slopes keep all their digits: in lists and in blocks, on raw labels and averaged.
TEST(Features, NothingCancelsAtTheEnd) {
  for (const char* size : {"features=5 prompt_length=4", "features=5 prompt_length=24"})
    for (const bool averaged : {false, true})
      for (const double A : {10.0, 25.0, 60.0, 150.0}) {
        const std::string where = std::string(size) + (averaged ? " averaged" : " raw") + " A = " + std::to_string(A);
        Problem p = problem(size, "softmax", 0);
        std::vector<double> Q(25, -A / 4);
        for (int k = 0; k < 5; ++k) Q[6 * k] = A;
        p.model->set_parameters(Q);
        Prompts with;  // the prompts that hold their query
        for (int64_t i = 0; i < p.prompts.count; ++i) {
          const auto row = p.prompts.row(i);
          if (std::find(row.begin(), row.end() - 1, row.back()) == row.end() - 1) continue;
          with.tokens.insert(with.tokens.end(), row.begin(), row.end());
          const auto y = p.prompts.values_of(i);
          if (!averaged) with.values.insert(with.values.end(), y.begin(), y.end());
          ++with.count;
        }
        with.length = p.prompts.length;
        with.label.resize(with.count), with.answer.resize(with.count);
        const Exact want = literal(*p.task->features(), "softmax", Q, with, {}, averaged);
        std::vector<double> gradient(25);
        const Team team(1);
        const Loss got = p.model->loss_and_gradient(*p.model->compile(with, {}, team), team, gradient.data(), false);
        EXPECT_LT(got.loss, 100 * std::exp(-2 * A)) << where;
        EXPECT_NEAR(got.loss / static_cast<double>(want.loss), 1, 1e-12) << where;
        for (int k = 0; k < 5; ++k)
          EXPECT_NEAR(gradient[6 * k] / static_cast<double>(want.gradient[6 * k]), 1, 1e-12) << where << " query " << k;
      }
}

// The mean of raw gradients over functions is the averaged gradient, for every class of functions: z-scores over batches.
TEST(Features, AveragedIsTheMeanOfRaw) {
  for (const char* size : {"features=5 prompt_length=4", "features=5 prompt_length=9"})
    for (const char* map : {"softmax", "linear", "relu"})
      for (const char* mask : {"yes", "no"}) {
        const Problem p = problem(std::string(size) + " mask=" + mask + " second_moments=" + correlated, map, 0.8);
        constexpr int batches = 400, batch = 200;
        std::vector<double> sum(26), squares(26), raw(25), averaged(25);
        const Team team(1);
        for (int b = 0; b < batches; ++b) {
          Prompts prompts;
          p.task->sample(Split::train, 2, b * batch, batch, prompts);
          const double loss = p.model->loss_and_gradient(*p.model->compile(prompts, {}, team), team, raw.data(), false).loss;
          prompts.values.clear();
          const double mean = p.model->loss_and_gradient(*p.model->compile(prompts, {}, team), team, averaged.data(), false).loss;
          for (int i = 0; i < 26; ++i) {
            const double d = i < 25 ? raw[i] - averaged[i] : loss - mean;
            sum[i] += d, squares[i] += d * d;
          }
        }
        for (int i = 0; i < 26; ++i) {
          const double mean = sum[i] / batches, deviation = std::sqrt((squares[i] / batches - mean * mean) / (batches - 1));
          EXPECT_LT(std::abs(mean), 4.5 * deviation + 1e-15) << size << " " << map << " mask=" << mask << " entry " << i;
        }
      }
}

// yhat by definition is what scores and a forward pass of single prompts give.
TEST(Features, ForwardAgreesWithTheLoss) {
  for (const char* map : {"softmax", "linear", "relu"})
    for (const char* mask : {"yes", "no"}) {
      const Problem p = problem(std::string("features=5 prompt_length=9 mask=") + mask, map, 0.8);
      std::vector<double> yhat(300), weights(3000);
      p.model->forward(p.prompts, LogitPart::all, yhat.data(), weights.data());
      double loss = 0;
      for (int64_t i = 0; i < 300; ++i) {
        loss += 0.5 * (yhat[i] - p.prompts.values_of(i).back()) * (yhat[i] - p.prompts.values_of(i).back()) / 300;
        if (mask[0] == 'y') {
          EXPECT_EQ(weights[i * 10 + 9], 0);
        }
      }
      const Team team(1);
      EXPECT_NEAR(p.model->loss_and_gradient(*p.model->compile(p.prompts, {}, team), team, nullptr, false).loss / loss, 1, 1e-13) << map << mask;
    }
}

}  // namespace
}  // namespace lamina::tests
