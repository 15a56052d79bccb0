// What gradient descent conserves in in-context convergence (named F3 here and in the README: I1 to I4), by a program that knows
// nothing of features: Q dense [d, d], the features any orthonormal vectors of R^d, every prompt by the definition of the model. The
// engine, which keeps Q in the features' own basis and ties what symmetry keeps equal, is held to its trajectory.
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "base/random.hpp"
#include "support/runs.hpp"
#include "theory/feature_population.hpp"

namespace lamina::tests {
namespace {

constexpr const char* convergence = "in_context_convergence";
using Vector = std::vector<double>;

double dot(const double* a, const double* b, int d) { return std::inner_product(a, a + d, b, 0.0); }

// One weighted prompt: tokens, the query last; labels of all but the query, or none for the expectation over w ~ N(0, I).
struct Prompt {
  double weight;
  std::vector<int> tokens;
  Vector labels;
  double target = 0;
};

class Dense {
 public:
  Dense(int K, int d, bool masked, uint64_t seed) : K_(K), d_(d), masked_(masked), v_(static_cast<size_t>(K * d)), Q_(static_cast<size_t>(d * d), 0.0), step_(Q_) {
    Random random(seed, Purpose::weights, 0);
    for (int k = 0; k < K; ++k) {
      double* v = &v_[static_cast<size_t>(k * d)];
      for (int i = 0; i < d; ++i) v[i] = random.normal();
      for (int twice = 0; twice < 2; ++twice)
        for (int m = 0; m < k; ++m) {
          const double* u = feature(m);
          const double along = dot(u, v, d);
          for (int i = 0; i < d; ++i) v[i] -= along * u[i];
        }
      const double norm = std::sqrt(dot(v, v, d));
      for (int i = 0; i < d; ++i) v[i] /= norm;
    }
  }

  void descend(const std::vector<Prompt>& prompts, double eta) {
    std::ranges::fill(step_, 0.0);
    for (const Prompt& p : prompts) add(p);
    for (size_t i = 0; i < Q_.size(); ++i) Q_[i] += eta * step_[i];
  }

  double entry(int n, int k) const {  // v_n^T Q v_k
    double sum = 0;
    for (int i = 0; i < d_; ++i) sum += feature(n)[i] * dot(&Q_[static_cast<size_t>(i * d_)], feature(k), d_);
    return sum;
  }
  double largest() const {
    double most = 0;
    for (double q : Q_) most = std::max(most, std::abs(q));
    return most;
  }
  double column_sum() const {
    double most = 0;
    for (int k = 0; k < K_; ++k) {
      double sum = 0;
      for (int n = 0; n < K_; ++n) sum += entry(n, k);
      most = std::max(most, std::abs(sum));
    }
    return most;
  }
  double off_span() const {  // the largest entry of Q - V V^T Q V V^T
    Vector rest(Q_);
    for (int n = 0; n < K_; ++n)
      for (int k = 0; k < K_; ++k) {
        const double g = entry(n, k);
        for (int i = 0; i < d_; ++i)
          for (int j = 0; j < d_; ++j) rest[static_cast<size_t>(i * d_ + j)] -= g * feature(n)[i] * feature(k)[j];
      }
    double most = 0;
    for (double q : rest) most = std::max(most, std::abs(q));
    return most;
  }

 private:
  const double* feature(int k) const { return &v_[static_cast<size_t>(k * d_)]; }

  // Descent of half the squared error. Raw: -delta sum_i a_i (y_i - yhat) x_i x_q^T. With E w w^T = I, yhat = <w, m> where m is the
  // mean of the labelled keys, and delta = <w, m - x_q>: -sum_i a_i <x_i - m, m - x_q> x_i x_q^T. A query that is a key has label 0.
  void add(const Prompt& p) {
    const int keys = static_cast<int>(p.tokens.size()) - (masked_ ? 1 : 0), labelled = static_cast<int>(p.tokens.size()) - 1;
    const double* xq = feature(p.tokens.back());
    Vector Qx(static_cast<size_t>(d_)), a(static_cast<size_t>(keys)), mean(Qx.size(), 0.0), off(Qx.size()), along(Qx.size(), 0.0);
    for (int i = 0; i < d_; ++i) Qx[i] = dot(&Q_[static_cast<size_t>(i * d_)], xq, d_);
    double z = 0, yhat = 0;
    for (int j = 0; j < keys; ++j) z += a[j] = std::exp(dot(feature(p.tokens[j]), Qx.data(), d_));
    for (double& weight : a) weight /= z;
    const bool raw = !p.labels.empty();
    for (int j = 0; j < labelled; ++j) {
      if (raw) yhat += a[j] * p.labels[j];
      for (int i = 0; i < d_; ++i) mean[i] += a[j] * feature(p.tokens[j])[i];
    }
    for (int i = 0; i < d_; ++i) off[i] = mean[i] - xq[i];
    for (int j = 0; j < keys; ++j) {
      const double* x = feature(p.tokens[j]);
      const double own = j < labelled;
      const double slope = raw ? (yhat - p.target) * ((j < labelled ? p.labels[j] : 0) - yhat) : own * dot(x, off.data(), d_) - dot(mean.data(), off.data(), d_);
      for (int i = 0; i < d_; ++i) along[i] -= p.weight * a[j] * slope * x[i];
    }
    for (int i = 0; i < d_; ++i)
      for (int j = 0; j < d_; ++j) step_[static_cast<size_t>(i * d_ + j)] += along[i] * xq[j];
  }

