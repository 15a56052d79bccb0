// Packed uniform draws, alias tables, subsets and partial permutations have the laws they state.
#include "task/draw.hpp"

#include "task_test.hpp"

namespace lamina {
namespace {

TEST(PackedUniform, EveryRangeIsUniformAndNeighboursAreIndependent) {
  for (const int64_t range : {2, 3, 20, 50, 300, 5000, 1 << 20}) {
    const PackedUniform uniform(range);
    Random random(1, Purpose::train, static_cast<uint64_t>(range));
    std::vector<int32_t> out(200003);  // no multiple of anything
    uniform.fill(random, 7, out);
    const int64_t cells = std::min<int64_t>(range, 300);
    std::vector<double> counts(static_cast<size_t>(cells)), expected(static_cast<size_t>(cells));
    for (int64_t r = 0; r < range; ++r)
      expected[static_cast<size_t>(r * cells / range)] += static_cast<double>(out.size()) / static_cast<double>(range);
    for (const int32_t token : out) {
      ASSERT_GE(token, 7);
      ASSERT_LT(token, 7 + range);
      ++counts[static_cast<size_t>((token - 7) * cells / range)];
    }
    EXPECT_LT(chi_square(counts, expected), surely) << range;
    // Draws of one word lie 4 apart, draws of neighbouring words 1 apart.
    for (const size_t lag : {1, 4, 8}) {
      constexpr size_t side = 6;
      std::vector<double> pairs(side * side), independent(side * side), first(side), second(side);
      for (size_t i = 0; i + lag < out.size(); ++i) {
        const auto cell = [&](int32_t token) { return static_cast<size_t>((token - 7) * static_cast<int64_t>(side) / range); };
        ++pairs[cell(out[i]) * side + cell(out[i + lag])], ++first[cell(out[i])], ++second[cell(out[i + lag])];
      }
      const auto n = static_cast<double>(out.size() - lag);
      std::vector<double> observed;
      std::vector<double> product;
      for (size_t a = 0; a < side; ++a)
        for (size_t b = 0; b < side; ++b)
          if (first[a] * second[b] > 0) observed.push_back(pairs[a * side + b]), product.push_back(first[a] * second[b] / n);
      EXPECT_LT(chi_square(observed, product), surely) << range << " lag " << lag;
    }
  }
}

TEST(PackedUniform, ARangeOfOneTakesNoDraw) {
  Random random(1, Purpose::train, 0), untouched(1, Purpose::train, 0);
  std::vector<int32_t> out(100);
  PackedUniform(1).fill(random, 42, out);
  EXPECT_EQ(out, std::vector<int32_t>(100, 42));
  EXPECT_EQ(random.word(), untouched.word());
}

TEST(AliasTables, ProbabilitiesAreTheWeightsAndZeroIsNeverDrawn) {
  const std::vector<std::vector<double>> laws = {
      {1}, {0, 1}, {1, 1, 1}, {5, 0, 1, 0, 3, 1e-3, 90}, {0, 0, 0, 1e300}, {1e-300, 3e-300}};
  for (const std::vector<double>& weights : laws) {
    AliasTables table(2, static_cast<int64_t>(weights.size()));
    table.set(1, weights);
    Random random(3, Purpose::train, 0);
    constexpr int draws = 200000;
    std::vector<double> counts(weights.size()), expected;
    for (int i = 0; i < draws; ++i) ++counts[static_cast<size_t>(table.draw(1, random))];
    double sum = 0;
    for (const double w : weights) sum += w;
    size_t positive = 0;
    for (size_t j = 0; j < weights.size(); ++j) {
      expected.push_back(weights[j] / sum * draws);
      if (weights[j] == 0) {
        EXPECT_EQ(counts[j], 0);
      }
      if (expected[j] > 5) ++positive;
    }
    if (positive > 1) {
      EXPECT_LT(chi_square(counts, expected), surely);
    } else {
      EXPECT_GT(*std::max_element(counts.begin(), counts.end()), 0.999 * draws);
    }
  }
}

TEST(AliasTables, RoundingNeverReachesAZeroWeight) {
  // Many unequal weights, so that Vose's pairing ends with rounding errors, beside many zeros.
  for (int round = 0; round < 30; ++round) {
    Random random(11, Purpose::train, static_cast<uint64_t>(round));
    std::vector<double> weights(97);
    for (double& w : weights) w = random.bernoulli(0.5) ? 0 : random.uniform() * (random.bernoulli(0.1) ? 1e6 : 1);
    weights[5] = 1;
    AliasTables table(1, 97);
    table.set(0, weights);
    for (int i = 0; i < 20000; ++i) ASSERT_GT(weights[static_cast<size_t>(table.draw(0, random))], 0);
  }
}

TEST(Subset, EverySubsetAlike) {
  // 15 subsets of 2 of 6, 20 of 3 of 6.
  for (const int64_t m : {2, 3}) {
    Random random(5, Purpose::train, static_cast<uint64_t>(m));
    std::map<std::vector<int64_t>, double> counts;
    std::vector<int64_t> subset;
    constexpr int draws = 60000;
    for (int i = 0; i < draws; ++i) {
      draw_subset(random, 6, m, subset);
      ASSERT_EQ(std::ssize(subset), m);
      for (size_t j = 1; j < subset.size(); ++j) ASSERT_LT(subset[j - 1], subset[j]);
      ASSERT_GE(subset.front(), 0);
      ASSERT_LT(subset.back(), 6);
      ++counts[subset];
    }
    std::vector<double> observed;
    for (const auto& [_, n] : counts) observed.push_back(n);
    ASSERT_EQ(observed.size(), m == 2 ? 15u : 20u);
    EXPECT_LT(chi_square(observed, std::vector<double>(observed.size(), draws / static_cast<double>(observed.size()))), surely);
  }
  Random random(5, Purpose::train, 9);
  std::vector<int64_t> all;
  draw_subset(random, 4, 4, all);
  EXPECT_EQ(all, (std::vector<int64_t>{0, 1, 2, 3}));
}

TEST(PartialShuffle, SequencesAreUniformAndLeaveNoTrace) {
  PartialShuffle shuffle({10, 11, 12, 13, 14});
  Random random(8, Purpose::train, 0);
  std::map<std::vector<int32_t>, double> free, fixed;
  std::vector<int32_t> out(3);
  constexpr int draws = 60000;
  for (int i = 0; i < draws; ++i) {
    shuffle.draw(random, -1, out);
    ++free[out];
    shuffle.draw(random, 2, out);
    ASSERT_EQ(out[0], 12);
    ++fixed[out];
  }
  for (const auto& [counts, cells] : {std::pair(free, 60u), std::pair(fixed, 12u)}) {
    std::vector<double> observed;
    for (const auto& [_, n] : counts) observed.push_back(n);
    ASSERT_EQ(observed.size(), cells);
    EXPECT_LT(chi_square(observed, std::vector<double>(cells, draws / static_cast<double>(cells))), surely);
  }
  // The same stream gives the same sequence whatever was drawn before.
  PartialShuffle fresh({10, 11, 12, 13, 14});
  Random a(9, Purpose::train, 1), b(9, Purpose::train, 1);
  std::vector<int32_t> other(3);
  shuffle.draw(a, -1, out);
  fresh.draw(b, -1, other);
  EXPECT_EQ(out, other);
}

}  // namespace
}  // namespace lamina
