// A host's prompts and a host's sampler as tasks: what comes back, and what is refused.
#include <limits>

#include "task_test.hpp"

namespace lamina {
namespace {

// Three prompts of length 4 over tokens 0..5, tau = 6.
Prompts three() {
  Prompts prompts;
  prompts.resize(3, 4);
  prompts.tokens = {2, 5, 1, 2, /**/ 0, 4, 6, 0, /**/ 2, 3, 6, 2};
  prompts.label = {5, 6, 3};
  prompts.answer = {5, 4, 3};
  return prompts;
}

TEST(ArraysTask, ReturnsRowsInOrderAndWraps) {
  const auto task = task_from_prompts(three(), 6, 0.25);
  EXPECT_STREQ(task->name(), "arrays");
  EXPECT_EQ(task->law().triggers, (std::vector<int32_t>{0, 2}));
  EXPECT_DOUBLE_EQ(task->law().trigger_law[0], 1.0 / 3);
  EXPECT_DOUBLE_EQ(task->law().trigger_law[1], 2.0 / 3);
  EXPECT_EQ(task->law().outputs, (std::vector<int32_t>{3, 4, 5}));
  EXPECT_EQ(task->law().noise, 0.25);
  EXPECT_EQ(task->law().length, 4);
  EXPECT_TRUE(task->concurrent());
  EXPECT_FALSE(task->has(Split::unseen));
  Prompts out;
  task->sample(Split::train, 9, 2, 5, out);
  ASSERT_EQ(out.count, 5);
  const Prompts source = three();
  for (int64_t i = 0; i < 5; ++i) {
    EXPECT_TRUE(std::ranges::equal(out.row(i), source.row((2 + i) % 3)));
    EXPECT_EQ(out.label[static_cast<size_t>(i)], source.label[static_cast<size_t>((2 + i) % 3)]);
    EXPECT_EQ(out.answer[static_cast<size_t>(i)], source.answer[static_cast<size_t>((2 + i) % 3)]);
  }
  EXPECT_EQ(task->token_text(6), "tau");
  EXPECT_EQ(task->token_text(3), "3");
}

TEST(ArraysTask, RefusesWhatIsNoToken) {
  const auto error = [](auto change, int64_t vocabulary = 6, double noise = 0.5) {
    Prompts prompts = three();
    change(prompts);
    return error_of([&] { task_from_prompts(prompts, vocabulary, noise); });
  };
  const auto nothing = [](Prompts&) {};
  EXPECT_EQ(error(nothing), "");
  expect_error(error([](Prompts& p) { p.tokens[5] = 7; }), LAMINA_E_ARGUMENT, {"prompts[1][1] is 7", "[0, 6]"});
  expect_error(error([](Prompts& p) { p.tokens[0] = -1; }), LAMINA_E_ARGUMENT, {"prompts[0][0] is -1"});
  expect_error(error([](Prompts& p) { p.tokens[11] = 6; }), LAMINA_E_ARGUMENT, {"prompts[2][3] is 6", "[0, 5]"});
  expect_error(error([](Prompts& p) { p.label[1] = 9; }), LAMINA_E_ARGUMENT, {"targets[1][0] is 9"});
  expect_error(error([](Prompts& p) { p.answer[1] = 6; }), LAMINA_E_ARGUMENT, {"targets[1][1] is 6", "[0, 5]"});
  expect_error(error(nothing, 0), LAMINA_E_ARGUMENT, {"vocabulary is 0"});
  expect_error(error(nothing, 6, 1), LAMINA_E_ARGUMENT, {"noise is 1", "[0, 1)"});
  expect_error(error(nothing, 6, std::numeric_limits<double>::quiet_NaN()), LAMINA_E_ARGUMENT, {"noise is nan"});
  expect_error(error([](Prompts& p) { p.resize(0, 4); }), LAMINA_E_ARGUMENT, {"count is 0"});
  expect_error(error([](Prompts& p) { p.resize(3, 1); }), LAMINA_E_ARGUMENT, {"length is 1"});
}

// A host whose prompt i is (i mod 4, tau, 4, i mod 4) with label and answer 4; what it is told to do wrong, it does at row 5.
struct Host {
  int calls = 0;
  std::string wrong;
  int64_t largest_call = 0;
};
int32_t sample_host(void* user, int32_t split, uint64_t seed, int64_t first, int64_t count, double* prompts, double* targets) {
  Host& host = *static_cast<Host*>(user);
  ++host.calls;
  host.largest_call = std::max(host.largest_call, count);
  EXPECT_EQ(seed, 11u);
  EXPECT_EQ(split, LAMINA_SPLIT_TEST);
  for (int64_t i = 0; i < count; ++i) {
    const bool wrong = first + i == 5;
    const auto q = static_cast<double>((first + i) % 4);
    const double row[4] = {q, 6, 4, q};
    std::copy(row, row + 4, prompts + 4 * i);
    targets[2 * i] = targets[2 * i + 1] = 4;
    if (wrong && host.wrong == "fraction") prompts[4 * i + 2] = 1.5;
    if (wrong && host.wrong == "nan") prompts[4 * i + 2] = std::numeric_limits<double>::quiet_NaN();
    if (wrong && host.wrong == "large") targets[2 * i] = 1e300;
    if (wrong && host.wrong == "tau last") prompts[4 * i + 3] = 6;
    if (wrong && host.wrong == "unwritten") prompts[4 * i + 1] = targets[2 * i] = 0, targets[2 * i + 1] = -0.5;
  }
  return host.wrong == "cancel" ? 3 : 0;
}

lamina_task_callback callback_of(Host& host) {
  lamina_task_callback callback = {};
  callback.struct_size = sizeof callback;
  callback.sample = sample_host;
  callback.user = &host;
  callback.length = 4;
  callback.vocabulary = 6;
  callback.noise = 0.5;
  return callback;
}

TEST(CallbackTask, CallsTheHostAndChecksWhatItWrote) {
  Host host;
  const auto task = task_from_callback(callback_of(host));
  EXPECT_STREQ(task->name(), "callback");
  EXPECT_FALSE(task->concurrent());
  EXPECT_EQ(task->law().triggers.size(), 6u);
  EXPECT_EQ(host.calls, 0);
  Prompts out;
  task->sample(Split::test, 11, 3, 100000, out);
  EXPECT_GT(host.calls, 1);
  EXPECT_LE(host.largest_call * 4 * 8, 1 << 20);
  ASSERT_EQ(out.count, 100000);
  for (int64_t i = 0; i < out.count; ++i) {
    const auto q = static_cast<int32_t>((3 + i) % 4);
    ASSERT_TRUE(std::ranges::equal(out.row(i), std::vector<int32_t>{q, 6, 4, q}));
    ASSERT_EQ(out.label[static_cast<size_t>(i)], 4);
  }
}

TEST(CallbackTask, WhatIsWrongIsNamedAndLeavesTheOutputAlone) {
  for (const auto& [wrong, status, part] :
       {std::tuple<const char*, lamina_status, const char*>{"fraction", LAMINA_E_ARGUMENT, "prompts[5][2] is 1.5"},
        {"nan", LAMINA_E_ARGUMENT, "prompts[5][2] is nan"},
        {"large", LAMINA_E_ARGUMENT, "targets[5][0] is 1e+300"},
        {"tau last", LAMINA_E_ARGUMENT, "prompts[5][3] is 6"},
        {"unwritten", LAMINA_E_ARGUMENT, "targets[5][1] is -0.5"},
        {"cancel", LAMINA_STOPPED, "returned 3"}}) {
    Host host;
    host.wrong = wrong;
    const auto task = task_from_callback(callback_of(host));
    Prompts out = three();
    expect_error(error_of([&] { task->sample(Split::test, 11, 0, 8, out); }), status, {part});
    EXPECT_EQ(out.tokens, three().tokens) << wrong;
    EXPECT_EQ(out.count, 3);
  }
}

TEST(CallbackTask, RefusesABadDescription) {
  Host host;
  const auto error = [&](auto change) {
    lamina_task_callback callback = callback_of(host);
    change(callback);
    return error_of([&] { task_from_callback(callback); });
  };
  expect_error(error([](lamina_task_callback& c) { c.sample = nullptr; }), LAMINA_E_ARGUMENT, {"sample is NULL"});
  expect_error(error([](lamina_task_callback& c) { c.length = 1; }), LAMINA_E_ARGUMENT, {"length is 1"});
  expect_error(error([](lamina_task_callback& c) { c.vocabulary = -5; }), LAMINA_E_ARGUMENT, {"vocabulary is -5"});
  expect_error(error([](lamina_task_callback& c) { c.noise = -0.1; }), LAMINA_E_ARGUMENT, {"noise is -0.1"});
}

}  // namespace
}  // namespace lamina
