// The exact population of the blocks on rotating sequences against samples, in standard errors, and against differences.
#include "theory/rotation_population.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "support/runs.hpp"

namespace lamina {
namespace {

TEST(RotationPopulation, SampledLossAndGradientAgreeInStandardErrors) {
  for (const char* line : {"start=gaussian dimension=3 prompt_length=12", "start=gaussian start_scale=0.7 dimension=1 prompt_length=4",
                           "start=sparse start_scale=1.3 dimension=4 prompt_length=9", "start=ones start_scale=0.8 dimension=4 prompt_length=15",
                           "start=ones dimension=2 prompt_length=3"}) {
    const auto task = tests::task_of("mesa_optimisation", line);
    const RotationPopulation exact(*task->rotation());
    const auto model = make_model(*task, Settings(model_options(), Options(), find_task("mesa_optimisation").defaults));
    const double a = 0.6, b = 0.9;  // far from every optimum
    model->set_parameters(std::vector<double>{a, b});
    const double want[3] = {b * exact.slope(a * b), a * exact.slope(a * b), exact.infimum + exact.excess(a * b)};
    double sum[3] = {}, squares[3] = {}, sample[3] = {};
    constexpr int sets = 100;
    const Team team(1);
    for (int set = 0; set < sets; ++set) {
      Prompts prompts;
      task->sample(Split::train, 3, set * 500, 500, prompts);
      sample[2] = model->loss_and_gradient(*model->compile(prompts, {}, team), team, sample, false).loss;
      for (int i = 0; i < 3; ++i) sum[i] += sample[i], squares[i] += sample[i] * sample[i];
    }
    for (int i = 0; i < 3; ++i) {
      const double mean = sum[i] / sets, error = std::sqrt(std::max(0.0, squares[i] / sets - mean * mean) / (sets - 1));
      EXPECT_LT(std::abs(mean - want[i]), 4 * error + 1e-12 * std::abs(want[i])) << line << " " << i << ": " << mean << " " << want[i];
      EXPECT_LT(error, 0.1 * std::abs(want[i])) << line << ": a test that could not fail";
    }
  }
}

TEST(RotationPopulation, SlopeIsTheDifferenceOfLosses) {
  const RotationPopulation form(*tests::task_of("mesa_optimisation", "")->rotation());
  for (const double c : {-0.3, 0.01, 0.19, 2.0}) {
    constexpr double h = 1e-3;
    EXPECT_NEAR((form.excess(c + h) - form.excess(c - h)) / (2 * h), form.slope(c), 1e-9 * (1 + std::abs(form.slope(c))));
  }
}

}  // namespace
}  // namespace lamina
