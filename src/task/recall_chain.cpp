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
  row[0] = first_.draw(0, random);
  bool answered = false;
  const auto after_trigger = [&](int32_t trigger) {
    const bool noisy = random.bernoulli(noise_);
    answered |= trigger == query && !noisy;
    return noisy ? tau : answers[static_cast<size_t>(trigger)];
  };
  if (next_.empty()) {
    // In the uniform chain a token does not depend on the one before it unless that is a trigger: all are drawn, and those
    // after a trigger are replaced.
    const std::span<int32_t> inner = row.subspan(1, last - 1);
    uniform_.fill(random, 0, inner);
    for (int32_t& token : inner) token += token >= gap_begin_ ? gap_length_ : 0;
    for (size_t h = 1; h < last; ++h) {
      if (row[h - 1] < triggers) row[h] = after_trigger(row[h - 1]);
    }
  } else {
    for (size_t h = 1; h < last; ++h)
      row[h] = row[h - 1] < triggers ? after_trigger(row[h - 1]) : next_.draw(row[h - 1], random);
  }
  row[last] = query;
  return answered && row[last - 1] != query;
}

void RecallChain::draw(Random& random, int32_t query, std::span<const int32_t> answers, std::span<int32_t> row) const {
  // A chance of 1 in 500 fails once in 5e8 prompts; one of 1 in 1e5 is said to be too small within some milliseconds.
  const int64_t tries = std::clamp<int64_t>((int64_t{1} << 24) / static_cast<int64_t>(row.size()), 1000, 10000);
  for (int64_t i = 0; i < tries; ++i) {
    if (attempt(random, query, answers, row)) return;
  }
  fail(LAMINA_E_UNSUPPORTED, "no prompt of length " + std::to_string(row.size()) + " showed trigger " + std::to_string(query) +
                                 " with its answer in " + std::to_string(tries) +
                                 " tries: its chance is too small with sampler=s2, make prompt_length longer, vocabulary smaller or noise lower");
}

}  // namespace lamina
