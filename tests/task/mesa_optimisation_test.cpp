// The task mesa_optimisation: rotation, phases, starts, streams, how sequences cross, errors.
#include <complex>

#include "task_test.hpp"

namespace lamina {
namespace {

TEST(MesaOptimisation, EveryCoordinateRotatesByItsOwnUniformPhase) {
  constexpr int64_t d = 3, T = 20, count = 4000;
  const auto task = make_task("mesa_optimisation", {{"dimension", 3.0}, {"prompt_length", 20.0}});
  Prompts prompts;
  task->sample(Split::train, 1, 0, count, prompts);
  ASSERT_EQ(prompts.values.size(), static_cast<size_t>(count * T * 2 * d));
  std::complex<double> mean = 0, square = 0, pair = 0;
  double fourth = 0;
  for (int64_t i = 0; i < count; ++i) {
    const auto row = prompts.values_of(i);
    const auto x = [&](int64_t t, int64_t j) { return std::complex<double>(row[static_cast<size_t>(t * 2 * d + 2 * j)], row[static_cast<size_t>(t * 2 * d + 2 * j + 1)]); };
    for (int64_t j = 0; j < d; ++j) {
      const std::complex<double> w = x(1, j) / x(0, j);
      ASSERT_EQ(x(0, j).imag(), 0);
      ASSERT_NEAR(std::abs(w), 1, 1e-14);
      for (int64_t t = 1; t < T; ++t) ASSERT_NEAR(std::abs(x(t, j) - w * x(t - 1, j)), 0, 1e-13 * std::abs(x(0, j)));
      mean += w, square += w * w;
      if (j > 0) pair += w * std::conj(x(1, j - 1) / x(0, j - 1));
      fourth += std::pow(x(0, j).real(), 4);
    }
  }
  const double bound = 4 / std::sqrt(static_cast<double>(count));
  EXPECT_LT(std::abs(mean) / (count * d), bound);
  EXPECT_LT(std::abs(square) / (count * d), bound);
  EXPECT_LT(std::abs(pair) / (count * d), bound);
  EXPECT_NEAR(fourth / (count * d), 3, 4 * std::sqrt(96.0 / (count * d)));
}

TEST(MesaOptimisation, StartsAreWhatTheySay) {
  Prompts prompts;
  make_task("mesa_optimisation", {{"start", "ones"}, {"start_scale", 0.5}})->sample(Split::test, 1, 0, 10, prompts);
  for (int64_t i = 0; i < 10; ++i)
    for (size_t j = 0; j < 10; ++j) EXPECT_EQ(prompts.values_of(i)[j], j % 2 == 0 ? 0.5 : 0);
  make_task("mesa_optimisation", {{"start", "sparse"}, {"start_scale", 2.0}, {"dimension", 4.0}})->sample(Split::train, 1, 0, 8000, prompts);
  int found[8] = {};
  for (int64_t i = 0; i < 8000; ++i) {
    int others = 0;
    for (size_t j = 0; j < 8; j += 2) {
      const double x = prompts.values_of(i)[j];
      if (x == 0) ++others;
      if (x == 2) ++found[j];
      if (x == -2) ++found[j + 1];
    }
    ASSERT_EQ(others, 3);
  }
  for (int n : found) EXPECT_NEAR(n, 1000, 4 * std::sqrt(1000.0 * 7 / 8));
}

TEST(MesaOptimisation, APromptDependsOnSeedSplitAndItsNumberAlone) {
  const auto task = make_task("mesa_optimisation", {{"start", "sparse"}, {"prompt_length", 6.0}});
  Prompts whole, part, other;
  task->sample(Split::train, 3, 0, 50, whole);
  task->sample(Split::train, 3, 20, 10, part);
  for (int64_t i = 0; i < 10; ++i) EXPECT_TRUE(std::ranges::equal(part.values_of(i), whole.values_of(20 + i)));
  task->sample(Split::test, 3, 0, 50, other);
  EXPECT_NE(other.values, whole.values);
}

TEST(MesaOptimisation, SequencesCrossAndErrorsSayWhatIsWrong) {
  const auto task = make_task("mesa_optimisation", {{"dimension", 2.0}, {"prompt_length", 5.0}});
  const auto form = task->form();
  ASSERT_EQ(form->shape().length, 20);
  ASSERT_EQ(form->shape().outputs, 4);
  Prompts drawn;
  task->sample(Split::train, 1, 0, 3, drawn);
  std::vector<double> prompts(60), targets(6, 1.0);
  form->give(drawn, prompts.data(), targets.data());
  EXPECT_EQ(targets, std::vector<double>(6, 0.0));
  EXPECT_EQ(form->take(prompts.data(), 3, 20).values, drawn.values);
  expect_error(error_of([&] { form->take(prompts.data(), 3, 18); }), LAMINA_E_ARGUMENT, {"length", "multiple of 2 d = 4"});
  expect_error(error_of([&] { form->take(prompts.data(), 3, 4); }), LAMINA_E_ARGUMENT, {"length"});
  prompts[3] = INFINITY;
  expect_error(error_of([&] { form->take(prompts.data(), 3, 20); }), LAMINA_E_ARGUMENT, {"finite"});
  expect_error(error_of([&] { task->sample(Split::unseen, 1, 0, 1, drawn); }), LAMINA_E_UNSUPPORTED, {"unseen"});
  expect_error(error_of([&] { task->token_text(0); }), LAMINA_E_UNSUPPORTED, {"mesa_optimisation"});
}

}  // namespace
}  // namespace lamina