  int K_, d_;
  bool masked_;
  Vector v_, Q_, step_;
};

void take(const Prompts& drawn, bool averaged, std::vector<Prompt>& out) {
  out.resize(static_cast<size_t>(drawn.count));
  for (int64_t i = 0; i < drawn.count; ++i) {
    const auto row = drawn.row(i);
    const auto y = drawn.values_of(i);
    Prompt& p = out[static_cast<size_t>(i)];
    p.weight = 1 / static_cast<double>(drawn.count);
    p.tokens.assign(row.begin(), row.end());
    p.labels.clear();
    if (!averaged) p.labels.assign(y.begin(), y.end() - 1), p.target = y.back();
  }
}

// Every multiset of N keys with every query, with its probability.
std::vector<Prompt> every_prompt(const FeatureLaw& law) {
  const int K = static_cast<int>(law.features), N = static_cast<int>(law.length);
  std::vector<Prompt> all;
  std::vector<int> tokens;
  const auto visit = [&](auto& self, int n, double probability) -> void {
    if (n == K) {
      if (static_cast<int>(tokens.size()) != N) return;
      for (int k = 0; k < K; ++k) {
        all.push_back({probability * std::tgamma(N + 1) * law.probability[static_cast<size_t>(k)], tokens, {}});
        all.back().tokens.push_back(k);
      }
      return;
    }
    const size_t before = tokens.size();
    double weight = probability;
    for (int c = 0; static_cast<int>(before) + c <= N; ++c) {
      self(self, n + 1, weight);
      weight *= law.probability[static_cast<size_t>(n)] / (c + 1);
      tokens.push_back(n);
    }
    tokens.resize(before);
  };
  visit(visit, 0, 1.0);
  return all;
}

double distance(const Dense& dense, const Experiment& run) {
  const auto& law = *run.trainer->task()->features();
  double most = 0;
  for (int n = 0; n < law.features; ++n)
    for (int k = 0; k < law.features; ++k)
      most = std::max(most, std::abs(dense.entry(n, k) - run.trainer->model().parameters()[static_cast<size_t>(n * law.dimension + k)]));
  return most;
}

// I1, I2 on samples, and the engine's trajectory: raw labels, labels averaged out, a fixed set.
TEST(F3, SampledDescentInAnyBasis) {
  constexpr int K = 6, d = 8, batch = 8, steps = 100000;
  for (const char* data : {"data=fresh batch=8 mask=no", "data=fresh batch=8", "data=averaged batch=8", "data=fixed samples=8"}) {
    const std::string line = std::string("features=6 dimension=8 prompt_length=7 step_size=0.5 ") + data;
    const Experiment run(line + " record_every=100000 probes=none steps=" + std::to_string(steps), convergence);
    const auto task = convergence_task("features=6 dimension=8 prompt_length=7");
    Dense dense(K, d, line.find("mask=no") == std::string::npos, 11);
    Prompts drawn;
    std::vector<Prompt> prompts;
    for (int t = 0; t < steps; ++t) {
      if (t == 0 || line.find("fixed") == std::string::npos) {
        task->sample(Split::train, 1, int64_t{t} * batch, batch, drawn);
        take(drawn, line.find("averaged") != std::string::npos, prompts);
      }
      dense.descend(prompts, 0.5);
    }
    const double scale = dense.largest();
    std::printf("%-28s largest entry %.3f, column sum %.1e, off the span %.1e, from the engine %.1e of it\n", data, scale, dense.column_sum() / scale,
                dense.off_span() / scale, distance(dense, run) / scale);
    EXPECT_GT(scale, 1) << data;
    EXPECT_LT(dense.column_sum(), 1e-12 * scale) << data;
    EXPECT_LT(dense.off_span(), 1e-12 * scale) << data;
    EXPECT_LT(distance(dense, run), 1e-12 * scale) << data;
  }
}

// I1, I2, I4 on the exact law, and the integral's trajectory: the features 1 and 2 are exchangeable.
TEST(F3, PopulationDescentInAnyBasis) {
  for (const char* mask : {"yes", "no"}) {
    const std::string law = std::string("features=3 dimension=5 prompt_length=5 dominant=0.5 mask=") + mask;
    const Experiment run(law + " record_every=100000 probes=none steps=100000", convergence);
    Dense dense(3, 5, mask[0] == 'y', 12);
    const std::vector<Prompt> all = every_prompt(*run.trainer->task()->features());
    double total = 0;
    for (const Prompt& p : all) total += p.weight;
    EXPECT_NEAR(total, 1, 1e-14);
    for (int t = 0; t < 100000; ++t) dense.descend(all, 1);
    const double scale = dense.largest(), symmetry = std::max({std::abs(dense.entry(1, 1) - dense.entry(2, 2)), std::abs(dense.entry(0, 1) - dense.entry(0, 2)),
                                                              std::abs(dense.entry(2, 1) - dense.entry(1, 2)), std::abs(dense.entry(1, 0) - dense.entry(2, 0))});
    std::printf("mask=%-3s largest entry %.3f, column sum %.1e, off the span %.1e, symmetry %.1e, from the engine %.1e of it\n", mask, scale,
                dense.column_sum() / scale, dense.off_span() / scale, symmetry / scale, distance(dense, run) / scale);
    EXPECT_LT(dense.column_sum(), 1e-12 * scale);
    EXPECT_LT(dense.off_span(), 1e-12 * scale);
    EXPECT_LT(symmetry, 1e-12 * scale);
    EXPECT_LT(distance(dense, run), 1e-12 * scale);
  }
}

// I4 by the integral with every entry a variable of its own, the features out of order; the tied run is the same trajectory.
TEST(F3, ExchangeableFeaturesWithEveryEntryFree) {
  for (const char* length : {"9", "inf"}) {
    const std::string law = std::string("features=4 feature_weights=1,1,4,1 prompt_length=") + length;
    const Experiment tied(law + " record_every=100000 probes=none steps=100000", convergence);
    FeaturePopulation free(*convergence_task(law)->features(), kernels::Map::softmax, *kernels::select(nullptr)->f64, false);
    ASSERT_EQ(free.variables(), 16);
    Vector x(16, 0.0), gradient(16), Q(16);
    const Team team(1);
    for (int t = 0; t < 100000; ++t) {
      free.loss_and_gradient(x.data(), gradient.data(), team);
      for (size_t i = 0; i < 16; ++i) x[i] -= gradient[i];
    }
    free.scatter(x.data(), Q.data(), 4);
    const auto at = [&](int n, int k) { return Q[static_cast<size_t>(4 * n + k)]; };
    double scale = 0, symmetry = 0, apart = 0;
    for (size_t i = 0; i < 16; ++i) scale = std::max(scale, std::abs(Q[i])), apart = std::max(apart, std::abs(Q[i] - tied.trainer->model().parameters()[i]));
    for (int k : {0, 1, 3}) {
      symmetry = std::max({symmetry, std::abs(at(k, k) - at(0, 0)), std::abs(at(2, k) - at(2, 0)), std::abs(at(k, 2) - at(0, 2))});
      for (int n : {0, 1, 3})
        if (n != k) symmetry = std::max(symmetry, std::abs(at(n, k) - at(1, 0)));
    }
    std::printf("N = %-3s largest entry %.3f, symmetry %.1e, tied from free %.1e of it\n", length, scale, symmetry / scale, apart / scale);
    EXPECT_LT(symmetry, 1e-12 * scale);
    EXPECT_LT(apart, 1e-12 * scale);
  }
}

// Samples know no symmetry: what the test above finds is not there by construction.
TEST(F3, SamplesBreakTheSymmetry) {
  const Experiment run("features=4 prompt_length=9 data=averaged batch=8 steps=1000 record_every=1000 probes=none", convergence);
  const Vector& Q = run.trainer->model().parameters();
  EXPECT_GT(std::abs(Q[0] - Q[5]), 1e-3);
}

// I3 on the exact law: column k of a run is the descent of that column alone at p_k eta, whatever the others begin and do.
TEST(F3, ColumnsOfALongRunDecouple) {
  const auto task = convergence_task("features=4 prompt_length=9 feature_law=zipf");
  const FeatureLaw& law = *task->features();
  FeaturePopulation form(law, kernels::Map::softmax, *kernels::select(nullptr)->f64, false);
  const auto end_of = [&](const Vector& start) {
    const auto model = trainer_of("features=4 prompt_length=9 feature_law=zipf", convergence)->model().clone();
    model->set_parameters(start);
    Trainer run(task, model.get(), options_of("steps=100000 record_every=100000 probes=none"));
    run.run(0);
    return run.model().parameters();
  };
  Vector one(16), other(16);
  for (int i = 0; i < 16; ++i) one[i] = 0.3 * std::sin(1.7 * i), other[i] = i % 4 == 2 ? one[i] : -0.7 * std::cos(2.3 * i);
  const Vector a = end_of(one), b = end_of(other);
  Vector alone{one[2], one[6], one[10], one[14]};
  for (int t = 0; t < 100000; ++t) {
    const ColumnValue value = form.column(2, alone);
    for (int n = 0; n < 4; ++n) alone[n] += law.probability[2] * value.descent[n];
  }
  for (int n = 0; n < 4; ++n) {
    EXPECT_EQ(a[4 * n + 2], b[4 * n + 2]) << n;
    EXPECT_NEAR(a[4 * n + 2], alone[n], 1e-12 * a[10]) << n;
    EXPECT_NE(a[4 * n + 1], b[4 * n + 1]);
  }
  EXPECT_GT(a[10], 2);
}

}  // namespace
}  // namespace lamina::tests
