// Tasks of the host: arrays and a callback, equal in bits to the task that they repeat; and samples of any task.
#include <cfenv>
#include <cmath>
#include <thread>

#include "tests/capi/host.hpp"

namespace lamina::test {
namespace {

constexpr int64_t length = 32, count = 128;
const std::map<std::string, std::string> task_options{{"prompt_length", "32"}};
const std::map<std::string, std::string> run_options{
    {"samples", "128"}, {"steps", "10"}, {"evaluation_samples", "32"}, {"variant", "w_free"}, {"probes", "none"}};

struct Data {
  std::vector<double> prompts = std::vector<double>(count * length), targets = std::vector<double>(count * 2);
};

Data draw(const lamina_task* task, int64_t first = 0, int32_t split = LAMINA_SPLIT_TRAIN, uint64_t seed = 1) {
  Data data;
  ok(lamina_task_sample(task, split, seed, first, count, data.prompts.data(), data.targets.data()));
  return data;
}

lamina_task_arrays arrays_of(const Data& data) {
  lamina_task_arrays arrays;
  ok(lamina_task_arrays_init(&arrays, sizeof arrays));
  arrays.prompts = data.prompts.data(), arrays.targets = data.targets.data();
  arrays.count = count, arrays.length = length, arrays.vocabulary = 60, arrays.noise = 0.5;
  return arrays;
}

TaskHandle from_arrays(const Data& data) {
  const lamina_task_arrays arrays = arrays_of(data);
  lamina_task* task = nullptr;
  ok(lamina_task_from_arrays(&arrays, &task));
  return TaskHandle(task);
}

TEST(Sample, APromptIsAFunctionOfSeedSplitAndIndex) {
  const OptionsHandle options = make_options(task_options);
  const TaskHandle task = make_task(options.get());
  const Data all = draw(task.get()), again = draw(task.get()), later = draw(task.get(), 5);
  EXPECT_TRUE(same_bits(all.prompts, again.prompts));
  EXPECT_TRUE(std::equal(all.prompts.begin() + 5 * length, all.prompts.end(), later.prompts.begin()));
  EXPECT_TRUE(std::equal(all.targets.begin() + 10, all.targets.end(), later.targets.begin()));
  EXPECT_FALSE(same_bits(all.prompts, draw(task.get(), 0, LAMINA_SPLIT_TEST).prompts));
  EXPECT_FALSE(same_bits(all.prompts, draw(task.get(), 0, LAMINA_SPLIT_TRAIN, 2).prompts));
}

TEST(Sample, ATaskWithoutASplitSaysSo) {
  const OptionsHandle options = make_options({{"unseen_outputs", "0"}});
  const TaskHandle task = make_task(options.get());
  double x = -7;
  const std::string text = error_of(lamina_task_sample(task.get(), LAMINA_SPLIT_UNSEEN, 1, 0, 1, &x, &x), LAMINA_E_ARGUMENT);
  EXPECT_EQ(text, "lamina_task_sample: split is 2, must be one that task in_context_recall has");
  EXPECT_EQ(x, -7);
}

TEST(Sample, InfinitePromptsCannotBeDrawn) {
  const OptionsHandle options = make_options({{"prompt_length", "inf"}});
  const TaskHandle task = make_task(options.get());
  lamina_task_shape shape;
  ok(lamina_task_shape_init(&shape, sizeof shape));
  ok(lamina_task_get_shape(task.get(), &shape));
  EXPECT_EQ(shape.length, -1);
  double x = -7;
  EXPECT_EQ(lamina_task_sample(task.get(), LAMINA_SPLIT_TRAIN, 1, 0, 1, &x, &x), LAMINA_E_UNSUPPORTED);
  EXPECT_EQ(x, -7);
}

TEST(Token, HasAText) {
  const TaskHandle task = make_task(nullptr);
  const char *first = nullptr, *again = nullptr, *tau = nullptr;
  ok(lamina_task_token(task.get(), 0, &first));
  ok(lamina_task_token(task.get(), 60, &tau));
  ok(lamina_task_token(task.get(), 0, &again));
  EXPECT_STREQ(first, "q0");
  EXPECT_STREQ(tau, "tau");
  EXPECT_EQ(first, again);
}

TEST(Arrays, AreCopiedAndTrainLikeTheTaskTheyCameFrom) {
  const OptionsHandle options = make_options(task_options), run = make_options(run_options);
  const TaskHandle task = make_task(options.get());
  Data data = draw(task.get());
  const Data kept = data;
  const TaskHandle host = from_arrays(data);
  data.prompts.assign(data.prompts.size(), -1);
  EXPECT_STREQ(lamina_task_name(host.get()), "arrays");
  EXPECT_TRUE(same_bits(draw(host.get()).prompts, kept.prompts));
  EXPECT_TRUE(same_bits(draw(host.get(), count).targets, kept.targets));
  const TrainerHandle trainer = make_trainer(host.get(), run.get());
  ok(lamina_trainer_run(trainer.get(), 0));
  const std::vector<double> loss = column(trajectory_of(trainer.get()).get(), 1);
  ASSERT_EQ(loss.size(), 11u);
  EXPECT_LT(loss.back(), loss.front());
}

TEST(Arrays, WrongContentIsNamed) {
  const OptionsHandle options = make_options(task_options);
  const TaskHandle task = make_task(options.get());
  const Data good = draw(task.get());
  const auto refused = [](const Data& data, const std::string& expected, auto&& change) {
    lamina_task_arrays arrays = arrays_of(data);
    change(arrays);
    lamina_task* made = nullptr;
    const std::string text = error_of(lamina_task_from_arrays(&arrays, &made), LAMINA_E_ARGUMENT);
    EXPECT_EQ(text.substr(0, expected.size()), expected);
    EXPECT_EQ(made, nullptr);
    lamina_task_free(made);
  };
  const auto same = [](lamina_task_arrays&) {};
  for (const double token : {-1.0, 61.0, 1.5, 1e300, static_cast<double>(NAN), static_cast<double>(INFINITY)}) {
    Data bad = good;
    bad.prompts[3 * length + 4] = token;
    refused(bad, "lamina_task_from_arrays: arrays->prompts[3, 4] is ", same);
    bad = good;
    bad.targets[7] = token;
    refused(bad, "lamina_task_from_arrays: arrays->targets[3, 1] is ", same);
  }
  refused(good, "lamina_task_from_arrays: arrays->count is 0", [](auto& arrays) { arrays.count = 0; });
  refused(good, "lamina_task_from_arrays: arrays->length is 1", [](auto& arrays) { arrays.length = 1; });
  refused(good, "lamina_task_from_arrays: arrays->vocabulary is 0", [](auto& arrays) { arrays.vocabulary = 0; });
  refused(good, "lamina_task_from_arrays: arrays->count is 1099511627776 and arrays->length is 1099511627776",
          [](auto& arrays) { arrays.count = arrays.length = int64_t{1} << 40; });
  refused(good, "lamina_task_from_arrays: arrays->noise is 1", [](auto& arrays) { arrays.noise = 1; });
  refused(good, "lamina_task_from_arrays: arrays->noise is nan", [](auto& arrays) { arrays.noise = NAN; });
  refused(good, "lamina_task_from_arrays: arrays->prompts is NULL", [](auto& arrays) { arrays.prompts = nullptr; });
  refused(good, "lamina_task_from_arrays: arrays->targets is NULL", [](auto& arrays) { arrays.targets = nullptr; });
  refused(good, "lamina_task_from_arrays: arrays->reserved is 1", [](auto& arrays) { arrays.reserved = 1; });
}

// A host's sampler that passes on another task's samples, and notes how it was called.
struct Sampler {
  TaskHandle source;
  std::thread::id thread = std::this_thread::get_id();
  int calls = 0, foreign_calls = 0, foreign_states = 0;
  bool cancel = false, write_nonsense = false;
  int rounding = FE_TONEAREST;
};

int32_t sample(void* user, int32_t split, uint64_t seed, int64_t first, int64_t rows, double* prompts, double* targets) {
  auto& sampler = *static_cast<Sampler*>(user);
  ++sampler.calls;
  sampler.foreign_calls += std::this_thread::get_id() != sampler.thread;
  sampler.foreign_states += std::fegetround() != sampler.rounding;
  if (sampler.cancel) return 1;
  ok(lamina_task_sample(sampler.source.get(), split, seed, first, rows, prompts, targets));
  if (sampler.write_nonsense) prompts[1] = 0.5;
  return 0;
}

TaskHandle from_callback(Sampler& sampler) {
  lamina_task_callback callback;
  ok(lamina_task_callback_init(&callback, sizeof callback));
  callback.sample = sample, callback.user = &sampler;
  callback.length = length, callback.vocabulary = 60, callback.noise = 0.5;
  lamina_task* task = nullptr;
  ok(lamina_task_from_callback(&callback, &task));
  return TaskHandle(task);
}

TEST(Callback, TrainsWithTheBitsOfArraysOnTheCallersThreadInTheHostsState) {
  const OptionsHandle options = make_options(task_options);
  for (const char* data : {"fixed", "fresh"}) {
    auto with = run_options;
    with["data"] = data, with["batch"] = std::string(data) == "fresh" ? "128" : "0", with["threads"] = "2";
    const OptionsHandle run = make_options(with);
    Sampler sampler{make_task(options.get())};
    const TaskHandle host = from_callback(sampler), plain = make_task(options.get());
    EXPECT_STREQ(lamina_task_name(host.get()), "callback");
    sampler.rounding = FE_UPWARD;
    std::fesetround(FE_UPWARD);
    const TrainerHandle trainer = make_trainer(host.get(), run.get());
    const lamina_status status = lamina_trainer_run(trainer.get(), 0);
    std::fesetround(FE_TONEAREST);
    EXPECT_EQ(status, LAMINA_OK) << lamina_last_error();
    EXPECT_GT(sampler.calls, 0);
    EXPECT_EQ(sampler.foreign_calls, 0);
    EXPECT_EQ(sampler.foreign_states, 0);
    const TrainerHandle reference = make_trainer(plain.get(), run.get());
    ok(lamina_trainer_run(reference.get(), 0));
    EXPECT_TRUE(same_bits(column(trajectory_of(trainer.get()).get(), 1), column(trajectory_of(reference.get()).get(), 1)))
        << data;
  }
}

TEST(Callback, CancelsAndNonsenseIsNamedAndNothingIsWritten) {
  const OptionsHandle options = make_options(task_options);
  Sampler sampler{make_task(options.get())};
  const TaskHandle host = from_callback(sampler);
  Data data;
  data.prompts.assign(data.prompts.size(), -7);
  const std::vector<double> before = data.prompts;
  sampler.cancel = true;
  EXPECT_EQ(lamina_task_sample(host.get(), 0, 1, 0, count, data.prompts.data(), data.targets.data()), LAMINA_STOPPED);
  EXPECT_TRUE(same_bits(data.prompts, before));
  sampler.cancel = false, sampler.write_nonsense = true;
  const std::string text =
      error_of(lamina_task_sample(host.get(), 0, 1, 0, count, data.prompts.data(), data.targets.data()), LAMINA_E_ARGUMENT);
  EXPECT_NE(text.find("is 0.5"), text.npos) << text;
  EXPECT_TRUE(same_bits(data.prompts, before));
}

TEST(Callback, CancelInARunKeepsWhatWasComputed) {
  const OptionsHandle options = make_options(task_options);
  auto with = run_options;
  with["data"] = "fresh", with["batch"] = "16", with["steps"] = "1000";
  const OptionsHandle run = make_options(with);
  Sampler sampler{make_task(options.get())};
  const TaskHandle host = from_callback(sampler);
  const TrainerHandle trainer = make_trainer(host.get(), run.get());
  ok(lamina_trainer_run(trainer.get(), 5));
  sampler.cancel = true;
  EXPECT_EQ(lamina_trainer_run(trainer.get(), 5), LAMINA_STOPPED);
  sampler.cancel = false;
  const TrainerHandle plain = make_trainer(host.get(), run.get());
  int64_t step = 0;
  ok(lamina_trainer_step(trainer.get(), &step));
  EXPECT_GE(step, 5);
  EXPECT_LE(step, 6);  // the samples of the next step may have been drawn already
  ok(lamina_trainer_run(trainer.get(), 11 - step));
  ok(lamina_trainer_run(plain.get(), 11));
  EXPECT_TRUE(same_bits(column(trajectory_of(trainer.get()).get(), 1), column(trajectory_of(plain.get()).get(), 1)));
}

// A sampler that frees the task which called it, then goes on.
struct Ungrateful {
  lamina_task* task = nullptr;
};

int32_t free_the_task(void* user, int32_t, uint64_t, int64_t, int64_t rows, double* prompts, double* targets) {
  auto& self = *static_cast<Ungrateful*>(user);
  lamina_task_free(self.task);
  self.task = nullptr;
  std::fill(prompts, prompts + rows * length, 1.0);
  std::fill(targets, targets + rows * 2, 1.0);
  return 0;
}

TEST(Callback, MayFreeTheTaskThatCallsIt) {
  Ungrateful host;
  lamina_task_callback callback;
  ok(lamina_task_callback_init(&callback, sizeof callback));
  callback.sample = free_the_task, callback.user = &host;
  callback.length = length, callback.vocabulary = 60, callback.noise = 0.5;
  Data data;
  ok(lamina_task_from_callback(&callback, &host.task));
  ok(lamina_task_sample(host.task, LAMINA_SPLIT_TRAIN, 1, 0, count, data.prompts.data(), data.targets.data()));
  EXPECT_EQ(host.task, nullptr);
  EXPECT_EQ(data.prompts.back(), 1.0);
  // Also from inside the create of a trainer, which draws its training set.
  const OptionsHandle run = make_options(run_options);
  ok(lamina_task_from_callback(&callback, &host.task));
  const TrainerHandle trainer = make_trainer(host.task, run.get());
  EXPECT_EQ(host.task, nullptr);
  ok(lamina_trainer_run(trainer.get(), 2));
}

// What no machine has is refused by name and size, and nothing is left half made.
TEST(Memory, WhatCouldNotBeAllocatedIsNamedWithItsBytes) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "SKIPPED: a sanitizer ends the program where memory runs out";
#endif
  const auto create = [](const std::map<std::string, std::string>& values) {
    const OptionsHandle options = make_options(values);
    const TaskHandle task = make_task(options.get());
    lamina_trainer* trainer = nullptr;
    const std::string text = error_of(lamina_trainer_create(task.get(), nullptr, options.get(), &trainer), LAMINA_E_MEMORY);
    EXPECT_EQ(trainer, nullptr);
    return text;
  };
  EXPECT_EQ(create({{"samples", "1e9"}, {"prompt_length", "1048576"}, {"estimate_noise", "no"}}),
            "lamina_trainer_create: prompts: 4194312000000000 bytes could not be allocated");
  const std::string parameters = create({{"vocabulary", "1048576"}, {"variant", "original"}, {"samples", "2"}});
  EXPECT_NE(parameters.find("parameters: "), parameters.npos) << parameters;
  EXPECT_NE(parameters.find(" bytes could not be allocated"), parameters.npos) << parameters;
  const TaskHandle task = make_task(nullptr);
  double x[2] = {-7, -7};
  const std::string sample =
      error_of(lamina_task_sample(task.get(), LAMINA_SPLIT_TRAIN, 1, 0, int64_t{1} << 39, x, x + 1), LAMINA_E_ARGUMENT);
  EXPECT_EQ(x[0], -7) << sample;
}

TEST(Callback, WrongSpecsAreNamed) {
  lamina_task_callback callback;
  ok(lamina_task_callback_init(&callback, sizeof callback));
  lamina_task* task = nullptr;
  callback.length = length, callback.vocabulary = 60;
  EXPECT_EQ(error_of(lamina_task_from_callback(&callback, &task), LAMINA_E_ARGUMENT),
            "lamina_task_from_callback: callback->sample is NULL, must be given");
  callback.sample = sample;
  callback.noise = -0.5;
  EXPECT_EQ(error_of(lamina_task_from_callback(&callback, &task), LAMINA_E_ARGUMENT),
            "lamina_task_from_callback: callback->noise is -0.5, must be in [0, 1)");
  EXPECT_EQ(task, nullptr);
}

}  // namespace
}  // namespace lamina::test
