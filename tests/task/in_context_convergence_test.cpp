// The sampler of in_context_convergence: features by chi-square against p, labels against the second moments of their class of
// functions, their independence of the tokens.
#include <cmath>

#include "task_test.hpp"

namespace lamina {
namespace {

Prompts draw_features(const Set& set, int64_t count) {
  const auto task = make_task("in_context_convergence", set);
  Prompts prompts;
  task->sample(Split::train, 5, 0, count, prompts);
  return prompts;
}

TEST(FeatureSampler, FeaturesFollowTheirLawInPromptAndQuery) {
  for (const Set& law : {Set{}, Set{{"dominant", 0.4}}, Set{{"feature_law", "zipf"}}, Set{{"feature_weights", std::vector<double>{1, 7, 2, 5, 1}}}}) {
    Set set = law;
    set["features"] = 5.0, set["prompt_length"] = 7.0;
    const auto task = make_task("in_context_convergence", set);
    constexpr int64_t count = 40000;
    const Prompts prompts = draw_features(set, count);
    for (const size_t position : {0u, 3u, 6u, 7u}) {  // the last is the query
      std::vector<double> seen(5), expected(5), pairs(25), expected_pairs(25);
      for (int64_t i = 0; i < count; ++i) {
        const auto row = prompts.row(i);
        ++seen[static_cast<size_t>(row[position])];
        ++pairs[static_cast<size_t>(row[position] * 5 + row[(position + 1) % 8])];  // neighbours are independent
      }
      for (size_t m = 0; m < 5; ++m) {
        expected[m] = count * task->features()->probability[m];
        for (size_t n = 0; n < 5; ++n) expected_pairs[m * 5 + n] = expected[m] * task->features()->probability[n];
      }
      EXPECT_LT(chi_square(seen, expected), surely);
      EXPECT_LT(chi_square(pairs, expected_pairs), surely);
    }
  }
}

// E f(v_m) f(v_n) = Gm[m, n] with variance Gm_mm Gm_nn + Gm_mn^2 (f Gaussian), E f = 0, E f^4 = 3 Gm_mm^2 with variance 96 Gm_mm^4.
TEST(FeatureSampler, LabelsHaveTheGivenSecondMoments) {
  const std::vector<double> correlated = {2, 0.5, -0.3, 0, 0.5, 1, 0.2, 0, -0.3, 0.2, 1.5, 0.4, 0, 0, 0.4, 1},
                            twins = {1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 4, -2, 0, 0, -2, 1};  // f_0 = f_1, f_2 = -2 f_3
  for (const std::vector<double>& Gm : {std::vector<double>{}, correlated, twins}) {
    Set set = {{"features", 4.0}, {"prompt_length", 40.0}};
    if (!Gm.empty()) set["second_moments"] = Gm;
    const Prompts prompts = draw_features(set, 40000);
    std::vector<double> first(4), second(16), fourth(4);
    double whole = 0;
    for (int64_t i = 0; i < prompts.count; ++i) {
      double f[4];
      bool seen[4] = {};
      const auto row = prompts.row(i);
      const auto y = prompts.values_of(i);
      for (size_t j = 0; j < row.size(); ++j) {
        const auto m = static_cast<size_t>(row[j]);
        if (seen[m]) {
          ASSERT_EQ(f[m], y[j]) << "a function of the feature";
        }
        f[m] = y[j], seen[m] = true;
      }
      if (!(seen[0] && seen[1] && seen[2] && seen[3])) continue;  // of 41 tokens: one in 10^4
      ++whole;
      for (size_t m = 0; m < 4; ++m) {
        first[m] += f[m], fourth[m] += f[m] * f[m] * f[m] * f[m];
        for (size_t n = 0; n < 4; ++n) second[m * 4 + n] += f[m] * f[n];
      }
      if (Gm == twins) {
        ASSERT_NEAR(f[0], f[1], 1e-14 * std::fabs(f[0]));
        ASSERT_NEAR(f[2], -2 * f[3], 1e-14 * std::fabs(f[2]));
      }
    }
    ASSERT_GT(whole, 39900);
    const auto moment = [&](size_t m, size_t n) { return Gm.empty() ? static_cast<double>(m == n) : Gm[m * 4 + n]; };
    for (size_t m = 0; m < 4; ++m) {
      EXPECT_LT(std::fabs(first[m]) / std::sqrt(whole * moment(m, m)), 4.5) << m;
      EXPECT_LT(std::fabs(fourth[m] / whole - 3 * moment(m, m) * moment(m, m)) / std::sqrt(96 / whole) / (moment(m, m) * moment(m, m)), 4.5) << m;
      for (size_t n = 0; n < 4; ++n) {
        const double deviation = std::sqrt((moment(m, m) * moment(n, n) + moment(m, n) * moment(m, n)) / whole);
        EXPECT_LT(std::fabs(second[m * 4 + n] / whole - moment(m, n)), 4.5 * deviation) << m << " " << n;
      }
    }
  }
}

TEST(FeatureSampler, LabelsAreIndependentOfTheTokens) {
  const Prompts prompts = draw_features({{"features", 6.0}, {"prompt_length", 10.0}, {"dominant", 0.5}}, 40000);
  double sums[2] = {}, sizes[2] = {};
  for (int64_t i = 0; i < prompts.count; ++i) {
    const bool dominant = prompts.row(i).back() == 0;
    const double y = prompts.values_of(i).back();
    sums[dominant] += y * y, ++sizes[dominant];  // E f^2 = 1 with variance 2
  }
  EXPECT_LT(std::fabs(sums[0] / sizes[0] - sums[1] / sizes[1]), 4.5 * std::sqrt(2 / sizes[0] + 2 / sizes[1]));
}

// An option that does not apply is a mistake, not a wish that nobody reads.
TEST(FeatureLaw, OptionsThatDoNotApplyAreRefused) {
  const auto refusal = [](const Set& set) { return error_of([&] { make_task("in_context_convergence", set); }); };
  expect_error(refusal({{"feature_law", "zipf"}, {"dominant", 0.01}}), LAMINA_E_OPTION, {"dominant is 0.01", "feature_law=dominant"});
  expect_error(refusal({{"feature_law", "balanced"}, {"dominant", 0.5}}), LAMINA_E_OPTION, {"dominant is 0.5", "feature_law=dominant"});
  expect_error(refusal({{"features", 3.0}, {"feature_law", "given"}, {"feature_weights", std::vector<double>{1, 2, 3}}, {"dominant", 0.5}}),
               LAMINA_E_OPTION, {"dominant is 0.5", "feature_law=dominant"});
  expect_error(refusal({{"zipf_exponent", 2.0}}), LAMINA_E_OPTION, {"zipf_exponent is 2", "feature_law=zipf"});
  expect_error(refusal({{"dominant", 0.5}, {"zipf_exponent", 1.0}}), LAMINA_E_OPTION, {"zipf_exponent is 1", "feature_law=zipf"});
  expect_error(refusal({{"watched", std::vector<double>{0, 2, 0}}}), LAMINA_E_OPTION, {"watched is 0 twice", "different"});
  EXPECT_EQ(refusal({{"dominant", 0.4}}), "");
  EXPECT_EQ(refusal({{"feature_law", "dominant"}, {"dominant", 0.4}}), "");
  EXPECT_EQ(refusal({{"feature_law", "zipf"}, {"zipf_exponent", 2.0}}), "");
  EXPECT_EQ(refusal({{"watched", std::vector<double>{2, 0}}}), "");
}

}  // namespace
}  // namespace lamina
