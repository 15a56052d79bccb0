// Making the tables, and the loop over halves.
#include "task/multinomial.hpp"

#include <algorithm>
#include <bit>
#include <numeric>

namespace lamina {
namespace {

constexpr int64_t longest_part = 127;

}  // namespace

size_t WordLaws::add(std::span<const double> weights) {
  const auto bits = static_cast<int>(std::bit_width(weights.size() - 1));
  const size_t columns = size_t{1} << bits;
  const uint64_t column = (uint64_t{1} << 32) >> bits;
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  std::vector<uint64_t> words(columns, 0);
  double below = 0;
  uint64_t given = 0;
  for (size_t j = 0; j < weights.size(); ++j) {  // the last have weight 0, or end at all words
    below += weights[j];
    const auto end = static_cast<uint64_t>(below / sum * 0x1p32 + 0.5);
    words[j] = end - given, given = end;
  }

  const auto first = static_cast<uint32_t>(entries_.size());
  entries_.resize(entries_.size() + columns);
  uint32_t* entry = entries_.data() + first;
  std::vector<uint32_t> small, large;
  for (size_t j = 0; j < columns; ++j) (words[j] < column ? small : large).push_back(static_cast<uint32_t>(j));
  while (!small.empty()) {
    const uint32_t s = small.back(), l = large.back();
    small.pop_back();
    entry[s] = static_cast<uint32_t>(words[s] << bits) | l;
    words[l] -= column - words[s];
    if (words[l] < column) large.pop_back(), small.push_back(l);
  }
  for (const uint32_t j : large) entry[j] = j;  // exactly full: all integers
  laws_.push_back({first, static_cast<uint32_t>(columns - 1)});
  return laws_.size() - 1;
}

Multinomial::Multinomial(std::span<const double> probability, int64_t length)
    : features_(static_cast<int64_t>(probability.size())), length_(length), parts_((length + longest_part - 1) / longest_part) {
  halve(probability, 0, features_);
}

void Multinomial::halve(std::span<const double> probability, int64_t first, int64_t last) {
  if (last - first < 2) return;
  const int64_t middle = first + (last - first) / 2;
  const auto begin = probability.begin();
  const auto mass = [&](int64_t from, int64_t to) { return std::accumulate(begin + from, begin + to, 0.0); };
  const bool alike = std::count(begin + first, begin + last, probability[static_cast<size_t>(first)]) == last - first;
  const double p = alike ? static_cast<double>(middle - first) / static_cast<double>(last - first) : mass(first, middle) / mass(first, last);
  halves_.push_back({first, middle, binomials(p)});
  halve(probability, first, middle);
  halve(probability, middle, last);
}

// The laws Binomial(n, p), n = 0 .. the longest part: from the most likely number outwards, by the ratio of neighbours.
size_t Multinomial::binomials(double p) {
  for (const auto& [known, law] : known_)
    if (known == p) return law;
  const int64_t most = parts_ == 0 ? 0 : (length_ + parts_ - 1) / parts_;
  std::vector<double> weights;
  size_t zero = 0;
  for (int64_t n = 0; n <= most; ++n) {
    weights.assign(static_cast<size_t>(n) + 1, 1.0);
    const auto mode = std::min(n, static_cast<int64_t>(static_cast<double>(n + 1) * p));
    const auto ratio = [&](int64_t j) {  // of j + 1 to j
      return static_cast<double>(n - j) * p / (static_cast<double>(j + 1) * (1 - p));
    };
    for (int64_t j = mode; j < n; ++j) weights[static_cast<size_t>(j) + 1] = weights[static_cast<size_t>(j)] * ratio(j);
    for (int64_t j = mode; j-- > 0;) weights[static_cast<size_t>(j)] = weights[static_cast<size_t>(j) + 1] / ratio(j);
    const size_t law = laws_.add(weights);
    if (n == 0) zero = law;
  }
  known_.emplace_back(p, zero);
  return zero;
}

void Multinomial::draw(int64_t part, int64_t lanes, const uint64_t* words, int64_t stride, int64_t first, int32_t* counts) const {
  const int64_t length = length_ / parts_ + (part < length_ % parts_);
  std::fill_n(counts, lanes, static_cast<int32_t>(length));
  for (size_t i = 0; i < halves_.size(); ++i) {
    const Half half = halves_[i];
    const int64_t place = first + static_cast<int64_t>(i), shift = place % 2 * 32;
    const uint64_t* word = words + place / 2;
    int32_t *lower = counts + half.first * lanes, *upper = counts + half.middle * lanes;
    for (int64_t lane = 0; lane < lanes; ++lane) {
      const int32_t n = lower[lane], drawn = laws_.draw(half.law + static_cast<size_t>(n), static_cast<uint32_t>(word[lane * stride] >> shift));
      lower[lane] = drawn, upper[lane] = n - drawn;
    }
  }
}

}  // namespace lamina
