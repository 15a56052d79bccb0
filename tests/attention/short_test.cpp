// Short sequences run with one sequence or one query a lane; the same plan that may also give scores runs block by block. All
// must give the same bits, whatever the options, strides, sizes and instruction set, and whatever is not finite.
#include "tests/attention/blocked.hpp"

namespace {

using namespace harness;

lamina_attention_spec random_spec(Dice& dice, int32_t type) {
  lamina_attention_spec s = new_spec();
  s.element = type;
  s.map = static_cast<int32_t>(1 + dice.below(3));
  s.normaliser = s.map == LAMINA_SOFTMAX ? 0 : static_cast<int32_t>(1 + dice.below(3));
  s.causal = static_cast<int32_t>(dice.below(3));
  s.heads = 1 + dice.below(4);
  s.kv_heads = s.heads % 2 == 0 && dice.chance(0.5) ? s.heads / 2 : 0;
  s.batch = dice.chance(0.5) ? 1 + dice.below(4) : 8 + dice.below(20);
  const auto size = [&](int64_t most) { return 1 + dice.below(dice.chance(0.2) ? most : 12); };
  s.queries = size(64), s.keys = dice.chance(0.5) ? s.queries : size(64);
  if (s.map == LAMINA_LINEAR)
    s.queries = std::min<int64_t>(s.queries, 63);  // 64 are computed by states, if scores are not wanted
  s.width = size(32), s.value_width = dice.chance(0.7) ? 0 : size(32);
  if (dice.chance(0.3)) s.flags |= LAMINA_WINDOW_LEFT, s.window_left = dice.below(s.keys);
  if (dice.chance(0.3)) s.flags |= LAMINA_WINDOW_RIGHT, s.window_right = dice.below(s.keys);
  if (dice.chance(0.3)) s.flags |= LAMINA_WITH_LENGTHS;
  if (s.map == LAMINA_SOFTMAX && dice.chance(0.5)) s.flags |= LAMINA_WITH_LSE;
  if (dice.chance(0.2)) s.scale = 3 * dice.symmetric();
  s.relu_at_zero = dice.chance(0.5) ? 0.5 : 0;
  return s;
}

template <class T>
void compare(int cases, uint64_t seed, bool poisoned) {
  compare_with_blocks<T>(cases, seed, poisoned, [](Dice& dice) { return random_spec(dice, element<T>); });
}

TEST(AttentionShort, BitsOfTheBlockedPathF32) {
  compare<float>(300, 1, false);
}
TEST(AttentionShort, BitsOfTheBlockedPathF64) {
  compare<double>(300, 2, false);
}
TEST(AttentionShort, NotFiniteF32) {
  compare<float>(150, 3, true);
}
TEST(AttentionShort, NotFiniteF64) {
  compare<double>(150, 4, true);
}

// Broadcast: stride 0 over batch, head, position or feature is an array of equal slices.
TEST(AttentionShort, StridesOfZero) {
  lamina_attention_spec s = new_spec();
  s.batch = 9, s.heads = 2, s.queries = s.keys = 7, s.width = 5, s.causal = LAMINA_CAUSAL_TOP_LEFT;
  for (int which = 0; which < 4; ++which) {
    Problem p = make_problem(s, 5);
    const int64_t extent[4] = {9, 2, 7, 5};
    for (int64_t at = 0; at < static_cast<int64_t>(p.k.size()); ++at) {
      int64_t index[4] = {at / 70, at / 35 % 2, at / 5 % 7, at % 5};
      index[which] = 0;
      p.k[at] = p.k[((index[0] * extent[1] + index[1]) * extent[2] + index[2]) * extent[3] + index[3]];
    }
    const Outputs<double> want = run_blocked<double>(p, {});
    const Plan plan = make_plan(p.spec);
    Arrays<double> arrays(p);
    arrays.c.k.stride[which] = 0;
    ASSERT_EQ(lamina_attention_forward(plan.get(), &arrays.c, nullptr, 0), LAMINA_OK);
    ASSERT_EQ(lamina_attention_backward(plan.get(), &arrays.c, nullptr, 0), LAMINA_OK);
    expect_same_bits(want, arrays.outputs(p), describe(p));
  }
}

// That the ways differ: their memory does, and that of a query a lane does not depend on the length.
TEST(AttentionShort, EachWayIsChosen) {
  for (const int32_t type : {LAMINA_F32, LAMINA_F64})
    for (const int32_t direction : {LAMINA_FORWARD, LAMINA_BACKWARD}) {
      lamina_attention_spec s = new_spec(), few = new_spec(), blocked;
      for (lamina_attention_spec* x : {&s, &few}) x->element = type, x->heads = 1, x->width = 8;
      s.batch = 64, s.queries = 2, s.keys = 16, s.causal = LAMINA_CAUSAL_TOP_LEFT;
      few.batch = 1, few.queries = few.keys = 8;
      blocked = s;
      blocked.flags |= LAMINA_WITH_SCORES;
      EXPECT_NE(workspace(s, direction), workspace(blocked, direction));
      const size_t bytes = workspace(few, direction);
      few.queries = few.keys = 7;
      EXPECT_EQ(bytes, workspace(few, direction));
      EXPECT_NE(bytes, workspace(s, direction));
      few.flags |= LAMINA_WITH_SCORES;
      EXPECT_NE(bytes, workspace(few, direction));
    }
}

// Outputs that are not asked for change nothing else.
TEST(AttentionShort, OptionalOutputs) {
  lamina_attention_spec s = new_spec();
  s.batch = 11, s.heads = 2, s.kv_heads = 1, s.queries = 6, s.keys = 9, s.width = 4, s.flags = LAMINA_WITH_LSE;
  const Problem p = make_problem(s, 6);
  const Outputs<double> all = run<double>(p);
  const Plan plan = make_plan(p.spec);
  for (int left_out = 0; left_out < 6; ++left_out) {
    Arrays<double> arrays(p);
    Outputs<double> want = all;
    const auto leave = [](auto& output, std::vector<double>& values) { output.data = nullptr, values.clear(); };
    if (left_out == 0) leave(arrays.c.d_q, want.d_q);
    if (left_out == 1) leave(arrays.c.d_k, want.d_k);
    if (left_out == 2) leave(arrays.c.d_v, want.d_v);
    if (left_out == 3) leave(arrays.c.lse, want.lse);
    if (left_out == 4) arrays.c.d_scale = nullptr;
    if (left_out == 5) leave(arrays.c.d_q, want.d_q), leave(arrays.c.d_k, want.d_k), arrays.c.d_scale = nullptr;
    ASSERT_EQ(lamina_attention_forward(plan.get(), &arrays.c, nullptr, 0), LAMINA_OK);
    ASSERT_EQ(lamina_attention_backward(plan.get(), &arrays.c, nullptr, 0), LAMINA_OK);
    Outputs<double> got = arrays.outputs(p);
    if (!arrays.c.d_q.data) got.d_q.clear();
    if (!arrays.c.d_k.data) got.d_k.clear();
    if (!arrays.c.d_v.data) got.d_v.clear();
    if (!arrays.c.lse.data) got.lse.clear();
    if (!arrays.c.d_scale) got.d_scale = want.d_scale;
    expect_same_bits(want, got, describe(p));
  }
}

}  // namespace
