// The probe phase: the largest phase of the Q at every step so far, whatever is recorded, in chunks, after a resume and as a crossing.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>

#include "support/runs.hpp"
#include "theory/theory.hpp"
#include "train/tensor_file.hpp"

namespace lamina::tests {
namespace {

constexpr const char* convergence = "in_context_convergence";

// Signals that come back are what a phase must not do: normalised and large steps go to and fro, samples add noise.
const char* const lines[] = {
    "features=20 dominant=0.5 prompt_length=100 optimiser=ngd step_size=0.5 steps=300",
    "features=8 feature_law=zipf prompt_length=20 optimiser=ngd normalisation=sign step_size=0.2 steps=120",
    "features=20 dominant=0.5 prompt_length=50 data=fresh batch=64 step_size=5 steps=420",
    "features=6 feature_law=zipf prompt_length=30 data=averaged batch=8 step_size=4 steps=120",
    "features=6 dominant=0.4 prompt_length=30 data=fresh batch=1 step_size=2 steps=400",
    "features=6 dominant=0.4 prompt_length=30 data=fresh batch=1 optimiser=ngd step_size=0.2 steps=400",
    "features=5 dominant=0.5 prompt_length=10 optimiser=adam data=fresh batch=4 step_size=0.1 steps=150",
    "features=5 feature_weights=4,2,1,1,1 mask=no prompt_length=40 data=fixed samples=60 step_size=1 steps=150",
    "features=6 dominant=0.4 prompt_length=inf steps=150",
};

class File {
 public:
  File() : path("phase_test_" + std::to_string(getpid()) + ".safetensors") {}
  ~File() { unlink(path.c_str()); }
  std::string path;
};

// The phases of the Q of every step without those before, [step][watched]: by theory, from the parameters of a run in single steps.
std::vector<std::vector<double>> phases_of_each(const std::string& line) {
  const auto run = trainer_of(line + " probes=none", convergence);
  const FeatureLaw& law = *run->task()->features();
  std::vector<std::shared_ptr<const Task>> tasks;
  for (int64_t k : law.watched) tasks.push_back(convergence_task(line.substr(0, line.find(" steps")) + " watched=" + std::to_string(k)));
  std::vector<std::vector<double>> phases;
  for (;;) {
    phases.emplace_back();
    for (const auto& task : tasks) {
      double phase = 0;
      find_theory("phase_of_query").evaluate(task.get(), run->model().parameters(), {&phase, 1});
      phases.back().push_back(phase);
    }
    if (run->step() >= run->steps()) return phases;
    run->run(1);
  }
}

TEST(Phase, IsTheLargestOfTheStepsSoFar) {
  int64_t back = 0;
  for (const char* line : lines) {
    const Experiment run(line, convergence);
    const std::vector<std::vector<double>> each = phases_of_each(line);
    ASSERT_EQ(run.table->rows(), static_cast<int64_t>(each.size())) << line;
    const std::vector<int64_t>& watched = run.trainer->task()->features()->watched;
    for (size_t w = 0; w < watched.size(); ++w) {
      const int64_t column = run.column("phase_" + std::to_string(watched[w]));
      double largest = 0;
      for (size_t t = 0; t < each.size(); ++t) {
        back += each[t][w] < largest;
        largest = std::max(largest, each[t][w]);
        ASSERT_EQ(run.table->at(static_cast<int64_t>(t), column), largest) << line << " query " << watched[w] << " step " << t;
      }
      EXPECT_GE(largest, 2) << line;
    }
  }
  EXPECT_GT(back, 0);  // signals do come back
}

TEST(Phase, DoesNotDependOnWhatIsRecorded) {
  for (const std::string line : lines) {
    const Experiment every(line, convergence);
    const std::vector<int64_t>& watched = every.trainer->task()->features()->watched;
    for (const char* record : {" record_every=37", " record_per_decade=2", " record_every=1000 probes=phase"}) {
      const Experiment run(line + record, convergence);
      for (int64_t r = 0; r < run.table->rows(); ++r)
        for (int64_t k : watched) {
          const std::string name = "phase_" + std::to_string(k);
          const auto step = static_cast<int64_t>(run.table->at(r, 0));
          EXPECT_EQ(run.table->at(r, run.column(name)), every.at(step, name)) << line << record << " step " << step;
        }
    }
    // Nor does descent depend on whether phases are followed; and as a crossing, of a run without the probe, they are the same.
    const std::string name = "phase_" + std::to_string(watched.back());
    const Experiment crossed(line + " probes=none record_every=1000 crossings=" + name + "=3," + name + "=4", convergence);
    const Experiment none(line + " probes=none record_every=1000", convergence);
    EXPECT_EQ(none.trainer->model().parameters(), every.trainer->model().parameters()) << line;
    EXPECT_EQ(none.trainer->model().parameters(), crossed.trainer->model().parameters()) << line;
    for (const Crossing& crossing : crossed.trainer->crossings())
      EXPECT_EQ(crossing.step, every.first_step([&](int64_t r) { return every.table->at(r, every.column(name)) >= crossing.value; }))
          << line;
  }
}

TEST(Phase, IsKeptByChunksAndCheckpoints) {
  const File file;
  for (const std::string line : lines)
    for (const char* more : {" record_every=7", " probes=none record_every=7 crossings=phase_1=3,phase_1=4"}) {
      const Experiment whole(line + more, convergence);
      auto parts = trainer_of(line + more, convergence);
      for (;;) {  // from before the first step on
        parts = Trainer::restored(parts->saved(), parts->task());
        if (parts->step() == parts->steps() / 2) parts->save(file.path), parts = Trainer::load(file.path, nullptr);
        if (parts->step() == parts->steps()) break;
        parts->run(1);
      }
      parts->run(0);
      ASSERT_EQ(whole.table->values().size(), parts->trajectory()->values().size()) << line << more;
      for (size_t i = 0; i < whole.table->values().size(); ++i) {
        const double a = whole.table->values()[i], b = parts->trajectory()->values()[i];
        ASSERT_TRUE(a == b || (std::isnan(a) && std::isnan(b))) << line << more << " number " << i << ": " << a << " and " << b;
      }
      for (size_t i = 0; i < whole.trainer->crossings().size(); ++i)
        EXPECT_EQ(whole.trainer->crossings()[i].step, parts->crossings()[i].step) << line;
    }
}

// Exchangeable features, and a query that is the most probable feature, have no leader to overtake, however their attentions round.
// A prompt of two or three that has the query's feature gives it a third or more from the start.
TEST(Phase, OfEqualFeaturesBeginsWithGrowth) {
  const std::pair<const char*, double> cases[] = {{"2", 4}, {"3", 4}, {"5", 3}, {"20", 3}, {"50", 3}, {"1000", 3}, {"inf", 3}};
  for (const auto& [length, phase] : cases) {
    const Experiment run(std::string("features=20 steps=0 prompt_length=") + length, convergence);
    EXPECT_EQ(run.at(0, "phase_0"), phase) << length;
  }
  EXPECT_EQ(Experiment("features=20 dominant=0.5 steps=0 prompt_length=20", convergence).at(0, "phase_0"), 4);
}

TEST(Phase, IsOfLinearFunctionsAndPromptsOfTwoOrMore) {
  for (const char* law : {"second_moments=1,0.5,0.5,1", "prompt_length=1", "attention=relu"}) {
    const std::string line = std::string("features=2 steps=1 ") + law;
    const auto table = trainer_of(line, convergence)->trajectory();
    for (const Column& column : table->columns()) EXPECT_NE(column.name, "phase_0") << law;
    try {
      trainer_of(line + " probes=phase", convergence);
      ADD_FAILURE() << law;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("probe is phase, which means nothing for this task"), std::string::npos) << error.what();
    }
  }
}

}  // namespace
}  // namespace lamina::tests
