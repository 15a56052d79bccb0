// What gradient descent conserves in in-context convergence (named F3 here and in the README: I1 to I4), whatever it descends; and
// what samples do (F19, F20).
#include <gtest/gtest.h>

#include <cmath>

#include "support/runs.hpp"
#include "theory/feature_population.hpp"

namespace lamina::tests {
namespace {

constexpr const char* convergence = "in_context_convergence";

double largest_entry(const Experiment& run) {
  double largest = 0;
  for (double q : run.trainer->model().parameters()) largest = std::max(largest, std::abs(q));
  return largest;
}

// I1, I2 after 1e5 steps: raw labels, labels averaged out, a fixed set, minibatches of it, momentum.
TEST(F3, ColumnSumsOfSampledDescentAfterHundredThousandSteps) {
  for (const char* data : {"data=fresh batch=8", "data=averaged batch=8", "data=fixed samples=40", "data=fixed samples=300",
                           "data=fixed samples=64 batch=16", "data=fresh batch=8 optimiser=momentum step_size=0.1"}) {
    const Experiment run(
        std::string("features=6 dimension=8 prompt_length=12 steps=100000 record_every=100000 probes=invariants ") + data,
        convergence);
    EXPECT_EQ(run.status, LAMINA_OK);
    EXPECT_LT(run.last("column_sum"), 1e-12 * largest_entry(run)) << data;
    EXPECT_EQ(run.last("off_span"), 0) << data;
  }
}

TEST(F3, AdamBreaksTheColumnSumsOfSamplesToo) {
  for (const char* data : {"data=fresh batch=64", "data=fixed samples=300"}) {
    const Experiment run(std::string("features=6 dimension=8 prompt_length=12 steps=200 optimiser=adam step_size=0.05 dominant=0.5 "
                                     "probes=invariants record_every=200 ") +
                             data,
                         convergence);
    EXPECT_GT(run.last("column_sum"), 1e-3 * largest_entry(run)) << data;
  }
}

// I3: the gradient's column k is a function of column k of Q alone, bit for bit.
TEST(F3, ColumnsDecouple) {
  const std::string law = "features=6 dimension=6 prompt_length=15 dominant=0.4 samples=200 batch=200 ";
  for (const std::string data : {"data=population", "data=averaged", "data=fresh", "data=fixed"})
    for (const char* attention : {"softmax", "linear", "relu"}) {
      const std::string line = law + data + " attention=" + attention;
      const auto task = convergence_task(line);
      const auto trainer = trainer_of(line, convergence);
      const auto model = trainer->model().clone();
      std::vector<double> one(36), other(36);
      for (int i = 0; i < 36; ++i) one[i] = 0.3 * std::sin(1.7 * i), other[i] = i % 6 == 2 ? one[i] : -0.2 * std::cos(2.3 * i);
      const Options options = options_of(line + " steps=1 step_size=1 optimiser=gd probes=none");
      const auto moved = [&](const std::vector<double>& from) {
        model->set_parameters(from);
        Trainer run(task, model.get(), options);
        run.run(0);
        return run.model().parameters();
      };
      const auto a = moved(one), b = moved(other);
      double change = 0;
      for (int n = 0; n < 6; ++n) {
        EXPECT_EQ(a[6 * n + 2], b[6 * n + 2]) << line << " key " << n;
        change = std::max(change, std::abs(a[6 * n + 2] - one[6 * n + 2]));
      }
      EXPECT_GT(change, 1e-6) << line;
    }
}

// Step t of a run on fresh prompts descends prompts t B .. (t + 1) B - 1 of the seed, however many threads draw them.
TEST(F19, FreshPromptsAreNumberedOn) {
  constexpr int64_t batch = 160;
  for (const std::string data : {"data=fresh", "data=averaged"})
    for (const char* threads : {"1", "2"}) {
      const std::string law = "features=6 dimension=8 prompt_length=9 dominant=0.5 ";
      const Experiment run(law + data + " batch=160 step_size=2 steps=5 probes=none seed=3 threads=" + threads, convergence);
      const auto model = run.trainer->model().clone();
      std::vector<double> Q(64, 0.0), gradient(64);
      const Team team(1);
      for (int t = 0; t <= 5; ++t) {
        Prompts prompts;
        run.trainer->task()->sample(Split::train, 3, t * batch, batch, prompts);
        if (data == "data=averaged") prompts.values.clear();
        model->set_parameters(Q);
        EXPECT_EQ(run.at(t, "loss"), model->loss_and_gradient(*model->compile(prompts, {}, team), team, gradient.data(), false).loss) << data << " " << t;
        if (t < 5)
          for (size_t i = 0; i < 64; ++i) Q[i] -= 2 * gradient[i];
      }
      EXPECT_EQ(run.trainer->model().parameters(), Q) << data << " threads=" << threads;
    }
}

// The largest error of an entry falls as the inverse root of the batch: means over seeds.
TEST(F19, ErrorOfSampledDescent) {
  const std::string law = "features=6 dimension=8 prompt_length=60 dominant=0.5 step_size=4 steps=200 record_every=200 probes=none ";
  const Experiment exact(law, convergence);
  const auto mean_error = [&](const std::string& data) {
    double sum = 0;
    for (int seed = 1; seed <= 3; ++seed) {
      const Experiment run(law + data + " seed=" + std::to_string(seed), convergence);
      double largest = 0;
      for (size_t i = 0; i < 64; ++i)
        largest = std::max(largest, std::abs(run.trainer->model().parameters()[i] - exact.trainer->model().parameters()[i]));
      sum += largest / 3;
    }
    return sum;
  };
  const double many = mean_error("data=fresh batch=4096"), few = mean_error("data=fresh batch=256");
  EXPECT_NEAR(many, 0.0125, 0.004);
  EXPECT_NEAR(few / many, 4, 1);
}

// Cancellation: 1 - 2 E a + E sum a^2 is below 1e-14 where the loss itself still has all its digits.
TEST(Traps, LossNearConvergenceKeepsItsDigits) {
  const auto task = convergence_task("features=10 prompt_length=inf");
  FeaturePopulation form(*task->features(), kernels::Map::softmax, *kernels::select(nullptr)->f64, true);
  for (const double A : {10.0, 20.0, 40.0, 80.0, 160.0}) {
    std::vector<double> q(10, -A / 9);
    q[3] = A;
    const double others = std::exp(-A - A / 9);  // e^B / e^A
    const double lacks = 9 * others / (1 + 9 * others), want = 0.5 * (lacks * lacks + lacks * lacks / 9);
    const ColumnValue value = form.column(3, q);
    EXPECT_NEAR(value.loss / want, 1, 1e-12) << A;
    EXPECT_NEAR(value.descent[3] / ((1 - lacks) * 2 * want), 1, 1e-12) << A;
  }
}

// Normalised gradients do not underflow: far from the start of a run the gradient is tiny, and its direction is exact.
TEST(Traps, NormalisedDescentAtTinyGradients) {
  const auto task = convergence_task("features=10 prompt_length=inf");
  const auto trainer = trainer_of("features=10 prompt_length=inf", convergence);
  const auto model = trainer->model().clone();
  std::vector<double> Q(100, -5.0);
  for (int k = 0; k < 10; ++k) Q[11 * k] = 45.0;
  model->set_parameters(Q);
  Trainer run(task, model.get(), options_of("optimiser=ngd step_size=0.1 steps=1 probes=none"));
  EXPECT_EQ(run.run(0), LAMINA_GRADIENT_VANISHED);  // 1e-43: below 1e-30
  for (double& q : Q) q *= 0.6;
  model->set_parameters(Q);
  Trainer near(task, model.get(), options_of("optimiser=ngd step_size=0.1 steps=1 probes=none"));
  EXPECT_EQ(near.run(0), LAMINA_OK);
  const double move = 0.1 / std::sqrt(10 * (1 + 1.0 / 9));  // all columns alike: A by move, each B by -move / 9
  EXPECT_NEAR(near.model().parameters()[0], 27 + move, 1e-12);
  EXPECT_NEAR(near.model().parameters()[1], -3 - move / 9, 1e-12);
}

// At a finite length the loss stays at its floor while the gradient falls below any part of it that double could lose: the course of
// normalised descent is still that of the largest entries alone, until the gradient vanishes. Balanced: B = -A / (K - 1), or -A by signs.
TEST(Traps, NormalisedDescentNearTheFloor) {
  for (const char* norm : {"l2", "l1", "sign"})
    for (const char* features : {"2", "10"})
      for (const char* length : {"5", "20", "50"})
        for (const char* mask : {"yes", "no"}) {
          const std::string law = std::string("features=") + features + " prompt_length=" + length + " mask=" + mask;
          const std::string line = law + " normalisation=" + norm;
          const Experiment run(line + " optimiser=ngd step_size=1 steps=200 record_every=20 probes=weights,invariants", convergence);
          EXPECT_TRUE(run.status == LAMINA_OK || run.status == LAMINA_GRADIENT_VANISHED) << line;
          const double others = norm[0] == 's' ? 1 : features[0] == '2' ? 1 : 9, last = run.last("A_0");
          EXPECT_GT(last, 10) << line;
          for (int64_t r = 0; r < run.table->rows(); ++r) {
            const double A = run.table->at(r, run.column("A_0")), B = run.table->at(r, run.column("B_0_1"));
            EXPECT_NEAR(B, -A / others, 1e-12 * last) << line << ", row " << r;
            if (norm[0] != 's') {
              EXPECT_LT(run.table->at(r, run.column("column_sum")), 1e-11) << line << ", row " << r;
            }
          }
        }
  // Other laws end about the floor's finite differences of B, step by step to and fro, their sums still 0.
  for (const char* law : {"dominant=0.5", "feature_law=zipf", "dominant=0.4 mask=no",
                          "second_moments=4,1,0,1,0,1,4,0,1,0,0,0,4,1,1,1,1,1,4,0,0,0,1,0,4"})
    for (const char* norm : {"l2", "l1"}) {
      const std::string line = std::string("features=5 prompt_length=20 ") + law + " normalisation=" + norm;
      const Experiment run(line + " optimiser=ngd step_size=1 steps=200 record_every=20 probes=weights,invariants", convergence);
      for (int64_t r = 0; r < run.table->rows(); ++r) EXPECT_LT(run.table->at(r, run.column("column_sum")), 1e-11) << line << ", row " << r;
    }
}

}  // namespace
}  // namespace lamina::tests
