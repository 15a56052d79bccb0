// Misuse: each wrong field of a spec and each wrong array of a call gives a status and a text that names it, and no output is
// touched.
#include <ctime>
#include <functional>
#include <limits>

#include "tests/attention/harness.hpp"

using namespace harness;

namespace {

lamina_attention_spec good_spec() {
  lamina_attention_spec s = new_spec();
  s.batch = 2, s.heads = 4, s.kv_heads = 2, s.queries = 5, s.keys = 6, s.width = 3;
  return s;
}

void expect_refused(const char* word, const std::function<void(lamina_attention_spec&)>& spoil,
                    lamina_status status = LAMINA_E_ARGUMENT) {
  lamina_attention_spec s = good_spec();
  spoil(s);
  auto* const marker = reinterpret_cast<lamina_attention*>(&s);
  lamina_attention* plan = marker;
  EXPECT_EQ(lamina_attention_create(&s, &plan), status) << word;
  EXPECT_EQ(plan, marker) << word;
  const std::string text = lamina_last_error();
  EXPECT_EQ(text.rfind("lamina_attention_create: ", 0), 0u) << text;
  EXPECT_NE(text.find(word), std::string::npos) << text << " does not name " << word;
  EXPECT_NE(text.find("must be"), std::string::npos) << text;
}

using Spec = lamina_attention_spec;

TEST(AttentionMisuse, Spec) {
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  for (const int32_t bad : {-1, 3, INT32_MIN, INT32_MAX}) expect_refused("element", [&](Spec& s) { s.element = bad; });
  for (const int32_t bad : {-1, 4, INT32_MIN, INT32_MAX}) {
    expect_refused("map", [&](Spec& s) { s.map = bad; });
    expect_refused("normaliser", [&](Spec& s) { s.normaliser = bad; });
  }
  for (const int32_t bad : {-1, 3, INT32_MIN, INT32_MAX}) expect_refused("causal", [&](Spec& s) { s.causal = bad; });
  for (const int32_t bad : {-1, 1025, INT32_MIN, INT32_MAX}) expect_refused("threads", [&](Spec& s) { s.threads = bad; });
  expect_refused("normaliser", [](Spec& s) { s.normaliser = LAMINA_NORMALISE_NONE; });
  expect_refused("normaliser", [](Spec& s) { s.map = LAMINA_SOFTMAX, s.normaliser = LAMINA_NORMALISE_VISIBLE; });
  expect_refused("flags", [](Spec& s) { s.flags = 1u << 10; });
  expect_refused("flags", [](Spec& s) { s.flags = UINT32_MAX; });
  expect_refused("flags", [](Spec& s) { s.map = LAMINA_LINEAR, s.flags = LAMINA_WITH_LSE; });
  expect_refused("reserved", [](Spec& s) { s.reserved = 1; });
  for (const int64_t bad : {int64_t{-1}, INT64_MIN, INT64_MAX, (int64_t{1} << 40) + 1}) {
    expect_refused("batch", [&](Spec& s) { s.batch = bad; });
    expect_refused("heads", [&](Spec& s) { s.heads = bad; });
    expect_refused("kv_heads", [&](Spec& s) { s.kv_heads = bad; });
    expect_refused("queries", [&](Spec& s) { s.queries = bad; });
    expect_refused("keys", [&](Spec& s) { s.keys = bad; });
    expect_refused("width", [&](Spec& s) { s.width = bad; });
    expect_refused("value_width", [&](Spec& s) { s.value_width = bad; });
  }
  expect_refused("width", [](Spec& s) { s.width = 0; });
  expect_refused("kv_heads", [](Spec& s) { s.kv_heads = 3; });
  expect_refused("kv_heads", [](Spec& s) { s.kv_heads = 8; });
  expect_refused("kv_heads", [](Spec& s) { s.heads = 0; });
  expect_refused("queries", [](Spec& s) { s.batch = s.queries = int64_t{1} << 40; });
  expect_refused("keys", [](Spec& s) { s.queries = s.keys = int64_t{1} << 31, s.flags = LAMINA_WITH_MASK; });
  expect_refused("window_left", [](Spec& s) { s.window_left = 1; });
  expect_refused("window_right", [](Spec& s) { s.window_right = 1; });
  expect_refused("window_left", [](Spec& s) { s.window_left = -1, s.flags = LAMINA_WINDOW_LEFT; });
  expect_refused("window_right", [](Spec& s) { s.window_right = INT64_MIN, s.flags = LAMINA_WINDOW_RIGHT; });
  for (const double bad : {nan, inf, -inf}) expect_refused("scale", [&](Spec& s) { s.scale = bad; });
  expect_refused("scale", [](Spec& s) { s.scale = 1e300, s.element = LAMINA_F32; });
  expect_refused("scale", [](Spec& s) { s.scale = 1, s.flags = LAMINA_SCALE_IS_ZERO; });
  for (const double bad : {nan, inf, -0.5, 1.5}) expect_refused("relu_at_zero", [&](Spec& s) { s.relu_at_zero = bad; });
  expect_refused("allocator.release",
                 [](Spec& s) { s.allocator.allocate = [](void*, size_t, size_t) -> void* { return nullptr; }; });
  expect_refused("allocator.allocate", [](Spec& s) { s.allocator.release = [](void*, void*, size_t) {}; });
  expect_refused(
      "isa", [](Spec& s) { s.isa = "sse9"; }, LAMINA_E_UNSUPPORTED);
  for (const uint32_t bad : {0u, 4u, static_cast<uint32_t>(sizeof(Spec)) - 1, UINT32_MAX})
    expect_refused("struct_size", [&](Spec& s) { s.struct_size = bad; });
}

TEST(AttentionMisuse, Null) {
  lamina_attention_spec s = good_spec();
  lamina_attention* out = nullptr;
  EXPECT_EQ(lamina_attention_create(nullptr, &out), LAMINA_E_ARGUMENT);
  EXPECT_EQ(lamina_attention_create(&s, nullptr), LAMINA_E_ARGUMENT);
  EXPECT_EQ(out, nullptr);
  EXPECT_EQ(lamina_attention_spec_init(nullptr, sizeof s), LAMINA_E_ARGUMENT);
  EXPECT_EQ(lamina_attention_arrays_init(nullptr, sizeof(lamina_attention_arrays)), LAMINA_E_ARGUMENT);
  EXPECT_EQ(lamina_attention_spec_init(&s, sizeof s - 1), LAMINA_E_ARGUMENT);
  const Plan plan = make_plan(good_spec());
  size_t bytes = 7;
  EXPECT_EQ(lamina_attention_workspace(nullptr, LAMINA_FORWARD, &bytes), LAMINA_E_ARGUMENT);
  EXPECT_EQ(lamina_attention_workspace(plan.get(), LAMINA_FORWARD, nullptr), LAMINA_E_ARGUMENT);
  for (const int32_t bad : {0, 3, -1}) EXPECT_EQ(lamina_attention_workspace(plan.get(), bad, &bytes), LAMINA_E_ARGUMENT);
  EXPECT_EQ(bytes, 7u);
  lamina_attention_arrays arrays;
  ASSERT_EQ(lamina_attention_arrays_init(&arrays, sizeof arrays), LAMINA_OK);
  EXPECT_EQ(lamina_attention_forward(nullptr, &arrays, nullptr, 0), LAMINA_E_ARGUMENT);
  EXPECT_EQ(lamina_attention_forward(plan.get(), nullptr, nullptr, 0), LAMINA_E_ARGUMENT);
  EXPECT_EQ(lamina_attention_backward(nullptr, &arrays, nullptr, 0), LAMINA_E_ARGUMENT);
  EXPECT_EQ(lamina_attention_backward(plan.get(), nullptr, nullptr, 0), LAMINA_E_ARGUMENT);
  EXPECT_EQ(lamina_attention_isa(nullptr), nullptr);
  lamina_attention_free(nullptr);
}

// A plan for a later library's larger struct: zero tail accepted, anything else refused.
TEST(AttentionMisuse, LargerStruct) {
  struct Later {
    lamina_attention_spec spec;
    int64_t more;
  } later;
  ASSERT_EQ(lamina_attention_spec_init(&later.spec, sizeof later), LAMINA_OK);
  EXPECT_EQ(later.more, 0);
  later.spec.width = 1;
  lamina_attention* plan = nullptr;
  EXPECT_EQ(lamina_attention_create(&later.spec, &plan), LAMINA_OK);
  lamina_attention_free(plan);
  later.more = 1;
  EXPECT_EQ(lamina_attention_create(&later.spec, &plan), LAMINA_E_ARGUMENT);
}

class AttentionCalls : public testing::Test {
 protected:
  using Call = lamina_attention_arrays;

