// Figures of linear attention on linear regression in context (arXiv 2306.09927): limits of gradient flow, risks at other lengths and
// under shifts, random covariances. Expected numbers are those of an independent program.
#include <gtest/gtest.h>

#include "support/regression.hpp"

namespace lamina {
namespace {

using namespace tests;

std::shared_ptr<const Task> isotropic(int N) { return regression_task_of(options_of("prompt_length=" + std::to_string(N))); }

double largest_difference(const std::vector<double>& a, const std::vector<double>& b) {
  double most = 0;
  for (size_t i = 0; i < a.size(); ++i) most = std::max(most, std::abs(a[i] - b[i]));
  return most;
}

TEST(RegressionFigures, LimitOfTheIsotropicCase) {
  // d = 5: N = 20: U* = .586524 I, u* = 1.311508, L* = .57692308; N = 100: .649538, 1.452411, .14150943.
  const struct {
    int N;
    double U, u, loss;
  } figures[] = {{20, .586524, 1.311508, .57692308}, {100, .649538, 1.452411, .14150943}};
  for (const auto& f : figures) {
    const Experiment run("step_size=0.1 steps=200 prompt_length=" + std::to_string(f.N), "linear_regression");
    ASSERT_EQ(run.status, LAMINA_OK);
    EXPECT_NEAR(run.last("u"), f.u, 5e-7);
    EXPECT_NEAR(run.last("U_0"), f.U, 5e-7);
    EXPECT_NEAR(run.last("U_mixed"), 0, 1e-12);
    EXPECT_NEAR(run.last("loss"), f.loss, 5e-9);
    EXPECT_LT(run.last("excess"), 1e-16);
    EXPECT_NEAR(theory("regression_optimum", *isotropic(f.N), {}, 1)[0], f.loss, 5e-9);
    EXPECT_NEAR(theory("regression_optimum", *isotropic(f.N), {}, 1)[0], 5 * 6 / (2.0 * (f.N + 6)), 1e-15);  // d (d+1) / (2 (N+d+1))
  }
}

TEST(RegressionFigures, GradientDescentReachesTheSameLimit) {
  const Experiment run("optimiser=gd step_size=0.05 steps=2000", "linear_regression");
  EXPECT_NEAR(run.last("u"), 1.311508, 5e-7);
  EXPECT_NEAR(run.last("loss"), .57692308, 5e-9);
  EXPECT_LT(run.last("excess"), 1e-16);
}

TEST(RegressionFigures, ALossOfSamplesAtTheLimit) {
  // .5743 +- .0019 by Monte Carlo, .57692 exactly.
  const auto task = isotropic(20);
  const auto model = make_model(*task, Settings(model_options(), Options(), find_task("linear_regression").defaults));
  std::vector<double> start(26);
  start[0] = 1;
  for (size_t i = 0; i < 5; ++i) start[1 + 6 * i] = 1 / std::sqrt(5.0);
  model->set_parameters(theory("limit_matrices", *task, start, 26));
  const Team team(2);
  double sum = 0, squares = 0;
  for (int set = 0; set < 100; ++set) {
    Prompts prompts;
    task->sample(Split::test, 3, set * 4096, 4096, prompts);
    const double loss = model->measure(*model->compile(prompts, {}, team), team).loss.loss;
    sum += loss, squares += loss * loss;
  }
  const double mean = sum / 100, error = std::sqrt((squares / 100 - mean * mean) / 99);
  EXPECT_LT(std::abs(mean - .57692308), 3 * error);
  EXPECT_LT(error, .0019);
}

TEST(RegressionFigures, RiskAtOtherLengths) {
  const double lengths[] = {5, 10, 20, 100, 1000};
  const double five[] = {5.35600, 2.68601, 1.35101, .28302, .04272};
  const double three[] = {.81988, .48197, .31302, .17785, .14744}, three_sampled[] = {.8225, .4803, .3112, .1782, .1472},
               three_error[] = {.0085, .0041, .0026, .0004, .0007};
  const auto anisotropic = regression_task_of(regression_options("prompt_length=10", {1, .5, .25}, 3));
  for (int i = 0; i < 5; ++i) {
    EXPECT_NEAR(theory("risk_at_length", *isotropic(100), {lengths[i]}, 1)[0], five[i], 5e-6) << lengths[i];
    const double risk = theory("risk_at_length", *anisotropic, {lengths[i]}, 1)[0];
    EXPECT_NEAR(risk, three[i], 5e-6) << lengths[i];
    EXPECT_LT(std::abs(risk - three_sampled[i]), 3 * three_error[i]) << lengths[i];
  }
  // The same trained model on prompts of those lengths: its rows, drawn by the engine.
  Options options = regression_options("prompt_length=10 step_size=5 steps=40", {1, .5, .25}, 3);
  const auto trainer = regression_trainer(options);
  ASSERT_EQ(trainer->run(0), LAMINA_OK);
  const Team team(2);
  for (int i = 0; i < 4; ++i) {
    options.set("prompt_length", lengths[i]);
    const auto longer = regression_task_of(options);
    double sum = 0, squares = 0;
    for (int set = 0; set < 64; ++set) {
      Prompts prompts;
      longer->sample(Split::test, 8, set * 2048, 2048, prompts);
      const double risk = 2 * trainer->model().measure(*trainer->model().compile(prompts, {}, team), team).loss.loss;
      sum += risk, squares += risk * risk;
    }
    const double mean = sum / 64, error = std::sqrt((squares / 64 - mean * mean) / 63);
    EXPECT_LT(std::abs(mean - three[i]), 3 * error) << lengths[i];
    EXPECT_LT(error, 0.02 * three[i]);
  }
}

TEST(RegressionFigures, ShiftsOfQueryAreToleratedShiftsOfCovariatesAreNot) {
  const double scale[] = {.25, .5, 1, 2, 4}, covariates[] = {.7341, .7311, .2830, 10.000, 170.94}, query[] = {.0708, .1415, .2830, .5660, 1.1321};
  const auto task = isotropic(100);
  for (int i = 0; i < 5; ++i) {
    std::vector<double> arguments(6, scale[i]);
    arguments[0] = 100;
    EXPECT_NEAR(theory("covariate_shift_risk", *task, arguments, 1)[0], covariates[i], i < 3 ? 5e-5 : i == 3 ? 5e-4 : 5e-3) << scale[i];
    EXPECT_NEAR(theory("query_shift_risk", *task, arguments, 1)[0], query[i], 5e-5) << scale[i];
  }
  // Of one task w: |w|^2 / d of the mean risk for an isotropic law.
  EXPECT_NEAR(theory("task_shift_risk", *task, {100, 3, 0, 0, 0, 0}, 1)[0], 9 * .28302 / 5, 5e-5);
}

TEST(RegressionFigures, RandomCovariancesReachTheLimitMatrices) {
  // Gradient flow, condition numbers up to 30, rotations: u* = tr(Gamma^-2)^(1/4), U* = Gamma^-1 / u* to 1e-8; u^2 - |U|^2 to 1e-10.
  std::mt19937_64 random(6);
  for (int trial = 0; trial < 8; ++trial) {
    const size_t d = 2 + static_cast<size_t>(trial) % 6;
    const double condition = trial < 3 ? 30 : 2 + 3 * trial;
    const int N = 5 + 9 * trial;
    const Matrix L = rotated(spectrum(d, condition, random), random), inverse_gamma = inverse(gamma_of(L, d, N), d);
    double squares = 0;
    for (double entry : inverse_gamma) squares += entry * entry;
    // The slowest mode decays as exp(-u*^2 Gamma l^2 t) with l = 1 / condition and Gamma > 1 / N.
    const double time = 40 * condition * condition * N / std::sqrt(squares) / (1 + N / condition);
    const Options options = regression_options("initialisation=gaussian relative_tolerance=1e-12 steps=20 step_size=" + std::to_string(time / 20) +
                                                   " prompt_length=" + std::to_string(N) + " seed=" + std::to_string(trial + 1),
                                               L, static_cast<int64_t>(d));
    const auto trainer = regression_trainer(options);
    ASSERT_EQ(trainer->run(0), LAMINA_OK);
    std::vector<double> limit{std::pow(squares, 0.25)};
    for (double entry : inverse_gamma) limit.push_back(entry / limit[0]);
    EXPECT_LT(largest_difference(trainer->model().parameters(), limit), 1e-8) << "condition " << condition << ", d " << d;
    const auto table = trainer->trajectory();
    int64_t column = 0;
    while (table->columns()[static_cast<size_t>(column)].name != "conserved") ++column;
    for (int64_t row = 0; row < table->rows(); ++row)
      EXPECT_NEAR(table->at(row, column), 0, 1e-10) << row;
  }
}

TEST(RegressionFigures, LimitFromAnyStartFollowsFromWhatIsConserved) {
  // Away from u^2 = |U|^2: a host's model that starts elsewhere.
  std::mt19937_64 random(7);
  const Matrix L = rotated(spectrum(4, 10, random), random);
  const Options options = regression_options("step_size=500 steps=20 relative_tolerance=1e-12", L, 4);
  const auto task = regression_task_of(options);
  for (const double u : {0.1, 0.5, 4.0}) {
    const auto model = make_model(*task, Settings(model_options(), options, find_task("linear_regression").defaults));
    std::vector<double> start = model->parameters();
    start[0] = u;
    model->set_parameters(start);
    Trainer trainer(task, model.get(), options);
    ASSERT_EQ(trainer.run(0), LAMINA_OK);
    EXPECT_LT(largest_difference(trainer.model().parameters(), theory("limit_matrices", *task, start, start.size())), 1e-8) << u;
  }
}

TEST(RegressionFigures, EveryEntryFreeFlowsAlongTheBlocksToTheSameLimit) {
  // variant=original from the start of the paper: the blocks' course, and 0 elsewhere at every step, for every integrator.
  std::mt19937_64 random(9);
  for (const std::string line : {"steps=20 step_size=400 relative_tolerance=1e-12", "optimiser=gd steps=2000 step_size=0.1",
                                 "covariance_law=exponential steps=20 step_size=200 relative_tolerance=1e-12"}) {
    const Matrix L = rotated(spectrum(4, 10, random), random);
    const Options common = regression_options(line + " prompt_length=15 initialisation=gaussian variant=full", L, 4);
    Options literal = common;
    literal.set("variant", "original");
    const auto blocks = regression_trainer(common), every = regression_trainer(literal);
    ASSERT_EQ(blocks->run(0), LAMINA_OK);
    ASSERT_EQ(every->run(0), LAMINA_OK);
    const std::vector<double>&x = blocks->model().parameters(), &X = every->model().parameters();
    for (size_t i = 0; i < 5; ++i)
      for (size_t j = 0; j < 5; ++j) {
        EXPECT_NEAR(X[i * 5 + j], i == 4 && j == 4 ? x[0] : 0, i == 4 && j == 4 ? 1e-10 : 0);
        EXPECT_NEAR(X[25 + i * 5 + j], i < 4 && j < 4 ? x[1 + i * 4 + j] : 0, i < 4 && j < 4 ? 1e-10 : 0);
      }
    const auto limit = theory("limit_matrices", *blocks->task(), x, x.size());
    if (line.find("gd") == std::string::npos) {
      EXPECT_LT(largest_difference(x, limit), 1e-8) << line;
    }
  }
}

TEST(RegressionFigures, FlowFromOffTheBlocksReturnsToThem) {
  // The prediction is a product of p = (a, b) and K = (U; v): the flow conserves |p|^2 - |K|^2, which fixes u in the limit.
  std::mt19937_64 random(10);
  std::normal_distribution<double> normal;
  const std::string line = "variant=original step_size=100 steps=60 prompt_length=12 relative_tolerance=1e-12 initialisation=gaussian";
  const Options options = regression_options(line, rotated(spectrum(3, 5, random), random), 3);
  const auto task = regression_task_of(options);
  for (int trial = 0; trial < 4; ++trial) {
    const auto model = make_model(*task, Settings(model_options(), options, find_task("linear_regression").defaults));
    std::vector<double> start = model->parameters();
    for (double& entry : start) entry += 0.3 * normal(random);
    model->set_parameters(start);
    Trainer trainer(task, model.get(), options);
    ASSERT_EQ(trainer.run(0), LAMINA_OK);
    const auto table = trainer.trajectory();
    int64_t column = 0;
    while (table->columns()[static_cast<size_t>(column)].name != "conserved") ++column;
    const double conserved = table->at(0, column);
    for (int64_t row = 0; row < table->rows(); ++row) EXPECT_NEAR(table->at(row, column), conserved, 1e-9) << row;
    const std::vector<double>& X = trainer.model().parameters();
    std::vector<double> from{X[15]};  // blocks with that conserved number
    for (size_t i = 0; i < 3; ++i) from.insert(from.end(), &X[16 + 4 * i], &X[16 + 4 * i] + 3);
    const std::vector<double> limit = theory("limit_matrices", *task, from, from.size());
    EXPECT_LT(largest_difference(from, limit), 1e-8);
    EXPECT_NEAR(theory("conserved_quantity", *task, limit, 1)[0], conserved, 1e-8);
    for (size_t i = 0; i < 32; ++i) {
      const bool other = i < 12 || (i >= 16 && i % 4 == 3);  // no part in the prediction: never moved
      if (other) {
        EXPECT_EQ(X[i], start[i]);
      } else if ((i > 11 && i < 15) || i > 27) {
        EXPECT_NEAR(X[i], 0, 1e-8) << i;
      }
    }
  }
}

TEST(RegressionFigures, CovariancesOfTheirOwnLeaveAnError) {
  // i.i.d. Exp(1) eigenvalues, N -> infinity: u U -> 1/3, E(yhat - y)^2 -> d/3.
  for (const int d : {1, 5, 20}) {
    const Experiment run("covariance_law=exponential prompt_length=inf step_size=0.5 steps=400 record_every=400 dimension=" + std::to_string(d),
                         "linear_regression");
    EXPECT_NEAR(run.last("u") * run.last("U_0"), 1.0 / 3, 1e-9);
    EXPECT_NEAR(run.last("risk"), d / 3.0, 1e-9);
  }
  // Finite N: u U = (E Gamma Lambda^2)^-1 E Lambda^2, here by moments of Exp(1): 2 / (6 (1 + 1/N) + (6 + 2 (d - 1)) / N).
  const Experiment run("covariance_law=exponential prompt_length=40 step_size=0.5 steps=400 record_every=400", "linear_regression");
  EXPECT_NEAR(run.last("u") * run.last("U_0"), 2 / (6 * 41.0 / 40 + 14.0 / 40), 1e-9);
}

TEST(RegressionFigures, IsotropicFlowIsLogistic) {
  for (const std::string line : {"dimension=5 prompt_length=20", "dimension=2 prompt_length=3 covariance=0.5,0.5 step_size=0.04",
                                 "dimension=9 prompt_length=inf initial_scale=0.05"}) {
    const Experiment run(line + " relative_tolerance=1e-12 steps=300", "linear_regression");
    for (int64_t row = 0; row < run.table->rows(); ++row) {
      const auto distance = [&](const char* name) { return std::sqrt(run.table->at(row, run.column(name))); };
      EXPECT_NEAR(distance("excess"), distance("predicted"), 1e-10) << line << " " << row;
    }
  }
}

TEST(RegressionFigures, SampledDescentEndsNearTheLimit) {
  // The product u U decides; noise moves the balance of its factors.
  const Experiment fresh("data=fresh optimiser=sgd batch=1024 step_size=0.05 steps=300 record_every=300", "linear_regression");
  EXPECT_NEAR(fresh.last("u") * fresh.last("U_0"), 1 / 1.3, 0.03);
  EXPECT_NEAR(fresh.last("risk"), 2 * .57692308, 0.01);
  const Experiment fixed("data=fixed optimiser=flow samples=10000 step_size=0.2 steps=50 record_every=50", "linear_regression");
  EXPECT_NEAR(fixed.last("u") * fixed.last("U_0"), 1 / 1.3, 0.05);
  EXPECT_NEAR(fixed.last("risk"), 2 * .57692308, 0.02);
}

}  // namespace
}  // namespace lamina
