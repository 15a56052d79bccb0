// Runs: the same bits for every thread count, instruction set, cut into chunks and resume; every objective and optimiser; why a
// run ends; what probes report.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <fstream>
#include <thread>

#include "support/runs.hpp"
#include "theory/feature_floor.hpp"

namespace lamina::tests {
namespace {

constexpr const char* small = "vocabulary=20 triggers=3 outputs=6 unseen_outputs=3 prompt_length=40 samples=300 evaluation_samples=100 steps=12 ";

const char* const kinds[] = {
    "variant=full noise=0.3",
    "variant=full attention=softmax noise=0.3",
    "variant=w_free noise=0.3 attention=relu initialisation=gaussian",
    "variant=original noise=0.3 attention=softmax",
    "variant=original noise=0 precision=f32",
    "variant=uv_free noise=0.3 optimiser=adam step_size=0.01",
    "variant=original noise=0.3 optimiser=sgd batch=64 step_size=0.5",
    "variant=w_free noise=0.3 data=fresh batch=100 optimiser=momentum step_size=0.05 initialisation=gaussian",
    "variant=full noise=0.3 data=population normalisation=l1",
    "variant=original noise=0.3 embedding=orthonormal samples=40",
};

void expect_same_bits(const Trajectory& a, const Trajectory& b, const std::string& what) {
  ASSERT_EQ(a.rows(), b.rows()) << what;
  for (int64_t r = 0; r < a.rows(); ++r)
    for (size_t c = 0; c < a.columns().size(); ++c) {
      const double x = a.at(r, c), y = b.at(r, c);
      EXPECT_TRUE(x == y || (std::isnan(x) && std::isnan(y))) << what << " row " << r << " " << a.columns()[c].name;
    }
}

TEST(Bits, DoNotDependOnThreads) {
  for (const char* kind : kinds) {
    const std::string line = std::string(small) + kind;
    const Experiment one(line + " threads=1");
    for (const char* threads : {" threads=2", " threads=4", " threads=0"})
      expect_same_bits(*one.table, *Experiment(line + threads).table, line + threads);
  }
}

TEST(Bits, DoNotDependOnATwinWhosePromptsAreShared) {
  for (const char* kind : {"noise=0.3 data=fresh batch=50", "noise=0.3", "noise=0.3 variant=w_free data=fresh batch=50"}) {
    const std::string line = std::string(small) + kind, other = line + " step_size=0.01";
    const Experiment alone(line), alone_too(other);
    const auto task = recall_task(line);
    Trainer first(task, nullptr, options_of(line)), second(task, nullptr, options_of(other), &first);
    for (int step = 0; step < 12; ++step) {
      EXPECT_EQ(first.run(1), LAMINA_OK);
      EXPECT_EQ(second.run(1), LAMINA_OK);
    }
    expect_same_bits(*alone.table, *first.trajectory(), line);
    expect_same_bits(*alone_too.table, *second.trajectory(), other);
  }
}

TEST(Bits, DoNotDependOnTheInstructionSet) {
  for (const char* kind : kinds) {
    const std::string line = std::string(small) + "steps=5 " + kind;
    const Experiment first(line + " isa=reference");
    EXPECT_STREQ(first.trainer->model().isa().name, "reference");
    for (int32_t i = 0; i < kernels::count(); ++i) {
      const Experiment other(line + " isa=" + kernels::at(i)->name);
      EXPECT_STREQ(other.trainer->model().isa().name, kernels::at(i)->name);
      expect_same_bits(*first.table, *other.table, line + kernels::at(i)->name);
    }
  }
}

TEST(Bits, ChunksEqualTheWhole) {
  for (const char* kind : kinds) {
    const std::string line = std::string(small) + kind;
    const auto chunks = trainer_of(line);
    for (const int64_t steps : {1, 4, 2, 0}) EXPECT_EQ(chunks->run(steps), LAMINA_OK);
    EXPECT_EQ(chunks->step(), 12);
    expect_same_bits(*Experiment(line).table, *chunks->trajectory(), line);
  }
}

class File {
 public:
  File() : path("checkpoint_test_" + std::to_string(getpid()) + ".safetensors") {}
  ~File() { unlink(path.c_str()); }
  std::string path;
};

TEST(Bits, ResumeEqualsTheUninterruptedRun) {
  const File file;
  for (const char* kind : kinds) {
    const std::string line = std::string(small) + kind;
    const auto first = trainer_of(line + " threads=1");
    first->run(5);
    first->save(file.path);
    const auto second = Trainer::load(file.path, nullptr);
    EXPECT_EQ(second->step(), 5);
    EXPECT_EQ(second->run(0), LAMINA_OK);
    expect_same_bits(*Experiment(line).table, *second->trajectory(), line);
  }
}

TEST(Bits, OfTheCatformerDoNotDependOnThreadsSetsChunksOrResume) {
  const std::string line =
      "variant=catformer vocabulary=4 prompt_length=9 graph=random batch=200 steps=12 step_size=20 record_every=3 evaluation_samples=100";
  const Experiment whole(line + " threads=1", "causal_structure");
  EXPECT_GT(std::abs(whole.last("diagonal")), 0.01);  // everything moves
  for (const char* other : {" threads=2", " threads=0", " isa=reference"})
    expect_same_bits(*whole.table, *Experiment(line + other, "causal_structure").table, other);
  const File file;
  const auto first = trainer_of(line, "causal_structure");
  first->run(5);  // on the way down of the cosine
  first->save(file.path);
  const auto second = Trainer::load(file.path, nullptr);
  EXPECT_EQ(second->run(0), LAMINA_OK);
  expect_same_bits(*whole.table, *second->trajectory(), "resumed");
  EXPECT_EQ(whole.trainer->model().parameters(), second->model().parameters());
}

TEST(Run, DefaultsFollowTheVariant) {
  for (const auto& [variant, steps, schedule] : {std::tuple{"", "320", "constant"}, {"variant=reduced", "320", "constant"}, {"variant=catformer", "131072", "cosine"}}) {
    const auto trainer = trainer_of(variant, "causal_structure");
    EXPECT_EQ(trainer->option("steps"), steps);
    EXPECT_EQ(trainer->option("step_size_schedule"), schedule);
  }
  // A host's model has them too.
  const auto task = task_of("causal_structure", "");
  const auto model = model_of(*task, "variant=catformer");
  EXPECT_EQ(Trainer(task, model.get(), options_of("batch=8 evaluation_samples=8")).option("steps"), "131072");
  for (const char* line : {"variant=catformer initial_scale=0.1", "variant=catformer stage_one_steps=5", "variant=full",
                           "step_size_schedule=cosine optimiser=flow data=fixed samples=8"})
    EXPECT_THROW(trainer_of(line, "causal_structure"), Error) << line;
}

TEST(Run, TheCosineIsAFactorOfTheStepSize) {
  // With step size 0.4 rate(t) by hand, update by update.
  const std::string line = "variant=catformer vocabulary=3 prompt_length=5 batch=64 probes=none evaluation_samples=8 ";
  const Experiment whole(line + "steps=4 step_size=0.4", "causal_structure");
  std::vector<double> x;
  const auto by_hand = trainer_of(line + "steps=4 step_size=0.4 step_size_schedule=constant", "causal_structure");
  const auto model = by_hand->model().clone();
  Prompts prompts;
  const Team alone(1);
  std::vector<double> gradient(model->parameters().size());
  for (int t = 0; t < 4; ++t) {
    by_hand->task()->sample(Split::train, 1, 64 * t, 64, prompts);
    model->loss_and_gradient(*model->compile(prompts, {}, alone), alone, gradient.data(), false);
    for (size_t i = 0; i < gradient.size(); ++i) model->mutable_parameters()[i] -= 0.2 * (1 + std::cos(M_PI * t / 4)) * gradient[i];
  }
  for (size_t i = 0; i < gradient.size(); ++i) EXPECT_NEAR(whole.trainer->model().parameters()[i], model->parameters()[i], 1e-15);
}

TEST(Checkpoint, DamagedFilesAreErrors) {
  const File file;
  const auto trainer = trainer_of(std::string(small) + "variant=full");
  trainer->run(3);
  trainer->save(file.path);
  std::string content;
  {
    std::ifstream in(file.path, std::ios::binary);
    content.assign(std::istreambuf_iterator<char>(in), {});
  }
  const auto status_of = [&](const std::string& bytes) {
    std::ofstream(file.path, std::ios::binary) << bytes;
    try {
      Trainer::load(file.path, nullptr);
      return static_cast<lamina_status>(LAMINA_OK);
    } catch (const Error& error) {
      return error.status();
    }
  };
  EXPECT_EQ(status_of(content), LAMINA_OK);
  int failures = 0;
  for (size_t length = 0; length < content.size(); length += 7) {
    const lamina_status status = status_of(content.substr(0, length));
    EXPECT_LT(status, 0) << length;
    failures += status < 0;
  }
  EXPECT_GT(failures, 100);
  // Any single byte changed: an error or a run, never anything else.
  for (size_t at = 0; at < content.size(); at += 11) {
    std::string changed = content;
    changed[at] = static_cast<char>(changed[at] ^ 0x5a);
    const lamina_status status = status_of(changed);
    EXPECT_TRUE(status == LAMINA_OK || status == LAMINA_E_FORMAT || status == LAMINA_E_OPTION || status == LAMINA_E_ARGUMENT ||
                status == LAMINA_E_UNSUPPORTED) << at << " " << status;
  }
  EXPECT_EQ(status_of(""), LAMINA_E_FORMAT);
  unlink(file.path.c_str());
  EXPECT_THROW(Trainer::load(file.path, nullptr), Error);
}

TEST(Checkpoint, UnwritablePathLeavesNothing) {
  const auto trainer = trainer_of(std::string(small) + "variant=full");
  try {
    trainer->save("no_such_folder/run.safetensors");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.status(), LAMINA_E_FILE);
    EXPECT_NE(std::string(error.what()).find("no_such_folder"), std::string::npos);
  }
}

TEST(Run, EndsForAReason) {
  const auto stopped = trainer_of(std::string(small) + "variant=full steps=1000");
  stopped->on_progress([](const Progress& p) { return p.step < 5; }, 0);
  EXPECT_EQ(stopped->run(0), LAMINA_STOPPED);
  EXPECT_EQ(stopped->step(), 5);
  EXPECT_EQ(stopped->trajectory()->rows(), 6);
  stopped->on_progress(nullptr, 0);
  EXPECT_EQ(stopped->run(10), LAMINA_OK);
  EXPECT_EQ(stopped->step(), 15);

  const Experiment diverged(std::string(small) + "variant=original noise=0 optimiser=gd step_size=1e6 steps=200");
  EXPECT_EQ(diverged.status, LAMINA_DIVERGED);
  EXPECT_LT(diverged.trainer->step(), 200);

  // Past f64: every probability but the answer's underflows.
  const Experiment vanished("noise=0 data=population step_size=100 steps=400");
  EXPECT_EQ(vanished.status, LAMINA_GRADIENT_VANISHED);
  for (double x : vanished.trainer->model().parameters()) EXPECT_TRUE(std::isfinite(x));
}

TEST(Run, StopFromAnotherThread) {
  const auto trainer = trainer_of("variant=original precision=f32 samples=256 steps=1000000 record_every=1000000 probes=none");
  std::thread stopper([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    trainer->stop();
  });
  EXPECT_EQ(trainer->run(0), LAMINA_STOPPED);
  stopper.join();
}

TEST(Run, PopulationWithoutAnExactFormNamesFreshSamples) {
  for (const char* line : {"attention=softmax", "variant=w_free", "variant=original", "sampler=s3 initialisation=relu_selector attention=relu"}) {
    try {
      trainer_of(std::string("data=population ") + line);
      FAIL() << line;
    } catch (const Error& error) {
      EXPECT_EQ(error.status(), LAMINA_E_UNSUPPORTED) << line;
      EXPECT_NE(std::string(error.what()).find("data=fresh"), std::string::npos) << error.what();
    }
  }
}

// A law whose numbers are too far apart for its infimum: what would wait for an excess for ever is refused, the loss is not.
TEST(Run, AnExcessWithoutAnInfimumIsRefused) {
  for (const char* attention : {"softmax", "linear", "relu"})
    for (const char* mask : {"yes", "no"})
      for (const char* data : {"population", "averaged batch=4"}) {
        const std::string law = std::string("features=3 prompt_length=5 second_moments=1e308,0,0,0,1e308,0,0,0,1e308 data=") + data +
                                " attention=" + attention + " mask=" + mask;
        const auto task = task_of("in_context_convergence", law);
        const bool known = std::isfinite(infimum_of(*task->features(), attention[0] == 's' ? kernels::Map::softmax
                                                                       : attention[0] == 'l' ? kernels::Map::linear : kernels::Map::relu));
        EXPECT_EQ(known, attention[0] != 's') << law;
        for (const std::string& wish : {std::string("excess_target=0.5"), std::string("crossings=loss=1,excess=0.5")}) {
          try {
            trainer_of(law + " " + wish, "in_context_convergence");
            EXPECT_TRUE(known) << law << " " << wish;
          } catch (const Error& error) {
            EXPECT_FALSE(known) << law << " " << wish << ": " << error.what();
            EXPECT_NE(std::string(error.what()).find("infimum"), std::string::npos) << error.what();
            EXPECT_EQ(std::string(error.what()).substr(0, 6), wish.substr(0, 6)) << error.what();
          }
        }
        trainer_of(law + " loss_target=0.5", "in_context_convergence");
      }
}

// Every sampler, the exact law against a large sample at the same parameters.
TEST(Run, PopulationIsTheMeanOfFreshSamples) {
  for (const char* line : {"sampler=s1 noise=0.3", "sampler=s3 noise=0.3", "sampler=s2 noise=0.3 vocabulary=20 triggers=3 outputs=6 unseen_outputs=3 prompt_length=60",
                           "sampler=s1 noise=0.3 attention=relu initialisation=relu_selector", "sampler=s1 noise=0"}) {
    const std::string start = std::string(line) + " initial_scale=1.1 steps=0 probes=none ";
    const Experiment exact(start + "data=population"), sampled(start + "data=fresh batch=100000");
    EXPECT_NEAR(sampled.last("excess") / exact.last("excess"), 1.0, 0.02) << line;
    EXPECT_NEAR(sampled.last("loss") / exact.last("loss"), 1.0, 0.02) << line;
  }
}

TEST(Run, AnInfinitePromptIsAPopulation) {
  const Experiment run("prompt_length=inf data=population steps=50"), finite("data=population steps=50");
  EXPECT_EQ(run.last("excess"), finite.last("excess"));
  EXPECT_THROW(trainer_of("prompt_length=inf data=fixed"), Error);
}

TEST(Probes, ByNameAndRefused) {
  const auto trainer = trainer_of(std::string(small) + "probes=lambda");
  EXPECT_EQ(trainer->trajectory()->columns().size(), 6u);
  trainer->watch("mass");
  EXPECT_EQ(trainer->trajectory()->columns().size(), 9u);
  EXPECT_THROW(trainer->watch("nothing"), Error);
  EXPECT_THROW(trainer->watch("w_classes"), Error);  // full has no free W
  trainer->run(1);
  EXPECT_THROW(trainer->watch("predictions"), Error);
}

}  // namespace
}  // namespace lamina::tests
