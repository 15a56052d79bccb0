// Differential fuzz with a fixed seed: random plans of every kind, with random strides, against the oracle.
// LAMINA_FUZZ_CASES sets how many (default 500), LAMINA_FUZZ_SEED where they start.
#include <cstdlib>

#include "tests/attention/harness.hpp"

using namespace harness;

namespace {

int64_t from_environment(const char* name, int64_t fallback) {
  const char* text = std::getenv(name);
  return text && *text ? std::atoll(text) : fallback;
}

int64_t random_length(Dice& dice) {
  static const int64_t edges[] = {0, 1, 2, 3, 7, 16, 17, 33, 64, 65, 130};
  return dice.chance(0.5) ? edges[dice.below(11)] : dice.below(200);
}

lamina_attention_spec random_spec(Dice& dice) {
  lamina_attention_spec s = new_spec();
  s.element = dice.chance(0.5) ? LAMINA_F32 : LAMINA_F64;
  s.map = 1 + static_cast<int32_t>(dice.below(3));
  s.normaliser =
      s.map == LAMINA_SOFTMAX ? (dice.chance(0.5) ? 0 : LAMINA_NORMALISE_ROW_SUM) : static_cast<int32_t>(dice.below(4));
  s.causal = static_cast<int32_t>(dice.below(3));
  const bool large = dice.chance(0.03);
  s.kv_heads = 1 + dice.below(large ? 1 : 2);
  s.heads = s.kv_heads * (1 + dice.below(large ? 2 : 3));
  if (dice.chance(0.3)) s.kv_heads = 0;
  s.batch = large ? 1 : 1 + dice.below(2);
  s.queries = large ? dice.below(400) : random_length(dice);
  s.keys = large ? dice.below(400) : random_length(dice);
  s.width = 1 + dice.below(dice.chance(0.5) ? 8 : 70);
  if (dice.chance(0.5)) s.value_width = 1 + dice.below(dice.chance(0.5) ? 8 : 70);
  if (dice.chance(0.3)) s.flags |= LAMINA_WITH_BIAS;
  if (dice.chance(0.3)) s.flags |= LAMINA_WITH_MASK;
  if (dice.chance(0.3)) s.flags |= LAMINA_WITH_LENGTHS;
  if (dice.chance(0.2)) s.flags |= LAMINA_WITH_OFFSETS;
  if (dice.chance(0.5)) s.flags |= LAMINA_WITH_WEIGHTS;
  if (dice.chance(0.5)) s.flags |= LAMINA_WITH_SCORES;
  if (s.map == LAMINA_SOFTMAX && dice.chance(0.5)) s.flags |= LAMINA_WITH_LSE;
  if (dice.chance(0.3)) s.flags |= LAMINA_WINDOW_LEFT, s.window_left = dice.chance(0.2) ? INT64_MAX : random_length(dice);
  if (dice.chance(0.3)) s.flags |= LAMINA_WINDOW_RIGHT, s.window_right = dice.chance(0.2) ? INT64_MAX : random_length(dice);
  if (dice.chance(0.1))
    s.flags |= LAMINA_SCALE_IS_ZERO;
  else if (dice.chance(0.4))
    s.scale = dice.chance(0.5) || s.normaliser == LAMINA_NORMALISE_ROW_SUM ? 0.5 : -0.75;
  // A score of relu may not be 0 but for rounding: its slope would be a matter of taste.
  if (s.map == LAMINA_RELU && s.scale == 0 && !(s.flags & LAMINA_SCALE_IS_ZERO)) s.scale = 0.25;
  if (dice.chance(0.5)) s.relu_at_zero = dice.chance(0.5) ? 1 : 0.5;
  // A literal division by a linear row sum that is 0 gives infinities, not a comparison: leave the sum a term.
  if (s.map == LAMINA_LINEAR && s.normaliser == LAMINA_NORMALISE_ROW_SUM && (s.flags & LAMINA_SCALE_IS_ZERO))
    s.flags &= ~static_cast<uint32_t>(LAMINA_SCALE_IS_ZERO);
  return s;
}

template <class T>
double run_case(const Problem& p, uint64_t seed, const std::string& what) {
  const oracle::Solution truth = oracle::solve(p);
  const Run strided{.stride_seed = seed * 2 + 1, .threads = 1, .isa = nullptr, .workspace = true};
  const Outputs<T> result = run<T>(p, strided);
  if (seed % 4 == 0) expect_same_bits(result, run<T>(p), what + " (packed)");
  return expect_near(result, p, truth, what);
}

TEST(AttentionFuzz, AgreesWithTheOracle) {
  const int64_t cases = from_environment("LAMINA_FUZZ_CASES", 500);
  const int64_t first = from_environment("LAMINA_FUZZ_SEED", 1);
  double worst = 0;
  for (int64_t seed = first; seed < first + cases && !HasFailure(); ++seed) {
    Dice dice(static_cast<uint64_t>(seed));
    const Problem p = make_problem(random_spec(dice), static_cast<uint64_t>(seed));
    const std::string what = " case " + std::to_string(seed) + describe(p);
    const auto at = static_cast<uint64_t>(seed);
    worst = std::max(worst, p.spec.element == LAMINA_F32 ? run_case<float>(p, at, what) : run_case<double>(p, at, what));
  }
  printf("%lld cases, largest error %.2f of its bound\n", static_cast<long long>(cases), worst);
}

}  // namespace
