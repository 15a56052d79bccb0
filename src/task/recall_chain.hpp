// The Markov prompt of sampler S2 and of text_recall: a chain of tokens in which every trigger is followed by its own answer or
// by tau, ending in the queried trigger, given that the answer of the queried trigger can be read off. Triggers are tokens
// 0..k-1.
#pragma once
#include <cstdint>
#include <span>
#include <string>

#include "task/draw.hpp"

namespace lamina {

class RecallChain {
 public:
  // After a token that is no trigger: uniform over the tokens outside [gap_begin, gap_end).
  RecallChain(int64_t vocabulary, int64_t triggers, double noise, AliasTables first, int64_t gap_begin, int64_t gap_end);
  // After a token that is no trigger: row `token` of `next` [N+1, N]; row N is tau's.
  RecallChain(int64_t vocabulary, int64_t triggers, double noise, AliasTables first, AliasTables next);

  // z_1 ~ first, then the chain, z_H = query; drawn again until (b) the query is followed by its answer at least once before
  // z_H and (c) z_{H-1} is not the query. answers [triggers]. Throws after 10000 tries, fewer for
  // prompts of more than 1700 tokens, and never fewer than 1000.
  void draw(Random& random, int32_t query, std::span<const int32_t> answers, std::span<int32_t> row) const;

 private:
  bool attempt(Random& random, int32_t query, std::span<const int32_t> answers, std::span<int32_t> row) const;

  int64_t vocabulary_, triggers_;
  double noise_;
  AliasTables first_, next_;
  PackedUniform uniform_;
  int32_t gap_begin_ = 0, gap_length_ = 0;
};

}  // namespace lamina
