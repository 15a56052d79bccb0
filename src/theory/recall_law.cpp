// The law of (n_y, n_tau): successors of the queried trigger are independent given how many there are, so it is a law of
// m = n_y + n_tau and a binomial.
#include "theory/recall_law.hpp"

#include <array>

namespace lamina {
namespace {

constexpr double smallest = 1e-30;
constexpr int64_t longest_chain = 65536;

// What a prompt with no answer among its m successors becomes.
enum class NoAnswer { overwritten, rejected };

// The law of (n_y, m - n_y) with m ~ weights[m] and n_y ~ Bin(m, 1-alpha); m = 0 never counts.
CountLaw mixture(const std::vector<double>& weights, double alpha, NoAnswer no_answer) {
  CountLaw law;
  double total = 0;
  std::vector<double> binomial = {1};  // P(Bin(m, 1-alpha) = j), by Pascal's recursion: every term a sum of positive ones
  for (size_t m = 1; m < weights.size(); ++m) {
    binomial.push_back(0);
    for (size_t j = m; j > 0; --j) {
      binomial[j] = binomial[j] * alpha + binomial[j - 1] * (1 - alpha);
      if (binomial[j] < 1e-290) binomial[j] = 0;  // keeps the recursion out of the subnormal numbers
    }
    binomial[0] *= alpha;
    for (size_t j = 1; j <= m; ++j) {
      double p = binomial[j];
      if (j == 1 && no_answer == NoAnswer::overwritten) p += binomial[0];
      p *= weights[m];
      total += p;
      if (p < smallest) continue;
      law.answer.push_back(static_cast<int64_t>(j));
      law.noise.push_back(static_cast<int64_t>(m - j));
      law.probability.push_back(p);
    }
  }
  for (double& p : law.probability) p /= total;
  return law;
}

// S2: P(n occurrences of q at positions 1..H-1, z_{H-1} != q) by recursion over positions. Classes of tokens: q, another
// trigger, the rest. The first token is neutral; after a trigger comes its answer or tau, of class rest; after the rest, each
// of M tokens alike.
std::vector<double> chain_occurrences(const RecallLaw& law) {
  enum { query, trigger, rest, classes };
  const auto m = static_cast<double>(law.chain_tokens), k = static_cast<double>(law.triggers.size());
  const double to_query = 1 / m, to_trigger = (k - 1) / m, to_rest = (m - k) / m;
  std::vector<std::array<double, classes>> now(static_cast<size_t>(law.length) / 2 + 2, std::array<double, classes>{});
  now[0][rest] = 1;
  size_t low = 0, high = 0;  // counts with a probability worth keeping
  for (int64_t position = 2; position < law.length; ++position) {
    // Downwards, in place: a count n of class query comes from n - 1.
    for (size_t n = high + 2; n-- > low;) {
      const std::array<double, classes> from = now[n];
      now[n][query] = n > low ? now[n - 1][rest] * to_query : 0;
      now[n][trigger] = from[rest] * to_trigger;
      now[n][rest] = from[query] + from[trigger] + from[rest] * to_rest;
    }
    ++high;
    const auto negligible = [&](size_t n) { return now[n][query] + now[n][trigger] + now[n][rest] < 1e-40; };
    while (high > low && negligible(high)) now[high--] = {};
    while (low < high && negligible(low)) now[low++] = {};
  }
  std::vector<double> weights(high + 1);
  for (size_t n = low; n <= high; ++n) weights[n] = now[n][trigger] + now[n][rest];
  return weights;
}

}  // namespace

CountLaw count_law(const RecallLaw& law) {
  using Sampler = RecallLaw::Sampler;
  switch (law.sampler) {
    case Sampler::s1:
    case Sampler::s3: {
      std::vector<double> weights(static_cast<size_t>(law.occurrences) + 1, 1 / static_cast<double>(law.occurrences));
      return mixture(weights, law.noise, NoAnswer::overwritten);
    }
    case Sampler::s2:
      if (law.length < 0)
        fail(LAMINA_E_UNSUPPORTED, "sampler s2 has no limit as prompt_length goes to inf; use data=fresh and a finite length");
      if (law.chain_tokens == 0)
        fail(LAMINA_E_UNSUPPORTED,
             "sampler s2 has an exact population form with uniform unigram and bigram laws only; use data=fresh");
      if (law.length > longest_chain)
        fail(LAMINA_E_UNSUPPORTED, "prompt_length is " + std::to_string(law.length) +
                                       ": the exact population form of sampler s2 goes up to " + std::to_string(longest_chain) +
                                       "; use data=fresh");
      return mixture(chain_occurrences(law), law.noise, NoAnswer::rejected);
    case Sampler::other:
      break;
  }
  fail(LAMINA_E_UNSUPPORTED, "this task has no exact population form; use data=fresh");
}

}  // namespace lamina
