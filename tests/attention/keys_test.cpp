// One query or a few against many keys run with one key a lane; the same plan that may also give scores runs block by block.
// Both must give the same bits, whatever the options, strides, sizes, threads and instruction set, and whatever is not finite;
// and be right.
#include <oneapi/tbb/global_control.h>

#include "tests/attention/blocked.hpp"

namespace {

using namespace harness;

// Whether a call goes otherwise than by blocks: its memory differs, but for a chance in a thousand.
bool by_keys(lamina_attention_spec spec, int32_t direction) {
  lamina_attention_spec blocked = spec;
  blocked.flags |= LAMINA_WITH_SCORES;
  return workspace(spec, direction) != workspace(blocked, direction);
}

lamina_attention_spec random_spec(Dice& dice, int32_t type) {
  lamina_attention_spec s = new_spec();
  s.element = type;
  s.map = static_cast<int32_t>(1 + dice.below(3));
  s.normaliser = s.map == LAMINA_SOFTMAX ? 0 : static_cast<int32_t>(1 + dice.below(3));
  s.causal = static_cast<int32_t>(dice.chance(0.3) ? 1 + dice.below(2) : 0);
  s.kv_heads = 1 + dice.below(2), s.heads = s.kv_heads * (1 + dice.below(5));
  s.batch = 1 + dice.below(3);
  s.queries = 1 + dice.below(4);
  s.keys = dice.chance(0.5) ? 65 + dice.below(100) : 250 + dice.below(600);
  s.width = 1 + dice.below(dice.chance(0.3) ? 140 : 20), s.value_width = dice.chance(0.5) ? 0 : 1 + dice.below(140);
  if (dice.chance(0.2)) s.keys = 1 + dice.below(64), s.width = 33 + dice.below(40);
  if (dice.chance(0.2)) s.flags |= LAMINA_WINDOW_LEFT, s.window_left = dice.below(s.keys);
  if (dice.chance(0.2)) s.flags |= LAMINA_WINDOW_RIGHT, s.window_right = dice.below(s.keys);
  if (dice.chance(0.3)) s.flags |= LAMINA_WITH_LENGTHS;
  if (dice.chance(0.2)) s.flags |= LAMINA_WITH_OFFSETS;
  if (dice.chance(0.3)) s.flags |= LAMINA_WITH_MASK;
  if (dice.chance(0.3)) s.flags |= LAMINA_WITH_BIAS;
  if (s.map == LAMINA_SOFTMAX && dice.chance(0.5)) s.flags |= LAMINA_WITH_LSE;
  if (dice.chance(0.2)) s.scale = 3 * dice.symmetric();
  s.relu_at_zero = dice.chance(0.5) ? 0.5 : 0;
  return s;
}

template <class T>
void compare(int cases, uint64_t seed, bool poisoned) {
  int forward = 0, backward = 0;
  compare_with_blocks<T>(cases, seed, poisoned, [&](Dice& dice) {
    const lamina_attention_spec spec = random_spec(dice, element<T>);
    forward += by_keys(spec, LAMINA_FORWARD), backward += by_keys(spec, LAMINA_BACKWARD);
    return spec;
  });
  EXPECT_GE(forward, cases - 1);
  EXPECT_GT(backward, cases / 2);
}

TEST(AttentionKeys, BitsOfTheBlocksF32) {
  compare<float>(150, 1, false);
}
TEST(AttentionKeys, BitsOfTheBlocksF64) {
  compare<double>(150, 2, false);
}
TEST(AttentionKeys, NotFiniteF32) {
  compare<float>(100, 3, true);
}
TEST(AttentionKeys, NotFiniteF64) {
  compare<double>(100, 4, true);
}

// Threads share the chunks of a key head where key heads are few.
template <class T>
void compare_threads() {
  const tbb::global_control raise(tbb::global_control::max_allowed_parallelism, 8);
  for (const int32_t map : {LAMINA_SOFTMAX, LAMINA_RELU}) {
    lamina_attention_spec s = new_spec();
    s.element = element<T>, s.map = map, s.batch = 1, s.heads = 3, s.kv_heads = 1, s.queries = 2, s.keys = 9000, s.width = 17;
    s.flags = LAMINA_WITH_MASK;
    const Problem p = make_problem(s, 5);
    const Outputs<T> want = run_blocked<T>(p, {});
    lamina_attention_spec shared = s;
    shared.threads = 2;
    EXPECT_GT(workspace(shared, LAMINA_FORWARD), workspace(s, LAMINA_FORWARD));
    for (const int32_t threads : {1, 2, 3, 8})
      expect_same_bits(want, run<T>(p, {.threads = threads, .workspace = true}), " threads " + std::to_string(threads));
  }
}
TEST(AttentionKeys, ThreadsShareChunks) {
  compare_threads<float>();
  compare_threads<double>();
}

TEST(AttentionKeys, AgreesWithTheOracle) {
  Dice dice(6);
  for (int n = 0; n < 40 && !HasFailure(); ++n) {
    lamina_attention_spec s = random_spec(dice, n % 2 ? LAMINA_F32 : LAMINA_F64);
    s.relu_at_zero = 0;
    if (s.map == LAMINA_RELU || s.normaliser == LAMINA_NORMALISE_ROW_SUM) s.scale = 0.25;
    const Problem p = make_problem(s, dice.below(1000000));
    const oracle::Solution truth = oracle::solve(p);
    s.element == LAMINA_F32 ? expect_near(run<float>(p), truth, describe(p)) : expect_near(run<double>(p), truth, describe(p));
  }
}

}  // namespace
