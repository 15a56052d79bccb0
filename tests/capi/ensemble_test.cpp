// Ensembles through the C interface: each member against the run made from its options, stop from a signal handler, callbacks in the
// host's state, tables, the file.
#include <sys/time.h>
#include <csignal>

#include <cfenv>
#include <cmath>
#include <thread>

#include "tests/capi/host.hpp"

namespace lamina::test {
namespace {

using EnsembleHandle = std::unique_ptr<lamina_ensemble, Free<lamina_ensemble_free>>;

const std::map<std::string, std::string> small{{"data", "fresh"}, {"batch", "16"}, {"prompt_length", "20"}, {"steps", "25"}, {"record_every", "5"}, {"threads", "2"}};

EnsembleHandle make_ensemble(const std::map<std::string, std::string>& values, const std::vector<std::pair<const char*, const char*>>& axes) {
  const OptionsHandle options = make_options(values);
  lamina_ensemble* made = nullptr;
  ok(lamina_ensemble_create("in_context_convergence", nullptr, options.get(), &made));
  EnsembleHandle ensemble(made);
  for (const auto& [key, of_axis] : axes) ok(lamina_ensemble_vary(made, key, of_axis));
  return ensemble;
}

int64_t count_of(const lamina_ensemble* ensemble) {
  int64_t count = 0;
  ok(lamina_ensemble_count(ensemble, &count));
  return count;
}

TrajectoryHandle member(const lamina_ensemble* ensemble, int64_t i) {
  lamina_trajectory* out = nullptr;
  ok(lamina_ensemble_trajectory(ensemble, i, &out));
  return TrajectoryHandle(out);
}

std::vector<std::vector<double>> columns_of(const lamina_trajectory* table) {
  int64_t count = 0;
  ok(lamina_trajectory_columns(table, &count));
  std::vector<std::vector<double>> columns;
  for (int64_t c = 0; c < count; ++c) columns.push_back(column(table, c));
  return columns;
}

void expect_same(const lamina_trajectory* a, const lamina_trajectory* b) {
  const auto left = columns_of(a), right = columns_of(b);
  ASSERT_EQ(left.size(), right.size());
  for (size_t c = 0; c < left.size(); ++c) EXPECT_TRUE(same_bits(left[c], right[c])) << c;
}

void expect_members_as_alone(const lamina_ensemble* ensemble) {
  for (int64_t i = 0; i < count_of(ensemble); ++i) {
    lamina_options* out = nullptr;
    ok(lamina_ensemble_options(ensemble, i, &out));
    const OptionsHandle options(out);
    const TaskHandle task = make_task(options.get(), "in_context_convergence");
    const TrainerHandle trainer = make_trainer(task.get(), options.get());
    ok(lamina_trainer_run(trainer.get(), 0));
    expect_same(trajectory_of(trainer.get()).get(), member(ensemble, i).get());
  }
}

TEST(Ensembles, EachMemberIsTheRunOfItsOptions) {
  const EnsembleHandle ensemble = make_ensemble(small, {{"features", "3,5"}, {"step_size", "0.5,2"}, {"attention", "softmax,relu"}, {"seed", "0..2"}});
  ASSERT_EQ(count_of(ensemble.get()), 24);
  lamina_trajectory* none = nullptr;
  EXPECT_EQ(lamina_ensemble_trajectory(ensemble.get(), 0, &none), LAMINA_E_STATE);
  lamina_status status = LAMINA_OK;
  ok(lamina_ensemble_status(ensemble.get(), 23, &status, nullptr));
  EXPECT_EQ(status, LAMINA_STOPPED);
  ok(lamina_ensemble_run(ensemble.get()));
  const char* text = nullptr;
  ok(lamina_ensemble_status(ensemble.get(), 23, &status, &text));
  EXPECT_EQ(status, LAMINA_OK);
  EXPECT_STREQ(text, "");
  expect_members_as_alone(ensemble.get());
  EXPECT_EQ(lamina_ensemble_vary(ensemble.get(), "noise", "1"), LAMINA_E_OPTION);
  EXPECT_EQ(lamina_ensemble_vary(ensemble.get(), "dimension", "0"), LAMINA_E_STATE);
}

TEST(Ensembles, AxesCanBeRead) {
  const EnsembleHandle ensemble = make_ensemble({}, {{"attention", "softmax,relu"}, {"seed", "0..2"}});
  int64_t count = 0;
  ok(lamina_ensemble_axis_count(ensemble.get(), &count));
  EXPECT_EQ(count, 2);
  const char *key = nullptr, *text = nullptr;
  ok(lamina_ensemble_axis(ensemble.get(), 0, &key, &count));
  EXPECT_STREQ(key, "attention");
  EXPECT_EQ(count, 2);
  double number = 0;
  int32_t is_number = 1;
  ok(lamina_ensemble_axis_value(ensemble.get(), 0, 1, &text, &number, &is_number));
  EXPECT_STREQ(text, "relu");
  EXPECT_EQ(number, 1);
  EXPECT_EQ(is_number, 0);
  ok(lamina_ensemble_axis_value(ensemble.get(), 1, 2, &text, &number, &is_number));
  EXPECT_STREQ(text, "2");
  EXPECT_EQ(number, 2);
  EXPECT_EQ(is_number, 1);
  const char *attention = nullptr, *features = nullptr;
  ok(lamina_ensemble_option(ensemble.get(), 3, "attention", &attention));
  ok(lamina_ensemble_option(ensemble.get(), 3, "features", &features));
  EXPECT_STREQ(attention, "relu");
  EXPECT_STREQ(features, "20");
}

lamina_ensemble* signalled;
void on_alarm(int) { lamina_ensemble_stop(signalled); }

TEST(Ensembles, AreStoppedFromASignalHandlerAndGoOnToTheSameBits) {
  const EnsembleHandle ensemble = make_ensemble(small, {{"step_size", "0.5,2"}, {"seed", "0..99"}});
  signalled = ensemble.get();
  const auto old = std::signal(SIGALRM, on_alarm);
  const itimerval soon{{0, 3000}, {0, 3000}}, never{};
  ASSERT_EQ(setitimer(ITIMER_REAL, &soon, nullptr), 0);
  int stops = 0;
  for (; lamina_ensemble_run(ensemble.get()) == LAMINA_STOPPED && stops < 3; ++stops) continue;
  ASSERT_EQ(setitimer(ITIMER_REAL, &never, nullptr), 0);
  std::signal(SIGALRM, old);
  EXPECT_GT(stops, 0);
  lamina_status status = LAMINA_OK;
  for (int tries = 0; (status = lamina_ensemble_run(ensemble.get())) == LAMINA_STOPPED && tries < 2; ++tries) continue;
  ok(status);
  expect_members_as_alone(ensemble.get());
}

struct Watcher {
  std::thread::id thread = std::this_thread::get_id();
  int calls = 0, foreign_calls = 0, foreign_states = 0;
  int64_t cancel_after = -1, ended = 0, failed = 0;
  lamina_ensemble* ensemble = nullptr;
  std::vector<lamina_status> inside;
};

int32_t watch(void* user, const lamina_ensemble_progress* progress) {
  auto& watcher = *static_cast<Watcher*>(user);
  ++watcher.calls;
  watcher.foreign_calls += std::this_thread::get_id() != watcher.thread;
  watcher.foreign_states += std::fegetround() != FE_UPWARD;
  watcher.ended = progress->ended, watcher.failed = progress->failed;
  EXPECT_EQ(progress->struct_size, sizeof *progress);
  lamina_trajectory* table = nullptr;
  watcher.inside = {lamina_ensemble_table(watcher.ensemble, &table), lamina_ensemble_run(watcher.ensemble), lamina_ensemble_vary(watcher.ensemble, "seed", "1")};
  lamina_trajectory_free(table);
  return watcher.calls == watcher.cancel_after;
}

TEST(Ensembles, ProgressIsCalledOnTheCallersThreadInTheHostsStateAndMayCancel) {
  const EnsembleHandle ensemble = make_ensemble(small, {{"dimension", "0,2"}, {"step_size", "0.5,2"}, {"seed", "0..199"}});
  Watcher watcher;
  watcher.ensemble = ensemble.get();
  watcher.cancel_after = 1;
  ok(lamina_ensemble_on_progress(ensemble.get(), watch, &watcher, 0));
  std::fesetround(FE_UPWARD);
  lamina_status status = lamina_ensemble_run(ensemble.get());
  while (status == LAMINA_STOPPED && watcher.calls < 1000) status = lamina_ensemble_run(ensemble.get());
  std::fesetround(FE_TONEAREST);
  EXPECT_EQ(status, LAMINA_OK);
  EXPECT_EQ(watcher.foreign_calls + watcher.foreign_states, 0);
  EXPECT_GE(watcher.calls, 1);
  EXPECT_EQ(watcher.ended, 800);
  EXPECT_EQ(watcher.failed, 400);
  EXPECT_EQ(watcher.inside, (std::vector<lamina_status>{LAMINA_OK, LAMINA_E_STATE, LAMINA_E_STATE}));
}

TEST(Ensembles, ACallbackMayFreeTheHandle) {
  lamina_ensemble* ensemble = make_ensemble(small, {{"seed", "0..3"}}).release();
  const auto release = [](void* user, const lamina_ensemble_progress*) -> int32_t {
    lamina_ensemble_free(*static_cast<lamina_ensemble**>(user));
    return 1;
  };
  ok(lamina_ensemble_on_progress(ensemble, release, &ensemble, 1e6));
  ok(lamina_ensemble_run(ensemble));
}

TEST(Ensembles, TablesAndTheFile) {
  const EnsembleHandle ensemble = make_ensemble(small, {{"features", "3,5,8"}, {"seed", "0..4"}});
  const double levels[] = {0.4, 0.3}, quantiles[] = {0.25, 0.5, 0.75};
  lamina_trajectory *table = nullptr, *summary = nullptr, *times = nullptr, *exponents = nullptr, *again = nullptr;
  EXPECT_EQ(lamina_ensemble_summary(ensemble.get(), "loss", "seed", quantiles, 3, &summary), LAMINA_E_STATE);
  ok(lamina_ensemble_run(ensemble.get()));
  ok(lamina_ensemble_table(ensemble.get(), &table));
  ok(lamina_ensemble_summary(ensemble.get(), "loss", "seed", quantiles, 3, &summary));
  ok(lamina_ensemble_times(ensemble.get(), "loss", levels, 2, &times));
  ok(lamina_ensemble_exponents(ensemble.get(), "loss", "features", "seed", levels, 2, 0.95, &exponents));
  EXPECT_EQ(column(table, 0).size(), 15u * 6);
  EXPECT_EQ(column(summary, 0).size(), 3u * 6);
  EXPECT_EQ(column(times, 0).size(), 30u);
  EXPECT_EQ(column(exponents, 0).size(), 2u);
  ok(lamina_ensemble_save(ensemble.get(), "ensemble.safetensors"));
  lamina_ensemble* read = nullptr;
  ok(lamina_ensemble_load("ensemble.safetensors", nullptr, &read));
  const EnsembleHandle loaded(read);
  ok(lamina_ensemble_run(read));
  ok(lamina_ensemble_table(read, &again));
  expect_same(table, again);
  lamina_ensemble* trained = nullptr;
  EXPECT_EQ(lamina_ensemble_load("/dev/null", nullptr, &trained), LAMINA_E_FILE);
  for (lamina_trajectory* one : {table, summary, times, exponents, again}) lamina_trajectory_free(one);
}

TEST(Ensembles, OfATaskThatIsGivenShareIt) {
  const OptionsHandle options = make_options({{"steps", "5"}, {"features", "4"}});
  const TaskHandle task = make_task(options.get(), "in_context_convergence");
  lamina_ensemble* made = nullptr;
  ok(lamina_ensemble_create(nullptr, task.get(), options.get(), &made));
  const EnsembleHandle ensemble(made);
  error_of(lamina_ensemble_vary(made, "features", "3,4"), LAMINA_E_OPTION);
  ok(lamina_ensemble_vary(made, "step_size", "1,2"));
  ok(lamina_ensemble_run(made));
  const TrainerHandle trainer = make_trainer(task.get(), options.get());
  ok(lamina_trainer_run(trainer.get(), 0));
  expect_same(trajectory_of(trainer.get()).get(), member(made, 0).get());
}

}  // namespace
}  // namespace lamina::test
