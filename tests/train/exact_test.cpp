// The probe population of sampled runs: the exact law's loss and excess at the parameters of every row, by theory; what may wait for
// them; and the infimum, computed once a task.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <thread>

#include "support/runs.hpp"
#include "theory/feature_population.hpp"
#include "theory/regression_population.hpp"
#include "theory/rotation_population.hpp"

namespace lamina::tests {
namespace {

constexpr const char* convergence = "in_context_convergence";

double column_of(const Trajectory& table, const std::string& name, int64_t row) {
  for (size_t c = 0; c < table.columns().size(); ++c)
    if (table.columns()[c].name == name) return table.at(row, static_cast<int64_t>(c));
  throw std::runtime_error("no column " + name);
}

struct Sampled {
  const char *task, *line;
};
const Sampled runs[] = {
    {convergence, "features=6 prompt_length=20 dominant=0.4 data=fresh batch=16 step_size=2 steps=12"},
    {convergence, "features=5 prompt_length=9 feature_law=zipf data=averaged batch=8 mask=no step_size=2 steps=12"},
    {convergence, "features=4 prompt_length=30 attention=relu data=fixed samples=50 optimiser=sgd batch=10 step_size=1 steps=12"},
    {convergence, "features=4 prompt_length=30 attention=linear data=fixed samples=50 step_size=1 steps=12"},
    {"linear_regression", "dimension=3 prompt_length=8 covariance=1,2,0.5 data=fresh batch=16 optimiser=sgd step_size=0.02 steps=12"},
    {"linear_regression",
     "dimension=3 prompt_length=8 variant=original covariance_law=exponential data=fresh batch=16 optimiser=adam step_size=0.02 steps=12"},
    {"mesa_optimisation", "dimension=3 prompt_length=12 data=fresh batch=16 optimiser=sgd step_size=1e-3 steps=12"},
    {"mesa_optimisation", "dimension=2 prompt_length=10 variant=original data=fresh batch=16 optimiser=sgd step_size=1e-3 steps=12"},
};

// Half the mean squared error of `count` prompts of the test split, and its standard error; of rotating sequences summed over time.
std::pair<double, double> sample_loss(const Model& model, const Task& task, int64_t count) {
  double sum = 0, squares = 0;
  const int64_t batches = 100;
  const Team team(1);
  for (int64_t b = 0; b < batches; ++b) {
    Prompts prompts;
    task.sample(Split::test, 77, b * (count / batches), count / batches, prompts);
    const double loss = model.measure(*model.compile(prompts, {}, team), team).loss.loss;
    sum += loss, squares += loss * loss;
  }
  const double mean = sum / batches;
  return {mean, std::sqrt((squares / batches - mean * mean) / (batches - 1))};
}

// The theory's own words: sum_k p_k L_k of the columns; the regression's and the blocks' forms.
double theory_loss(const Task& task, const Model& model) {
  const std::vector<double>& x = model.parameters();
  if (const FeatureLaw* law = task.features()) {
    FeaturePopulation form(*law, attention_map(model.settings()), *model.isa().f64, false);
    double loss = 0;
    for (int64_t k = 0; k < law->features; ++k) {
      std::vector<double> logits;
      for (int64_t n = 0; n < law->features; ++n) logits.push_back(x[n * law->dimension + k]);
      loss += law->probability[k] * form.column(k, logits).loss;
    }
    return loss;
  }
  if (const RegressionLaw* law = task.regression()) {
    const RegressionPopulation form(*law, law->length, *model.isa().f64);
    return (model.has_tensor("u") ? form.loss_and_gradient(x, nullptr) : form.literal_loss_and_gradient(x, nullptr)).loss;
  }
  const RotationPopulation form(*task.rotation());
  return model.has_tensor("a") ? form.infimum + form.excess(x[0] * x[1]) : std::nan("");
}

double least_loss(const Task& task, const Model& model) {
  if (const FeatureLaw* law = task.features()) return infimum_of(*law, attention_map(model.settings()));
  if (const RegressionLaw* law = task.regression()) return RegressionPopulation(*law, law->length, *model.isa().f64).infimum();
  return RotationPopulation(*task.rotation()).infimum;
}

TEST(Exact, SampledRunsRecordTheLawAtTheirParameters) {
  for (const auto& [name, line] : runs) {
    const auto run = trainer_of(std::string(line) + " probes=default,population", name);
    double farthest = 0;
    while (run->step() < 12) {
      run->run(3);
      const auto table = run->trajectory();
      const int64_t row = table->rows() - 1;
      const double loss = column_of(*table, "population_loss", row), excess = column_of(*table, "population_excess", row);
      const double theory = theory_loss(*run->task(), run->model());
      if (!std::isnan(theory)) {
        EXPECT_NEAR(loss, theory, 1e-13 * theory) << line;
      }
      EXPECT_NEAR(excess, loss - least_loss(*run->task(), run->model()), 1e-12 * loss) << line;
      EXPECT_GE(excess, 0) << line;
      farthest = std::max(farthest, std::abs(loss / column_of(*table, "loss", row) - 1));
    }
    const auto [mean, error] = sample_loss(run->model(), *run->task(), 20000);
    const auto table = run->trajectory();
    EXPECT_NEAR(column_of(*table, "population_loss", table->rows() - 1), mean, 4.5 * error) << line;
    EXPECT_GT(farthest, 0.01) << line;  // the batch's is another number
    EXPECT_LT(error, 0.03 * mean) << line;
  }
}

TEST(Exact, PopulationRunsHaveTheirOwnLossThere) {
  for (const auto& [name, line] : {std::pair(convergence, "features=6 prompt_length=20 dominant=0.4 steps=20"),
                                   std::pair(convergence, "features=6 prompt_length=20 attention=linear steps=20"),
                                   std::pair("linear_regression", "steps=5"), std::pair("mesa_optimisation", "steps=5")}) {
    const Experiment run(std::string(line) + " probes=population", name);
    for (int64_t r = 0; r < run.table->rows(); ++r)
      for (const char* column : {"loss", "excess"})
        EXPECT_EQ(run.table->at(r, run.column(std::string("population_") + column)), run.table->at(r, run.column(column))) << line;
  }
}

// Neither threads, nor chunks and files, nor what else is watched change a bit.
TEST(Exact, TheBitsAreThoseOfOneThread) {
  const std::string path = "exact_test_" + std::to_string(getpid()) + ".safetensors";
  for (const auto& [name, line] : runs) {
    const std::string all = std::string(line) + " probes=population", crossings = " crossings=population_loss=0.3,population_excess=0.1";
    const Experiment one(all, name), three(all + " threads=3", name), watching(all + crossings, name);
    EXPECT_EQ(one.table->values(), three.table->values()) << line;
    EXPECT_EQ(one.table->values(), watching.table->values()) << line;
    auto parts = trainer_of(all + crossings, name);
    for (const int64_t steps : {1, 2, 4, 0}) {
      parts->run(steps);
      parts->save(path);
      parts = Trainer::load(path, nullptr);
    }
    EXPECT_EQ(one.table->values(), parts->trajectory()->values()) << line;
  }
  unlink(path.c_str());
}

// The first step of a table of every step, not that of the batches; the run ends there once.
TEST(Exact, StopsAtTheCrossingsOfTheLaw) {
  const std::string line = "features=6 prompt_length=20 data=fresh batch=16 step_size=5 steps=200 probes=population ";
  const Experiment every(line, convergence);
  const auto first = [&](const char* column, double value) {
    return every.first_step([&](int64_t r) { return every.table->at(r, every.column(column)) <= value; });
  };
  const int64_t at_half = first("population_excess", 0.2), at = first("population_excess", 0.05);
  ASSERT_GT(at_half, 0);
  ASSERT_GT(at, at_half);
  EXPECT_LT(first("excess", 0.05), at);  // by the noise of 16 prompts
  const std::string path = "exact_test_" + std::to_string(getpid()) + ".safetensors";
  const std::string wish = "record_every=1000 crossings=population_excess=0.05,population_excess=0.2 stop_at_crossings=yes";
  const auto run = trainer_of(line + wish, convergence);
  EXPECT_EQ(run->run(0), LAMINA_TARGET_REACHED);
  EXPECT_EQ(run->step(), at);
  EXPECT_EQ(run->crossings()[0].step, at);
  EXPECT_EQ(run->crossings()[1].step, at_half);
  EXPECT_EQ(run->trajectory()->rows(), 3);
  run->save(path);
  EXPECT_EQ(Trainer::load(path, nullptr)->run(0), LAMINA_OK);
  unlink(path.c_str());
  EXPECT_EQ(run->run(0), LAMINA_OK);
  EXPECT_EQ(run->model().parameters(), every.trainer->model().parameters());
  EXPECT_THROW(trainer_of(line + "stop_at_crossings=yes", convergence), Error);
}

// A stop that falls on the step at which the run ends anyway does not make it go on.
TEST(Exact, AStopAtTheLastCrossingIsTheEnd) {
  const auto run = trainer_of("features=6 prompt_length=20 steps=200 crossings=loss=0.4 stop_at_crossings=yes", convergence);
  run->on_progress([&](const Progress&) { return run->crossings()[0].step < 0; }, 0);
  EXPECT_EQ(run->run(0), LAMINA_TARGET_REACHED);
  EXPECT_EQ(run->step(), run->crossings()[0].step);
}

// What is recorded last of a run that leaves the numbers is a row like any.
TEST(Exact, DivergedRunsKeepTheirRows) {
  const std::string linear = "features=4 prompt_length=9 attention=linear data=fresh batch=8 step_size=1e6 steps=99";
  for (const auto& [name, line] : {std::pair(convergence, linear.c_str()),
                                   std::pair("linear_regression", "data=fresh batch=8 optimiser=sgd step_size=1e3 steps=60"),
                                   std::pair("mesa_optimisation", "data=fresh batch=8 optimiser=sgd step_size=1e3 steps=60")}) {
    const Experiment run(std::string(line) + " probes=population", name);
    EXPECT_EQ(run.status, LAMINA_DIVERGED) << line;
    EXPECT_FALSE(std::isfinite(run.last("population_loss"))) << line;
    EXPECT_TRUE(std::isfinite(run.at(0, "population_loss"))) << line;
  }
}

TEST(Exact, ColumnsOfBatchesSaySo) {
  const auto definition = [](const std::string& data) {
    const std::vector<Column> columns = trainer_of("features=4 prompt_length=9 samples=20 " + data, convergence)->trajectory()->columns();
    return columns[1].definition.find("batch") != std::string::npos && columns[2].definition.find("batch") != std::string::npos;
  };
  EXPECT_TRUE(definition("data=fresh"));
  EXPECT_TRUE(definition("data=averaged"));
  EXPECT_TRUE(definition("data=fixed batch=5"));
  EXPECT_FALSE(definition("data=fixed"));
  EXPECT_FALSE(definition("data=population"));
}

TEST(Infimum, IsComputedWhenFirstAskedForAndOnceATask) {
  const auto softmax = static_cast<int>(kernels::Map::softmax);
  const std::string line = "features=5 prompt_length=9 feature_law=zipf steps=1 probes=population data=fresh batch=4";
  const auto task = convergence_task(line);
  const auto first = std::make_unique<Trainer>(task, nullptr, options_of(line)),
             second = std::make_unique<Trainer>(task, nullptr, options_of(line));
  // Nothing was computed yet, or this would not be what is kept.
  EXPECT_EQ(task->kept(softmax, [] { return 0.125; }), 0.125);
  for (const auto& run : {&first, &second}) {
    (*run)->run(0);
    const auto table = (*run)->trajectory();
    for (const std::string prefix : {"", "population_"})
      EXPECT_EQ(column_of(*table, prefix + "excess", 0), column_of(*table, prefix + "loss", 0) - 0.125);
  }
}

TEST(Infimum, KeptNumbersAreComputedOnceByAllThreads) {
  const auto task = convergence_task("features=3");
  std::atomic<int> calls = 0;
  EXPECT_THROW(task->kept(7, []() -> double { throw std::runtime_error("no"); }), std::runtime_error);
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i)
    threads.emplace_back([&] {
      EXPECT_EQ(task->kept(7, [&] { return static_cast<double>(++calls); }), 1);
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(task->kept(8, [] { return 8.0; }), 8);
}

}  // namespace
}  // namespace lamina::tests
