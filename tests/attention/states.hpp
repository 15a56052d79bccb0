// Linear attention that goes by states, and the same problem by scores.
#pragma once
#include "tests/attention/harness.hpp"

namespace harness {

struct Band {
  const char* name;
  void (*set)(lamina_attention_spec&);
};
inline const Band bands[] = {
    {"all", [](lamina_attention_spec&) {}},
    {"top left", [](lamina_attention_spec& s) { s.causal = LAMINA_CAUSAL_TOP_LEFT; }},
    {"bottom right", [](lamina_attention_spec& s) { s.causal = LAMINA_CAUSAL_BOTTOM_RIGHT; }},
    {"window", [](lamina_attention_spec& s) { s.flags |= LAMINA_WINDOW_RIGHT, s.window_right = 37; }},
    {"wide window", [](lamina_attention_spec& s) { s.flags |= LAMINA_WINDOW_RIGHT, s.window_right = 400; }},
};
struct Size {
  int64_t queries, keys, d, d_v;
};
inline const Size sizes[] = {{256, 256, 8, 0},   {300, 257, 5, 9}, {257, 300, 17, 3},
                      {321, 400, 33, 16}, {512, 256, 1, 1}, {280, 280, 64, 40}};

inline lamina_attention_spec linear(const Size& size, int32_t type) {
  lamina_attention_spec s = new_spec();
  s.element = type, s.map = LAMINA_LINEAR;
  s.queries = size.queries, s.keys = size.keys, s.width = size.d, s.value_width = size.d_v, s.batch = s.heads = 1;
  return s;
}
// The same problem by scores: a plan that may also give them.
template <class T>
Outputs<T> by_scores(Problem p) {
  p.spec.flags |= LAMINA_WITH_SCORES;
  Outputs<T> out = run<T>(p);
  out.scores.clear();
  return out;
}
template <class T>
bool same(const std::vector<T>& x, const std::vector<T>& y) {
  return x.size() == y.size() && std::memcmp(x.data(), y.data(), x.size() * sizeof(T)) == 0;
}

}  // namespace harness
