// Laws of words, whose probabilities are exact and enumerated; counts of K features among N draws against the multinomial law.
#include "task/multinomial.hpp"

#include <array>
#include <bit>
#include <cmath>
#include <map>

#include "base/random.hpp"
#include "kernels/kernels.hpp"
#include "task_test.hpp"

namespace lamina {
namespace {

// Of a law with 2^b columns the outcome is a step function of the lower bits in each column: its measure by bisection, exactly.
std::map<int32_t, uint64_t> measure(const WordLaw& law, size_t outcomes) {
  const auto bits = static_cast<int>(std::bit_width(outcomes - 1));
  const uint64_t column = uint64_t{1} << (32 - bits);
  std::map<int32_t, uint64_t> words;
  for (uint64_t first = 0; first < uint64_t{1} << 32; first += column) {
    const auto at = [&](uint64_t rest) { return law.draw(static_cast<uint32_t>(first + rest)); };
    uint64_t low = 0, high = column - 1;  // the last word with the first one's outcome
    if (at(high) == at(0)) low = high;
    while (high - low > 1) (at((low + high) / 2) == at(0) ? low : high) = (low + high) / 2;
    words[at(0)] += low + 1;
    if (low + 1 < column) words[at(column - 1)] += column - low - 1;
  }
  return words;
}

TEST(WordLaw, ProbabilitiesAreTheWeightsWithin32Bits) {
  for (const std::vector<double>& weights :
       {std::vector<double>{3}, {1, 1}, {1, 2}, {0, 1, 0}, {1e-12, 1, 1e-12}, {5, 0, 1, 2}, {1, 1, 1, 1, 1}, {9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 1, 2},
        std::vector<double>(64, 0.1), {1e300, 1, 1e300}}) {
    double sum = 0;
    uint64_t all = 0;
    for (double w : weights) sum += w;
    const auto words = measure(WordLaw(weights), weights.size());
    for (const auto& [outcome, count] : words) {
      ASSERT_GE(outcome, 0);
      ASSERT_LT(static_cast<size_t>(outcome), weights.size());
      EXPECT_GT(weights[static_cast<size_t>(outcome)], 0) << outcome;
      all += count;
    }
    EXPECT_EQ(all, uint64_t{1} << 32);
    for (size_t j = 0; j < weights.size(); ++j) {
      const auto found = words.find(static_cast<int32_t>(j));
      const double count = found == words.end() ? 0 : static_cast<double>(found->second);
      EXPECT_LT(std::fabs(count - weights[j] / sum * 0x1p32), 1.001) << j << " of " << weights.size();
    }
  }
}

// [prompts, K], prompts a multiple of the lanes.
std::vector<int32_t> draw(const std::vector<double>& p, int64_t N, int64_t prompts, uint64_t seed) {
  constexpr int64_t lanes = Multinomial::lanes;
  const Multinomial law(p, N);
  const auto K = static_cast<int64_t>(p.size()), blocks = (K / 2 + 4) / 4;
  std::vector<uint64_t> words(static_cast<size_t>(4 * blocks * lanes));
  std::vector<int32_t> part(static_cast<size_t>(K * lanes)), counts(static_cast<size_t>(prompts * K));
  for (int64_t i = 0; i < law.parts(); ++i)
    for (int64_t first = 0; first < prompts; first += lanes) {
      std::array<uint64_t, lanes> index;
      for (size_t l = 0; l < lanes; ++l) index[l] = static_cast<uint64_t>(first) + l;
      words_of_samples(seed + static_cast<uint64_t>(i), Purpose::train, index, lanes, 0, blocks, words.data());
      law.draw(i, words.data(), i % 2, part.data());
      for (int64_t l = 0; l < lanes; ++l)
        for (int64_t n = 0; n < K; ++n) counts[static_cast<size_t>((first + l) * K + n)] += part[static_cast<size_t>(n * lanes + l)];
    }
  return counts;
}

double log_probability(const std::vector<double>& p, const int32_t* counts) {
  double log = 0, all = 0;
  for (size_t n = 0; n < p.size(); ++n) log += counts[n] * std::log(p[n]) - std::lgamma(counts[n] + 1.0), all += counts[n];
  return log + std::lgamma(all + 1);
}

// Every outcome of a short prompt by its own probability.
TEST(Multinomial, SmallOnesAreEnumerated) {
  for (const std::vector<double>& p : {std::vector<double>{0.25, 0.25, 0.25, 0.25}, {0.5, 0.2, 0.3}, {0.2, 0.2, 0.2, 0.2, 0.2}, {0.05, 0.95}})
    for (const int64_t N : {1, 2, 5}) {
      constexpr int64_t lanes = 400000;
      const std::vector<int32_t> counts = draw(p, N, lanes, 3);
      std::map<std::vector<int32_t>, double> seen;
      const auto K = static_cast<std::ptrdiff_t>(p.size());
      for (std::ptrdiff_t lane = 0; lane < lanes; ++lane) ++seen[{counts.begin() + lane * K, counts.begin() + (lane + 1) * K}];
      std::vector<double> found, expected;
      double rare = 0, rare_expected = lanes;
      for (const auto& [outcome, times] : seen) {
        int64_t sum = 0;
        for (int32_t c : outcome) sum += c;
        ASSERT_EQ(sum, N);
        const double mean = lanes * std::exp(log_probability(p, outcome.data()));
        if (mean < 20) {
          rare += times;
          continue;
        }
        found.push_back(times), expected.push_back(mean), rare_expected -= mean;
      }
      if (rare_expected > 20) found.push_back(rare), expected.push_back(rare_expected);
      EXPECT_LT(chi_square(found, expected), surely) << p.size() << " " << N;
    }
}

// A halving by the kernel is a draw of WordLaw, on every set; counts 0 and 127 among those halved.
TEST(Multinomial, KernelsHalveByTheLawOfTheWord) {
  constexpr int64_t lanes = Multinomial::lanes, most = 127;
  constexpr int bits = 7;
  std::vector<uint32_t> laws(size_t{most + 1} << bits, 0xffffffff);
  std::vector<WordLaw> single;
  for (int64_t n = 0; n <= most; ++n) {
    std::vector<double> weights(static_cast<size_t>(n) + 1);
    for (size_t j = 0; j < weights.size(); ++j) weights[j] = static_cast<double>(1 + j * 37 % 11);
    single.emplace_back(weights);
    std::ranges::copy(single.back().columns(), laws.begin() + (n << bits));
  }
  const kernels::Halving halving{0, 0, 1, laws.data()};
  Random random(5, Purpose::train, 0);
  std::vector<uint64_t> words(static_cast<size_t>(lanes));
  for (int64_t turn = 0; turn < 2000; ++turn) {
    random.words(words);
    if (turn == 0) std::ranges::fill(words, 0);
    if (turn == 1) std::ranges::fill(words, ~uint64_t{0});
    int32_t given[lanes];
    for (size_t l = 0; l < lanes; ++l) given[l] = l == 0 ? 0 : l == 1 ? most : static_cast<int32_t>(random.below(most + 1));
    for (const int64_t half : {0, 1})
      for (int32_t set = 0; set < kernels::count(); ++set) {
        int32_t counts[2 * lanes];
        std::ranges::copy(given, counts);
        kernels::drawing(set).halve(1, &halving, bits, words.data(), half, counts);
        for (size_t l = 0; l < lanes; ++l) {
          const int32_t lower = single[static_cast<size_t>(given[l])].draw(static_cast<uint32_t>(words[l] >> half * 32));
          ASSERT_EQ(counts[l], lower) << given[l] << " " << kernels::at(set)->name;
          ASSERT_EQ(counts[lanes + l], given[l] - lower);
        }
      }
  }
}

// Of many features each count is binomial, and pairs have the covariance -N p_m p_n, of one part of N and of several.
TEST(Multinomial, CountsHaveTheirLawAndCovariances) {
  std::vector<double> zipf(33), dominant(20, 0.5 / 19), balanced(10, 0.1), many(64, 1.0 / 64);
  double sum = 0;
  for (size_t n = 0; n < zipf.size(); ++n) sum += 1 / static_cast<double>(n + 1);
  for (size_t n = 0; n < zipf.size(); ++n) zipf[n] = 1 / static_cast<double>(n + 1) / sum;
  dominant[0] = 0.5;
  for (const std::vector<double>& p : {zipf, dominant, balanced, many})
    for (const int64_t N : {64, 100, 127, 128, 1000}) {
      constexpr int64_t lanes = 60000;
      const size_t K = p.size();
      const std::vector<int32_t> counts = draw(p, N, lanes, 11);
      for (size_t m = 0; m < K; m += 3) {
        std::vector<double> found(static_cast<size_t>(N) + 1), expected(found.size());
        for (int64_t lane = 0; lane < lanes; ++lane) ++found[static_cast<size_t>(counts[static_cast<size_t>(lane) * K + m])];
        for (int64_t j = 0; j <= N; ++j) {
          const std::vector<double> two = {p[m], 1 - p[m]};
          const int32_t of_two[] = {static_cast<int32_t>(j), static_cast<int32_t>(N - j)};
          expected[static_cast<size_t>(j)] = lanes * std::exp(log_probability(two, of_two));
        }
        std::vector<double> cells, means;  // neighbours together until 20 are expected
        double cell = 0, mean = 0;
        for (size_t j = 0; j < found.size(); ++j) {
          cell += found[j], mean += expected[j];
          if (mean >= 20) cells.push_back(cell), means.push_back(mean), cell = mean = 0;
        }
        cells.back() += cell, means.back() += mean;
        if (cells.size() > 1) {
          EXPECT_LT(chi_square(cells, means), surely) << K << " " << N << " " << m;
        }
        for (const size_t n : {(m + 1) % K, (m + K / 2) % K}) {
          const double length = static_cast<double>(N), variance = length * p[m] * (1 - p[m]) * length * p[n] * (1 - p[n]);
          double product = 0;
          for (size_t row = 0; row < counts.size(); row += K) product += (counts[row + m] - length * p[m]) * (counts[row + n] - length * p[n]);
          EXPECT_LT(std::fabs(product / lanes + length * p[m] * p[n]), 5 * std::sqrt(1.5 * variance / lanes)) << K << " " << N << " " << m << " " << n;
        }
      }
    }
}

}  // namespace
}  // namespace lamina
