// The gradient of free matrices against the complex step: the definition at the top of model.hpp, written out in complex long
// double, moved by i h in one parameter; the imaginary part over h is the derivative without cancellation.
#include <gtest/gtest.h>

#include <cmath>
#include <complex>

#include "base/random.hpp"
#include "support/runs.hpp"

namespace lamina::tests {
namespace {

using Number = std::complex<long double>;
using Matrix = std::vector<Number>;  // row-major

Number dot(const Number* a, const Number* b, int64_t n) {
  Number sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

// W, V, U, F as functions of the parameters, from the comments of parametrisation.hpp and construction.hpp.
class Definition {
 public:
  Definition(const Model& model, const Task& task)
      : model_(model), law_(task.law()), K_(law_.vocabulary + 1), D_(2 * K_), map_(model.settings().text("attention")),
        reads_(model.settings().is("feed_forward", "query_and_attention")) {}

  Number loss(const std::vector<Number>& parameters, const Prompts& prompts) const {
    const auto given = [&](const char* name) {
      for (const TensorInfo& t : model_.tensors())
        if (t.name == name) return Matrix(parameters.begin() + t.offset, parameters.begin() + t.offset + t.count);
      return Matrix{};
    };
    Matrix W = given("W"), V = given("V"), U = given("U");
    const Matrix F = given("F"), lambda = given("lambda"), scale = given("value_scale");
    if (W.empty()) {
      W.assign(D_ * D_, 0);
      const bool subtracts_tau = map_ == "softmax" && law_.noise > 0;  // n2
      for (size_t i = 0; i < law_.triggers.size(); ++i) {
        W[law_.triggers[i] * D_ + K_ + law_.triggers[i]] = lambda[i];
        if (subtracts_tau) W[law_.triggers[i] * D_ + K_ - 1] = -lambda[i];
      }
    }
    if (V.empty()) {
      V.assign(D_ * D_, 0);
      for (int64_t i = 0; i < D_; ++i) V[i * D_ + i] = scale[0];
    }
    if (U.empty()) {
      U.assign(K_ * D_, 0);
      for (int64_t j = 0; j < K_; ++j) U[j * D_ + j] = 1;
    }
    Number sum = 0;
    for (int64_t n = 0; n < prompts.count; ++n) sum += prompt_loss(W, V, U, F, prompts.row(n), prompts.label[n]);
    return sum / static_cast<long double>(prompts.count);
  }

 private:
  Number prompt_loss(const Matrix& W, const Matrix& V, const Matrix& U, const Matrix& F, std::span<const int32_t> z, int32_t label) const {
    const int64_t H = static_cast<int64_t>(z.size());
    const auto token = [&](int64_t h) {
      Matrix x(D_, 0);
      x[z[h]] += 1;
      if (h > 0) x[K_ + z[h - 1]] += 1;
      return x;
    };
    const Matrix x_H = token(H - 1);
    Matrix w(D_, 0), a(H), c(D_, 0);
    for (int64_t i = 0; i < D_; ++i)
      for (int64_t j = 0; j < D_; ++j) w[j] += x_H[i] * W[i * D_ + j];
    for (int64_t h = 0; h < H; ++h) a[h] = dot(w.data(), token(h).data(), D_);
    if (map_ == "relu")
      for (Number& s : a) s = s.real() >= 0 ? s : Number(0);
    if (map_ == "softmax") {
      Number total = 0;
      for (Number& s : a) total += s = std::exp(s);
      for (Number& s : a) s /= total;
    }
    for (int64_t h = 0; h < H; ++h) {
      const Matrix x = token(h);
      for (int64_t i = 0; i < D_; ++i) c[i] += a[h] * x[i];
    }
    Matrix phi(D_), g = x_H, o(D_);
    for (int64_t i = 0; i < D_; ++i) phi[i] = dot(&V[i * D_], c.data(), D_);
    for (int64_t i = 0; i < D_ && reads_; ++i) g[i] += phi[i];
    for (int64_t i = 0; i < D_; ++i) o[i] = phi[i] + (F.empty() ? Number(0) : dot(&F[i * D_], g.data(), D_));
    Number z_sum = 0, x_label = 0;
    for (int64_t j = 0; j < K_; ++j) {
      const Number x = dot(&U[j * D_], o.data(), D_);
      z_sum += std::exp(x);
      if (j == label) x_label = x;
    }
    return std::log(z_sum) - x_label;
  }

  const Model& model_;
  const RecallLaw& law_;
  int64_t K_, D_;
  std::string map_;
  bool reads_;
};

using Case = std::tuple<const char*, const char*, const char*, const char*>;
class ComplexStep : public ::testing::TestWithParam<Case> {};

TEST_P(ComplexStep, Gradient) {
  const auto& [variant, attention, feed_forward, noise] = GetParam();
  const std::string line = std::string("vocabulary=11 triggers=3 outputs=4 unseen_outputs=1 prompt_length=17 occurrences=3 variant=") + variant +
                           " attention=" + attention + " feed_forward=" + feed_forward + " noise=" + noise +
                           " train_value_scale=yes initialisation=gaussian";
  const auto task = recall_task(line);
  const auto model = model_of(*task, line);
  Random random(7, Purpose::weights, 98);
  for (double& x : model->mutable_parameters()) x += 0.3 * random.normal();
  Prompts prompts;
  task->sample(Split::train, 5, 0, 21, prompts);
  const Team team(1);
  std::vector<double> gradient(model->parameters().size());
  const Loss loss = model->loss_and_gradient(*model->compile(prompts, {}, team), team, gradient.data(), false);

  const Definition definition(*model, *task);
  std::vector<Number> parameters(model->parameters().begin(), model->parameters().end());
  EXPECT_NEAR(loss.loss, static_cast<double>(definition.loss(parameters, prompts).real()), 1e-13 * std::max(1.0, loss.loss));
  double largest = 0;
  for (double g : gradient) largest = std::max(largest, std::abs(g));
  const size_t stride = std::max<size_t>(1, gradient.size() / 61);
  for (size_t i = 0; i < gradient.size(); i += stride) {
    constexpr long double h = 1e-200L;
    parameters[i] += Number(0, h);
    const double exact = static_cast<double>(definition.loss(parameters, prompts).imag() / h);
    parameters[i] = parameters[i].real();
    EXPECT_NEAR(gradient[i], exact, 1e-12 * std::max(std::abs(exact), 0.01 * largest)) << "parameter " << i;
  }
}

std::string name_of(const ::testing::TestParamInfo<Case>& info) {
  const auto& [variant, attention, feed_forward, noise] = info.param;
  return std::string(variant) + "_" + attention + "_" + feed_forward + (noise[1] ? "_noisy" : "_noiseless");
}

INSTANTIATE_TEST_SUITE_P(All, ComplexStep,
                         ::testing::Combine(::testing::Values("w_free", "uv_free", "original"), ::testing::Values("linear", "relu", "softmax"),
                                            ::testing::Values("query", "query_and_attention"), ::testing::Values("0", "0.4")),
                         name_of);

// Prompts of many distinct tokens take lists in place of grids.
TEST(ComplexStep, Lists) {
  for (const char* attention : {"linear", "relu", "softmax"}) {
    const std::string line = std::string("vocabulary=40 triggers=2 outputs=3 unseen_outputs=0 prompt_length=30 occurrences=2 variant=original "
                                         "noise=0.3 initialisation=gaussian initial_scale=0.3 attention=") + attention;
    const auto task = recall_task(line);
    const auto model = model_of(*task, line);
    Prompts prompts;
    task->sample(Split::train, 5, 0, 5, prompts);
    const Team team(1);
    std::vector<double> gradient(model->parameters().size());
    model->loss_and_gradient(*model->compile(prompts, {}, team), team, gradient.data(), false);
    const Definition definition(*model, *task);
    std::vector<Number> parameters(model->parameters().begin(), model->parameters().end());
    double largest = 0;
    for (double g : gradient) largest = std::max(largest, std::abs(g));
    int checked = 0;
    for (size_t i = 0; i < gradient.size() && checked < 40; i += 101) {
      if (gradient[i] == 0) continue;
      ++checked;
      parameters[i] += Number(0, 1e-200L);
      const double exact = static_cast<double>(definition.loss(parameters, prompts).imag() / 1e-200L);
      parameters[i] = parameters[i].real();
      EXPECT_NEAR(gradient[i], exact, 1e-12 * std::max(std::abs(exact), 0.01 * largest)) << attention << " parameter " << i;
    }
    EXPECT_EQ(checked, 40);
  }
}

}  // namespace
}  // namespace lamina::tests