  // Both directions, or one; every output keeps its canaries.
  void expect_call_refused(const char* word, int directions, const std::function<void(Call&)>& spoil, uint32_t flags = all) {
    lamina_attention_spec s = good_spec();
    s.flags = flags;
    const Problem p = make_problem(s, 2);
    const Plan plan = make_plan(s);
    Arrays<double> arrays(p);
    const Outputs<double> untouched = arrays.outputs(p);
    spoil(arrays.c);
    for (const int direction : {LAMINA_FORWARD, LAMINA_BACKWARD}) {
      if (!(directions & direction)) continue;
      const auto call = direction == LAMINA_FORWARD ? lamina_attention_forward : lamina_attention_backward;
      EXPECT_EQ(call(plan.get(), &arrays.c, nullptr, 0), LAMINA_E_ARGUMENT) << word;
      const std::string text = lamina_last_error();
      EXPECT_NE(text.find(word), std::string::npos) << text << " does not name " << word;
      EXPECT_NE(text.find("must"), std::string::npos) << text;
    }
    expect_same_bits(untouched, arrays.outputs(p), word);
  }
  static constexpr uint32_t all =
      LAMINA_WITH_BIAS | LAMINA_WITH_MASK | LAMINA_WITH_LENGTHS | LAMINA_WITH_LSE | LAMINA_WITH_WEIGHTS | LAMINA_WITH_SCORES;
  static constexpr int both = LAMINA_FORWARD | LAMINA_BACKWARD;
};

template <class Pointer>
void shift_bytes(Pointer*& p, int64_t bytes) {
  p = reinterpret_cast<Pointer*>(reinterpret_cast<uintptr_t>(p) + bytes);
}

TEST_F(AttentionCalls, Missing) {
  expect_call_refused("q.data", both, [](Call& a) { a.q.data = nullptr; });
  expect_call_refused("k.data", both, [](Call& a) { a.k.data = nullptr; });
  expect_call_refused("v.data", both, [](Call& a) { a.v.data = nullptr; });
  expect_call_refused("bias.data", both, [](Call& a) { a.bias.data = nullptr; });
  expect_call_refused("mask.data", both, [](Call& a) { a.mask.data = nullptr; });
  expect_call_refused("query_lengths", both, [](Call& a) { a.query_lengths = nullptr; });
  expect_call_refused("key_lengths", both, [](Call& a) { a.key_lengths = nullptr; });
  expect_call_refused("o.data", LAMINA_FORWARD, [](Call& a) { a.o.data = nullptr; });
  expect_call_refused("d_o.data", LAMINA_BACKWARD, [](Call& a) { a.d_o.data = nullptr; });
}

TEST_F(AttentionCalls, NotPlanned) {
  static const double number = 0;
  static const int64_t lengths[2] = {1, 1};
  static double room[4096];
  const auto give_in = [](lamina_input& x) { x = {&number, {0, 0, 0, 0}}; };
  const auto give_out = [](lamina_output& x) { x = {room, {120, 30, 6, 1}}; };
  expect_call_refused(
      "bias", both, [&](Call& a) { give_in(a.bias); }, 0);
  expect_call_refused(
      "mask", both, [&](Call& a) { give_in(a.mask); }, 0);
  expect_call_refused(
      "query_lengths", both, [&](Call& a) { a.query_lengths = lengths; }, 0);
  expect_call_refused(
      "key_lengths", both, [&](Call& a) { a.key_lengths = lengths; }, 0);
  expect_call_refused(
      "lse", LAMINA_FORWARD, [&](Call& a) { give_out(a.lse); }, 0);
  expect_call_refused(
      "weights", LAMINA_FORWARD, [&](Call& a) { give_out(a.weights); }, 0);
  expect_call_refused(
      "scores", LAMINA_FORWARD, [&](Call& a) { give_out(a.scores); }, 0);
  expect_call_refused(
      "d_lse", LAMINA_BACKWARD, [&](Call& a) { give_in(a.d_lse); }, 0);
  expect_call_refused(
      "d_weights", LAMINA_BACKWARD, [&](Call& a) { give_in(a.d_weights); }, 0);
  expect_call_refused(
      "d_bias", LAMINA_BACKWARD, [&](Call& a) { give_out(a.d_bias); }, 0);
}

TEST_F(AttentionCalls, Lengths) {
  for (const int64_t bad : {int64_t{-1}, int64_t{7}, INT64_MIN, INT64_MAX}) {
    const int64_t lengths[2] = {3, bad};
    expect_call_refused("query_lengths[1]", both, [&](Call& a) { a.query_lengths = lengths; });
    expect_call_refused("key_lengths[1]", both, [&](Call& a) { a.key_lengths = lengths; });
  }
}

TEST_F(AttentionCalls, Misaligned) {
  expect_call_refused("q", both, [](Call& a) { shift_bytes(a.q.data, 4); });
  expect_call_refused("d_o", LAMINA_BACKWARD, [](Call& a) { shift_bytes(a.d_o.data, 1); });
  expect_call_refused("o", LAMINA_FORWARD, [](Call& a) { shift_bytes(a.o.data, 2); });
  expect_call_refused("d_k", LAMINA_BACKWARD, [](Call& a) { shift_bytes(a.d_k.data, 4); });
  expect_call_refused("d_scale", LAMINA_BACKWARD, [](Call& a) { shift_bytes(a.d_scale, 4); });
  expect_call_refused("key_lengths", both, [](Call& a) { shift_bytes(a.key_lengths, 4); });
}

TEST_F(AttentionCalls, Strides) {
  expect_call_refused("q.stride", both, [](Call& a) { a.q.stride[0] = INT64_MAX; });
  expect_call_refused("k.stride", both, [](Call& a) { a.k.stride[2] = INT64_MIN; });
  for (int k = 0; k < 4; ++k)
    for (const int64_t bad : {int64_t{0}, int64_t{-1}, INT64_MIN})
      expect_call_refused("o.stride", LAMINA_FORWARD, [&](Call& a) { a.o.stride[k] = bad; });
  expect_call_refused("o.stride", LAMINA_FORWARD, [](Call& a) { a.o.stride[2] = 2; });  // rows of 3 would share an element
  expect_call_refused("o.stride", LAMINA_FORWARD, [](Call& a) { a.o.stride[0] = INT64_MAX; });
  expect_call_refused("d_v.stride", LAMINA_BACKWARD, [](Call& a) { a.d_v.stride[1] = a.d_v.stride[2]; });
}

TEST_F(AttentionCalls, Overlaps) {
  expect_call_refused("o overlaps q", LAMINA_FORWARD, [](Call& a) { a.o.data = const_cast<void*>(a.q.data); });
  expect_call_refused("overlaps", LAMINA_FORWARD, [](Call& a) { a.weights.data = a.scores.data; });
  expect_call_refused("overlaps", LAMINA_BACKWARD, [](Call& a) { a.d_q.data = const_cast<void*>(a.k.data); });
  expect_call_refused("overlaps", LAMINA_BACKWARD, [](Call& a) { a.d_k.data = a.d_v.data; });
  expect_call_refused("d_scale", LAMINA_BACKWARD, [](Call& a) { a.d_scale = static_cast<double*>(a.d_q.data); });
  expect_call_refused("overlaps", LAMINA_BACKWARD,
                      [](Call& a) { a.d_bias.data = const_cast<void*>(static_cast<const void*>(a.key_lengths)); });
}

TEST_F(AttentionCalls, Workspace) {
  const Problem p = make_problem(good_spec(), 2);
  const Plan plan = make_plan(p.spec);
  Arrays<double> arrays(p);
  size_t bytes = 0;
  ASSERT_EQ(lamina_attention_workspace(plan.get(), LAMINA_FORWARD, &bytes), LAMINA_OK);
  Workspace workspace(bytes + 64);
  EXPECT_EQ(lamina_attention_forward(plan.get(), &arrays.c, workspace.data(), bytes - 1), LAMINA_E_ARGUMENT);
  EXPECT_NE(std::string(lamina_last_error()).find("workspace_bytes is "), std::string::npos);
  EXPECT_EQ(lamina_attention_forward(plan.get(), &arrays.c, static_cast<char*>(workspace.data()) + 8, bytes),
            LAMINA_E_ARGUMENT);
  arrays.c.o.data = workspace.data();
  EXPECT_EQ(lamina_attention_forward(plan.get(), &arrays.c, workspace.data(), bytes), LAMINA_E_ARGUMENT);
  EXPECT_NE(std::string(lamina_last_error()).find("overlaps"), std::string::npos);
}

TEST_F(AttentionCalls, ReservedAndSize) {
  expect_call_refused("reserved", both, [](Call& a) { a.reserved = 1; });
  for (const uint32_t bad : {0u, 4u, static_cast<uint32_t>(sizeof(Call)) - 1, UINT32_MAX})
    expect_call_refused("struct_size", both, [&](Call& a) { a.struct_size = bad; });
}

// What is allowed: absent optional outputs, NULL arrays without elements, any stride where an extent is 1.
TEST(AttentionUse, OptionalArrays) {
  const Problem p = make_problem(good_spec(), 2);
  const Outputs<double> want = run<double>(p);
  const Plan plan = make_plan(p.spec);
  for (int kept = 0; kept < 4; ++kept) {
    Arrays<double> arrays(p);
    lamina_output* outputs[] = {&arrays.c.d_q, &arrays.c.d_k, &arrays.c.d_v};
    for (int k = 0; k < 3; ++k)
      if (k != kept) outputs[k]->data = nullptr;
    if (kept != 3) arrays.c.d_scale = nullptr;
    arrays.c.o.data = nullptr;  // forward's; backward does not look at it
    ASSERT_EQ(lamina_attention_backward(plan.get(), &arrays.c, nullptr, 0), LAMINA_OK) << lamina_last_error();
    const Outputs<double> got = arrays.outputs(p);
    if (kept == 0) {
      EXPECT_EQ(got.d_q, want.d_q);
    }
    if (kept == 1) {
      EXPECT_EQ(got.d_k, want.d_k);
    }
    if (kept == 2) {
      EXPECT_EQ(got.d_v, want.d_v);
    }
    if (kept == 3) {
      EXPECT_EQ(got.d_scale, want.d_scale);
    }
  }
  lamina_attention_spec empty = good_spec();
  empty.batch = 0;
  const Plan nothing = make_plan(empty);
  lamina_attention_arrays none;
  ASSERT_EQ(lamina_attention_arrays_init(&none, sizeof none), LAMINA_OK);
  EXPECT_EQ(lamina_attention_forward(nothing.get(), &none, nullptr, 0), LAMINA_OK) << lamina_last_error();
  EXPECT_EQ(lamina_attention_backward(nothing.get(), &none, nullptr, 0), LAMINA_OK) << lamina_last_error();
}

// Sequences without an element are not walked one by one, nor is memory held for each: 2^34 of them would take minutes and 128
// GiB.
TEST(AttentionUse, NothingToDoIsDoneAtOnce) {
  for (const int32_t map : {LAMINA_SOFTMAX, LAMINA_LINEAR})
    for (const int64_t width : {3, 70}) {
      lamina_attention_spec s = good_spec();
      s.map = map, s.batch = int64_t{1} << 34, s.heads = s.kv_heads = 1, s.queries = s.keys = 0, s.width = width;
      const Plan plan = make_plan(s);
      lamina_attention_arrays none;
      ASSERT_EQ(lamina_attention_arrays_init(&none, sizeof none), LAMINA_OK);
      double d_scale = 5;
      none.d_scale = &d_scale;
      for (const int32_t direction : {LAMINA_FORWARD, LAMINA_BACKWARD}) {
        size_t bytes = 0;
        ASSERT_EQ(lamina_attention_workspace(plan.get(), direction, &bytes), LAMINA_OK);
        EXPECT_LE(bytes, size_t{1} << 20);
        const std::clock_t begin = std::clock();
        const auto call = direction == LAMINA_FORWARD ? lamina_attention_forward : lamina_attention_backward;
        EXPECT_EQ(call(plan.get(), &none, nullptr, 0), LAMINA_OK) << lamina_last_error();
        EXPECT_LT(std::clock() - begin, CLOCKS_PER_SEC);
      }
      EXPECT_EQ(d_scale, 0);
    }
}

}  // namespace
