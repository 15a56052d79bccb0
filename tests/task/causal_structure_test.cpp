// causal_structure: Dirichlet rows, stationary roots, children that follow their parent's row, graphs, errors.
#include <gtest/gtest.h>

#include <boost/math/special_functions/beta.hpp>
#include <boost/math/special_functions/digamma.hpp>
#include <boost/math/special_functions/gamma.hpp>
#include <boost/math/special_functions/polygamma.hpp>
#include <cmath>

#include "task/draw.hpp"
#include "task_test.hpp"

namespace lamina {
namespace {

std::shared_ptr<const Task> causal(std::initializer_list<std::pair<const char*, OptionValue>> pairs) {
  Options options;
  for (const auto& [key, value] : pairs) options.set(key, value);
  const TaskRow& row = find_task("causal_structure");
  return row.create(Settings(row.options, options));
}

// The largest distance between the sample's distribution function and the law's, times sqrt(n): below 2 but for one in 1500. Not
// where numbers next to 1 stand for all that rounds to them.
double kolmogorov(std::vector<double> sample, const std::function<double(double)>& law) {
  std::sort(sample.begin(), sample.end());
  const auto n = static_cast<double>(sample.size());
  double distance = 0;
  for (size_t i = 0; i < sample.size(); ++i) {
    if (sample[i] > 1 - 1e-12) break;
    const double F = law(sample[i]);
    distance = std::max({distance, F - static_cast<double>(i) / n, static_cast<double>(i + 1) / n - F});
  }
  return distance * std::sqrt(n);
}

// The law itself, by the distribution function, and both tails through the moments of log x, psi(a) and psi'(a): from below to above 1,
// where the method changes.
TEST(Gamma, LawAndLogarithmsAreExact) {
  constexpr size_t count = 50000;
  for (const double a : {0.05, 0.1, 0.5, 0.99, 1.0, 1.5, 40.0}) {
    std::vector<double> draw(count);
    Random random(3, Purpose::train, 0);
    draw_gammas(random, a, draw);
    double sum = 0, squares = 0;
    for (double x : draw) {
      const double deviation = std::log(x) - boost::math::digamma(a);
      sum += deviation, squares += deviation * deviation;
    }
    const double variance = boost::math::polygamma(1, a), fourth = boost::math::polygamma(3, a) + 3 * variance * variance;
    EXPECT_LT(std::abs(sum) / std::sqrt(count * variance), 4) << a;
    EXPECT_LT(std::abs(squares - count * variance) / std::sqrt(count * (fourth - variance * variance)), 4) << a;
    EXPECT_LT(kolmogorov(draw, [&](double x) { return boost::math::gamma_p(a, x); }), 2) << a;
  }
}

// Every coordinate of Dirichlet(a, .., a) is Beta(a, (S - 1) a), every sum of two Beta(2 a, (S - 2) a); rows are independent.
TEST(Dirichlet, MarginalsAreExact) {
  constexpr size_t rows = 3;
  for (const auto& law : {std::pair(10, 0.1), std::pair(3, 0.05), std::pair(4, 1.0), std::pair(5, 7.5), std::pair(120, 0.3)}) {
    const auto S = static_cast<size_t>(law.first);
    const double a = law.second;
    std::vector<std::vector<double>> coordinate(std::min<size_t>(S, 10));  // of the last row
    std::vector<double> pairs, draw(rows * S);
    double product = 0;
    for (uint64_t i = 0; i < 20000; ++i) {
      Random random(1, Purpose::train, i);
      draw_dirichlet(random, a, rows, draw);
      for (size_t row = 0; row < rows; ++row) {
        double sum = 0;
        for (double p : std::span(draw).subspan(row * S, S)) sum += p;
        ASSERT_NEAR(sum, 1, 1e-14);
      }
      for (size_t s = 0; s < coordinate.size(); ++s) coordinate[s].push_back(draw[2 * S + s]);
      pairs.push_back(draw[0] + draw[1]);
      const double mean = 1 / static_cast<double>(S);
      for (size_t s = S; s < 2 * S; ++s) product += (draw[s - S] - mean) * (draw[s] - mean);
    }
    const auto rest = static_cast<double>(S - 1);
    for (const auto& sample : coordinate)
      EXPECT_LT(kolmogorov(sample, [&](double x) { return boost::math::ibeta(a, rest * a, x); }), 2.2) << S << " " << a;
    EXPECT_LT(kolmogorov(pairs, [&](double x) { return boost::math::ibeta(2 * a, (rest - 1) * a, std::min(x, 1.0)); }), 2) << S << " " << a;
    // The covariance of a row is v (I - 1 1^T / S) S / (S - 1): of the product's S - 1 directions each has the variance squared of one.
    const double v = rest / static_cast<double>(S * S) / (static_cast<double>(S) * a + 1), direction = v * static_cast<double>(S) / rest;
    EXPECT_LT(std::abs(product) / std::sqrt(20000 * rest * direction * direction), 4) << S << " " << a;
  }
}

TEST(CausalStructure, Graphs) {
  EXPECT_EQ(causal({{"prompt_length", 5.0}})->causal()->parent, (std::vector<int32_t>{-1, 0, 1, 2}));
  EXPECT_EQ(causal({{"prompt_length", 6.0}, {"graph", "icl"}})->causal()->parent, (std::vector<int32_t>{-1, 0, -1, 2, -1}));
  const auto given = causal({{"graph", "given"}, {"vocabulary", 3.0}});
  EXPECT_EQ(given->causal()->parent, (std::vector<int32_t>{-1, 0, 0, 1, 2}));
  EXPECT_EQ(given->positions(), 6);
  const std::vector<int32_t> random = causal({{"graph", "random"}, {"prompt_length", 400.0}})->causal()->parent;
  int64_t roots = 0;
  for (size_t i = 0; i < random.size(); ++i) {
    EXPECT_GE(random[i], -1);
    EXPECT_LT(random[i], static_cast<int32_t>(i));
    roots += random[i] < 0;
  }
  EXPECT_LT(roots, 20);  // sum of 1/(i+1) is 6.6
}

// The target is the query's row. Children of the query's copies follow it: by chi-square over the cells of pi, pooled.
TEST(CausalStructure, ChildrenFollowTheRowAndRootsTheStationaryLaw) {
  const auto task = causal({{"graph", "icl"}, {"vocabulary", 4.0}, {"concentration", 1.0}});
  Prompts prompts;
  task->sample(Split::train, 1, 0, 40000, prompts);
  // E[x_i = y | pi, parent = query] = pi_y: the sum of the difference is a martingale with the variance of its terms.
  double sum = 0, variance = 0, queries[4] = {}, roots[4] = {};
  for (int64_t n = 0; n < prompts.count; ++n) {
    const auto row = prompts.row(n);
    const auto pi = prompts.values_of(n);
    double total = 0;
    for (double p : pi) total += p;
    ASSERT_NEAR(total, 1, 1e-14);
    ++queries[row.back()], ++roots[row[0]];
    for (size_t i = 1; i < 19; i += 2)
      if (row[i - 1] == row.back()) {
        sum += (row[i] == 2) - pi[2];
        variance += pi[2] * (1 - pi[2]);
      }
  }
  EXPECT_LT(std::abs(sum), 4 * std::sqrt(variance));
  for (int s = 0; s < 4; ++s) {
    EXPECT_NEAR(queries[s], 10000, 400);
    EXPECT_NEAR(roots[s], 10000, 400);
  }
}

// Of two states the stationary law is known: mu_0 = pi_10 / (pi_01 + pi_10). The query's row is one of the two; where it is
// row 0, the share of token 0 among roots and children is mu_0, and children of 0 follow pi_0.
TEST(CausalStructure, TokensAreStationary) {
  const auto task = causal({{"vocabulary", 2.0}, {"concentration", 0.7}, {"prompt_length", 12.0}});
  Prompts prompts;
  task->sample(Split::train, 1, 0, 60000, prompts);
  double shares[11] = {}, count = 0;
  for (int64_t n = 0; n < prompts.count; ++n) {
    if (prompts.row(n).back() != 0 || prompts.values_of(n)[0] < 0.9) continue;  // sticky 0: mu_0 is large
    count += 1;
    for (size_t i = 0; i < 11; ++i) shares[i] += prompts.row(n)[i] == 0;
  }
  for (size_t i = 0; i < 11; ++i) {
    EXPECT_NEAR(shares[i] / count, shares[0] / count, 0.03) << i;
    EXPECT_GT(shares[i] / count, 0.75);
  }
}

TEST(CausalStructure, PromptsAreFunctionsOfTheirNumber) {
  const auto task = causal({});
  Prompts all, some;
  task->sample(Split::test, 5, 0, 100, all);
  task->sample(Split::test, 5, 40, 10, some);
  for (int64_t i = 0; i < 10; ++i) {
    EXPECT_TRUE(std::ranges::equal(all.row(40 + i), some.row(i)));
    EXPECT_TRUE(std::ranges::equal(all.values_of(40 + i), some.values_of(i)));
  }
}

TEST(CausalStructure, Errors) {
  EXPECT_THROW(causal({{"parents", std::vector<double>{-1, 1}}}), Error);
  EXPECT_THROW(causal({{"parents", std::vector<double>{0.5}}}), Error);
  EXPECT_THROW(causal({{"graph", "given"}, {"prompt_length", 20.0}}), Error);
  EXPECT_THROW(causal({{"concentration", 0.01}}), Error);
  Prompts prompts;
  EXPECT_THROW(causal({})->sample(Split::unseen, 1, 0, 1, prompts), Error);
  const auto form = causal({{"prompt_length", 3.0}})->form();
  const double tokens[] = {0, 1, 2}, laws[] = {.5, .5, 0, 0, 0, 0, 0, 0, 0, 2};
  EXPECT_THROW(form->take(tokens, 1, 2), Error);
  Prompts taken = form->take(tokens, 1, 3);
  EXPECT_THROW(form->take_targets(laws, taken), Error);
}

}  // namespace
}  // namespace lamina
