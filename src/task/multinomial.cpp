// Making the tables.
#include "task/multinomial.hpp"

#include <algorithm>
#include <bit>
#include <functional>
#include <numeric>

namespace lamina {
namespace {

constexpr int64_t longest_part = 127;

}  // namespace

WordLaw::WordLaw(std::span<const double> weights) {
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

  entries_.resize(columns);
  std::vector<uint32_t> small, large;
  for (size_t j = 0; j < columns; ++j) (words[j] < column ? small : large).push_back(static_cast<uint32_t>(j));
  while (!small.empty()) {
    const uint32_t s = small.back(), l = large.back();
    small.pop_back();
    entries_[s] = static_cast<uint32_t>(words[s] << bits) | l;
    words[l] -= column - words[s];
    if (words[l] < column) large.pop_back(), small.push_back(l);
  }
  for (const uint32_t j : large) entries_[j] = j;  // exactly full: all integers
}

Multinomial::Multinomial(std::span<const double> probability, int64_t length)
    : length_(length), parts_((length + longest_part - 1) / longest_part),
      bits_(static_cast<int>(std::bit_width(static_cast<uint64_t>(most_of_part())))) {
  const auto features = static_cast<int64_t>(probability.size());
  halve(probability, 0, features);
  // By how far apart their halves begin: those that need not wait for each other are neighbours.
  std::ranges::stable_sort(halvings_, std::greater(), [](const kernels::Halving& h) { return h.upper - h.lower; });
}

void Multinomial::halve(std::span<const double> probability, int64_t first, int64_t last) {
  if (last - first < 2) return;
  const int64_t middle = first + (last - first) / 2;
  const auto begin = probability.begin();
  const auto mass = [&](int64_t from, int64_t to) { return std::accumulate(begin + from, begin + to, 0.0); };
  const bool alike = std::count(begin + first, begin + last, probability[static_cast<size_t>(first)]) == last - first;
  const double p = alike ? static_cast<double>(middle - first) / static_cast<double>(last - first) : mass(first, middle) / mass(first, last);
  const auto half = static_cast<int64_t>(halvings_.size());
  halvings_.push_back({half, first, middle, binomials(p)});
  halve(probability, first, middle);
  halve(probability, middle, last);
}

// The laws Binomial(n, p): from the most likely number outwards, by the ratio of neighbours.
const uint32_t* Multinomial::binomials(double p) {
  for (const Laws& known : laws_)
    if (known.p == p) return known.columns.get();
  const int64_t most = most_of_part();
  auto columns = std::make_unique<uint32_t[]>(static_cast<size_t>(most + 1) << bits_);
  std::vector<double> weights;
  for (int64_t n = 0; n <= most; ++n) {
    weights.assign(static_cast<size_t>(n) + 1, 1.0);
    const auto mode = std::min(n, static_cast<int64_t>(static_cast<double>(n + 1) * p));
    const auto ratio = [&](int64_t j) {  // of j + 1 to j
      return static_cast<double>(n - j) * p / (static_cast<double>(j + 1) * (1 - p));
    };
    for (int64_t j = mode; j < n; ++j) weights[static_cast<size_t>(j) + 1] = weights[static_cast<size_t>(j)] * ratio(j);
    for (int64_t j = mode; j-- > 0;) weights[static_cast<size_t>(j)] = weights[static_cast<size_t>(j) + 1] / ratio(j);
    std::ranges::copy(WordLaw(weights).columns(), columns.get() + (n << bits_));
  }
  laws_.push_back({p, std::move(columns)});
  return laws_.back().columns.get();
}

void Multinomial::draw(int64_t part, const uint64_t* words, int64_t first, int32_t* counts) const {
  std::fill_n(counts, lanes, static_cast<int32_t>(length_ / parts_ + (part < length_ % parts_)));
  kernels::drawing().halve(static_cast<int64_t>(halvings_.size()), halvings_.data(), bits_, words, first, counts);
}

}  // namespace lamina
