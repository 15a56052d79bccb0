// Manners towards a host: its floating-point state, errno and threads; the same bits whatever the host has set.
#include <cerrno>
#include <cfenv>
#include <thread>

#include "tests/capi/host.hpp"

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace lamina::test {
namespace {

struct State {
  unsigned sse = 0;
  uint16_t x87 = 0;
  int rounding = 0, error = 0;
  bool operator==(const State&) const = default;
};

State state() {
  State now;
  now.error = errno;
#if defined(__x86_64__)
  now.sse = _mm_getcsr();
  __asm__ volatile("fnstcw %0" : "=m"(now.x87));
#endif
  now.rounding = std::fegetround();
  return now;
}

// Calls one function, and checks that it leaves the state alone.
template <class Call>
void call(const char* what, Call&& function) {
  errno = 77;
  const State before = state();
  const lamina_status status = function();
  const State after = state();
  EXPECT_EQ(status, LAMINA_OK) << what << ": " << lamina_last_error();
  EXPECT_TRUE(before == after) << what << " changed the host's state";
}
#define CALL(expression) call(#expression, [&] { return expression; })

// A whole session: every kind of result, one after the other.
std::vector<double> session(const char* threads) {
  lamina_options* options = nullptr;
  lamina_task* task = nullptr;
  lamina_model* model = nullptr;
  lamina_trainer* trainer = nullptr;
  lamina_trajectory* trajectory = nullptr;
  CALL(lamina_options_create(&options));
  for (const auto& option : std::map<std::string, std::string>{{"samples", "100"},
                                                               {"steps", "5"},
                                                               {"threads", threads},
                                                               {"variant", "original"},
                                                               {"attention", "softmax"},
                                                               {"prompt_length", "40"},
                                                               {"evaluation_samples", "32"}})
    CALL(lamina_options_set_text(options, option.first.c_str(), option.second.c_str()));
  CALL(lamina_task_create("in_context_recall", options, &task));
  CALL(lamina_model_create(task, options, &model));
  CALL(lamina_trainer_create(task, model, options, &trainer));
  CALL(lamina_trainer_run(trainer, 0));
  CALL(lamina_trainer_trajectory(trainer, &trajectory));
  std::vector<double> results(100), prompts(200 * 40), targets(200 * 2), logits(200 * 61);
  CALL(lamina_trajectory_read(trajectory, 1, results.data(), 100));
  CALL(lamina_task_sample(task, LAMINA_SPLIT_TEST, 3, 0, 200, prompts.data(), targets.data()));
  int64_t count = 0;
  CALL(lamina_model_parameter_count(model, &count));
  std::vector<double> gradient(static_cast<size_t>(count)), weights(200 * 40);
  double loss = 0, risk = 0;
  CALL(lamina_model_loss_gradient(model, prompts.data(), targets.data(), 200, 40, &loss, gradient.data()));
  CALL(lamina_model_forward(model, prompts.data(), 200, 40, LAMINA_LOGITS, logits.data()));
  CALL(lamina_model_attention(model, prompts.data(), 200, 40, weights.data()));
  CALL(lamina_theory_evaluate("bayes_risk", task, nullptr, 0, &risk, 1));
  EXPECT_EQ(lamina_trainer_run(trainer, -1), LAMINA_E_ARGUMENT);
  lamina_options_free(options), lamina_task_free(task), lamina_model_free(model);
  lamina_trainer_free(trainer), lamina_trajectory_free(trajectory);
  for (const auto* part : {&prompts, &targets, &logits, &gradient, &weights})
    results.insert(results.end(), part->begin(), part->end());
  results.push_back(loss), results.push_back(risk);
  return results;
}

TEST(Host, RoundingModesNeitherEnterNorChange) {
  const std::vector<double> expected = session("1");
  for (const int mode : {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO}) {
    std::fesetround(mode);
    const std::vector<double> serial = session("1"), parallel = session("2");
    std::fesetround(FE_TONEAREST);
    EXPECT_TRUE(same_bits(serial, expected)) << mode;
    EXPECT_TRUE(same_bits(parallel, expected)) << mode;
  }
}

TEST(Host, FlushToZeroAndUnmaskedExceptionsNeitherEnterNorChange) {
#if defined(__x86_64__)
  const std::vector<double> expected = session("1");
  const unsigned before = _mm_getcsr();
  for (const unsigned bits : {0x8040u /* flush to zero, denormals are zero */, 0x003fu /* all flags raised */}) {
    _mm_setcsr(before | bits);
    const std::vector<double> serial = session("1"), parallel = session("2");
    EXPECT_EQ(_mm_getcsr(), before | bits);
    _mm_setcsr(before);
    EXPECT_TRUE(same_bits(serial, expected));
    EXPECT_TRUE(same_bits(parallel, expected));
  }
  // A host that traps on inexact results: nothing of ours may raise it.
  const uint16_t double_precision = 0x027f;
  __asm__ volatile("fldcw %0" : : "m"(double_precision));
  _mm_setcsr(before & ~0x1f80u & ~0x3fu);
  const std::vector<double> trapping = session("1");
  _mm_setcsr(before);
  const uint16_t extended = 0x037f;
  __asm__ volatile("fldcw %0" : : "m"(extended));
  EXPECT_TRUE(same_bits(trapping, expected));
#else
  GTEST_SKIP() << "SKIPPED: the registers of this CPU are not read here";
#endif
}

TEST(Host, SeveralHostThreadsWorkAtOnce) {
  const std::vector<double> expected = session("1");
  std::vector<std::vector<double>> results(4);
  std::vector<std::thread> hosts;
  for (size_t i = 0; i < results.size(); ++i)
    hosts.emplace_back([&results, i] { results[i] = session(i % 2 == 0 ? "1" : "2"); });
  for (auto& host : hosts) host.join();
  for (const auto& result : results) EXPECT_TRUE(same_bits(result, expected));
}

TEST(Host, OneModelServesSeveralThreads) {
  const OptionsHandle options = make_options({{"prompt_length", "40"}, {"threads", "2"}});
  const TaskHandle task = make_task(options.get());
  const ModelHandle model = make_model(task.get(), options.get());
  std::vector<double> prompts(500 * 40), targets(500 * 2);
  ok(lamina_task_sample(task.get(), LAMINA_SPLIT_TRAIN, 3, 0, 500, prompts.data(), targets.data()));
  std::vector<std::vector<double>> gradients(4, std::vector<double>(parameters_of(model.get()).size()));
  std::vector<std::thread> hosts;
  for (auto& gradient : gradients)
    hosts.emplace_back([&] {
      double loss = 0;
      const char* text = nullptr;
      for (int repeat = 0; repeat < 20; ++repeat) {
        ok(lamina_model_loss_gradient(model.get(), prompts.data(), targets.data(), 500, 40, &loss, gradient.data()));
        ok(lamina_task_token(task.get(), repeat, &text));
      }
    });
  for (auto& host : hosts) host.join();
  for (const auto& gradient : gradients) EXPECT_TRUE(same_bits(gradient, gradients[0]));
}

}  // namespace
}  // namespace lamina::test
