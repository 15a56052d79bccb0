// Runs and their handles: freeing in any order, stopping from a thread, a signal handler and a callback, going on afterwards.
#include <sys/time.h>
#include <csignal>

#include <algorithm>
#include <cfenv>
#include <chrono>
#include <cmath>
#include <numeric>
#include <thread>

#include "tests/capi/host.hpp"

namespace lamina::test {
namespace {

const std::map<std::string, std::string> small{
    {"samples", "64"}, {"steps", "30"}, {"prompt_length", "32"}, {"evaluation_samples", "32"}};
// Long enough that only a stop ends it.
const std::map<std::string, std::string> endless{{"samples", "64"},       {"steps", "1e15"},      {"record_every", "1e9"},
                                                 {"prompt_length", "32"}, {"step_size", "1e-12"}, {"probes", "none"}};

TEST(Handles, AreFreedInAnyOrder) {
  std::vector<int> order{0, 1, 2, 3, 4, 5};
  do {
    const OptionsHandle kept = make_options(small);
    OptionsHandle options = make_options(small);
    TaskHandle task = make_task(options.get());
    ModelHandle model = make_model(task.get(), options.get());
    lamina_trainer* made = nullptr;
    ok(lamina_trainer_create(task.get(), model.get(), options.get(), &made));
    TrainerHandle trainer(made);
    ok(lamina_trainer_run(trainer.get(), 2));
    TrajectoryHandle trajectory = trajectory_of(trainer.get());
    lamina_model* lent = nullptr;
    ok(lamina_trainer_model(trainer.get(), &lent));
    ModelHandle trained(lent);
    for (const int which : order) {
      // What is left still works.
      if (trainer) ok(lamina_trainer_run(trainer.get(), 1));
      if (trajectory) {
        EXPECT_EQ(column(trajectory.get(), 0).size(), 3u);
      }
      if (trained) {
        EXPECT_FALSE(parameters_of(trained.get()).empty());
      }
      if (which == 0) options.reset();
      if (which == 1) task.reset();
      if (which == 2) model.reset();
      if (which == 3) trainer.reset();
      if (which == 4) trajectory.reset();
      if (which == 5) trained.reset();
    }
  } while (std::next_permutation(order.begin(), order.end()) && order[0] < 6);
}

TEST(Run, InChunksGivesTheBitsOfOneRun) {
  const OptionsHandle options = make_options(small);
  const TaskHandle task = make_task(options.get());
  const TrainerHandle whole = make_trainer(task.get(), options.get()), chunks = make_trainer(task.get(), options.get());
  ok(lamina_trainer_run(whole.get(), 0));
  for (const int64_t steps : {1, 7, 1000}) ok(lamina_trainer_run(chunks.get(), steps));
  int64_t step = 0;
  ok(lamina_trainer_step(chunks.get(), &step));
  EXPECT_EQ(step, 30);
  EXPECT_TRUE(same_bits(parameters_of(whole.get()), parameters_of(chunks.get())));
  EXPECT_TRUE(same_bits(column(trajectory_of(whole.get()).get(), 1), column(trajectory_of(chunks.get()).get(), 1)));
}

TEST(Run, ATrajectoryIsASnapshotAndAModelACopy) {
  const OptionsHandle options = make_options(small);
  const TaskHandle task = make_task(options.get());
  const ModelHandle model = make_model(task.get(), options.get());
  const std::vector<double> start = parameters_of(model.get());
  lamina_trainer* made = nullptr;
  ok(lamina_trainer_create(task.get(), model.get(), options.get(), &made));
  const TrainerHandle trainer(made);
  ok(lamina_trainer_run(trainer.get(), 5));
  const TrajectoryHandle early = trajectory_of(trainer.get());
  ok(lamina_trainer_run(trainer.get(), 5));
  EXPECT_EQ(column(early.get(), 0).size(), 6u);
  EXPECT_TRUE(same_bits(parameters_of(model.get()), start));
  EXPECT_FALSE(same_bits(parameters_of(trainer.get()), start));
}

TEST(Stop, FromAnotherThreadEndsTheRunAndItGoesOn) {
  const OptionsHandle options = make_options(endless);
  const TaskHandle task = make_task(options.get());
  const TrainerHandle trainer = make_trainer(task.get(), options.get());
  std::thread stopper([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
    lamina_trainer_stop(trainer.get());
  });
  EXPECT_EQ(lamina_trainer_run(trainer.get(), 0), LAMINA_STOPPED);
  stopper.join();
  int64_t stopped = 0, step = 0;
  ok(lamina_trainer_step(trainer.get(), &stopped));
  EXPECT_GT(stopped, 0);
  EXPECT_EQ(lamina_trainer_run(trainer.get(), 3), LAMINA_OK);
  ok(lamina_trainer_step(trainer.get(), &step));
  EXPECT_EQ(step, stopped + 3);
}

lamina_trainer* signalled;
void on_alarm(int) {
  lamina_trainer_stop(signalled);
}

TEST(Stop, FromASignalHandlerEndsTheRun) {
  const OptionsHandle options = make_options(endless);
  const TaskHandle task = make_task(options.get());
  const TrainerHandle trainer = make_trainer(task.get(), options.get());
  signalled = trainer.get();
  const auto old = std::signal(SIGALRM, on_alarm);
  const itimerval soon{{0, 0}, {0, 30000}};
  ASSERT_EQ(setitimer(ITIMER_REAL, &soon, nullptr), 0);
  EXPECT_EQ(lamina_trainer_run(trainer.get(), 0), LAMINA_STOPPED);
  std::signal(SIGALRM, old);
}

struct Watcher {
  std::thread::id thread = std::this_thread::get_id();
  std::vector<lamina_progress> seen;
  int64_t cancel_at = -1;
  int foreign_calls = 0, foreign_states = 0;
  lamina_trainer* trainer = nullptr;
  std::vector<lamina_status> inside;
};

int32_t watch(void* user, const lamina_progress* progress) {
  auto& watcher = *static_cast<Watcher*>(user);
  watcher.foreign_calls += std::this_thread::get_id() != watcher.thread;
  watcher.foreign_states += std::fegetround() != FE_UPWARD;
  watcher.seen.push_back(*progress);
  if (watcher.trainer) {
    // Looking is allowed, changing is not.
    lamina_trajectory* trajectory = nullptr;
    watcher.inside = {lamina_trainer_trajectory(watcher.trainer, &trajectory), lamina_trainer_run(watcher.trainer, 1),
                      lamina_trainer_watch(watcher.trainer, "lambda"),
                      lamina_trainer_on_progress(watcher.trainer, nullptr, nullptr, 0)};
    lamina_trajectory_free(trajectory);
  }
  return progress->step == watcher.cancel_at;
}

TEST(Progress, IsCalledOnTheCallersThreadInTheHostsState) {
  const OptionsHandle options = make_options(small);
  const TaskHandle task = make_task(options.get());
  const TrainerHandle trainer = make_trainer(task.get(), options.get());
  Watcher watcher;
  watcher.trainer = trainer.get();
  ok(lamina_trainer_on_progress(trainer.get(), watch, &watcher, 0));
  std::fesetround(FE_UPWARD);
  const lamina_status status = lamina_trainer_run(trainer.get(), 10);
  std::fesetround(FE_TONEAREST);
  EXPECT_EQ(status, LAMINA_OK);
  EXPECT_EQ(watcher.foreign_calls, 0);
  EXPECT_EQ(watcher.foreign_states, 0);
  EXPECT_EQ(watcher.inside, (std::vector<lamina_status>{LAMINA_OK, LAMINA_E_STATE, LAMINA_E_STATE, LAMINA_E_STATE}));
  ASSERT_FALSE(watcher.seen.empty());
  for (const auto& progress : watcher.seen) {
    EXPECT_EQ(progress.struct_size, sizeof progress);
    EXPECT_EQ(progress.steps, 30);
    EXPECT_TRUE(std::isfinite(progress.loss));
    EXPECT_GE(progress.seconds, 0);
  }
  EXPECT_EQ(watcher.seen.back().step, 10);
  const TrainerHandle plain = make_trainer(task.get(), options.get());
  ok(lamina_trainer_run(plain.get(), 10));
  EXPECT_TRUE(same_bits(parameters_of(plain.get()), parameters_of(trainer.get())));
}

TEST(Progress, NonZeroCancelsAndTheRunGoesOn) {
  const OptionsHandle options = make_options(small);
  const TaskHandle task = make_task(options.get());
  const TrainerHandle trainer = make_trainer(task.get(), options.get()), plain = make_trainer(task.get(), options.get());
  Watcher watcher;
  watcher.cancel_at = 7;
  ok(lamina_trainer_on_progress(trainer.get(), watch, &watcher, 0));
  EXPECT_EQ(lamina_trainer_run(trainer.get(), 0), LAMINA_STOPPED);
  int64_t step = 0;
  ok(lamina_trainer_step(trainer.get(), &step));
  EXPECT_EQ(step, 7);
  ok(lamina_trainer_on_progress(trainer.get(), nullptr, nullptr, 0));
  EXPECT_EQ(lamina_trainer_run(trainer.get(), 0), LAMINA_OK);
  ok(lamina_trainer_run(plain.get(), 0));
  EXPECT_TRUE(same_bits(parameters_of(plain.get()), parameters_of(trainer.get())));
  EXPECT_TRUE(same_bits(column(trajectory_of(plain.get()).get(), 1), column(trajectory_of(trainer.get()).get(), 1)));
}

TEST(Trainer, AModelOfAnotherVocabularyIsRefused) {
  const OptionsHandle options = make_options(small), other = make_options({{"vocabulary", "70"}});
  const TaskHandle task = make_task(options.get()), larger = make_task(other.get());
  const ModelHandle model = make_model(larger.get(), other.get());
  lamina_trainer* trainer = nullptr;
  const std::string text = error_of(lamina_trainer_create(task.get(), model.get(), options.get(), &trainer), LAMINA_E_ARGUMENT);
  EXPECT_NE(text.find("70"), text.npos) << text;
  EXPECT_EQ(trainer, nullptr);
}

}  // namespace
}  // namespace lamina::test
