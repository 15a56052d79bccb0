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

constexpr uint32_t all = LAMINA_WITH_BIAS | LAMINA_WITH_MASK | LAMINA_WITH_LSE | LAMINA_WITH_WEIGHTS | LAMINA_WITH_SCORES;
INSTANTIATE_TEST_SUITE_P(PlainAllAndPacked, AttentionArguments, testing::Values(0u, all, all | LAMINA_WITH_OFFSETS));

}  // namespace
