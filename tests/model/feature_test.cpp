// Softmax attention over features, in blocks, in lists and averaged over functions, against a program written position by position,
// however far the logits of a column spread: where a prompt lacks the largest, the others share its attention.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "support/runs.hpp"

namespace lamina::tests {
namespace {

struct Exact {
  long double loss = 0;
  std::vector<long double> gradient;  // [K, K], as Q
};

// 1/2 E (yhat - y_query)^2 over the prompts, or with unit second moments of the function instead of labels.
Exact by_position(const Prompts& prompts, const std::vector<double>& Q, int64_t K, bool masked, bool averaged) {
  Exact exact{0, std::vector<long double>(static_cast<size_t>(K * K))};
  for (int64_t i = 0; i < prompts.count; ++i) {
    const auto row = prompts.row(i);
    const int64_t query = row.back(), keys = static_cast<int64_t>(row.size()) - (masked ? 1 : 0);
    long double largest = -INFINITY, total = 0;
    for (int64_t j = 0; j < keys; ++j) largest = std::max(largest, static_cast<long double>(Q[row[j] * K + query]));
    std::vector<long double> a(row.size()), slope(row.size());
    for (int64_t j = 0; j < keys; ++j) total += a[j] = expl(Q[row[j] * K + query] - largest);
    for (long double& weight : a) weight /= total;
    if (averaged) {
      std::vector<long double> e(static_cast<size_t>(K));  // of the values v_{x_j}, and 0 of the query's own position
      for (size_t j = 0; j + 1 < row.size(); ++j) e[row[j]] += a[j];
      e[query] -= 1;
      long double mean = 0;
      for (size_t j = 0; j + 1 < row.size(); ++j) mean += a[j] * e[row[j]];
      for (size_t j = 0; j < row.size(); ++j) slope[j] = a[j] * ((j + 1 < row.size() ? e[row[j]] : 0) - mean);
      for (const long double x : e) exact.loss += x * x / 2;
    } else {
      const auto y = prompts.values_of(i);
      long double yhat = 0;
      for (size_t j = 0; j + 1 < row.size(); ++j) yhat += a[j] * y[j];
      const long double delta = yhat - y.back();
      for (size_t j = 0; j < row.size(); ++j) slope[j] = delta * a[j] * ((j + 1 < row.size() ? y[j] : 0) - yhat);
      exact.loss += delta * delta / 2;
    }
    for (int64_t j = 0; j < keys; ++j) exact.gradient[row[j] * K + query] += slope[j];
  }
  exact.loss /= prompts.count;
  for (long double& g : exact.gradient) g /= prompts.count;
  return exact;
}

TEST(FeatureModel, EqualsAProgramByPositionHoweverTheLogitsSpread) {
  std::mt19937_64 random(1);
  std::normal_distribution<double> normal;
  for (const char* size : {"features=5 prompt_length=4", "features=4 prompt_length=12"})  // lists, blocks
    for (const char* mask : {" mask=yes", " mask=no"})
      for (const char* data : {" data=fresh", " data=averaged"})
        for (const double spread : {1.0, 100.0, 300.0, 1000.0, 1e5}) {
          const std::string line = std::string(size) + mask + data;
          const auto task = convergence_task(line);
          const int64_t K = task->features()->features;
          Prompts prompts;
          task->sample(Split::train, 3, 0, 300, prompts);
          std::vector<double> Q(static_cast<size_t>(K * K)), gradient(Q.size());
          for (double& q : Q) q = spread * normal(random);
          const auto model = model_of(*task, line + " attention=softmax");
          model->set_parameters(Q);
          const Exact exact = by_position(prompts, Q, K, task->features()->masked, prompts.values.empty());
          const Team team(1);
          const double loss = model->loss_and_gradient(*model->compile(prompts, {}, team), team, gradient.data(), false).loss;
          const auto where = testing::Message() << line << " spread " << spread;
          EXPECT_NEAR(loss, exact.loss, 1e-13 * static_cast<double>(exact.loss)) << where;
          long double largest = 0;
          for (const long double g : exact.gradient) largest = std::max(largest, std::abs(g));
          // Where attention is all on one feature, terms as large as the loss cancel in a slope.
          const auto error = static_cast<double>(1e-13L * largest + 1e-15L * exact.loss);
          for (size_t i = 0; i < Q.size(); ++i) EXPECT_NEAR(gradient[i], exact.gradient[i], error) << where << " " << i;
        }
}

}  // namespace
}  // namespace lamina::tests
