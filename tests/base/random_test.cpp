// Counter-based draws: the generator's published vectors, and the laws of the transforms.
#include "base/random.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <set>
#include <vector>

namespace lamina {
namespace {

TEST(Random, IsPhilox4x64WithTenRounds) {
  // Known answers of Random123 (kat_vectors): counter and key of zeros, of ones.
  r123::Philox4x64::ctr_type counter{{0, 0, 0, 0}};
  r123::Philox4x64::key_type key{{0, 0}};
  const auto zeros = r123::Philox4x64()(counter, key);
  EXPECT_EQ(zeros[0], 0x16554d9eca36314cu);
  EXPECT_EQ(zeros[1], 0xdb20fe9d672d0fdcu);
  EXPECT_EQ(zeros[2], 0xd7e772cee186176bu);
  EXPECT_EQ(zeros[3], 0x7e68b68aec7ba23bu);
}

TEST(Random, ADrawIsAFunctionOfSeedPurposeAndIndex) {
  std::set<uint64_t> words;
  int draws = 0;
  for (const uint64_t seed : {1, 2})
    for (const Purpose purpose : {Purpose::train, Purpose::test})
      for (uint64_t index = 0; index < 10; ++index) {
        Random a(seed, purpose, index), b(seed, purpose, index);
        for (int i = 0; i < 9; ++i, ++draws) {
          const uint64_t word = a.word();
          EXPECT_EQ(word, b.word());
          words.insert(word);
        }
      }
  EXPECT_EQ(words.size(), static_cast<size_t>(draws));
}

TEST(Random, WordsOfSamplesBesideEachOtherAreThoseOfTheirStreams) {
  const std::array<uint64_t, 8> index = {5, 1000000, 7, 5, 0, ~uint64_t{0}, 2, 3};
  for (const int64_t filled : {1, 3, 8})
    for (const int64_t first : {0, 1, 5})
      for (const int64_t blocks : {0, 1, 4}) {
        std::vector<uint64_t> words(static_cast<size_t>(32 * blocks + 1), 77);
        words_of_samples(9, Purpose::test, index, filled, first, blocks, words.data());
        EXPECT_EQ(words.back(), 77u);
        for (size_t l = 0; l < 8; ++l) {
          Random one(9, Purpose::test, index[l < static_cast<size_t>(filled) ? l : 0]);
          one.skip(static_cast<uint64_t>(4 * first));
          for (int64_t i = 0; i < 4 * blocks; ++i) ASSERT_EQ(words[static_cast<size_t>(8 * i) + l], one.word()) << filled << " " << first;
        }
      }
}

TEST(Random, SkippedWordsAreLeftOut) {
  for (uint64_t skipped = 0; skipped < 10; ++skipped) {
    Random whole(1, Purpose::train, 3), rest(1, Purpose::train, 3);
    for (uint64_t i = 0; i < skipped; ++i) whole.word();
    rest.skip(skipped);
    for (int i = 0; i < 9; ++i) ASSERT_EQ(rest.word(), whole.word()) << skipped;
  }
}

TEST(Random, BelowCoversItsRangeEvenly) {
  Random random(7, Purpose::train, 0);
  constexpr int bound = 7, draws = 70000;
  std::vector<int> count(bound);
  for (int i = 0; i < draws; ++i) ++count.at(static_cast<size_t>(random.below(bound)));
  double chi2 = 0;
  for (const int c : count) chi2 += (c - draws / bound) * (c - draws / bound) / static_cast<double>(draws / bound);
  EXPECT_LT(chi2, 27.9);  // 6 degrees of freedom, one in ten thousand; the seed is fixed
  EXPECT_EQ(random.below(1), 0);
}

// The distribution function in long double, to which normal() is the inverse.
long double phi(long double x) {
  return 0.5L * erfcl(-x / sqrtl(2.0L));
}

TEST(Random, NormalInvertsTheDistributionFunction) {
  Random uniforms(3, Purpose::weights, 5), normals(3, Purpose::weights, 5);
  double worst = 0, sum = 0, square = 0;
  constexpr int draws = 20000;
  for (int i = 0; i < draws; ++i) {
    const long double p = (static_cast<long double>(uniforms.word() >> 12) + 0.5L) * 0x1p-52L;
    const double x = normals.normal();
    // Relative error of x by one Newton step on the smaller tail.
    const long double density = expl(-0.5L * x * x) / sqrtl(2 * acosl(-1.0L));
    const long double residual = x < 0 ? phi(x) - p : (1 - p) - phi(-static_cast<long double>(x));
    worst = std::max(worst, static_cast<double>(fabsl(residual / density / x)));
    sum += x, square += x * x;
  }
  EXPECT_LT(worst, 2e-15);
  EXPECT_LT(std::fabs(sum / draws), 4 / std::sqrt(draws));
  EXPECT_LT(std::fabs(square / draws - 1), 4 * std::sqrt(2.0 / draws));
}

}  // namespace
}  // namespace lamina
