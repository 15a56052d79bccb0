// What is recorded besides every so many steps: log-spaced steps, crossings; and the rules that end a run: exact against a run
// that records every step, alike in chunks and after a resume.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>

#include "optimiser/optimiser.hpp"
#include "support/runs.hpp"

namespace lamina::tests {
namespace {

const std::string small =
    "vocabulary=20 triggers=3 outputs=6 unseen_outputs=3 prompt_length=40 samples=300 evaluation_samples=100 ";
const std::string balanced = "features=10 prompt_length=50 ";
constexpr const char* convergence = "in_context_convergence";

std::vector<int64_t> steps_of(const Trajectory& table) {
  std::vector<int64_t> steps;
  for (int64_t r = 0; r < table.rows(); ++r) steps.push_back(static_cast<int64_t>(table.at(r, 0)));
  return steps;
}

TEST(Schedule, LogSpacedSteps) {
  const Experiment two(balanced + "steps=400 record_per_decade=2", convergence);
  EXPECT_EQ(steps_of(*two.table), (std::vector<int64_t>{0, 1, 3, 10, 32, 100, 316, 400}));
  const Experiment both(balanced + "steps=120 record_per_decade=1 record_every=50", convergence);
  EXPECT_EQ(steps_of(*both.table), (std::vector<int64_t>{0, 1, 10, 50, 100, 120}));
  const Experiment none(balanced + "steps=0 record_per_decade=3", convergence);
  EXPECT_EQ(steps_of(*none.table), std::vector<int64_t>{0});
}

TEST(Schedule, RoundsToTheNearestStepOnce) {
  for (const int m : {1, 3, 7, 20, 1000}) {
    const Experiment run(balanced + "steps=30000 probes=none record_per_decade=" + std::to_string(m), convergence);
    std::vector<int64_t> want{0};
    for (int j = 0;; ++j) {
      const auto step = static_cast<int64_t>(std::floor(std::pow(10.0L, static_cast<long double>(j) / m) + 0.5L));
      if (step > 30000) break;
      if (step != want.back()) want.push_back(step);
    }
    if (want.back() != 30000) want.push_back(30000);
    EXPECT_EQ(steps_of(*run.table), want) << m;
  }
}

// What a table of every step shows.
void expect_first(const Experiment& every, const Crossing& crossing) {
  const int64_t column = every.column(crossing.signal);
  const auto at = [&](int64_t step) { return every.table->at(step, column); };
  int64_t step = 0;
  const bool above = at(0) > crossing.value;
  while (step < every.table->rows() && (above ? at(step) > crossing.value : at(step) < crossing.value)) ++step;
  if (step == every.table->rows()) {
    EXPECT_EQ(crossing.step, -1) << crossing.signal;
    EXPECT_TRUE(std::isnan(crossing.before) && std::isnan(crossing.after));
    return;
  }
  EXPECT_EQ(crossing.step, step) << crossing.signal << "=" << crossing.value;
  EXPECT_EQ(crossing.after, at(step));
  if (step > 0) {
    EXPECT_EQ(crossing.before, at(step - 1));
  }
}

struct Case {
  const char *task, *line, *crossings;
};
const Case cases[] = {
    {convergence, "features=10 prompt_length=50 dominant=0.5 steps=600",
     "loss=0.1,excess=0.2,alpha_1=0.004,A_1=1,loss=1e-9,attention_1=0.5,beta_1_2=0,phase_1=3"},
    {convergence, "features=6 prompt_length=20 steps=80 data=fresh batch=16 threads=2", "loss=0.4,excess=0.3,A_0=0.05"},
    {"in_context_recall", "variant=full noise=0.3 steps=60",
     "excess=1,loss=2,lambda_1=1,mass_answer=5,p_answer=0.3,test_excess=0.9,unseen_accuracy=1"},
    {"in_context_recall", "variant=original noise=0.3 attention=softmax optimiser=adam step_size=0.01 steps=40",
     "excess=2,accuracy=0.3,test_loss=2.5"},
    {"in_context_recall", "variant=w_free noise=0 initialisation=gaussian data=fresh batch=64 steps=40",
     "excess=2,w_previous=0.5"},
};
std::string line_of(const Case& c) {
  return (std::string(c.task) == convergence ? "" : small) + c.line;
}

TEST(Crossings, AreTheFirstStepsOfATableOfEveryStep) {
  for (const Case& c : cases) {
    const Experiment every(line_of(c), c.task),
        run(line_of(c) + " probes=none record_every=1000 crossings=" + c.crossings, c.task);
    int64_t found = 0;
    for (const Crossing& crossing : run.trainer->crossings()) {
      expect_first(every, crossing);
      if (crossing.step < 0) continue;
      ++found;
      // A row is there, with the columns of every row.
      EXPECT_EQ(run.at(crossing.step, "loss"), every.at(crossing.step, "loss"));
      EXPECT_EQ(run.at(crossing.step, "excess"), every.at(crossing.step, "excess"));
    }
    EXPECT_GE(found, 2) << c.line;
    EXPECT_LE(run.table->rows(), 2 + found);
    // Watching changes nothing.
    EXPECT_EQ(run.trainer->model().parameters(), every.trainer->model().parameters()) << c.line;
  }
}

class File {
 public:
  File() : path("recording_test_" + std::to_string(getpid()) + ".safetensors") {}
  ~File() { unlink(path.c_str()); }
  std::string path;
};

bool same(double a, double b) {
  return a == b || (std::isnan(a) && std::isnan(b));
}

TEST(Crossings, ChunksAndResumeAreTheWhole) {
  const File file;
  for (const Case& c : cases) {
    const std::string line = line_of(c) + " record_per_decade=2 crossings=" + c.crossings;
    const Experiment whole(line, c.task);
    auto parts = trainer_of(line, c.task);
    for (const int64_t steps : {1, 3, 9, 17, 0}) {
      parts->run(steps);
      parts->save(file.path);
      parts = Trainer::load(file.path, nullptr);
    }
    const auto &a = whole.trainer->crossings(), &b = parts->crossings();
    ASSERT_EQ(a.size(), b.size());
    for (size_t i = 0; i < a.size(); ++i)
      EXPECT_TRUE(a[i].signal == b[i].signal && a[i].value == b[i].value && a[i].step == b[i].step &&
                  same(a[i].before, b[i].before) && same(a[i].after, b[i].after))
          << c.line << " " << a[i].signal << ": " << a[i].step << " and " << b[i].step;
    EXPECT_EQ(steps_of(*whole.table), steps_of(*parts->trajectory())) << c.line;
  }
}

TEST(Crossings, AValueHeldAtTheStartIsReachedThere) {
  const Experiment run(balanced + "steps=3 crossings=A_0=0,column_sum=0", convergence);
  EXPECT_EQ(run.trainer->crossings()[0].step, 0);
  EXPECT_TRUE(std::isnan(run.trainer->crossings()[0].before));
  EXPECT_EQ(run.trainer->crossings()[1].after, 0);
}

TEST(Crossings, MistakesNameWhatIsKnown) {
  const std::pair<const char*, const char*> mistakes[] = {
      {"loss", "must be column=value, as in excess=1e-3"},
      {"=1", "must be column=value"},
      {"loss=", "with a finite number"},
      {"loss=1x", "with a finite number"},
      {"loss=inf", "finite number"},
      {"step=3", "must be a column of this run: loss, excess, predicted, population_loss, population_excess, A_0"},
      {"lambda_0=1", "must be a column of this run"},
      {"loss=1,,loss=2", "column=value"}};
  for (const auto& [text, want] : mistakes) {
    try {
      trainer_of(balanced + "crossings=" + text, convergence);
      ADD_FAILURE() << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.status(), LAMINA_E_OPTION);
      EXPECT_NE(std::string(error.what()).find(want), std::string::npos) << text << ": " << error.what();
    }
  }
}

// What is predicted begins where a new model does: of a host's parameters there is no prediction, unless they are the same.
TEST(Predicted, IsOfTheInitialParametersAlone) {
  const std::pair<const char*, const char*> runs[] = {
      {convergence, "features=5 steps=4"}, {"in_context_recall", "noise=0.3 data=population steps=4"}, {"linear_regression", "steps=4"},
      {"mesa_optimisation", "optimiser=flow step_size=1e-5 steps=4"}};
  for (const auto& [task_name, line] : runs) {
    const auto own = trainer_of(std::string(line) + " probes=predicted", task_name);
    const auto model = own->model().clone();
    Options options = options_of(line);
    const auto columns = [&] { return Trainer(own->task(), model.get(), options).trajectory()->columns().size(); };
    options.set("probes", std::string("predicted"));
    EXPECT_EQ(columns(), 4u) << task_name;
    model->mutable_parameters()[0] += 0.25;
    for (const char* key : {"probes", "crossings"}) {
      options.set("probes", std::string("none"));
      options.set(key, std::string(key == std::string("probes") ? "predicted" : "predicted=1"));
      try {
        columns();
        ADD_FAILURE() << task_name << " " << key;
      } catch (const Error& error) {
        EXPECT_EQ(error.status(), LAMINA_E_OPTION);
        EXPECT_NE(std::string(error.what()).find("predicted"), std::string::npos) << error.what();
      }
    }
    options = options_of(line);
    const auto table = Trainer(own->task(), model.get(), options).trajectory();
    for (const Column& column : table->columns()) EXPECT_NE(column.name, "predicted") << task_name;
    // A saved run is past its initial parameters, and keeps its column.
    const File file;
    own->run(2);
    own->save(file.path);
    EXPECT_EQ(Trainer::load(file.path, nullptr)->trajectory()->columns().size(), 4u) << task_name;
  }
}

TEST(StopRules, ATargetEndsTheRunOnceAtItsFirstStep) {
  const Experiment every(balanced + "steps=400 probes=none", convergence);
  for (const char* column : {"loss", "excess"}) {
    const int64_t first = every.first_step([&](int64_t r) { return every.table->at(r, every.column(column)) <= 0.2; });
    const std::string line = balanced + "steps=400 record_every=1000 probes=none " + column + "_target=0.2";
    const auto run = trainer_of(line, convergence);
    EXPECT_EQ(run->run(0), LAMINA_TARGET_REACHED);
    EXPECT_EQ(run->step(), first);
    EXPECT_EQ(steps_of(*run->trajectory()), (std::vector<int64_t>{0, first}));
    EXPECT_EQ(run->run(3), LAMINA_OK);
    EXPECT_EQ(run->run(0), LAMINA_OK);
    EXPECT_EQ(run->step(), 400);
    EXPECT_EQ(run->model().parameters(), every.trainer->model().parameters());
  }
}

// The norm counts every entry of Q, also where one variable stands for many.
TEST(StopRules, GradientTargetIsTheNormByAllParameters) {
  const Experiment ended(balanced + "steps=3000 dominant=0.5 gradient_target=2e-3", convergence);
  EXPECT_EQ(ended.status, LAMINA_TARGET_REACHED);
  const int64_t tied = ended.trainer->step();
  // At step size 1 a step is the gradient, entry by entry.
  for (const int64_t step : {tied - 1, tied}) {
    const Experiment run(balanced + "dominant=0.5 steps=" + std::to_string(step), convergence);
    const Experiment next(balanced + "dominant=0.5 steps=" + std::to_string(step + 1), convergence);
    std::vector<double> difference;
    for (size_t i = 0; i < run.trainer->model().parameters().size(); ++i)
      difference.push_back(next.trainer->model().parameters()[i] - run.trainer->model().parameters()[i]);
    EXPECT_EQ(l2_norm(difference) <= 2e-3, step == tied) << step;
  }
}

TEST(StopRules, ResumeKeepsWhatWasReached) {
  const File file;
  const auto first = trainer_of(balanced + "steps=400 loss_target=0.2 excess_target=0.1", convergence);
  EXPECT_EQ(first->run(0), LAMINA_TARGET_REACHED);
  first->save(file.path);
  const auto second = Trainer::load(file.path, nullptr);
  EXPECT_EQ(second->run(0), LAMINA_TARGET_REACHED);
  EXPECT_GT(second->step(), first->step());
  EXPECT_EQ(second->run(0), LAMINA_OK);
}

TEST(StopRules, TimeLimitGivesAsMuchAgain) {
  const auto run = trainer_of(balanced + "steps=1000000000 record_every=1000000000 probes=none time_limit=0.02", convergence);
  EXPECT_EQ(run->run(0), LAMINA_TIME_LIMIT);
  const int64_t first = run->step();
  EXPECT_GT(first, 0);
  EXPECT_EQ(run->run(0), LAMINA_TIME_LIMIT);
  EXPECT_GT(run->step(), first);
  // What ends by time leaves no row, so that the trajectory is the uninterrupted run's.
  EXPECT_EQ(run->trajectory()->rows(), 1);
}

}  // namespace
}  // namespace lamina::tests
