// Every score map and normaliser, element type and kind of visibility, at every pair of edge sizes, forward and backward,
// against the oracle.
#include "tests/attention/harness.hpp"

using namespace harness;

namespace {

struct Kind {
  int map, normaliser;
};
const Kind kinds[] = {{LAMINA_SOFTMAX, LAMINA_NORMALISE_DEFAULT}, {LAMINA_LINEAR, LAMINA_NORMALISE_NONE},
                      {LAMINA_LINEAR, LAMINA_NORMALISE_VISIBLE},  {LAMINA_LINEAR, LAMINA_NORMALISE_ROW_SUM},
                      {LAMINA_RELU, LAMINA_NORMALISE_NONE},       {LAMINA_RELU, LAMINA_NORMALISE_VISIBLE},
                      {LAMINA_RELU, LAMINA_NORMALISE_ROW_SUM}};
const int64_t sizes[] = {0, 1, 2, 3, 7, 16, 17, 33, 64, 65, 130};

struct Sight {
  const char* name;
  void (*set)(lamina_attention_spec&);
};
const Sight sights[] = {
    {"all", [](lamina_attention_spec&) {}},
    {"top left", [](lamina_attention_spec& s) { s.causal = LAMINA_CAUSAL_TOP_LEFT; }},
    {"bottom right", [](lamina_attention_spec& s) { s.causal = LAMINA_CAUSAL_BOTTOM_RIGHT; }},
    {"window",
     [](lamina_attention_spec& s) {
       s.flags |= LAMINA_WINDOW_LEFT | LAMINA_WINDOW_RIGHT;
       s.window_left = 5, s.window_right = 20;
     }},
    {"self only", [](lamina_attention_spec& s) { s.flags |= LAMINA_WINDOW_LEFT | LAMINA_WINDOW_RIGHT; }},
    {"bottom right window",
     [](lamina_attention_spec& s) {
       s.causal = LAMINA_CAUSAL_BOTTOM_RIGHT;
       s.flags |= LAMINA_WINDOW_LEFT;
       s.window_left = 9;
     }},
    {"mask", [](lamina_attention_spec& s) { s.flags |= LAMINA_WITH_MASK; }},
    {"bias", [](lamina_attention_spec& s) { s.flags |= LAMINA_WITH_BIAS; }},
    {"lengths", [](lamina_attention_spec& s) { s.flags |= LAMINA_WITH_LENGTHS; }},
    {"packed", [](lamina_attention_spec& s) { s.flags |= LAMINA_WITH_OFFSETS; }},
    {"packed with gaps",
     [](lamina_attention_spec& s) {
       s.causal = LAMINA_CAUSAL_BOTTOM_RIGHT;
       s.flags |= LAMINA_WITH_OFFSETS | LAMINA_WITH_LENGTHS | LAMINA_WITH_BIAS;
     }},
    {"grouped heads", [](lamina_attention_spec& s) { s.heads = 4, s.kv_heads = 2; }},
    {"everything",
     [](lamina_attention_spec& s) {
       s.heads = 6, s.kv_heads = 3;
       s.causal = LAMINA_CAUSAL_BOTTOM_RIGHT;
       s.flags |= LAMINA_WITH_MASK | LAMINA_WITH_BIAS | LAMINA_WITH_LENGTHS | LAMINA_WINDOW_LEFT;
       s.window_left = 40;
     }},
};

template <class T>
void check(const Kind& kind, const Sight& sight) {
  uint64_t seed = 1;
  double worst = 0;
  for (const int64_t queries : sizes)
    for (const int64_t keys : sizes) {
      if (testing::Test::HasFatalFailure()) return;
      lamina_attention_spec s = new_spec();
      s.element = element<T>, s.map = kind.map, s.normaliser = kind.normaliser;
      s.batch = 1 + static_cast<int64_t>(seed % 2), s.heads = 1;
      s.queries = queries, s.keys = keys, s.width = 1 + static_cast<int64_t>(seed % 5),
      s.value_width = 1 + static_cast<int64_t>(seed % 4);
      s.scale = 0.5, s.relu_at_zero = 0.5;
      s.flags = LAMINA_WITH_WEIGHTS | LAMINA_WITH_SCORES | (kind.map == LAMINA_SOFTMAX ? LAMINA_WITH_LSE : 0);
      sight.set(s);
      const Problem p = make_problem(s, seed++);
      const std::string what = std::string(" ") + sight.name + describe(p);
      worst = std::max(worst, expect_near(run<T>(p), oracle::solve(p), what));
    }
  EXPECT_LT(worst, 1);
}

class AttentionGrid : public testing::TestWithParam<int> {};

TEST_P(AttentionGrid, EdgeSizes) {
  for (const Sight& sight : sights) {
    check<float>(kinds[GetParam()], sight);
    check<double>(kinds[GetParam()], sight);
  }
}
INSTANTIATE_TEST_SUITE_P(Kinds, AttentionGrid, testing::Range(0, 7));

}  // namespace
