// Ensembles: each member has the bits of its run alone, whatever the threads and the interruptions; axes and their mistakes; members
// that fail or diverge.
#include "ensemble/ensembles.hpp"

#include <cmath>
#include <thread>

namespace lamina::tests {
namespace {

constexpr const char* recall = "vocabulary=20 triggers=3 outputs=6 unseen_outputs=3 prompt_length=40 samples=200 evaluation_samples=50 steps=7 ";

struct Case {
  const char* task;
  std::string line;
  Axes axes;
};
const Case cases[] = {
    {"in_context_recall", recall, {{"seed", "0..2"}, {"step_size", "0.1,0.05"}, {"noise", "0.1,0.4"}}},
    {"in_context_recall", recall, {{"variant", "full,w_free,original"}, {"optimiser", "ngd,momentum"}, {"attention", "linear,softmax"}}},
    {"in_context_recall", recall + std::string("data=fresh batch=30 "), {{"seed", "0..1"}, {"step_size", "0.1,0.05,0.02"}}},
    {"in_context_convergence", "data=fresh batch=32 prompt_length=20 steps=15 record_every=4", {{"step_size", "0.5,1,2"}, {"features", "4,6"}, {"seed", "1,3..4"}}},
    {"in_context_convergence", "data=averaged batch=16 prompt_length=20 steps=5", {{"step_size", "0.5,1"}, {"steps", "5,9"}}},
    {"in_context_convergence", "data=fixed samples=40 batch=7 prompt_length=20 steps=20", {{"momentum", "0.5,0.9"}, {"optimiser", "gd,momentum,adam"}}},
    {"causal_structure", "vocabulary=3 prompt_length=5 batch=16 steps=9 evaluation_samples=20", {{"variant", "reduced,catformer"}, {"step_size", "1,2"}}},
    {"in_context_convergence", "features=5 steps=3000 record_every=500", {{"prompt_length", "30,inf"}, {"feature_weights", "1,1,1,1,1;3,1,1,1,1"}}},
    // Phases, which a member keeps of its own steps between the rows.
    {"in_context_convergence", "features=6 data=fresh batch=1 prompt_length=30 steps=100 record_every=30 crossings=phase_1=2",
     {{"step_size", "1,2"}, {"dominant", "0.4,0.5"}, {"seed", "1,2"}}},
};

TEST(Ensemble, EveryMemberHasTheBitsOfItsRunAloneForEveryNumberOfThreads) {
  for (const Case& c : cases)
    for (const char* threads : {" threads=1", " threads=2", " threads=3", " threads=0"}) {
      const auto ensemble = ensemble_of(c.task, c.line + threads, c.axes);
      ASSERT_EQ(ensemble->run(), LAMINA_OK);
      expect_members_as_alone(*ensemble, std::string(c.task) + " " + c.line + threads);
    }
}

TEST(Ensemble, TheLastAxisIsFastest) {
  const auto ensemble = ensemble_of("in_context_recall", "noise=0.3", {{"seed", "5,7"}, {"variant", "full,original"}, {"step_size", "1e-1,2,3"}});
  ASSERT_EQ(ensemble->count(), 12);
  for (int64_t i = 0; i < 12; ++i) {
    EXPECT_EQ(ensemble->option(i, "seed"), i < 6 ? "5" : "7");
    EXPECT_EQ(ensemble->option(i, "variant"), i / 3 % 2 ? "original" : "full");
    EXPECT_EQ(ensemble->option(i, "step_size"), (std::vector<std::string>{"0.1", "2", "3"})[static_cast<size_t>(i % 3)]);
    EXPECT_EQ(ensemble->option(i, "noise"), "0.3");
    EXPECT_EQ(ensemble->option(i, "steps"), "400");
  }
}

TEST(Ensemble, DefaultsFollowTheVariant) {
  const auto ensemble = ensemble_of("causal_structure", "", {{"variant", "reduced,catformer"}});
  EXPECT_EQ(ensemble->option(0, "steps"), "320");
  EXPECT_EQ(ensemble->option(1, "steps"), "131072");
  EXPECT_EQ(ensemble->option(1, "step_size_schedule"), "cosine");
  EXPECT_EQ(ensemble->progress().all_steps, 320 + 131072);
}

TEST(Ensemble, MistakesInAnAxisAreNamed) {
  const struct {
    const char *key, *values, *text;
  } mistakes[] = {
      {"stepsize", "1", "not an option of task in_context_recall"},
      {"seed", "", "seed is \"\""},
      {"seed", "1,,2", "seed is \"\""},
      {"seed", "3..1", "seed is 3..1, must be first..last"},
      {"seed", "0..9999999", "of at most 1000000 integers"},
      {"seed", "1,1.0", "seed is 1 twice"},
      {"noise", "0.1,1.5", "noise is \"1.5\", must be a number in"},
      {"noise", "0..1", "noise is \"0..1\""},
      {"variant", "full,half", "variant is \"half\", must be one of"},
      {"threads", "1,2", "threads is an axis"},
      {"step_size", "0.1", "step_size is an axis already"},
  };
  const auto ensemble = ensemble_of("in_context_recall", "", {{"step_size", "0.1,0.2"}});
  for (const auto& mistake : mistakes) {
    try {
      ensemble->vary(mistake.key, std::string(mistake.values));
      ADD_FAILURE() << mistake.key << "=" << mistake.values;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(mistake.text), std::string::npos) << error.what();
    }
    EXPECT_EQ(ensemble->count(), 2);
  }
  EXPECT_THROW(ensemble_of("in_context_recall", "features=3", {}), Error);
  EXPECT_THROW(ensemble_of("in_context_recall", "noise=2", {}), Error);
}

TEST(Ensemble, AMemberThatFailsOrDivergesTakesNothingFromTheOthers) {
  const auto ensemble = ensemble_of("in_context_convergence", "data=fresh batch=8 features=4 steps=80 attention=linear threads=2",
                                    {{"step_size", "1,1e6"}, {"prompt_length", "10,inf"}, {"dimension", "2,4"}});
  ASSERT_EQ(ensemble->run(), LAMINA_OK);
  for (int64_t i = 0; i < ensemble->count(); ++i) {
    const Member& member = ensemble->member(i);
    const bool small = ensemble->option(i, "dimension") == "2", endless = ensemble->option(i, "prompt_length") == "inf";
    if (small || endless) {
      EXPECT_EQ(member.status, LAMINA_E_OPTION) << i;
      EXPECT_NE(member.text.find(small ? "dimension is 2" : "prompt_length is inf"), std::string::npos) << member.text;
      EXPECT_FALSE(member.trajectory);
    } else {
      EXPECT_EQ(member.status, ensemble->option(i, "step_size") == "1" ? LAMINA_OK : LAMINA_DIVERGED) << i;
      expect_same_bits(*member.trajectory, *alone(*ensemble, i), std::to_string(i));
    }
  }
  EXPECT_EQ(ensemble->progress().failed, 6);
  const Table table = table_of(*ensemble);
  EXPECT_EQ(at(*table, 0, "member"), 0);
  EXPECT_EQ(at(*table, 1, "member"), 1);
  int failed = 0;
  for (int64_t r = 0; r < table->rows(); ++r) {
    if (at(*table, r, "status") >= 0) continue;
    ++failed;
    EXPECT_TRUE(std::isnan(at(*table, r, "loss")) && std::isnan(at(*table, r, "step")));
  }
  EXPECT_EQ(failed, 6);
}

TEST(Ensemble, AStopKeepsWhatEndedAndTheRestGoesOnToTheSameBits) {
  for (const Case& c : cases) {
    const auto ensemble = ensemble_of(c.task, c.line + " threads=2", c.axes);
    int64_t stops = 0, seen = 0;
    double steps = 0;
    ensemble->on_progress(
        [&](const EnsembleProgress& at) {
          EXPECT_GE(at.ended, seen);
          EXPECT_EQ(at.members, ensemble->count());
          EXPECT_GE(at.steps, steps);
          EXPECT_LE(at.steps, at.all_steps);
          steps = at.steps;
          seen = at.ended;
          return false;
        },
        0);
    for (lamina_status status = LAMINA_STOPPED; status == LAMINA_STOPPED; ++stops) {
      status = ensemble->run();
      ASSERT_LT(stops, 10000);
    }
    EXPECT_EQ(seen, ensemble->count());
    expect_members_as_alone(*ensemble, c.line);
  }
}

TEST(Ensemble, AStopBeforeTheRunEndsItAtOnce) {
  const auto ensemble = ensemble_of("in_context_recall", recall, {{"seed", "0..3"}});
  ensemble->stop();
  EXPECT_EQ(ensemble->run(), LAMINA_STOPPED);
  EXPECT_EQ(ensemble->progress().ended, 0);
  EXPECT_EQ(ensemble->run(), LAMINA_OK);
  expect_members_as_alone(*ensemble, "after a stop");
}

TEST(Ensemble, AStopFromAnotherThreadComesSoon) {
  const auto ensemble = ensemble_of("in_context_convergence", "steps=1e12 record_every=1e9 threads=2", {{"seed", "0..9"}});
  std::thread stopper([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    ensemble->stop();
  });
  EXPECT_EQ(ensemble->run(), LAMINA_STOPPED);
  stopper.join();
  EXPECT_EQ(ensemble->progress().ended, 0);
}

// A host's own data: shared by all members; a callback is called by the thread that runs the ensemble, member by member.
TEST(Ensemble, OfAHostsTaskMembersShareIt) {
  static std::thread::id host;
  static int64_t calls, foreign, cancel_at;
  host = std::this_thread::get_id(), calls = foreign = 0, cancel_at = 25;
  lamina_task_callback callback{sizeof callback, 0, nullptr, nullptr, 9, 6, 0.2};
  callback.sample = [](void*, int32_t, uint64_t seed, int64_t first, int64_t count, double* prompts, double* targets) -> int32_t {
    foreign += std::this_thread::get_id() != host;
    if (++calls == cancel_at) return 1;
    for (int64_t i = 0; i < count; ++i) {
      for (int64_t j = 0; j < 9; ++j) prompts[i * 9 + j] = static_cast<double>((seed + static_cast<uint64_t>((first + i) * 7 + j * j)) % 6);
      targets[2 * i] = targets[2 * i + 1] = prompts[i * 9 + 3];
    }
    return 0;
  };
  const std::shared_ptr<const Task> task = task_from_callback(callback);
  const Options options = options_of("data=fresh batch=12 steps=6 probes=none threads=4");
  Ensemble ensemble("callback", task, options);
  ensemble.vary("seed", std::string("0..2"));
  ensemble.vary("step_size", std::string("0.1,0.2"));
  EXPECT_THROW(ensemble.vary("noise", std::string("0.1,0.2")), Error);
  EXPECT_EQ(ensemble.run(), LAMINA_STOPPED);
  EXPECT_LT(ensemble.progress().ended, 6);
  EXPECT_EQ(ensemble.run(), LAMINA_OK);
  EXPECT_EQ(foreign, 0);
  // Two members share the prompts of a seed: fewer calls than the 7 of each alone.
  EXPECT_LT(calls, 6 * 7);
  for (int64_t i = 0; i < ensemble.count(); ++i) {
    Trainer trainer(task, nullptr, ensemble.options(i));
    trainer.run(0);
    expect_same_bits(*trainer.trajectory(), *ensemble.member(i).trajectory, std::to_string(i));
  }
}

}  // namespace
}  // namespace lamina::tests
