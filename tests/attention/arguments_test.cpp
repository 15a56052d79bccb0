// Every array of a call with everything that can be wrong with it, one at a time: each is refused with a text that names it,
// before anything is written.
#include "tests/attention/harness.hpp"

using namespace harness;

namespace {

using Call = lamina_attention_arrays;

struct Argument {
  const char* name;
  int directions;  // in which it is read or written
  const void*& (*data)(Call&);
  int64_t* (*stride)(Call&);
  bool output;
  uint32_t flag;  // a plan without it has no such array; 0: every plan has
};
template <auto member>
const void*& data_of(Call& call) {
  return const_cast<const void*&>(reinterpret_cast<const void* const&>((call.*member).data));
}
template <auto member>
int64_t* stride_of(Call& call) {
  return (call.*member).stride;
}
constexpr int both = LAMINA_FORWARD | LAMINA_BACKWARD;
#define INPUT(name, directions, flag) \
  { #name, directions, data_of < &Call::name>, stride_of < &Call::name>, false, flag }
#define OUTPUT(name, directions, flag) \
  { #name, directions, data_of < &Call::name>, stride_of < &Call::name>, true, flag }
const Argument arguments[] = {INPUT(q, both, 0),
                              INPUT(k, both, 0),
                              INPUT(v, both, 0),
                              INPUT(bias, both, LAMINA_WITH_BIAS),
                              INPUT(mask, both, LAMINA_WITH_MASK),
                              INPUT(d_o, LAMINA_BACKWARD, 0),
                              INPUT(d_lse, LAMINA_BACKWARD, LAMINA_WITH_LSE),
                              INPUT(d_weights, LAMINA_BACKWARD, LAMINA_WITH_WEIGHTS),
                              OUTPUT(o, LAMINA_FORWARD, 0),
                              OUTPUT(lse, LAMINA_FORWARD, LAMINA_WITH_LSE),
                              OUTPUT(weights, LAMINA_FORWARD, LAMINA_WITH_WEIGHTS),
                              OUTPUT(scores, LAMINA_FORWARD, LAMINA_WITH_SCORES),
                              OUTPUT(d_q, LAMINA_BACKWARD, 0),
                              OUTPUT(d_k, LAMINA_BACKWARD, 0),
                              OUTPUT(d_v, LAMINA_BACKWARD, 0),
                              OUTPUT(d_bias, LAMINA_BACKWARD, LAMINA_WITH_BIAS)};
#undef INPUT
#undef OUTPUT

class AttentionArguments : public testing::TestWithParam<uint32_t> {
 protected:
  AttentionArguments() {
    lamina_attention_spec s = new_spec();
    s.batch = 2, s.heads = 4, s.kv_heads = 2, s.queries = 5, s.keys = 6, s.width = 3;
    s.flags = GetParam();
    problem_ = make_problem(s, 2);
    if (!problem_.query_offsets.empty()) problem_.query_offsets = {0, 4, 9}, problem_.key_offsets = {0, 6, 9};
    plan_ = make_plan(s);
  }

  // `spoil` of a good call is refused in one direction with a text that has `word`, and no output is written.
  template <class Spoil>
  void expect_refused(int direction, const std::string& word, Spoil spoil) {
    Arrays<double> arrays(problem_);
    const Outputs<double> untouched = arrays.outputs(problem_);
    size_t bytes = 0;
    ASSERT_EQ(lamina_attention_workspace(plan_.get(), direction, &bytes), LAMINA_OK);
    void* workspace = nullptr;
    spoil(arrays.c, workspace);
    const auto call = direction == LAMINA_FORWARD ? lamina_attention_forward : lamina_attention_backward;
    EXPECT_EQ(call(plan_.get(), &arrays.c, workspace, bytes), LAMINA_E_ARGUMENT) << word;
    const std::string text = lamina_last_error();
    EXPECT_NE(text.find(word), std::string::npos) << text << ": does not say " << word;
    EXPECT_NE(text.find("must"), std::string::npos) << text;
    expect_same_bits(untouched, arrays.outputs(problem_), word);
  }
  bool has(const Argument& x, int direction) const {
    return (x.directions & direction) && (x.flag == 0 || (GetParam() & x.flag));
  }
  template <class Function>
  void each_argument(Function f) {
    for (const int direction : {LAMINA_FORWARD, LAMINA_BACKWARD})
      for (const Argument& x : arguments)
        if (has(x, direction)) f(direction, x);
  }
  static const void* aligned(const void* p, uintptr_t to) {
    return reinterpret_cast<const void*>((reinterpret_cast<uintptr_t>(p) + to - 1) / to * to);
  }

  Problem problem_;
  Plan plan_;
};

TEST_P(AttentionArguments, OutputsOverlapNothing) {
  each_argument([&](int direction, const Argument& x) {
    if (!x.output) return;
    for (const Argument& y : arguments)
      if (&y != &x && has(y, direction))
        expect_refused(direction, "overlaps", [&](Call& c, void*&) { x.data(c) = aligned(y.data(c), 8); });
    if (direction == LAMINA_BACKWARD)
      expect_refused(direction, "overlaps",
                     [&](Call& c, void*&) { c.d_scale = static_cast<double*>(const_cast<void*>(x.data(c))); });
  });
}

TEST_P(AttentionArguments, TheWorkspaceOverlapsNothing) {
  each_argument([&](int direction, const Argument& x) {
    expect_refused(direction, "overlaps",
                   [&](Call& c, void*& workspace) { workspace = const_cast<void*>(aligned(x.data(c), 64)); });
  });
}

TEST_P(AttentionArguments, Misaligned) {
  each_argument([&](int direction, const Argument& x) {
    if (std::string(x.name) == "mask") return;  // bytes are aligned anywhere
    for (const int shift : {1, 2, 4, 7})
      expect_refused(direction, std::string(x.name) + " is at address",
                     [&](Call& c, void*&) { x.data(c) = static_cast<const char*>(x.data(c)) + shift; });
  });
}

TEST_P(AttentionArguments, StridesOutOfTheAddressSpace) {
  const bool packed = GetParam() & LAMINA_WITH_OFFSETS;
  each_argument([&](int direction, const Argument& x) {
    const std::string name = x.name;
    const std::string word = name == "mask" ? name : name + ".stride";  // bytes so far apart overlap whatever there is
    const bool row = name == "lse" || name == "d_lse", square = name == "bias" || name == "mask" || name == "weights" ||
                                                                name == "scores" || name == "d_bias" || name == "d_weights";
    for (int k = packed && !square ? 1 : 0; k < (row ? 3 : 4); ++k)
      for (const int64_t stride : {INT64_MIN, INT64_MIN / 2 - 1, INT64_MAX / 2, INT64_MAX})
        expect_refused(direction, word, [&](Call& c, void*&) { x.stride(c)[k] = stride; });
    for (int k = packed && !square ? 1 : 0; k < (row ? 3 : 4) && x.output; ++k)
      for (const int64_t stride : {-1, 0}) expect_refused(direction, word, [&](Call& c, void*&) { x.stride(c)[k] = stride; });
  });
}

TEST_P(AttentionArguments, Absent) {
  for (const char* name : {"q", "k", "v", "bias", "mask", "o", "d_o"})
    each_argument([&](int direction, const Argument& x) {
      if (std::string(x.name) == name)
        expect_refused(direction, std::string(name) + ".data is NULL", [&](Call& c, void*&) { x.data(c) = nullptr; });
    });
}

// The usual call is told at a glance, any other looked at array by array; a plan that may give log-sum-exps has no usual call.
// Both take and refuse the same of random calls, in the same words.
TEST(AttentionCall, AtAGlanceAndArrayByArray) {
  lamina_attention_spec s = new_spec();
  s.batch = 2, s.heads = 2, s.kv_heads = 1, s.queries = 3, s.keys = 4, s.width = 2, s.threads = 1;
  const Plan glance = make_plan(s);
  s.flags = LAMINA_WITH_LSE;
  const Plan full = make_plan(s);
  size_t needed[2] = {0, 0};  // of the plan that needs more
  for (int k = 0; k < 2; ++k)
    for (const Plan* plan : {&glance, &full}) {
      size_t bytes = 0;
      ASSERT_EQ(lamina_attention_workspace(plan->get(), k == 0 ? LAMINA_FORWARD : LAMINA_BACKWARD, &bytes), LAMINA_OK);
      needed[k] = std::max(needed[k], bytes);
    }
  alignas(64) static double arena[512];  // arrays of at most 24 numbers, spread by at most 8 times that
  std::vector<char> room(std::max(needed[0], needed[1]) + 64);
  void* const workspace = const_cast<void*>(reinterpret_cast<const void*>((reinterpret_cast<uintptr_t>(room.data()) + 63) / 64 * 64));
  constexpr int64_t queries[] = {2, 2, 3, 2}, keys[] = {2, 1, 4, 2};
  Dice dice(1);
  int taken = 0, refused = 0;
  for (int round = 0; round < 100000; ++round) {
    lamina_attention_arrays c;
    ASSERT_EQ(lamina_attention_arrays_init(&c, sizeof c), LAMINA_OK);
    const bool crowded = dice.chance(0.3);  // else each array has places of its own
    int64_t place = 0;
    const auto set = [&](auto& x, const int64_t (&extent)[4]) {
      char* address = reinterpret_cast<char*>(arena + (crowded ? dice.below(200) : place));
      place += 40;
      if (dice.chance(0.01)) address += 1 + dice.below(8);
      x.data = dice.chance(0.01) ? nullptr : address;
      int64_t step = 1;
      for (int k = 4; k-- > 0; step *= extent[k]) x.stride[k] = step;
      if (dice.chance(0.02)) x.stride[dice.below(4)] = std::array<int64_t, 5>{0, 1, 2, 5, INT64_MAX}[static_cast<size_t>(dice.below(5))];
    };
    for (lamina_input* x : {&c.q, &c.d_o}) set(*x, queries);
    for (lamina_input* x : {&c.k, &c.v}) set(*x, keys);
    for (lamina_output* x : {&c.o, &c.d_q}) set(*x, queries);
    for (lamina_output* x : {&c.d_k, &c.d_v}) set(*x, keys);
    if (dice.chance(0.02)) c.d_scale = arena + dice.below(512);
    if (dice.chance(0.01)) c.weights.data = arena;
    if (dice.chance(0.01)) c.mask.data = arena;
    if (dice.chance(0.01)) c.key_lengths = reinterpret_cast<const int64_t*>(arena);
    if (dice.chance(0.01)) c.reserved = 1;
    const int direction = static_cast<int>(dice.below(2));
    const auto call = direction == 0 ? lamina_attention_forward : lamina_attention_backward;
    void* memory = dice.chance(0.2) ? nullptr : workspace;
    if (dice.chance(0.02)) memory = dice.chance(0.5) ? static_cast<char*>(workspace) + 8 : static_cast<void*>(arena);
    const size_t bytes = dice.chance(0.01) ? 0 : needed[direction];
    const lamina_status first = call(glance.get(), &c, memory, bytes);
    const std::string text = first == LAMINA_OK ? "" : lamina_last_error();
    const lamina_status second = call(full.get(), &c, memory, bytes);
    ASSERT_EQ(first, second) << text;
    if (first == LAMINA_OK) {
      ++taken;
    } else {
      ++refused;
      const size_t common = text.rfind("must be at least");  // the workspaces of the two plans differ in size
      ASSERT_EQ(text.substr(0, common), std::string(lamina_last_error()).substr(0, common));
    }
  }
  EXPECT_GT(taken, 10000);
  EXPECT_GT(refused, 10000);
}

constexpr uint32_t all = LAMINA_WITH_BIAS | LAMINA_WITH_MASK | LAMINA_WITH_LSE | LAMINA_WITH_WEIGHTS | LAMINA_WITH_SCORES;
INSTANTIATE_TEST_SUITE_P(PlainAllAndPacked, AttentionArguments, testing::Values(0u, all, all | LAMINA_WITH_OFFSETS));

}  // namespace
