// The chain of sampler S2 and of text_recall, by rejection.
#include "task/recall_chain.hpp"

#include <algorithm>
#include <utility>

namespace lamina {

RecallChain::RecallChain(int64_t vocabulary, int64_t triggers, double noise, AliasTables first, int64_t gap_begin,
                         int64_t gap_end)
    : vocabulary_(vocabulary),
      triggers_(triggers),
      noise_(noise),
      first_(std::move(first)),
      uniform_(vocabulary - (gap_end - gap_begin)),
      gap_begin_(static_cast<int32_t>(gap_begin)),
      gap_length_(static_cast<int32_t>(gap_end - gap_begin)) {}

RecallChain::RecallChain(int64_t vocabulary, int64_t triggers, double noise, AliasTables first, AliasTables next)
    : vocabulary_(vocabulary),
      triggers_(triggers),
      noise_(noise),
      first_(std::move(first)),
      next_(std::move(next)),
      uniform_(vocabulary) {}

bool RecallChain::attempt(Random& random, int32_t query, std::span<const int32_t> answers, std::span<int32_t> row) const {
  const auto triggers = static_cast<int32_t>(triggers_), tau = static_cast<int32_t>(vocabulary_);
  const size_t last = row.size() - 1;  // z_H
  const bool uniform = next_.empty();
  // In the uniform chain a token does not depend on the one before it unless that is a trigger: all are drawn, and those after
  // a trigger are replaced.
  if (uniform) uniform_.fill(random, 0, row.subspan(1, last - 1));
  row[0] = first_.draw(0, random);
  bool answered = false;
  for (size_t h = 1; h < last; ++h) {
    const int32_t previous = row[h - 1];
    if (previous < triggers) {
      const bool noisy = random.bernoulli(noise_);
      row[h] = noisy ? tau : answers[static_cast<size_t>(previous)];
      answered |= previous == query && !noisy;
    } else if (uniform) {
      if (row[h] >= gap_begin_) row[h] += gap_length_;
    } else {
      row[h] = next_.draw(previous, random);
    }
  }
  row[last] = query;
  return answered && row[last - 1] != query;
}

void RecallChain::draw(Random& random, int32_t query, std::span<const int32_t> answers, std::span<int32_t> row) const {
  const int64_t tries = std::max<int64_t>(1000, (int64_t{1} << 26) / static_cast<int64_t>(row.size()));
  for (int64_t i = 0; i < tries; ++i) {
    if (attempt(random, query, answers, row)) return;
  }
  fail(LAMINA_E_UNSUPPORTED, "no prompt of length " + std::to_string(row.size()) + " showed trigger " + std::to_string(query) +
                                 " with its answer in " + std::to_string(tries) +
                                 " tries: make prompt_length longer, vocabulary smaller or noise lower");
}

}  // namespace lamina
