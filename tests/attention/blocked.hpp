// A plan that goes its own way beside the same plan by blocks of queries, which is what one that may also give scores does: both must
// give the same bits.
#pragma once
#include "tests/attention/harness.hpp"

namespace harness {

inline size_t workspace(const lamina_attention_spec& spec, int32_t direction) {
  size_t bytes = 0;
  EXPECT_EQ(lamina_attention_workspace(make_plan(spec).get(), direction, &bytes), LAMINA_OK);
  return bytes;
}

template <class T>
Outputs<T> run_blocked(Problem p, const Run& options) {
  p.spec.flags |= LAMINA_WITH_SCORES;
  Outputs<T> out = run<T>(p, options);
  out.scores.clear();
  return out;
}

// A few numbers of each input become infinite or NaN.
inline void poison(Problem& p, Dice& dice) {
  const auto inf = std::numeric_limits<oracle::Real>::infinity(), nan = std::numeric_limits<oracle::Real>::quiet_NaN();
  for (oracle::Array* x : {&p.q, &p.k, &p.v, &p.d_o, &p.bias})
    for (int n = 0; n < 2 && !x->empty(); ++n)
      if (dice.chance(0.5))
        (*x)[dice.below(static_cast<int64_t>(x->size()))] = dice.chance(0.5) ? nan : dice.chance(0.5) ? inf : -inf;
}

// Plans of random_spec(dice), each on every instruction set, beside blocks on the reference set.
template <class T, class RandomSpec>
void compare_with_blocks(int cases, uint64_t seed, bool poisoned, const RandomSpec& random_spec) {
  Dice dice(seed);
  for (int n = 0; n < cases && !testing::Test::HasFailure(); ++n) {
    const lamina_attention_spec spec = random_spec(dice);
    Problem p = make_problem(spec, dice.below(1000000));
    if (poisoned) poison(p, dice);
    Run options;
    options.stride_seed = dice.chance(0.5) ? static_cast<uint64_t>(1 + dice.below(1000000)) : 0;
    options.workspace = dice.chance(0.5);
    options.threads = dice.chance(0.2) ? 0 : 1;
    const Outputs<T> want = run_blocked<T>(p, {.isa = "reference"});
    for (int32_t i = 0; i < lamina_isa_count(); ++i) {
      options.isa = lamina_isa_name(i);
      expect_same_bits(want, run<T>(p, options), std::string(" ") + options.isa + describe(p));
      expect_same_bits(want, run_blocked<T>(p, options), std::string(" blocked ") + options.isa + describe(p));
    }
  }
}

}  // namespace harness
