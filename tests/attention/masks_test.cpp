// Masks and biases of which whole panels of a tile are seen, or none of them: a mask that is a band gives the bits of the band,
// a bias of 0 and -inf those of a mask, however they lie in memory, with every instruction set.
#include "tests/attention/harness.hpp"

namespace {

using namespace harness;

// The pairs of query i and key j of these plans.
bool in_band(const lamina_attention_spec& s, int64_t i, int64_t j) {
  const int64_t at = i + (s.causal == LAMINA_CAUSAL_BOTTOM_RIGHT ? s.keys - s.queries : 0);
  if (s.causal != LAMINA_CAUSAL_NONE && j > at) return false;
  if ((s.flags & LAMINA_WINDOW_LEFT) != 0 && j < at - s.window_left) return false;
  return (s.flags & LAMINA_WINDOW_RIGHT) == 0 || j <= at + s.window_right;
}

lamina_attention_spec random_band(Dice& dice, int32_t type) {
  lamina_attention_spec s = new_spec();
  s.element = type;
  s.map = static_cast<int32_t>(1 + dice.below(3));
  s.normaliser = s.map == LAMINA_SOFTMAX ? 0 : static_cast<int32_t>(1 + dice.below(3));
  s.batch = 1, s.heads = 1 + dice.below(2), s.width = 1 + dice.below(20);
  s.queries = 1 + dice.below(150), s.keys = 1 + dice.below(dice.chance(0.3) ? 700 : 150);
  s.causal = static_cast<int32_t>(dice.below(3));
  if (dice.chance(0.5)) s.flags |= LAMINA_WINDOW_LEFT, s.window_left = dice.below(s.keys);
  if (dice.chance(0.5)) s.flags |= LAMINA_WINDOW_RIGHT, s.window_right = dice.below(s.keys);
  if (dice.chance(0.5)) s.flags |= LAMINA_WITH_WEIGHTS;
  return s;
}

template <class T>
void compare(int cases, uint64_t seed) {
  Dice dice(seed);
  const oracle::Real inf = std::numeric_limits<oracle::Real>::infinity();
  for (int n = 0; n < cases && !testing::Test::HasFailure(); ++n) {
    const lamina_attention_spec s = random_band(dice, element<T>);
    Problem banded = make_problem(s, dice.below(1000000)), masked = banded, biased, both;
    masked.spec.flags = (s.flags & LAMINA_WITH_WEIGHTS) | LAMINA_WITH_MASK;
    masked.spec.causal = LAMINA_CAUSAL_NONE, masked.spec.window_left = masked.spec.window_right = 0;
    for (int64_t row = 0; row < s.heads * s.queries; ++row)
      for (int64_t j = 0; j < s.keys; ++j) masked.mask.push_back(in_band(s, row % s.queries, j) ? 1 + (j + row) % 255 : 0);
    both = masked;  // a bias of 0 beside the mask; biased: -inf in place of it
    both.spec.flags |= LAMINA_WITH_BIAS;
    both.bias.assign(masked.mask.size(), 0);
    biased = both;
    biased.spec.flags &= ~static_cast<uint32_t>(LAMINA_WITH_MASK);
    biased.mask.clear();
    for (size_t k = 0; k < masked.mask.size(); ++k)
      if (masked.mask[k] == 0) biased.bias[k] = -inf;
    const Outputs<T> want = run<T>(banded, {.isa = "reference"}), with_bias = run<T>(both, {.isa = "reference"});
    for (int32_t i = 0; i < lamina_isa_count(); ++i) {
      const Run options = {.stride_seed = dice.chance(0.6) ? static_cast<uint64_t>(1 + dice.below(1000000)) : 0,
                           .isa = lamina_isa_name(i)};
      const std::string what = std::string(" ") + options.isa + describe(banded);
      expect_same_bits(want, run<T>(masked, options), " mask" + what);
      expect_same_bits(with_bias, run<T>(both, options), " mask and bias" + what);
      expect_same_bits(with_bias, run<T>(biased, options), " bias" + what);
    }
  }
}

TEST(AttentionMasks, BandsF32) {
  compare<float>(150, 1);
}
TEST(AttentionMasks, BandsF64) {
  compare<double>(150, 2);
}

}  // namespace
