// Every option with every other, for each map, normaliser and element type, forward and backward, against the oracle: a table
// of all pairs. A cell is the largest error in units of its bound.
#include "tests/attention/harness.hpp"

using namespace harness;

namespace {

struct Kind {
  const char* name;
  int map, normaliser;
};
const Kind kinds[] = {{"softmax", LAMINA_SOFTMAX, LAMINA_NORMALISE_DEFAULT},
                      {"linear", LAMINA_LINEAR, LAMINA_NORMALISE_NONE},
                      {"linear / visible", LAMINA_LINEAR, LAMINA_NORMALISE_VISIBLE},
                      {"linear / row sum", LAMINA_LINEAR, LAMINA_NORMALISE_ROW_SUM},
                      {"relu", LAMINA_RELU, LAMINA_NORMALISE_NONE},
                      {"relu / visible", LAMINA_RELU, LAMINA_NORMALISE_VISIBLE},
                      {"relu / row sum", LAMINA_RELU, LAMINA_NORMALISE_ROW_SUM}};

struct Case {
  lamina_attention_spec spec;
  Run run;
  bool d_lse = false, d_weights = false;  // cotangents
};
struct Option {
  const char* name;
  void (*set)(Case&);
};
const Option options[] = {
    {"top left", [](Case& c) { c.spec.causal = LAMINA_CAUSAL_TOP_LEFT; }},
    {"bottom right", [](Case& c) { c.spec.causal = LAMINA_CAUSAL_BOTTOM_RIGHT; }},
    {"window left", [](Case& c) { c.spec.flags |= LAMINA_WINDOW_LEFT, c.spec.window_left = 6; }},
    {"window right", [](Case& c) { c.spec.flags |= LAMINA_WINDOW_RIGHT, c.spec.window_right = 3; }},
    {"lengths", [](Case& c) { c.spec.flags |= LAMINA_WITH_LENGTHS; }},
    {"offsets", [](Case& c) { c.spec.flags |= LAMINA_WITH_OFFSETS; }},
    {"mask", [](Case& c) { c.spec.flags |= LAMINA_WITH_MASK; }},
    {"bias", [](Case& c) { c.spec.flags |= LAMINA_WITH_BIAS; }},
    {"grouped heads", [](Case& c) { c.spec.heads = 4; }},
    {"one key head", [](Case& c) { c.spec.heads = 3, c.spec.kv_heads = 1; }},
    {"d_v > d", [](Case& c) { c.spec.value_width = 33; }},
    {"d_v < d", [](Case& c) { c.spec.value_width = 1; }},
    {"more queries", [](Case& c) { c.spec.queries = 81; }},
    {"one query", [](Case& c) { c.spec.queries = 1; }},
    {"many keys", [](Case& c) { c.spec.keys = 270; }},
    {"one key", [](Case& c) { c.spec.keys = 1; }},
    {"scale", [](Case& c) { c.spec.scale = 0.75; }},
    {"scale 0", [](Case& c) { c.spec.flags |= LAMINA_SCALE_IS_ZERO, c.spec.scale = 0; }},
    {"relu'(0) = 1", [](Case& c) { c.spec.relu_at_zero = 1; }},
    {"lse", [](Case& c) { c.spec.flags |= LAMINA_WITH_LSE; }},
    {"d_lse", [](Case& c) { c.spec.flags |= LAMINA_WITH_LSE, c.d_lse = true; }},
    {"weights", [](Case& c) { c.spec.flags |= LAMINA_WITH_WEIGHTS; }},
    {"d_weights", [](Case& c) { c.spec.flags |= LAMINA_WITH_WEIGHTS, c.d_weights = true; }},
    {"scores", [](Case& c) { c.spec.flags |= LAMINA_WITH_SCORES; }},
    {"strides", [](Case& c) { c.run.stride_seed = 3; }},
    {"threads", [](Case& c) { c.run.threads = 3; }},
    {"workspace", [](Case& c) { c.run.workspace = true; }},
    {"reference", [](Case& c) { c.run.isa = "reference"; }},
    {"flush to zero", [](Case& c) { c.run.host = flush_to_zero; }},
};
constexpr int count = sizeof options / sizeof *options;

template <class T>
double run_pair(const Kind& kind, const Option& x, const Option& y, uint64_t seed) {
  Case c;
  c.spec = new_spec();
  c.spec.element = element<T>, c.spec.map = kind.map, c.spec.normaliser = kind.normaliser;
  c.spec.batch = 2, c.spec.heads = c.spec.kv_heads = 2, c.spec.queries = 9, c.spec.keys = 20, c.spec.width = 6,
  c.spec.scale = 0.5;
  x.set(c), y.set(c);
  if (kind.map != LAMINA_SOFTMAX) c.spec.flags &= ~static_cast<uint32_t>(LAMINA_WITH_LSE);
  if (c.spec.flags & LAMINA_SCALE_IS_ZERO) {
    if (kind.map == LAMINA_LINEAR && kind.normaliser == LAMINA_NORMALISE_ROW_SUM) return 0;  // 0 / 0
    c.spec.scale = 0;
  }
  Problem p = make_problem(c.spec, seed);
  if (!c.d_lse) p.d_lse.clear();
  if (!c.d_weights) p.d_weights.clear();
  return expect_near(run<T>(p, c.run), oracle::solve(p),
                     " " + std::string(kind.name) + ", " + x.name + ", " + y.name + describe(p));
}

TEST(AttentionPairs, EveryOptionWithEveryOther) {
  int64_t cases = 0;
  double worst = 0;
  uint64_t seed = 1;
  std::string table;
  for (int x = 0; x < count; ++x) {
    char head[64];
    snprintf(head, sizeof head, "| %2d %-13s |", x + 1, options[x].name);
    table += head;
    for (int y = 0; y <= x; ++y) {
      double cell = 0;
      for (const Kind& kind : kinds) {
        cell = std::max(
            {cell, run_pair<float>(kind, options[x], options[y], seed), run_pair<double>(kind, options[x], options[y], seed)});
        ++seed, cases += 2;
      }
      char text[16];
      snprintf(text, sizeof text, " %.2f |", cell);
      table += text;
      worst = std::max(worst, cell);
    }
    table += "\n";
  }
  printf("%s%lld cases over %d options, largest error %.2f of its bound\n", table.c_str(), static_cast<long long>(cases), count,
         worst);
  EXPECT_LT(worst, 1);
}

}  // namespace
