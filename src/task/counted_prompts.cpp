// Drawing lanes of prompts.
#include "task/counted_prompts.hpp"

#include <algorithm>

namespace lamina {
namespace {

constexpr int64_t most = Multinomial::most_features, most_words = most + 4;  // of one lane at a time: whole blocks of 4

}  // namespace

CountedPrompts::CountedPrompts(const FeatureLaw& law, std::vector<double> root)
    : features_(law.features), length_(law.length), half_((law.features + 1) / 2), counts_(law.probability, law.length),
      query_(law.probability), root_(std::move(root)) {}

void CountedPrompts::queries(uint64_t seed, Purpose purpose, int64_t first, int64_t count, Head* heads, int32_t* query) const {
  uint64_t words[4 * lanes];
  for (int64_t i = 0; i < count; i += lanes) {
    std::array<uint64_t, lanes> index;
    for (size_t l = 0; l < lanes; ++l) index[l] = static_cast<uint64_t>(first + i) + l;
    const auto filled = static_cast<size_t>(std::min(lanes, count - i));
    words_of_samples(seed, purpose, index, static_cast<int64_t>(filled), 0, 1, words);
    for (size_t l = 0; l < filled; ++l, ++heads, ++query) {
      for (size_t j = 0; j < 4; ++j) heads->word[j] = words[j * lanes + l];
      *query = query_.draw(static_cast<uint32_t>(heads->word[0]));
    }
  }
}

void CountedPrompts::draw(uint64_t seed, Purpose purpose, std::span<const uint64_t, lanes> index, const Head* const (&heads)[lanes],
                          int64_t filled, Lanes* occurs, Lanes* label) const {
  uint64_t words[most_words * lanes];
  int32_t counts[most * lanes];
  const int64_t numbers = features_ * lanes;
  for (size_t l = 0; l < lanes; ++l)
    for (size_t j = 0; j < 4; ++j) words[j * lanes + l] = heads[l]->word[j];
  words_of_samples(seed, purpose, index, filled, 1, (2 * half_ + 3) / 4 - 1, words + 4 * lanes);
  counts_.draw(0, words, 1, counts);
  double* const count = occurs->data();
  for (int64_t i = 0; i < numbers; ++i) count[i] = counts[i];

  if (label && root_.empty()) {
    kernels::drawing().normals_of_halves(features_, words, 2 * half_, label->data());
  } else if (label) {
    Lanes normal[most];
    kernels::drawing().normals_of_halves(features_, words, 2 * half_, normal->data());
    const auto K = static_cast<size_t>(features_);
    for (size_t m = 0; m < K; ++m) {
      label[m] = {};
      for (size_t n = 0; n <= m; ++n)
        for (size_t l = 0; l < lanes; ++l) label[m][l] += root_[m * K + n] * normal[n][l];
    }
  }

  for (int64_t part = 1; part < counts_.parts(); ++part) {
    const int64_t from = half_ * (part + 1), block = from / 4;
    words_of_samples(seed, purpose, index, filled, block, (from + half_ + 3) / 4 - block, words);
    counts_.draw(part, words, 2 * (from - 4 * block), counts);
    for (int64_t i = 0; i < numbers; ++i) count[i] += counts[i];
  }
}

}  // namespace lamina
